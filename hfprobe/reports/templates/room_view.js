// The listening room on the page: the player, the choices, and a card for every sound of the chosen condition.
function numbersOf(clip) {
  const one = (name, value, meaning) => make("div", { class: "number" },
    make("dt", { title: meaning }, name),
    isNumber(value)
      ? make("dd", {}, decimals(value), make("span", { class: "bar", "aria-hidden": "true" },
        make("i", { vars: { width: `${100 * Math.min(1, Math.max(0, value))}%` } })))
      : make("dd", { class: "missing" }, MISSING, make("span", { class: "reason" }, ` ${clip.note || "not measured"}`)));
  return make("dl", { class: "numbers" },
    one("STOI", clip.stoi, "Intelligibility against the clean original: 1 is perfect"),
    one("Speaker", clip.voice, "Similarity of the voice to the original voice: 1 is the same"));
}

function readsOf(clip) {
  let words = make("q", {}, clip.reads || "");
  if (clip.reads === undefined) words = make("span", { class: "missing" }, `${MISSING} recogniser not run`);
  else if (!clip.reads.trim()) words = make("em", {}, "nothing");
  return make("p", { class: "reads" }, make("span", {}, "Reads "), words);
}

function notesOf(clip) {
  const texts = [];
  if (clip.note && isNumber(clip.stoi) && isNumber(clip.voice)) texts.push(clip.note);
  if (clip.softer) texts.push(`Played ${decimals(clip.softer, 1)} dB softer, so that it does not clip.`);
  return texts.map((text) => make("p", { class: "note" }, text));
}

class RoomView {
  constructor(room, bytes, place) {
    this.room = room;
    this.bytes = bytes;
    this.place = place;
    this.said = make("p", { class: "hidden-text", role: "status" });
    this.body = make("div", { class: "room" });
    place.append(this.picker(), this.body, this.said);
    room.listen((what) => this.update(what));
    this.update("utterance");
    const tick = () => {
      if (room.playing) this.showPosition();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  update(what) {
    if (what === "utterance") this.build();
    if (what === "utterance" || what === "choice") this.showChoice();
    if (what === "playing" || what === "sounding") this.showPlaying();
    if (what === "loop") this.loopBox.checked = this.room.loop;
    this.showPosition();
  }

  picker() {
    const { utterances } = this.room.data;
    if (utterances.length < 2) return make("span", { hidden: true });
    const select = make("select", { id: "utterance", autocomplete: "off", on: { change: () => this.room.enter(Number(select.value)) } });
    const groups = new Map();
    utterances.forEach((utterance, number) => {
      if (!groups.has(utterance.run)) groups.set(utterance.run, utterance.run === undefined ? select : make("optgroup", { label: utterance.run }));
      groups.get(utterance.run).append(make("option", { value: number }, utterance.title));
    });
    for (const group of groups.values()) if (group !== select) select.append(group);
    return make("p", { class: "pick" }, make("label", { for: "utterance" }, "Utterance"), select);
  }

  build() {
    const { room } = this;
    const { utterance } = room;
    this.picture = make("img", { alt: "", decoding: "async" });
    this.stage = make("div", { class: "mel stage" }, this.picture, make("span", { class: "cursor", "aria-hidden": "true" }));
    this.stage.addEventListener("click", (event) => this.seekIn(this.stage, event));
    this.heading = make("h3", {}, utterance.title);
    this.facts = make("div", { class: "stage-facts" });
    this.choices = make("div", { class: "pickers" });
    this.cards = make("div", { class: "cards" });
    this.body.replaceChildren(
      this.heading,
      utterance.transcript ? make("blockquote", { class: "transcript" }, utterance.transcript) : make("span", { hidden: true }),
      make("p", { class: "facts" }, [`${decimals(utterance.seconds, 1)} s`, ...utterance.notes].join(" · ")),
      this.choices, this.stage, this.facts, this.deck(),
      make("h3", { class: "cards-title" }, "Every layer at a glance"), this.cards);
    this.shownCondition = null;
  }

  deck() {
    const { room } = this;
    this.main = make("button", { type: "button", class: "main-play", "aria-pressed": "false", "aria-label": "Play", on: { click: () => room.toggle() } },
      make("span", { class: "icon", "aria-hidden": "true" }));
    this.now = make("p", { class: "now" });
    this.seek = make("input", { type: "range", class: "seek", min: 0, max: room.utterance.seconds, step: 0.01, value: 0, autocomplete: "off", "aria-label": "Position in seconds", on: { input: () => room.seek(Number(this.seek.value)) } });
    this.time = make("span", { class: "at" }, "0:00.0");
    this.loopBox = make("input", { type: "checkbox", class: "loop-box", autocomplete: "off", checked: room.loop, on: { change: () => room.setLoop(this.loopBox.checked) } });
    this.sides = make("div", { class: "sides", role: "group", "aria-label": "Compare two sounds" });
    return make("div", { class: "transport", role: "group", "aria-label": "Player" },
      make("div", { class: "deck" }, this.main, this.now, this.seek,
        make("p", { class: "time" }, this.time, ` / ${clockText(room.utterance.seconds)}`),
        make("label", { class: "loop" }, this.loopBox, make("span", {}, "Loop"))),
      this.sides);
  }

  showChoice() {
    const { room } = this;
    const { clip, choice } = room;
    this.place.style.setProperty("--hue", encoderHue(clip.encoder));
    this.showPickers();
    this.showSides();
    const words = room.words(choice);
    this.picture.alt = `Mel-spectrogram: ${words}`;
    this.bytes.showPicture(this.picture, clip.key).catch(() => null);
    this.facts.replaceChildren(numbersOf(clip), readsOf(clip), ...notesOf(clip), this.saveButton(choice));
    const { layer, who, condition } = room.describe(choice);
    this.now.replaceChildren(make("b", { class: "now-layer" }, layer), make("span", { class: "now-rest" }, [who, condition].filter(Boolean).join(" · ")));
    if (this.shownCondition !== choice.condition) this.showCards();
    for (const card of this.cards.querySelectorAll(".clip")) {
      if (card.dataset.key === clip.key) card.setAttribute("aria-current", "true");
      else card.removeAttribute("aria-current");
    }
    this.said.textContent = words;
    this.showPlaying();
  }

  // Rebuilt, so that what is not there cannot be chosen; the focus stays on the button that has it.
  showPickers() {
    const { room } = this;
    const { choice, clip } = room;
    const focused = document.activeElement?.name;
    const encoders = room.encoders().map((encoder) => ({
      value: String(encoder), label: room.data.encoders[encoder], hue: encoderHue(encoder),
      disabled: clip.encoder >= 0 && !room.index.has(room.name(choice.condition, encoder, clip.layer)),
    }));
    const layers = room.layers().map((layer) => ({ value: layer, label: layer, disabled: !room.canHear(layer) }));
    const conditions = room.utterance.conditions.map((condition, place) => ({ value: String(place), label: plainCondition(condition.name) }));
    this.choices.replaceChildren(
      segments("Condition: what the recogniser heard", "condition", conditions, String(choice.condition), (value) => room.choose({ condition: Number(value) })),
      ...(encoders.length > 1 ? [segments("Encoder", "encoder", encoders, String(choice.encoder), (value) => room.choose({ encoder: Number(value) }), "hued")] : []),
      segments("Layer: from what went in to the deepest", "layer", layers, clip.layer, (value) => room.choose({ layer: value }), "depth"));
    if (["condition", "encoder", "layer"].includes(focused)) this.choices.querySelector(`input[name="${focused}"]:checked`)?.focus();
  }

  showSides() {
    const { room } = this;
    const focused = this.sides.contains(document.activeElement) ? document.activeElement.dataset.side : null;
    this.sides.replaceChildren(...["A", "B"].map((side) =>
      make("button", {
        type: "button", class: "side", "data-side": side, "aria-pressed": String(room.side === side), title: room.words(room.sides[side]),
        vars: { "--hue": encoderHue(room.lookup(room.sides[side]).encoder) }, on: { click: () => room.turn(side) },
      }, make("b", {}, side), make("span", {}, room.words(room.sides[side])))),
      make("button", { type: "button", class: "flip", "data-side": "flip", "aria-label": "Change between A and B", on: { click: () => room.flip() } }, "A⇄B ", make("kbd", {}, "X")));
    if (focused) this.sides.querySelector(`[data-side="${focused}"]`)?.focus();
  }

  showCards() {
    const { room } = this;
    const { condition } = room.choice;
    const encoders = room.encoders();
    const find = (encoder, layer) => room.index.get(room.name(condition, encoder, layer));
    const rows = [make("div", { class: "row references" }, make("p", { class: "row-name", "aria-hidden": "true" }, "reference"),
      make("div", { class: "clips" }, ["input", "ceiling"].map((layer) => find(-1, layer)).filter(Boolean).map((clip) => this.card(clip, condition))))];
    for (const layer of room.utterance.layers) {
      rows.push(make("div", { class: "row" }, make("p", { class: "row-name", "aria-hidden": "true" }, layer), make("div", { class: "clips" }, encoders.map((encoder) =>
        (find(encoder, layer) ? this.card(find(encoder, layer), condition) : make("p", { class: "none" }, `${room.data.encoders[encoder]} has no ${layer}`))))));
    }
    this.cards.replaceChildren(...rows);
    this.cards.style.setProperty("--columns", Math.min(4, Math.max(1, encoders.length)));
    this.shownCondition = condition;
  }

  card(clip, condition) {
    const { room } = this;
    const who = clip.encoder < 0 ? null : room.data.encoders[clip.encoder];
    const choice = { condition, layer: clip.layer, ...(clip.encoder < 0 ? {} : { encoder: clip.encoder }) };
    const label = who === null ? clip.layer : `${clip.layer} of ${who}`;
    const image = make("img", { alt: `Mel-spectrogram: ${label}`, decoding: "async" });
    this.whenSeen(image, clip.key);
    const picture = make("div", { class: "mel", on: { click: (event) => { room.choose(choice); this.seekIn(picture, event); } } },
      image, make("span", { class: "cursor", "aria-hidden": "true" }));
    const play = make("button", {
      type: "button", class: "play", "aria-label": `Play ${label}`, "aria-pressed": "false",
      on: {
        click: () => {
          const again = room.clip === clip;
          room.choose(choice);
          if (again) room.toggle();
          else if (!room.playing) room.play();
        },
      },
    }, make("span", { class: "icon", "aria-hidden": "true" }));
    const meaning = clip.layer === "input" ? "what the recogniser hears" : "the true mel, made sound again";
    const title = who === null ? [make("b", {}, clip.layer), " ", meaning] : [make("span", { class: "layer-name" }, clip.layer), " ", make("b", {}, who)];
    return make("article", { class: "clip", "data-key": clip.key, "aria-label": label, vars: clip.encoder < 0 ? {} : { "--hue": encoderHue(clip.encoder) } },
      make("p", { class: "who" }, title), picture, make("div", { class: "under" }, play, numbersOf(clip), this.saveButton(choice)), readsOf(clip), notesOf(clip));
  }

  // Pictures are taken when they come into view.
  whenSeen(image, key) {
    const watcher = new IntersectionObserver((seen) => {
      if (!seen.some((one) => one.isIntersecting)) return;
      watcher.disconnect();
      this.bytes.showPicture(image, key).catch(() => null);
    }, { rootMargin: "300px" });
    watcher.observe(image);
  }

  saveButton(choice) {
    const { room, bytes } = this;
    const full = { ...room.choice, ...choice };
    const clip = room.lookup(full);
    const { layer, who, condition } = room.describe(full);
    const name = [room.utterance.id, condition, who, layer].filter(Boolean).map((part) => part.replace(/[^\p{L}\p{N}_.]+/gu, "-")).join("_") + room.data.suffix;
    return make("button", { type: "button", class: "save", "aria-label": `Save the sound of ${room.words(full)}`, on: { click: () => bytes.save(clip.key, name) } }, "Save");
  }

  seekIn(picture, event) {
    const box = picture.getBoundingClientRect();
    this.room.seek(((event.clientX - box.left) / box.width) * this.room.utterance.seconds);
    if (!this.room.playing) this.room.play();
  }

  showPlaying() {
    const { room } = this;
    const pressed = (button, on, name) => {
      button.setAttribute("aria-pressed", String(on));
      button.setAttribute("aria-label", `${on ? "Pause" : "Play"}${name}`);
    };
    pressed(this.main, room.playing, "");
    for (const card of this.cards.querySelectorAll(".clip")) {
      pressed(card.querySelector(".play"), room.playing && card.dataset.key === room.clip.key, ` ${card.getAttribute("aria-label")}`);
    }
    if (room.problem) this.said.replaceChildren(room.problem);
    this.said.classList.toggle("hidden-text", !room.problem);
  }

  showPosition() {
    const { position, utterance } = this.room;
    this.place.style.setProperty("--position", utterance.seconds ? position / utterance.seconds : 0);
    this.seek.value = position;
    this.seek.setAttribute("aria-valuetext", `${position.toFixed(1)} of ${utterance.seconds.toFixed(1)} seconds`);
    this.time.textContent = clockText(position);
  }
}
