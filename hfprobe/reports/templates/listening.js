// A listening test in one file: plays what is inside it, keeps the answers on this device, and saves them as JSON.
// It knows opaque names only: which answer is right stands in a key that is not here.
(() => {
  "use strict";
  const find = (selector) => document.querySelector(selector);
  const test = JSON.parse(find("#test").textContent);
  const clips = JSON.parse(find("#clips").textContent);
  const KEY = `hfprobe-listening:${test.test}`;
  const rating = test.kind === "mushra";

  // ---- What is kept on this device

  const memory = new Map(); // where the browser keeps nothing
  const store = {
    get(name) {
      try {
        return localStorage.getItem(name) ?? memory.get(name) ?? null;
      } catch (error) {
        return memory.get(name) ?? null;
      }
    },
    set(name, value) {
      memory.set(name, value);
      try {
        localStorage.setItem(name, value);
      } catch (error) {
        find("#forgetful").hidden = false;
      }
    },
    remove(name) {
      memory.delete(name);
      try {
        localStorage.removeItem(name);
      } catch (error) { /* nothing was kept */ }
    },
  };

  const placeOf = (listener) => `${KEY}:${test.listener === null ? "" : "file:"}${listener}`;

  function kept(listener) {
    let state = null;
    try {
      state = JSON.parse(store.get(placeOf(listener)) ?? "null");
    } catch (error) { /* somebody else's text */ }
    const fits = state && state.test === test.test && state.listener === listener && Array.isArray(state.answers)
      && Number.isInteger(state.session) && state.session >= 0 && state.session < test.sessions.length;
    return fits ? state : null;
  }

  let state = null; // of the listener who is here

  function keep() {
    tick();
    store.set(placeOf(state.listener), JSON.stringify(state));
    store.set(KEY, state.listener);
  }

  // A number names its own order; a name is turned into a number (FNV-1a), so that it always gets the same order.
  function sessionOf(listener) {
    const count = test.sessions.length;
    if (/^[0-9]+$/.test(listener)) return Number((BigInt(listener) + BigInt(count) - 1n) % BigInt(count));
    let hash = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(listener)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    return hash % count;
  }

  // ---- Sound

  const audio = new Audio();
  const addresses = new Map();
  let playing = null; // {name, button, ended}

  function addressOf(clip) {
    if (!addresses.has(clip)) {
      const text = atob(clips.data[clip]);
      const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
      addresses.set(clip, URL.createObjectURL(new Blob([bytes], { type: clips.type })));
    }
    return addresses.get(clip);
  }

  function stop() {
    if (!playing) return;
    const { button } = playing;
    playing = null;
    audio.pause();
    button.setAttribute("aria-pressed", "false");
    button.style.setProperty("--position", 0);
  }

  function play(clip, button, onStart, onEnd, onFail) {
    const same = playing && playing.button === button;
    stop();
    if (same) return;
    playing = { clip, button, onEnd, onFail };
    audio.src = addressOf(clip);
    button.setAttribute("aria-pressed", "true");
    onStart();
    audio.play().catch((error) => {
      if (error.name !== "AbortError" && playing && playing.button === button) failed();
    });
  }

  function failed() {
    const { onFail } = playing;
    stop();
    onFail();
  }

  audio.addEventListener("error", () => playing && failed());
  audio.addEventListener("ended", () => {
    const { onEnd } = playing ?? { onEnd: () => {} };
    stop();
    onEnd();
  });
  audio.addEventListener("timeupdate", () => {
    if (playing && audio.duration) playing.button.style.setProperty("--position", audio.currentTime / audio.duration);
  });

  // ---- Screens

  const screens = ["start", "item", "rest", "end"];
  let shown = null;

  function show(name) {
    stop();
    shown = name;
    for (const each of screens) find(`#${each}`).hidden = each !== name;
    find(".bar").hidden = name !== "item";
    scrollTo(0, 0);
    const title = find(`#${name} h1`);
    if (title.tabIndex === -1 && title.hasAttribute("tabindex")) title.focus({ preventScroll: true });
  }

  const element = (name, classes, ...children) => {
    const made = document.createElement(name);
    if (classes) made.className = classes;
    made.append(...children);
    return made;
  };

  // ---- One item

  let clock = null; // when this item was last looked at
  let view = null; // {item, order, parts: name -> {clip, button, note}, practice}

  const tick = () => {
    if (clock !== null && state && state.now) state.now.seconds += (performance.now() - clock) / 1000;
    clock = shown === "item" && !document.hidden ? performance.now() : null;
  };
  document.addEventListener("visibilitychange", () => {
    tick();
    if (document.hidden && state && state.now && shown === "item") keep();
  });

  const practising = () => test.training.length > state.trained;

  function entry() {
    if (practising()) return { item: test.training[state.trained], order: test.training[state.trained].choices.map((_, i) => i) };
    const [place, order] = test.sessions[state.session][state.answers.length];
    return { item: test.items[place], order };
  }

  function playButton(name, label, key) {
    const note = element("small", "", "not heard yet");
    const words = element("span", "", element("b", "", label), note);
    const icon = element("span", "icon");
    icon.setAttribute("aria-hidden", "true");
    const button = element("button", "play", icon, words, element("kbd", "", key));
    button.type = "button";
    button.dataset.part = name;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => playPart(name));
    return { button, note };
  }

  let queue = []; // what is played after this one, without being asked

  function playAll() {
    const [name, ...rest] = view.parts.keys();
    stop();
    playPart(name, rest);
  }

  function playPart(name, rest = []) {
    const part = view.parts.get(name);
    if (!part) return;
    queue = rest;
    play(part.clip, part.button, () => {
      state.now.plays[name] = (state.now.plays[name] ?? 0) + 1;
      if (part.slider) part.slider.focus({ preventScroll: true });
      keep();
    }, () => {
      state.now.heard[name] = true;
      keep();
      refresh();
      if (queue.length) playPart(queue[0], queue.slice(1));
    }, () => {
      state.now.failed = true;
      keep();
      refresh();
    });
  }

  const allHeard = () => [...view.parts.keys()].every((name) => state.now.heard[name]);
  const allRated = () => view.choices.every((clip) => state.now.ratings[clip] !== undefined);
  const ready = () => allHeard() && (rating ? allRated() : state.now.choice !== null);

  function begin() {
    const total = test.sessions[state.session].length;
    if (!practising() && state.answers.length >= total) return finish();
    const { item, order } = entry();
    const choices = order.map((place) => item.choices[place]);
    if (!state.now || state.now.item !== item.id) {
      state.now = { item: item.id, plays: {}, heard: {}, choice: null, ratings: {}, seconds: 0, failed: false };
    }
    view = { item, choices, parts: new Map() };
    const sounds = find("#sounds");
    sounds.replaceChildren(...(rating ? ratingParts(item, choices) : tripletParts(item, choices)));
    find("#question").textContent = rating ? "How good is each version, compared with the reference?" : "Whose voice is X?";
    find("#practice").hidden = !practising();
    find("#feedback").hidden = true;
    find("#all").firstChild.data = `Play all ${view.parts.size} `;
    find("#next").textContent = practising() && !rating ? "Check" : "Go on";
    find("#count").textContent = practising() ? "Practice" : `${state.answers.length + 1} of ${total}`;
    find("#progress").max = total;
    find("#progress").value = state.answers.length;
    keep();
    show("item");
    tick();
    refresh();
    return undefined;
  }

  function tripletParts(item, choices) {
    const voices = element("div", "voices");
    choices.forEach((clip, place) => {
      const name = `voice${place + 1}`;
      const made = playButton(name, `Voice ${place + 1}`, String(place + 1));
      view.parts.set(name, { clip, ...made });
      voices.append(made.button);
    });
    const x = playButton("x", "X", "X");
    x.button.classList.add("unknown");
    view.parts.set("x", { clip: item.reference, ...x });
    const group = element("fieldset", "choices", element("legend", "", "X is"));
    const pair = element("div", "voices");
    choices.forEach((clip, place) => {
      const button = element("button", "choose", `Voice ${place + 1}`, element("kbd", "", place ? "→" : "←"));
      button.type = "button";
      button.dataset.choice = clip;
      button.addEventListener("click", () => choose(place));
      pair.append(button);
    });
    group.append(pair);
    return [voices, x.button, group];
  }

  function ratingParts(item, choices) {
    const reference = playButton("reference", "Reference", "R");
    reference.button.classList.add("unknown");
    view.parts.set("reference", { clip: item.reference, ...reference });
    const scale = element("div", "scale", element("div", "", ...["bad", "poor", "fair", "good", "excellent"].map((word) => element("span", "", word))));
    const rows = choices.map((clip, place) => {
      const name = `version${place + 1}`;
      const made = playButton(name, `Version ${place + 1}`, String(place + 1));
      const slider = element("input");
      Object.assign(slider, { type: "range", min: 0, max: 100, step: 1, value: state.now.ratings[clip] ?? 50 });
      slider.setAttribute("aria-label", `Mark of version ${place + 1}, 0 to 100`);
      const mark = element("output");
      const row = element("div", "version", made.button, slider, mark);
      const write = () => {
        const value = state.now.ratings[clip];
        mark.textContent = value ?? "–";
        row.classList.toggle("unrated", value === undefined);
        slider.setAttribute("aria-valuetext", value === undefined ? "no mark yet" : String(value));
      };
      const rate = () => {
        state.now.ratings[clip] = Number(slider.value);
        write();
        keep();
        refresh();
      };
      slider.addEventListener("input", rate);
      slider.addEventListener("change", rate); // a click on the middle, where the slider already is
      slider.addEventListener("pointerup", rate);
      write();
      view.parts.set(name, { clip, slider, ...made });
      return row;
    });
    return [reference.button, scale, ...rows];
  }

  function choose(place) {
    if (rating || !allHeard() || view.told) return;
    state.now.choice = view.choices[place];
    keep();
    refresh();
  }

  function refresh() {
    if (shown !== "item") return;
    for (const [name, part] of view.parts) {
      const heard = Boolean(state.now.heard[name]);
      part.button.classList.toggle("heard", heard);
      part.note.textContent = heard ? "heard" : "not heard yet";
    }
    for (const button of document.querySelectorAll(".choose")) {
      button.disabled = !allHeard();
      button.setAttribute("aria-pressed", String(button.dataset.choice === state.now.choice));
    }
    find("#next").disabled = !ready();
    find("#skip").hidden = !state.now.failed || ready();
    const missing = [...view.parts.keys()].filter((name) => !state.now.heard[name]).length;
    find("#hint").textContent = state.now.failed && !ready() ? "A sound could not be played. Try it once more, or go on without an answer."
      : missing ? `Play ${missing === view.parts.size ? "all" : "the other"} ${missing === 1 ? "sound" : `${missing} sounds`} to the end.`
        : rating ? (allRated() ? "" : "Give every version a mark.") : (state.now.choice === null ? "Choose. If you cannot tell, guess." : "");
  }

  function next(skipped = false) {
    if (!skipped && !ready()) return;
    tick();
    const { now } = state;
    if (practising()) {
      if (!rating && !skipped && !view.told) return tell();
      state.trained += 1;
    } else {
      const answer = { item: now.item, seconds: Math.round(now.seconds * 100) / 100, plays: now.plays, at: new Date().toISOString() };
      if (skipped) Object.assign(answer, { answer: null, failed: true });
      else if (rating) Object.assign(answer, { ratings: now.ratings });
      else Object.assign(answer, { answer: now.choice, position: view.choices.indexOf(now.choice) + 1 });
      state.answers.push(answer);
    }
    state.now = null;
    clock = null;
    return begin();
  }

  function tell() {
    view.told = true;
    const right = state.now.choice === view.item.right;
    const feedback = find("#feedback");
    const who = `voice ${view.choices.indexOf(view.item.right) + 1}`;
    feedback.replaceChildren(element("span", right ? "right" : "wrong", right ? "Right." : "Not quite."), ` X is ${who}. From now on you will not be told.`);
    feedback.hidden = false;
    find("#next").textContent = "Begin the test";
  }

  function finish() {
    state.finished ??= new Date().toISOString();
    keep();
    find("#text").value = answersText();
    show("end");
  }

  // ---- Answers out

  function answersText() {
    const total = test.sessions[state.session].length;
    return JSON.stringify({
      format: "hfprobe-listening-answers", version: 1, test: test.test, kind: test.kind, hfprobe: test.hfprobe,
      listener: state.listener, session: test.first + state.session, complete: state.answers.length === total,
      started: state.started, finished: state.finished, pauses: state.pauses, loads: state.loads, answers: state.answers,
    }, null, 1);
  }

  function save() {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([answersText()], { type: "application/json" }));
    const name = state.listener.replace(/[^\p{L}\p{N}_.-]+/gu, "-").replace(/^[.-]+/, "") || "listener";
    link.download = `answers-${test.test}-${name}.json`;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    find("#saved").textContent = `Saved as ${link.download}. Please send this file.`;
  }

  // ---- Coming, pausing, leaving

  function enter(listener) {
    state = kept(listener);
    if (state) state.loads += 1;
    else {
      const session = sessionOf(test.listener === null ? listener : "1");
      state = { test: test.test, listener, session, started: new Date().toISOString(), finished: null, trained: 0, answers: [], now: null, pauses: 0, loads: 1 };
    }
    return state;
  }

  function rest(title) {
    const total = test.sessions[state.session].length;
    const left = total - state.answers.length;
    find("#rest-title").textContent = title;
    find("#rest-text").textContent = `${state.answers.length} of ${total} done, ${left} to go. Your answers are kept on this device.`;
    find("#leave").hidden = test.listener !== null;
    show("rest");
  }

  function pause() {
    tick();
    clock = null;
    state.pauses += 1;
    rest("Paused");
    keep();
  }

  function leave() {
    store.remove(KEY);
    state = null;
    find("#name").value = "";
    show("start");
  }

  find("#enter").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = test.listener ?? find("#name").value.trim();
    if (!name) return;
    enter(name);
    begin();
  });
  const first = (test.training[0] ?? test.items[0]).reference;
  find("#volume").addEventListener("click", (event) => play(first, event.currentTarget, () => {}, () => {}, () => {}));
  find("#next").addEventListener("click", () => next());
  find("#all").addEventListener("click", playAll);
  find("#skip").addEventListener("click", () => next(true));
  find("#pause").addEventListener("click", pause);
  find("#resume").addEventListener("click", begin);
  find("#leave").addEventListener("click", leave);
  find("#another")?.addEventListener("click", leave);
  for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);

  document.addEventListener("keydown", (event) => {
    if (shown !== "item" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const key = event.key.toLowerCase();
    const part = rating ? (key === "r" ? "reference" : /^[1-9]$/.test(key) ? `version${key}` : null)
      : { 1: "voice1", 2: "voice2", x: "x" }[key];
    if (part && view.parts.has(part)) playPart(part);
    else if (key === "a") playAll();
    else if (!rating && key === "arrowleft") choose(0);
    else if (!rating && key === "arrowright") choose(1);
    else if (key === "enter" && event.target.tagName !== "BUTTON") next();
    else if (key === "p") pause();
    else return;
    event.preventDefault();
  });

  // Loaded again in the middle: sound needs a click first, so the way back leads over the pause.
  const last = test.listener ?? store.get(KEY);
  if (last !== null && kept(last)) {
    enter(last);
    keep();
    if (state.finished) finish();
    else rest(`Welcome back${test.listener === null ? `, ${last}` : ""}`);
  } else show("start");
})();
