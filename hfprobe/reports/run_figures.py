"""The figure of one measure of one run: a panel per condition and list of layers, with its controls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.reports.figures import families
from hfprobe.reports.model import REFERENCE_LAYERS, Measurement
from hfprobe.reports.panels import MUTED, REFERENCES, add_legend, draw_panel, drawing, lay_out, style_of
from hfprobe.reports.runs import Measure
from hfprobe.reports.tables import layer_orders, metric_info, ordered_conditions, split_twins

# A measure, and the one that says how much of it means nothing: drawn together.
COMPANIONS = {
    "accuracy": ("control_accuracy", "control task"),
    "cosine": ("cosine_other", "two speakers"),
    "distance": ("distance_other", "two speakers"),
    **{
        name: (f"{name}_shuffled", "shuffled labels")
        for name in ("capacity", "radius", "dimension", "center_correlation", "separability", "class_variance")
    },
}
MEANINGS = {
    "input": "input: the sound that went in (natural speech where clean)",
    "ceiling": "ceiling: the true mel made sound again",
    "floor": "mean mel: a probe that knows nothing else",
}
# Where points are classified, input is a mel-spectrogram and the floor a guess.
CLASSES = {
    "input": ("input mel", "input mel: no network at all"),
    "floor": ("majority class", "majority class: a guess"),
}
RANDOM_POINTS = "points at random"


def run_figure(rows: Sequence[Measurement], measure: Measure, encoders: Sequence[str], floor: float | None = None):
    """Curves by layer of one run; the layout is done by `finish`, when the limits of all runs are known.

    Args:
        rows: Rows of the measure and of its companion, of one run.
        measure: What they measure.
        encoders: All encoders of the page, in the order that fixes their colours.
        floor: Capacity of points without structure.

    Returns:
        The figure, or None where no encoder has a layer.

    Example:
        >>> rows = [Measurement("e", f"blstm{k}", "clean", "accuracy", 0.4) for k in (1, 2)]
        >>> run_figure(rows, Measure("accuracy", "phone"), ["e"]).axes[0].get_ylabel()
        'phone accuracy (%)'
    """
    companion, companion_label = COMPANIONS.get(measure.metric, ("", ""))
    controls = [row for row in rows if row.metric == companion]
    chosen, twins = split_twins(row for row in rows if row.metric == measure.metric)
    orders = layer_orders(chosen)
    if not orders:
        return None
    info = metric_info(measure.metric)
    places = {name: place for place, name in enumerate(encoders)}
    styles = {name: style_of(places.get(name, 0)) for name in orders}
    panels = [(layers, names, c) for layers, names in families(orders).items() for c in ordered_conditions(chosen)]
    across = 1 if len(panels) == 1 else 2
    down = math.ceil(len(panels) / across)
    with drawing():
        figure = Figure(
            figsize=(4.3 if across == 1 else 5.4, 0.3 + (2.6 if across == 1 else 2.2) * down), layout="constrained"
        )
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, sharey=True, squeeze=False).flat
        for place, axes in enumerate(grid):
            if place >= len(panels):
                axes.set_visible(False)
                continue
            layers, names, condition = panels[place]
            here = [row for row in chosen if row.condition == condition]
            draw_panel(axes, here, layers, names, condition, styles, info, twins)
            for name in names:
                own = [row for row in controls if row.condition == condition]
                _draw_control(axes, own, name, layers, styles[name], info, f"{name}, {companion_label}")
            if floor is not None and measure.metric == "capacity":
                axes.axhline(floor, color=MUTED, linestyle=(0, (1, 4)), linewidth=1, label=RANDOM_POINTS, zorder=1)
            if measure.metric in ("accuracy", "selectivity", "compression", "mdl"):
                _rename(axes, {REFERENCES[kind][0]: label for kind, (label, _) in CLASSES.items()})
            if place % across == 0:
                axes.set_ylabel(measure.axis)
    return figure


def _draw_control(axes, rows: Iterable[Measurement], name: str, layers: Sequence[str], style, info, label: str) -> None:
    """A thin line in the colour of its encoder, with a faint band."""
    own = {row.layer: row for row in rows if row.encoder == name}
    if not any(layer in own for layer in layers):
        return
    series = {}
    for column in ("value", "ci_low", "ci_high"):
        cells = [getattr(own[layer], column) if layer in own else None for layer in layers]
        series[column] = [math.nan if cell is None else info.scaled(cell) for cell in cells]
    at = range(len(layers))
    axes.plot(at, series["value"], color=style.light, linewidth=0.9, linestyle=(0, (1, 1)), label=label, zorder=2)
    axes.fill_between(at, series["ci_low"], series["ci_high"], color=style.light, alpha=0.07, linewidth=0, zorder=1)


def _rename(axes, labels: dict[str, str]) -> None:
    for line in axes.lines:
        line.set_label(labels.get(str(line.get_label()), line.get_label()))


def finish(drawn: Sequence[Figure], encoders: Sequence[str], info: Any) -> None:
    """Give the figures of one measure the same limits, so that runs can be compared, and a legend each."""
    limits = [axes.get_ylim() for figure in drawn for axes in figure.axes if axes.get_visible()]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    lowest = min((_lowest(axes) for figure in drawn for axes in figure.axes), default=0.0)
    bottom = 0.0 if info.percent and lowest >= 0 else low
    names = [*encoders, *(f"{name}, {label}" for _, label in dict.fromkeys(COMPANIONS.values()) for name in encoders)]
    last = [label for label, _ in CLASSES.values()] + [RANDOM_POINTS]
    order = {name: place for place, name in enumerate([*names, *last])}
    for figure in drawn:
        with drawing():
            visible = [axes for axes in figure.axes if axes.get_visible()]
            visible[0].set_ylim(bottom, high)
            add_legend(figure, visible, order)
            _make_room(figure)
            lay_out(figure)


def _make_room(figure) -> None:
    """A long legend makes a figure higher, not its panels lower."""
    height = sum(legend.get_window_extent().height for legend in figure.legends) / figure.dpi
    figure.set_figheight(figure.get_figheight() + height)


def _lowest(axes) -> float:
    """The lowest value drawn, bands included."""
    values = [value for line in axes.lines for value in line.get_ydata()]
    values += [corner[1] for band in axes.collections for path in band.get_paths() for corner in path.vertices]
    return min((value for value in values if math.isfinite(value)), default=0.0)


def caption(rows: Sequence[Measurement], measure: Measure, floor: float | None = None) -> str:
    """What the figure shows, with its counts.

    Example:
        >>> row = Measurement("e", "blstm1", "clean", "accuracy", 0.4, n=20)
        >>> caption([row], Measure("accuracy", "phone"))
        'Each point is from 20 measurements; none failed.'
    """
    main = [row for row in rows if row.metric == measure.metric]
    parts = ["Bands are 95 % intervals."] if any(row.ci_low is not None for row in main) else []
    if len(main) < len(rows):
        parts.append(f"Dotted, in the colour of each encoder: {COMPANIONS[measure.metric][1]}.")
    if split_twins(main)[1]:
        parts.append("Thin grey dashed curves: the same encoder with random weights.")
    classes = {k: words for k, (_, words) in CLASSES.items()} if measure.subject else {}
    kinds = [kind for kind in REFERENCE_LAYERS if any(row.layer == kind for row in main)]
    lines = [{**MEANINGS, **classes}[kind] for kind in kinds]
    lines += [f"{RANDOM_POINTS}: capacity without structure"] if floor is not None else []
    if lines:
        parts.append(f"Grey lines: {'; '.join(lines)}.")
    counts = sorted({row.n for row in main})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    failed = sum(row.n_failed for row in main)
    ending = f"{failed} failed and are left out, not scored 0." if failed else "none failed."
    return " ".join([*parts, f"Each point is from {each} measurements; {ending}"])
