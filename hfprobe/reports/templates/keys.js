// Keys of the listening room. They rest where a key has another meaning: in fields, tables, charts and links.
function listenForKeys(room) {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    const { target } = event;
    if (!(target instanceof Element)) return;
    const busy = target.closest("select, textarea, pre, .wide, .panel-chart, .training, input:not([type=radio]):not([type=checkbox])");
    if (busy && !(busy.classList.contains("seek") && event.key === " ")) return;
    const arrows = target.closest("input");
    const presses = target.closest("button, a, summary, input[type=checkbox]");
    const conditions = room.utterance.conditions.length;
    const keys = {
      " ": () => (presses ? false : room.toggle()),
      ArrowLeft: () => (arrows ? false : room.step(-1)),
      ArrowRight: () => (arrows ? false : room.step(1)),
      a: () => room.turn("A"),
      b: () => room.turn("B"),
      x: () => room.flip(),
      e: () => room.nextEncoder(),
      c: () => room.choose({ condition: (room.choice.condition + 1) % conditions }),
      l: () => room.setLoop(!room.loop),
      ",": () => room.seek(room.position - 1),
      ".": () => room.seek(room.position + 1),
    };
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (Object.hasOwn(keys, name) && keys[name]() !== false) event.preventDefault();
  });
}
