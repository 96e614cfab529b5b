// Curves by layer as SVG. Every panel is one stop of the keyboard; hovering, or the arrow keys, show all values of a layer.
const DASHES = ["", "7 3", "7 2 1.5 2", "1.5 2.5", "8 2 2 2 2 2"];
const MARKS = ["M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z", "M-3-3h6v6h-6z", "M0-4l3.8 7h-7.6z", "M0-4l4 4-4 4-4-4z", "M0 4l3.8-7h-7.6z"];
const FILLED = [true, false, true, false, true];
const LINES = { input: "1 2", ceiling: "8 3", floor: "4 2 1 2" };

const scaled = (chart, value) => (chart.percent ? 100 * value : value);
const written = (chart, value) => (isNumber(value) ? decimals(scaled(chart, value), chart.digits) : MISSING);

// Value, interval and counts as the table behind the figure writes them.
function pointText(chart, [value, low, high, n, failed]) {
  const bounds = isNumber(low) && isNumber(high) ? ` (${written(chart, low)} to ${written(chart, high)})` : "";
  const counts = [n ? `n ${n}` : "", failed ? `${failed} failed` : ""].filter(Boolean).join(", ");
  return [make("b", {}, written(chart, value)), `${bounds}${counts ? `, ${counts}` : ""}`];
}

function ticksOf(low, high, wanted = 5) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) ticks.push(at);
  return { ticks, digits: Math.max(0, Math.min(4, -Math.floor(Math.log10(step) + 1e-9) + (String(step / power).includes(".") ? 1 : 0))) };
}

const sampleOf = (series) => draw("svg", { class: "sample", viewBox: "0 0 30 10", "aria-hidden": "true" }, lineOf(series, "M0 5H30"), markOf(series, 15, 5));

function lineOf(series, d) {
  if (series.kind === "reference") return draw("path", { d, class: "reference", "stroke-dasharray": LINES[series.line] });
  const dashes = { layer: DASHES[series.encoder % DASHES.length], control: "1 1.6", random: "3 3", difference: "" }[series.kind];
  return draw("path", { d, class: `curve ${series.kind}`, "stroke-dasharray": dashes || null });
}

function markOf(series, x, y, open = false) {
  if (series.kind === "reference" || series.kind === "control") return null;
  const index = Math.max(0, series.encoder) % MARKS.length;
  const filled = !open && (series.kind === "difference" || (FILLED[index] && series.kind !== "random"));
  return draw("path", { d: MARKS[index], class: `mark ${series.kind}${filled ? " filled" : ""}`, transform: `translate(${x} ${y})${series.kind === "random" ? " scale(.75)" : ""}` });
}

const hueOf = (series) => ({ "--hue": ["reference", "random"].includes(series.kind) ? "var(--muted)" : encoderHue(series.encoder) });

class Panel {
  constructor(chart, panel, width) {
    Object.assign(this, { chart, panel, width, at: null });
    const longest = Math.max(...panel.layers.map((name) => Math.min(14, name.length)));
    this.left = 50;
    this.right = 12;
    this.top = 12;
    this.slanted = longest * 7 > (width - this.left - this.right) / panel.layers.length - 4;
    this.bottom = this.slanted ? 20 + 5 * longest : 24;
    this.height = 190 + this.bottom;
    const span = chart.high - chart.low || Math.abs(chart.high) || 1;
    this.low = chart.low - (chart.low === 0 ? 0 : 0.06 * span);
    this.high = chart.high + 0.06 * span;
    this.tip = make("div", { class: "tip", hidden: true, "aria-live": "polite" });
    this.cross = draw("line", { class: "cross", y1: this.top, y2: this.height - this.bottom, visibility: "hidden" });
    this.svg = draw("svg", { width, height: this.height, viewBox: `0 0 ${width} ${this.height}`, tabindex: 0, role: "img", "aria-label": this.label(), class: "panel-chart" });
    this.paint();
    this.element = make("div", { class: "chart-panel", vars: { width: `${width}px` } }, make("h4", {}, plainCondition(panel.title)), this.svg, this.tip);
    this.wire();
  }

  label() {
    const names = this.panel.series.map((series) => series.label).join(", ");
    return `${this.chart.axis} by layer, ${plainCondition(this.panel.title)}: ${names}. Left and right arrow keys read the values of each layer.`;
  }

  x(place) {
    const count = this.panel.layers.length;
    const room = this.width - this.left - this.right;
    return this.left + room * (count === 1 ? 0.5 : 0.05 + (0.9 * place) / (count - 1));
  }

  y(value) {
    return this.top + (this.height - this.top - this.bottom) * (1 - (value - this.low) / (this.high - this.low));
  }

  paint() {
    const { chart, panel, svg, width } = this;
    const { ticks, digits } = ticksOf(scaled(chart, this.low), scaled(chart, this.high));
    for (const tick of ticks) {
      const y = this.y(chart.percent ? tick / 100 : tick);
      svg.append(draw("line", { class: "grid", x1: this.left, x2: width - this.right, y1: y, y2: y }),
        draw("text", { class: "tick", x: this.left - 7, y: y + 4, "text-anchor": "end" }, decimals(tick, digits)));
    }
    if (chart.zero) svg.append(draw("line", { class: "zero", x1: this.left, x2: width - this.right, y1: this.y(0), y2: this.y(0) }));
    panel.layers.forEach((name, place) => {
      const short = name.length > 14 ? `${name.slice(0, 13)}…` : name;
      const [x, y] = [this.x(place), this.height - this.bottom + 16];
      svg.append(draw("text", { class: "tick", x, y, "text-anchor": this.slanted ? "end" : "middle", transform: this.slanted ? `rotate(-40 ${x} ${y})` : null }, short));
    });
    for (const line of panel.lines) {
      if (isNumber(line.point[0])) {
        const y = this.y(line.point[0]);
        svg.append(draw("g", { vars: { "--hue": "var(--muted)" } }, lineOf({ kind: "reference", line: line.kind }, `M${this.left} ${y}H${width - this.right}`)));
      }
    }
    for (const series of panel.series) svg.append(this.curve(series));
    svg.append(this.cross);
  }

  curve(series) {
    const group = draw("g", { vars: hueOf(series) });
    const runs = [[]];
    series.points.forEach((point, place) => {
      if (point && isNumber(point[0])) runs[runs.length - 1].push([this.x(place), point]);
      else if (runs[runs.length - 1].length) runs.push([]);
    });
    const whiskers = series.kind === "difference" || series.points.length === 1;
    for (const run of runs) {
      const banded = run.filter(([, point]) => isNumber(point[1]) && isNumber(point[2]));
      if (whiskers) {
        for (const [x, point] of banded) group.append(draw("line", { class: "whisker", x1: x, x2: x, y1: this.y(point[1]), y2: this.y(point[2]) }));
      } else if (banded.length > 1) {
        const low = banded.map(([x, point]) => `${x} ${this.y(point[1])}`);
        const high = banded.map(([x, point]) => `${x} ${this.y(point[2])}`).reverse();
        group.append(draw("path", { class: `band ${series.kind}`, d: `M${[...low, ...high].join("L")}Z` }));
      }
      if (run.length > 1 && series.kind !== "difference") group.append(lineOf(series, `M${run.map(([x, point]) => `${x} ${this.y(point[0])}`).join("L")}`));
      for (const [x, point] of run) {
        const open = series.kind === "difference" && !(isNumber(point[1]) && (point[1] > 0 || point[2] < 0));
        const mark = markOf(series, x, this.y(point[0]), open);
        if (mark) group.append(mark);
      }
    }
    return group;
  }

  wire() {
    const { svg } = this;
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * this.width;
      const places = this.panel.layers.map((_, place) => Math.abs(this.x(place) - x));
      this.show(places.indexOf(Math.min(...places)));
    });
    svg.addEventListener("pointerleave", () => (document.activeElement === svg ? null : this.hide()));
    svg.addEventListener("focus", () => this.show(this.at ?? 0));
    svg.addEventListener("blur", () => this.hide());
    svg.addEventListener("keydown", (event) => {
      const last = this.panel.layers.length - 1;
      const to = { ArrowLeft: (this.at ?? 0) - 1, ArrowRight: (this.at ?? -1) + 1, Home: 0, End: last }[event.key];
      if (event.key === "Escape") this.hide();
      if (to === undefined) return;
      event.preventDefault();
      this.show(Math.min(last, Math.max(0, to)));
    });
  }

  show(place) {
    const { chart, panel } = this;
    if (this.at === place && !this.tip.hidden) return;
    this.at = place;
    const x = this.x(place);
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    this.cross.setAttribute("visibility", "visible");
    const lines = panel.series.filter((series) => series.points[place]).map((series) =>
      make("p", { vars: hueOf(series), "data-value": series.points[place][0] ?? "" }, sampleOf(series), make("span", {}, `${series.label} `), pointText(chart, series.points[place])));
    const beside = panel.lines.map((line) =>
      make("p", { class: "beside", "data-value": line.point[0] }, sampleOf({ kind: "reference", line: line.kind }), make("span", {}, `${line.label} `), pointText(chart, line.point)));
    this.tip.replaceChildren(make("h5", {}, `${panel.layers[place]}, ${chart.axis}`), ...lines, ...beside);
    this.tip.hidden = false;
    const wide = this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(this.width - wide, x - wide / 2))}px`;
    // Below the panel, so that the curves stay in view; above it where the window ends.
    const above = this.svg.getBoundingClientRect().bottom + this.tip.offsetHeight > window.innerHeight;
    this.tip.classList.toggle("above", above);
  }

  hide() {
    this.at = null;
    this.tip.hidden = true;
    this.cross.setAttribute("visibility", "hidden");
  }
}

// The legend of all panels of a chart: each name once.
function legendOf(chart) {
  const entries = new Map();
  for (const panel of chart.panels) for (const series of panel.series) entries.set(series.label, series);
  for (const panel of chart.panels) for (const line of panel.lines) entries.set(line.label, { kind: "reference", line: line.kind });
  return make("ul", { class: "legend" }, [...entries].map(([label, series]) => make("li", { vars: hueOf(series) }, sampleOf(series), label)));
}

function drawChart(place, chart) {
  let drawn = 0;
  const paint = () => {
    const room = place.clientWidth;
    if (!room || Math.abs(room - drawn) < 8) return;
    drawn = room;
    const columns = Math.max(1, Math.min(chart.panels.length, Math.floor((room + 20) / 285), 4));
    const width = Math.floor(Math.min(560, (room - 20 * (columns - 1)) / columns));
    const panels = chart.panels.map((panel) => new Panel(chart, panel, width).element);
    place.replaceChildren(make("p", { class: "axis" }, chart.axis), legendOf(chart), make("div", { class: "chart-panels" }, panels));
  };
  new ResizeObserver(paint).observe(place);
  paint();
}
