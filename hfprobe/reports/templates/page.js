// The listening room: switches between sounds of one utterance at the same position, without a gap.
// Sounds are the page's own <audio> elements; their bytes become WebAudio buffers. Where that fails, the elements play.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");

  const FADE = 0.012; // seconds; long enough to hide the click of a cut, too short to be heard as a fade
  const LEAD = 0.02; // seconds between the decision to switch and the switch

  const clockText = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

  async function bytesOf(audio) {
    const source = audio.getAttribute("src");
    if (!source.startsWith("data:")) {
      const answer = await fetch(source);
      return answer.arrayBuffer();
    }
    const text = atob(source.slice(source.indexOf(",") + 1));
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return bytes.buffer;
  }

  // Plays AudioBuffers. Two sources overlap for FADE seconds when the sound changes.
  class BufferEngine {
    constructor() {
      this.buffers = new Map();
      this.source = null;
    }

    wake(rate) {
      if (!this.context) {
        try {
          this.context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
        } catch (error) {
          this.context = new AudioContext();
        }
        this.master = this.context.createGain();
        this.master.connect(this.context.destination);
      }
      return this.context.state === "running" ? Promise.resolve() : this.context.resume();
    }

    load(audio) {
      if (!this.buffers.has(audio)) {
        const rate = Number(audio.dataset.rate);
        const decoder = new OfflineAudioContext(1, 1, rate);
        const buffer = bytesOf(audio).then((bytes) => decoder.decodeAudioData(bytes));
        buffer.catch(() => this.buffers.delete(audio));
        this.buffers.set(audio, buffer);
      }
      return this.buffers.get(audio);
    }

    keepOnly(audios) {
      const kept = new Set(audios);
      for (const audio of this.buffers.keys()) if (!kept.has(audio)) this.buffers.delete(audio);
    }

    async start(audio, position, loop, stillWanted, ended) {
      const [buffer] = await Promise.all([this.load(audio), this.wake(Number(audio.dataset.rate))]);
      if (!stillWanted()) return;
      const { context } = this;
      const when = context.currentTime + (this.source ? LEAD : 0.005);
      const offset = this.source && position === null ? this.positionAt(when) : Math.min(position || 0, buffer.duration);
      const gain = context.createGain();
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.loop = loop;
      source.connect(gain).connect(this.master);
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
      Object.assign(this, { source, gain, origin: when - offset, duration: buffer.duration });
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

    get position() {
      return this.source ? this.positionAt(this.context.currentTime - (this.context.outputLatency || 0)) : 0;
    }

    setLoop(loop) {
      if (!this.source || this.source.loop === loop) return;
      const time = this.context.currentTime;
      this.origin = time - this.positionAt(time);
      this.source.loop = loop;
    }

    stop() {
      if (this.source) this.fadeOut(this.context.currentTime);
      this.source = null;
    }
  }

  // Plays the elements themselves: a page with its sounds in files, opened from file://, may not read their bytes.
  class ElementEngine {
    load(audio) {
      return audio;
    }

    keepOnly() {}

    async start(audio, position, loop, stillWanted, ended) {
      const before = this.audio;
      this.next = audio;
      audio.loop = loop;
      audio.currentTime = position === null ? this.position : position;
      await audio.play();
      if (!stillWanted()) {
        // Overtaken by a later choice, unless that choice is this very sound.
        if (this.next !== audio) audio.pause();
        return;
      }
      if (before && before !== audio) {
        if (position === null) audio.currentTime = before.currentTime;
        before.pause();
      }
      audio.onended = () => {
        if (this.audio === audio) ended();
      };
      this.audio = audio;
    }

    get position() {
      return this.audio ? this.audio.currentTime : 0;
    }

    setLoop(loop) {
      if (this.audio) this.audio.loop = loop;
    }

    stop() {
      this.next = null;
      if (this.audio) this.audio.pause();
    }
  }

  // One utterance: which sound is chosen, and its controls.
  class Room {
    constructor(element, player) {
      this.element = element;
      this.player = player;
      this.duration = Number(element.dataset.seconds);
      this.at = 0;
      this.conditions = [...element.querySelectorAll(".condition")];
      this.layers = this.radios("layer").map((radio) => radio.value);
      this.clips = new Map();
      this.conditions.forEach((panel, condition) => {
        for (const clip of panel.querySelectorAll(".clip")) {
          this.clips.set(this.key(condition, clip.dataset.layer, clip.dataset.encoder), clip);
          this.wireClip(clip, condition);
        }
      });
      const shown = this.shownEncoders();
      this.choice = { condition: 0, layer: "input", encoder: shown[0] || "" };
      this.before = null;
      this.wireControls();
      this.showEncoders();
      this.mark();
    }

    find(selector) {
      return this.element.querySelector(selector);
    }

    radios(name) {
      return [...this.element.querySelectorAll(`input[name="${name}-${this.element.id}"]`)];
    }

    key(condition, layer, encoder) {
      return JSON.stringify([condition, layer, encoder]);
    }

    shownEncoders() {
      const boxes = this.radios("show");
      if (boxes.length) return boxes.filter((box) => box.checked).map((box) => box.value);
      const clip = this.find('.clip[data-encoder]:not([data-encoder=""])');
      return clip ? [clip.dataset.encoder] : [];
    }

    lookup({ condition, layer, encoder }) {
      return this.clips.get(this.key(condition, layer, encoder)) || this.clips.get(this.key(condition, layer, ""));
    }

    get clip() {
      return this.lookup(this.choice);
    }

    get audio() {
      return this.clip.querySelector("audio");
    }

    // Take a choice that may not exist (an encoder without this layer) to the nearest one that does.
    settle(wanted) {
      if (this.lookup(wanted)) return wanted;
      for (const encoder of this.shownEncoders()) {
        if (this.lookup({ ...wanted, encoder })) return { ...wanted, encoder };
      }
      return { ...wanted, layer: "input" };
    }

    choose(change, { scroll = false, keepLayer = false } = {}) {
      const wanted = { ...this.choice, ...change };
      if (keepLayer && !this.lookup(wanted)) {
        this.player.say("This encoder has no such layer");
        this.mark();
        return;
      }
      const next = this.settle(wanted);
      const changed = this.lookup(next) !== this.clip;
      if (changed) this.before = this.choice;
      this.choice = next;
      this.mark();
      if (scroll) this.clip.scrollIntoView({ block: "nearest" });
      if (changed) {
        this.player.say(this.description());
        this.player.changed(this);
      }
    }

    description() {
      const { layer, condition } = this.choice;
      const who = this.clip.dataset.encoder === "" ? "" : this.clip.querySelector(".who b").textContent;
      return [layer, who, this.conditions[condition].querySelector("h4").textContent].filter(Boolean).join(", ");
    }

    mark() {
      const { condition, layer, encoder } = this.choice;
      this.conditions.forEach((panel, place) => {
        panel.hidden = place !== condition;
      });
      for (const clip of this.element.querySelectorAll(".clip[aria-current]")) clip.removeAttribute("aria-current");
      this.clip.setAttribute("aria-current", "true");
      const pick = (name, value) => {
        for (const radio of this.radios(name)) radio.checked = radio.value === String(value);
      };
      pick("condition", condition);
      pick("layer", layer);
      pick("encoder", encoder);
      for (const radio of this.radios("layer")) {
        const chosen = { condition, layer: radio.value };
        radio.disabled = !["", ...this.shownEncoders()].some((name) => this.lookup({ ...chosen, encoder: name }));
      }
      const strip = this.find(".depth");
      const active = strip.querySelector("input:checked");
      if (active) {
        const label = active.parentElement;
        const left = label.offsetLeft - strip.offsetLeft;
        if (left < strip.scrollLeft || left + label.offsetWidth > strip.scrollLeft + strip.clientWidth) {
          strip.scrollLeft = left - strip.clientWidth / 2 + label.offsetWidth / 2;
        }
      }
      const [first, ...rest] = this.description().split(", ");
      this.find(".now-layer").textContent = first;
      this.find(".now-rest").textContent = rest.join(" · ");
      this.find(".transport").style.setProperty("--hue", this.clip.style.getPropertyValue("--hue") || "var(--ink)");
      this.showPlaying();
    }

    showPlaying() {
      const playing = this.player.playing && this.player.room === this;
      for (const button of this.element.querySelectorAll('.play[aria-pressed="true"]')) {
        button.setAttribute("aria-pressed", "false");
        button.setAttribute("aria-label", button.getAttribute("aria-label").replace(/^Pause/, "Play"));
      }
      if (playing) {
        const button = this.clip.querySelector(".play");
        button.setAttribute("aria-pressed", "true");
        button.setAttribute("aria-label", button.getAttribute("aria-label").replace(/^Play/, "Pause"));
      }
      const main = this.find(".main-play");
      main.setAttribute("aria-pressed", String(playing));
      main.setAttribute("aria-label", playing ? "Pause" : "Play");
    }

    showPosition(seconds) {
      this.at = seconds;
      this.element.style.setProperty("--position", this.duration ? seconds / this.duration : 0);
      const seek = this.find(".seek");
      seek.value = seconds;
      seek.setAttribute("aria-valuetext", `${seconds.toFixed(1)} of ${this.duration.toFixed(1)} seconds`);
      this.find(".at").textContent = clockText(seconds);
    }

    showEncoders() {
      const shown = this.shownEncoders();
      const columns = Math.max(shown.length, 1);
      for (const panel of this.conditions) {
        panel.style.setProperty("--columns", columns);
        for (const cell of panel.querySelectorAll("[data-encoder]")) {
          cell.hidden = cell.dataset.encoder !== "" && !shown.includes(cell.dataset.encoder);
        }
      }
      for (const radio of this.radios("encoder")) radio.disabled = !shown.includes(radio.value);
    }

    wireClip(clip, condition) {
      const choice = { condition, layer: clip.dataset.layer };
      if (clip.dataset.encoder !== "") choice.encoder = clip.dataset.encoder;
      clip.querySelector(".play").addEventListener("click", () => {
        const again = this.clip === clip;
        this.choose(choice);
        if (again || !(this.player.playing && this.player.room === this)) this.player.toggle(this, again ? undefined : true);
      });
      const picture = clip.querySelector(".mel");
      picture.addEventListener("click", (event) => {
        const box = picture.getBoundingClientRect();
        this.choose(choice);
        this.player.seek(this, ((event.clientX - box.left) / box.width) * this.duration);
        this.player.toggle(this, true);
      });
      clip.querySelector(".save").addEventListener("click", async (event) => {
        const audio = clip.querySelector("audio");
        const source = audio.getAttribute("src");
        const link = document.createElement("a");
        link.download = event.currentTarget.dataset.name;
        if (source.startsWith("data:")) {
          link.href = URL.createObjectURL(new Blob([await bytesOf(audio)], { type: source.slice(5, source.indexOf(";")) }));
          setTimeout(() => URL.revokeObjectURL(link.href), 10000);
        } else {
          link.href = source;
        }
        link.click();
      });
    }

    wireControls() {
      const pick = (name, change) => {
        for (const radio of this.radios(name)) radio.addEventListener("change", () => change(radio));
      };
      pick("condition", (radio) => this.choose({ condition: Number(radio.value) }));
      pick("layer", (radio) => this.choose({ layer: radio.value }, { scroll: true }));
      pick("encoder", (radio) => this.choose({ encoder: radio.value }, { scroll: true, keepLayer: true }));
      pick("show", (box) => {
        if (!this.shownEncoders().length) box.checked = true;
        this.showEncoders();
        const { encoder } = this.choice;
        if (!this.shownEncoders().includes(encoder)) this.choose({ encoder: this.shownEncoders()[0] });
        else this.mark();
      });
      this.find(".main-play").addEventListener("click", () => this.player.toggle(this));
      this.find(".seek").addEventListener("input", (event) => this.player.seek(this, Number(event.target.value)));
      this.find(".loop-box").addEventListener("change", (event) => this.player.setLoop(event.target.checked));
    }

    step(by) {
      const open = this.radios("layer").filter((radio) => !radio.disabled).map((radio) => radio.value);
      const next = open[open.indexOf(this.choice.layer) + by];
      if (next !== undefined) this.choose({ layer: next }, { scroll: true });
    }

    back() {
      if (this.before) this.choose(this.before, { scroll: true });
    }
  }

  class Player {
    constructor(sections) {
      const first = document.querySelector(".clip audio").getAttribute("src");
      const readable = first.startsWith("data:") || location.protocol !== "file:";
      const webAudio = readable && window.AudioContext && window.OfflineAudioContext;
      this.engine = webAudio ? new BufferEngine() : new ElementEngine();
      this.playing = false;
      this.loop = false;
      this.serial = 0;
      this.said = document.getElementById("said");
      this.rooms = sections.map((section) => new Room(section, this));
      [this.room] = this.rooms;
      this.tick = this.tick.bind(this);
    }

    get currentTime() {
      return this.playing && this.started ? this.engine.position : this.room.at;
    }

    say(text) {
      this.said.textContent = text;
    }

    enter(room) {
      if (room === this.room) return;
      this.pause();
      this.room = room;
      this.engine.keepOnly([]);
      this.preload();
    }

    // Start the chosen sound; position null means: go on where the sound that plays is now.
    async sound(position) {
      this.serial += 1;
      const ticket = this.serial;
      const { room } = this;
      const wanted = () => this.playing && ticket === this.serial;
      try {
        await this.engine.start(room.audio, position, this.loop, wanted, () => this.finished());
        if (wanted()) this.started = true;
      } catch (error) {
        if (!wanted()) return;
        // An element that reaches its end before it reports that it plays: not a failure of the engine.
        if (error.name === "AbortError") this.finished();
        else this.failed(position === null ? this.currentTime : position);
      }
    }

    failed(position) {
      this.engine.stop();
      if (this.engine instanceof BufferEngine) {
        this.engine = new ElementEngine();
        this.sound(position);
      } else {
        this.pause();
        root.classList.remove("js"); // shows the plain players
      }
    }

    toggle(room, play = !(this.playing && this.room === room)) {
      this.enter(room);
      if (!play) {
        this.pause();
      } else if (!this.playing) {
        this.playing = true;
        this.started = false;
        this.sound(room.at >= room.duration - 0.02 ? 0 : room.at);
        room.showPlaying();
        requestAnimationFrame(this.tick);
      }
    }

    pause() {
      if (!this.playing) return;
      const at = this.currentTime;
      this.playing = false;
      this.serial += 1;
      this.engine.stop();
      this.room.showPosition(at);
      this.room.showPlaying();
    }

    finished() {
      this.playing = false;
      this.room.showPosition(0);
      this.room.showPlaying();
    }

    seek(room, seconds) {
      this.enter(room);
      room.showPosition(Math.min(Math.max(seconds, 0), room.duration));
      if (this.playing) this.sound(room.at);
    }

    changed(room) {
      if (room !== this.room) return;
      // Not yet sounding: the start that is under way is replaced by one of the new sound.
      if (this.playing) this.sound(this.started ? null : room.at);
      this.preload();
    }

    setLoop(loop) {
      this.loop = loop;
      this.engine.setLoop(loop);
      for (const room of this.rooms) room.find(".loop-box").checked = loop;
    }

    // Decode the sounds of the condition in view one after the other, so that the next choice is ready.
    async preload() {
      this.preloading = (this.preloading || 0) + 1;
      const ticket = this.preloading;
      const { room } = this;
      const panel = room.conditions[room.choice.condition];
      const audios = [room.audio, ...panel.querySelectorAll(".clip:not([hidden]) audio")];
      for (const audio of audios) {
        if (ticket !== this.preloading) return;
        try {
          await this.engine.load(audio);
        } catch (error) {
          return; // playing it will fall back, and say so
        }
      }
    }

    tick() {
      if (!this.playing) return;
      if (this.started) this.room.showPosition(this.engine.position);
      requestAnimationFrame(this.tick);
    }

    key(event) {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const { target } = event;
      const typing = target.closest("select, textarea, audio, pre, .wide, input:not([type=radio]):not([type=checkbox])");
      if (typing && !(typing.type === "range" && event.key === " ")) return;
      const arrows = target.closest("input");
      const presses = target.closest("button, a, summary, input[type=checkbox]");
      const { room } = this;
      const encoders = room.radios("encoder").filter((radio) => !radio.disabled);
      const side = (place) => {
        if (!encoders[place]) return;
        room.choose({ encoder: encoders[place].value }, { scroll: true, keepLayer: true });
      };
      const keys = {
        " ": () => (presses ? false : this.toggle(room)),
        ArrowLeft: () => (arrows ? false : room.step(-1)),
        ArrowRight: () => (arrows ? false : room.step(1)),
        a: () => side(0),
        b: () => side(1),
        x: () => room.back(),
        c: () => room.choose({ condition: (room.choice.condition + 1) % room.conditions.length }),
        l: () => this.setLoop(!this.loop),
        ",": () => this.seek(room, this.currentTime - 1),
        ".": () => this.seek(room, this.currentTime + 1),
      };
      const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (Object.hasOwn(keys, name) && keys[name]() !== false) event.preventDefault();
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const sections = [...document.querySelectorAll(".utterance")];
    if (!sections.length) return;
    let player;
    try {
      player = new Player(sections);
    } catch (error) {
      root.classList.remove("js"); // the plain players still work
      throw error;
    }
    window.hfprobePlayer = player;
    const select = document.getElementById("utterance");
    if (select) {
      const show = () => {
        for (const section of sections) section.hidden = section.id !== select.value;
        player.enter(player.rooms.find((room) => room.element.id === select.value));
      };
      select.addEventListener("change", show);
      show();
    }
    document.addEventListener("keydown", (event) => player.key(event));
    setTimeout(() => player.preload(), 50);
  });
})();
