// The paper's Figure 3: clean, noisy, and what each layer gives back, the baseline above the robust model. The pictures
// are those of the listening room, and choosing one plays it.
class Spectrograms {
  constructor(room, bytes, place) {
    this.room = room;
    this.bytes = bytes;
    this.place = place;
    room.listen((what) => {
      if (what === "utterance" || what === "choice") this.show();
    });
    this.show();
  }

  // The chosen condition where it is noisy, else the first that is.
  condition() {
    const { conditions } = this.room.utterance;
    const chosen = this.room.choice.condition;
    if (conditions[chosen].name !== "clean") return chosen;
    const noisy = conditions.findIndex((condition) => condition.name !== "clean");
    return noisy < 0 ? chosen : noisy;
  }

  show() {
    const { room } = this;
    const condition = this.condition();
    const shown = `${room.number}/${condition}`;
    if (shown !== this.shown) {
      this.shown = shown;
      this.build(condition);
    }
    for (const button of this.place.querySelectorAll("button")) {
      if (button.dataset.key === room.clip.key) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  build(condition) {
    const { room } = this;
    const { conditions, layers } = room.utterance;
    const clean = conditions.findIndex((one) => one.name === "clean");
    const baseFirst = (encoder) => (/baseline/i.test(room.data.encoders[encoder]) ? 0 : 1);
    const encoders = room.encoders().sort((one, two) => baseFirst(one) - baseFirst(two) || one - two);
    const lines = encoders.map((encoder) => {
      const cells = [];
      if (clean >= 0) cells.push(this.cell("clean", { condition: clean, layer: "input" }, encoder));
      if (condition !== clean) cells.push(this.cell(plainCondition(conditions[condition].name), { condition, layer: "input" }, encoder));
      for (const layer of layers) {
        if (room.index.has(room.name(condition, encoder, layer))) cells.push(this.cell(layer, { condition, layer, encoder }, encoder));
      }
      return make("div", { class: "line", vars: { "--hue": encoderHue(encoder) } }, make("p", { class: "line-name" }, room.data.encoders[encoder]), make("div", { class: "line-cells" }, cells));
    });
    this.place.replaceChildren(make("p", { class: "facts" }, `${room.utterance.title}, ${plainCondition(conditions[condition].name)}`), make("div", { class: "wide lines", tabindex: 0, role: "region", "aria-label": "Mel-spectrograms by layer" }, lines));
  }

  cell(title, choice, encoder) {
    const { room } = this;
    const full = { ...room.choice, encoder, ...choice };
    const clip = room.lookup(full);
    const image = make("img", { alt: "", decoding: "async" });
    this.bytes.showPicture(image, clip.key).catch(() => null);
    return make("button", {
      type: "button", class: "cell", "data-key": clip.key, "aria-label": `Play ${room.words(full)}`,
      on: { click: () => { room.choose(full); if (!room.playing) room.play(); } },
    }, make("span", {}, title), image);
  }
}
