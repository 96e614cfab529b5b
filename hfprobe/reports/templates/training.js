// What was measured along a training: a slider over its checkpoints moves a curve by layer, or a map of layers.
function drawTraining(place, view) {
  const name = make("output", { class: "step" });
  const last = view.steps.length - 1;
  const slider = make("input", { type: "range", min: 0, max: last, step: 1, value: last, autocomplete: "off", "aria-label": `Checkpoint, ${view.title}` });
  const stage = make("div", { class: "training-stage" });
  place.append(make("p", { class: "slider" }, make("label", {}, "Checkpoint ", slider), name), stage);
  const show = view.curves ? curveStage(stage, view) : mapStage(stage, view);
  const move = () => {
    const step = Number(slider.value);
    name.textContent = `${view.steps[step]} (${step + 1} of ${view.steps.length})`;
    slider.setAttribute("aria-valuetext", view.steps[step]);
    show(step);
  };
  slider.addEventListener("input", move);
  move();
}

// The chosen checkpoint as a full curve, the others faint behind it.
function curveStage(stage, view) {
  const points = view.curves.flat().filter((point) => point && isNumber(point[0]));
  const numbers = points.flatMap((point) => point.slice(0, 3).filter(isNumber));
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  let step = 0;
  let drawn = 0;
  const paint = () => {
    drawn = stage.clientWidth;
    if (!drawn) return;
    const chart = { axis: view.axis, percent: view.percent, digits: view.digits, low: view.percent ? Math.min(0, low) : low, high };
    const series = [{ label: `checkpoint ${view.steps[step]}`, kind: "layer", encoder: 0, points: view.curves[step] }];
    const panel = new Panel(chart, { title: "", layers: view.layers, series, lines: [] }, Math.min(620, stage.clientWidth));
    view.curves.forEach((curve, other) => {
      if (other === step) return;
      const faint = panel.curve({ kind: "random", encoder: 0, points: curve.map((point) => point && [point[0], null, null]) });
      faint.classList.add("faint");
      panel.svg.insertBefore(faint, panel.svg.querySelector("g"));
    });
    stage.replaceChildren(panel.element);
  };
  new ResizeObserver(() => (stage.clientWidth === drawn ? null : paint())).observe(stage);
  return (to) => {
    step = to;
    paint();
  };
}

// Layers against layers at the chosen checkpoint.
function mapStage(stage, view) {
  const head = make("tr", {}, make("th", { scope: "col" }, "layer"), view.layers.map((layer) => make("th", { scope: "col", class: "n" }, layer)));
  const body = make("tbody");
  stage.append(make("div", { class: "wide map", tabindex: 0, role: "region", "aria-label": view.title }, make("table", {}, make("thead", {}, head), body)));
  return (step) => body.replaceChildren(...view.maps[step].map((line, row) => make("tr", {}, make("th", { scope: "row" }, view.layers[row]),
    line.map((value, column) => make("td", { class: "n", title: `${view.layers[row]} with ${view.layers[column]}`, vars: { "--share": `${isNumber(value) ? Math.round(100 * Math.min(1, Math.max(0, value))) : 0}%` } }, written(view, value))))));
}
