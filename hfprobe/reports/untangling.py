"""Curves and tables of `hfprobe untangle`: capacity by layer with its interval and the control of shuffled labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.reports.figures import LINE, MUTED, _drawing, style_of
from hfprobe.reports.model import Measurement, ReportError, measurements
from hfprobe.reports.panels import lay_out
from hfprobe.reports.tables import MISSING, Table, layer_orders, ordered_conditions

LABELS = {
    "capacity": "capacity",
    "radius": "radius",
    "dimension": "dimension",
    "center_correlation": "centre correlation",
    "separability": "linear separability",
    "class_variance": "variance between classes",
}
SHUFFLED = "_shuffled"
INPUT = "input"


def untangling_figure(
    rows: Iterable[Any], metrics: Sequence[str] = tuple(LABELS), floor: float | None = None
) -> Figure:
    """A panel per metric, and per architecture and condition side by side; the mel is the leftmost point.

    Args:
        rows: Result rows (mappings or objects).
        metrics: Of `LABELS`; those that no row has are left out.
        floor: Capacity of points without structure, drawn as a line.

    Returns:
        The figure: bands are 95 % intervals over classes, thin grey-edged lines the same points with shuffled labels.

    Raises:
        ReportError: No row has one of the metrics.

    Example:
        >>> point = {"encoder": "e", "condition": "clean", "metric": "capacity", "value": 0.1}
        >>> len(untangling_figure([{**point, "layer": f"blstm{k}"} for k in (1, 2)]).axes)
        1
    """
    rows = measurements(rows)
    metrics = [metric for metric in metrics if any(row.metric == metric for row in rows)]
    if not metrics:
        raise ReportError(f"no result row has a metric of {', '.join(LABELS)}; run hfprobe untangle")
    orders = layer_orders([row for row in rows if row.metric == metrics[0]])
    encoders = list(orders)
    families: dict[tuple[str, ...], list[str]] = {}
    for encoder, layers in orders.items():
        families.setdefault(layers, []).append(encoder)
    columns = [(layers, names, c) for c in ordered_conditions(rows) for layers, names in families.items()]
    # A single column would be a tall strip: its panels go side by side.
    across = len(columns) if len(columns) > 1 else min(3, len(metrics))
    panels = [(metric, column) for metric in metrics for column in columns]
    down = math.ceil(len(panels) / across)
    with _drawing():
        legend = math.ceil((2 * len(encoders) + (floor is not None)) / across)
        figure = Figure(figsize=(1.2 + 2.9 * across, 0.7 + 2.0 * down + 0.18 * legend), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, sharey="row" if len(columns) > 1 else False, squeeze=False)
        handles: dict[str, Any] = {}
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_visible(False)
                continue
            metric, (layers, names, condition) = panels[place]
            here = [row for row in rows if row.condition == condition]
            for name in names:
                _curve(axes, here, name, metric, (INPUT, *layers), encoders.index(name))
            if metric == "capacity" and floor is not None:
                axes.axhline(floor, color=MUTED, linestyle=(0, (1, 1.5)), linewidth=1, label="points at random")
            axes.grid(axis="y", color=LINE, linewidth=0.7, zorder=0)
            axes.spines[["top", "right"]].set_visible(False)
            ticks = (INPUT, *layers) if place + across >= len(panels) else [""] * (len(layers) + 1)
            axes.set_xticks(range(len(layers) + 1), ticks, rotation=40, ha="right", rotation_mode="anchor")
            if place < len(columns):
                axes.set_title(condition, fontsize=9.5, loc="left", fontweight="bold")
            if place % len(columns) == 0:
                axes.set_ylabel(LABELS[metric])
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        # Encoders first, then their controls.
        shown = sorted(handles, key=lambda label: (label not in encoders, not label.endswith("shuffled labels")))
        figure.legend(
            [handles[label] for label in shown], shown, loc="outside upper left", ncols=across, frameon=False,
            handlelength=3.2, columnspacing=1.6,
        )  # fmt: skip
        lay_out(figure)
    return figure


def _curve(axes, rows: Sequence[Measurement], name: str, metric: str, layers: Sequence[str], place: int) -> None:
    """One encoder: values with their band, and shuffled labels as a thin line without markers."""
    style = style_of(place)
    for suffix, options in (
        (SHUFFLED, {"linewidth": 0.9, "alpha": 0.65, "linestyle": (0, (3, 2)), "label": f"{name}, shuffled labels"}),
        ("", {"linewidth": 1.6, "linestyle": style.line, "marker": style.marker, "markersize": 4.5, "label": name}),
    ):
        own = {
            row.layer: row
            for row in rows
            if row.metric == metric + suffix and (row.encoder == name or row.layer == INPUT)
        }
        if not own:
            continue
        numbers = {}
        for column in ("value", "ci_low", "ci_high"):
            found = [getattr(own[layer], column) if layer in own else None for layer in layers]
            numbers[column] = [math.nan if value is None else value for value in found]
        face = {} if suffix else {"markerfacecolor": style.light if style.filled else "#ffffff"}
        axes.plot(range(len(layers)), numbers["value"], color=style.light, zorder=3, **options, **face)
        axes.fill_between(
            range(len(layers)), numbers["ci_low"], numbers["ci_high"], color=style.light, linewidth=0, zorder=2,
            alpha=0.07 if suffix else 0.16,
        )  # fmt: skip


def untangling_table(rows: Iterable[Any], caption: str = "", intervals: bool = True) -> str:
    """One line per condition, encoder and layer, in Markdown: each metric with its interval, and shuffled in brackets.

    Args:
        rows: Result rows (mappings or objects).
        caption: What was measured.
        intervals: Whether to give them; a terminal has no room for all of them.

    Returns:
        Markdown text.
    """
    rows = measurements(rows)
    values = {(row.condition, row.encoder, row.layer, row.metric): row for row in rows}
    metrics = [metric for metric in LABELS if any(row.metric == metric for row in rows)]
    lines = []
    for condition in ordered_conditions(rows):
        for encoder, layer in dict.fromkeys((row.encoder, row.layer) for row in rows if row.condition == condition):
            cells = []
            for metric in metrics:
                row = values.get((condition, encoder, layer, metric))
                control = values.get((condition, encoder, layer, metric + SHUFFLED))
                value = _cell(row) if intervals or row is None else _number(row.value)
                cells.append(value + (f" [{_number(control.value)}]" if control is not None else ""))
            lines.append((condition, encoder, layer, *cells))
    header = ("condition", "encoder", "layer", *(LABELS[metric] for metric in metrics))
    what = "Values with 95 % intervals over classes" if intervals else "Values"
    text = f"{caption}{what}; in brackets the same points with shuffled labels"
    return Table(text, header, tuple(lines), labels=3).to_markdown()


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"


def _cell(row: Measurement | None) -> str:
    if row is None or row.value is None:
        return MISSING
    if row.ci_low is None:
        return _number(row.value)
    return f"{_number(row.value)} ({_number(row.ci_low)} to {_number(row.ci_high)})"
