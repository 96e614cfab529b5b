// The listening room's state: which sound is chosen on each of two sides, A and B, and what plays. Views listen to it.
class Room {
  constructor(data, engine) {
    this.data = data;
    this.engine = engine;
    this.listeners = [];
    this.playing = false;
    this.loop = false;
    this.at = 0;
    this.enter(0);
  }

  enter(number) {
    this.pause();
    this.number = number;
    this.utterance = this.data.utterances[number];
    this.index = new Map();
    this.utterance.conditions.forEach((condition, place) => {
      for (const clip of condition.clips) this.index.set(this.name(place, clip.encoder, clip.layer), clip);
    });
    const first = this.encoders()[0] ?? -1;
    const deepest = this.utterance.layers.filter((layer) => this.index.has(this.name(0, first, layer))).pop();
    this.side = "A";
    this.sides = {
      A: { condition: 0, encoder: first, layer: "input" },
      B: this.settle({ condition: 0, encoder: first, layer: deepest || "input" }),
    };
    this.at = 0;
    this.tell("utterance");
  }

  name(condition, encoder, layer) {
    return `${condition}/${encoder}/${layer}`;
  }

  // Encoders that one can hear in this utterance.
  encoders() {
    const here = new Set(this.utterance.conditions.flatMap((condition) => condition.clips.map((clip) => clip.encoder)));
    return this.data.heard.filter((encoder) => here.has(encoder));
  }

  // The sound of a choice; input and ceiling belong to no encoder.
  lookup({ condition, encoder, layer }) {
    return this.index.get(this.name(condition, encoder, layer)) || this.index.get(this.name(condition, -1, layer));
  }

  // A choice that does not exist (an encoder without this layer) becomes the nearest that does.
  settle(wanted) {
    if (this.lookup(wanted)) return wanted;
    const others = this.encoders().map((encoder) => ({ ...wanted, encoder }));
    return others.find((choice) => this.lookup(choice)) || { ...wanted, layer: "input" };
  }

  get choice() {
    return this.sides[this.side];
  }

  get clip() {
    return this.lookup(this.choice);
  }

  describe(choice) {
    const clip = this.lookup(choice);
    const who = clip.encoder < 0 ? null : this.data.encoders[clip.encoder];
    return { layer: clip.layer, who, condition: plainCondition(this.utterance.conditions[choice.condition].name) };
  }

  words(choice) {
    const { layer, who, condition } = this.describe(choice);
    return [layer, who, condition].filter(Boolean).join(" · ");
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  tell(what) {
    for (const listener of this.listeners) listener(what);
  }

  // Change the side that is heard; what plays goes on at the same moment.
  choose(change) {
    const before = this.clip;
    this.sides[this.side] = this.settle({ ...this.choice, ...change });
    this.moved(before);
  }

  turn(side) {
    const before = this.clip;
    this.side = side;
    this.moved(before);
  }

  flip() {
    this.turn(this.side === "A" ? "B" : "A");
  }

  moved(before) {
    this.problem = null;
    if (this.playing && this.clip !== before) this.sound(this.engine.source ? null : this.at);
    this.tell("choice");
  }

  layers() {
    return ["input", "ceiling", ...this.utterance.layers];
  }

  canHear(layer) {
    return [-1, ...this.encoders()].some((encoder) => this.lookup({ ...this.choice, encoder, layer }));
  }

  step(by) {
    const open = this.layers().filter((layer) => this.canHear(layer));
    const next = open[open.indexOf(this.clip.layer) + by];
    if (next !== undefined) this.choose({ layer: next });
  }

  nextEncoder() {
    const able = this.encoders().filter((encoder) => this.index.has(this.name(this.choice.condition, encoder, this.clip.layer)));
    if (able.length) this.choose({ encoder: able[(able.indexOf(this.choice.encoder) + 1) % able.length] });
  }

  async sound(position) {
    try {
      const begun = await this.engine.start(this.clip.key, this.utterance.rate, position, this.loop, () => this.finished());
      if (begun) {
        this.problem = null;
        this.tell("sounding");
        this.prepare();
      }
    } catch (error) {
      this.problem = `This sound cannot be played (${error.message})`;
      this.playing = false;
      this.engine.stop();
      this.tell("playing");
    }
  }

  // While one sound plays, the others of its condition are decoded one after the other, so that a change is instant.
  async prepare() {
    const { number, utterance } = this;
    const keys = utterance.conditions[this.choice.condition].clips.map((clip) => clip.key);
    const wanted = [this.lookup(this.sides.A).key, this.lookup(this.sides.B).key, ...keys];
    for (const key of wanted) {
      if (!this.playing || number !== this.number) return;
      await this.engine.load(key, utterance.rate).catch(() => null);
    }
  }

  play(position = this.at >= this.utterance.seconds - 0.02 ? 0 : this.at) {
    this.at = position;
    this.problem = null;
    this.playing = true;
    this.engine.wake(this.utterance.rate); // within the click: browsers ask for it
    this.sound(position);
    this.tell("playing");
  }

  pause() {
    if (!this.playing) return;
    this.at = this.position;
    this.playing = false;
    this.engine.stop();
    this.tell("playing");
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  finished() {
    this.playing = false;
    this.at = 0;
    this.tell("playing");
  }

  get position() {
    return this.playing ? this.engine.position ?? this.at : this.at;
  }

  seek(seconds) {
    this.at = Math.min(Math.max(seconds, 0), this.utterance.seconds);
    if (this.playing) this.sound(this.at);
    this.tell("position");
  }

  setLoop(loop) {
    this.loop = loop;
    this.engine.setLoop(loop);
    this.tell("loop");
  }
}
