// Plays sounds of one length and changes between them at the same position, without a gap: two sources overlap for FADE
// seconds, and the old one goes on until the new one is decoded.
const FADE = 0.012; // long enough to hide the click of a cut, too short to be heard as a fade
const LEAD = 0.02; // between the decision to switch and the switch
const KEPT = 80; // decoded sounds that are kept; a minute of speech at 16 kHz is 4 MB

class Engine {
  constructor(bytes) {
    this.bytes = bytes;
    this.buffers = new Map();
    this.source = null;
    this.ticket = 0;
    this.decoded = 0;
  }

  wake(rate) {
    if (!this.context) {
      try {
        this.context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
      } catch (error) {
        this.context = new AudioContext(); // a rate that this machine cannot play
      }
    }
    return this.context.state === "running" ? Promise.resolve() : this.context.resume();
  }

  load(key, rate) {
    if (!this.buffers.has(key)) {
      const decoder = new OfflineAudioContext(1, 1, rate);
      const buffer = this.bytes.sound(key).then((data) => decoder.decodeAudioData(data));
      buffer.then(() => { this.decoded += 1; }, () => this.buffers.delete(key));
      this.buffers.set(key, buffer);
      if (this.buffers.size > KEPT) this.buffers.delete(this.buffers.keys().next().value);
    }
    return this.buffers.get(key);
  }

  // Position null: go on where the sound that plays is. Resolves to false if a later call overtook this one.
  async start(key, rate, position, loop, ended) {
    this.ticket += 1;
    const { ticket } = this;
    const [buffer] = await Promise.all([this.load(key, rate), this.wake(rate)]);
    if (ticket !== this.ticket) return false;
    const { context } = this;
    const when = context.currentTime + (this.source ? LEAD : 0.005);
    const offset = this.source && position === null ? this.positionAt(when) : Math.min(position || 0, buffer.duration);
    const gain = context.createGain();
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.loop = loop;
    source.connect(gain).connect(context.destination);
    gain.gain.setValueAtTime(this.source ? 0 : 1, when);
    gain.gain.linearRampToValueAtTime(1, when + FADE);
    source.start(when, offset);
    this.fadeOut(when);
    source.onended = () => {
      if (this.source === source) {
        this.source = null;
        ended();
      }
    };
    Object.assign(this, { source, gain, key, origin: when - offset, duration: buffer.duration });
    return true;
  }

  fadeOut(when) {
    if (!this.source) return;
    const { source, gain } = this;
    source.onended = null;
    gain.gain.cancelScheduledValues(when);
    gain.gain.setValueAtTime(1, when);
    gain.gain.linearRampToValueAtTime(0, when + FADE);
    source.stop(when + FADE);
  }

  positionAt(time) {
    const passed = Math.max(0, time - this.origin);
    return this.source.loop ? passed % this.duration : Math.min(passed, this.duration);
  }

  // Null while nothing sounds.
  get position() {
    return this.source ? this.positionAt(this.context.currentTime - (this.context.outputLatency || 0)) : null;
  }

  setLoop(loop) {
    if (!this.source || this.source.loop === loop) return;
    const time = this.context.currentTime;
    this.origin = time - this.positionAt(time);
    this.source.loop = loop;
  }

  stop() {
    this.ticket += 1;
    if (this.source) this.fadeOut(this.context.currentTime);
    this.source = null;
  }
}
