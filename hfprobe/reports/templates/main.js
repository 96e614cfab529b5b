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
  const watcher = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      if (target.dataset.chart !== undefined) drawChart(target, data.charts[target.dataset.chart]);
      else drawTraining(target, data.training[Number(target.dataset.training)]);
    }
  }, { rootMargin: "600px" });
  for (const place of document.querySelectorAll("[data-chart], [data-training]")) watcher.observe(place);
}

start();
