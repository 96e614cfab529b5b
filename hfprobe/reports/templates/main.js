// Reads the data of the page and gives every part its place.
function start() {
  document.documentElement.classList.add("js");
  const data = JSON.parse(document.getElementById("data").textContent);
  if (data.room) {
    const bytes = new Bytes(data.room, document.documentElement.hasAttribute("data-single-file"));
    const room = new Room(data.room, new Engine(bytes));
    new RoomView(room, bytes, document.getElementById("room"));
    for (const place of document.querySelectorAll(".spectrograms")) new Spectrograms(room, bytes, place);
    listenForKeys(room);
    window.hfprobeRoom = room;
  }
  // Charts come into being one by one in idle moments, those in view before the others.
  const waiting = new Set(document.querySelectorAll("[data-chart], [data-training]"));
  const show = (place) => {
    if (!waiting.delete(place)) return;
    if (place.dataset.chart !== undefined) drawChart(place, data.charts[place.dataset.chart]);
    else drawTraining(place, data.training[Number(place.dataset.training)]);
  };
  const watcher = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) if (isIntersecting) show(target);
  }, { rootMargin: "600px" });
  for (const place of waiting) watcher.observe(place);
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 50));
  const next = () => {
    const [place] = waiting;
    if (!place) return;
    show(place);
    idle(next);
  };
  idle(next);
}

start();
