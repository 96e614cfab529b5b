"""Curves by layer as Matplotlib figures, for papers (PNG, PDF).

A figure is drawn without pyplot: no global state, no display.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.files import write_whole
from hfprobe.reports.panels import (
    INK,
    LINE,
    MUTED,
    STYLES,
    EncoderStyle,
    add_legend,
    draw_panel,
    drawing,
    lay_out,
    style_of,
)
from hfprobe.reports.tables import (
    layer_orders,
    metric_info,
    metric_rows,
    ordered_conditions,
    split_twins,
)

__all__ = ["INK", "LINE", "MUTED", "STYLES", "EncoderStyle", "figure_bytes", "layer_curves", "save_figure"]
_drawing = drawing


def families(orders: dict[str, tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    """Encoders by their list of layers: those of one architecture share a row of panels."""
    families: dict[tuple[str, ...], list[str]] = {}
    for encoder, layers in orders.items():
        families.setdefault(layers, []).append(encoder)
    return families


def layer_curves(
    rows: Iterable[Any], metric: str, encoders: Sequence[str] | None = None, columns: int | None = None
) -> Figure:
    """One panel per condition (one row of panels per architecture): the metric by layer, for all encoders.

    Args:
        rows: Result rows (mappings or objects) of any metrics.
        metric: The one to draw, e.g. ``"eer"`` or ``"stoi"``.
        encoders: All encoders in the order that fixes their colours; default: order of appearance.
        columns: Panels side by side; default: all conditions of an architecture in one row, four at most.

    Returns:
        The figure: bands are 95 % intervals; grey lines are the unprocessed input (natural speech in
        `clean`), the ceiling, and the floor where there is one; thin grey curves are the encoders with random
        weights.

    Raises:
        ReportError: If no row has this metric.

    Example:
        >>> point = {"encoder": "e", "condition": "clean", "metric": "eer", "value": 0.1}
        >>> rows = [{**point, "layer": f"blstm{depth}"} for depth in (1, 2, 3)]
        >>> len(layer_curves(rows, "eer").axes)
        1
    """
    every = metric_rows(rows, metric)
    chosen, twins = split_twins(every)
    info = metric_info(metric)
    orders = layer_orders(chosen)
    places = {name: place for place, name in enumerate(encoders or orders)}
    styles = {name: style_of(places.get(name, 0)) for name in orders}
    conditions = ordered_conditions(chosen)
    panels = [(layers, names, condition) for layers, names in families(orders).items() for condition in conditions]
    across = max(1, min(columns or min(len(conditions), 4), len(panels)))
    down = max(1, math.ceil(len(panels) / across))
    with drawing():
        figure = Figure(figsize=(1.1 + 2.75 * across, 0.75 + 2.35 * down), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, sharey=True, squeeze=False)
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_visible(False)
                continue
            layers, names, condition = panels[place]
            here = [row for row in chosen if row.condition == condition]
            draw_panel(axes, here, layers, names, condition, styles, info, twins)
            if place % across == 0:
                axes.set_ylabel(info.axis)
        if info.percent and chosen:
            grid.flat[0].set_ylim(bottom=0)
        add_legend(figure, grid.flat[: len(panels)], places)
        lay_out(figure)
    return figure


def save_figure(figure: Figure, stem: Path, formats: Sequence[str] = ("png", "pdf")) -> tuple[Path, ...]:
    """Write a figure as `stem.png` and `stem.pdf`, whole or not at all, without dates inside.

    Args:
        figure: From `layer_curves`.
        stem: Path without a suffix.
        formats: File formats that Matplotlib knows.

    Returns:
        The files.
    """
    return tuple(write_whole(Path(f"{stem}.{name}"), data) for name, data in figure_bytes(figure, formats).items())


def figure_bytes(figure: Figure, formats: Sequence[str] = ("png", "pdf")) -> dict[str, bytes]:
    """The files of a figure by format, without dates inside; see `save_figure`."""
    made = {}
    for name in formats:
        buffer = io.BytesIO()
        dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(name)
        with drawing():
            figure.savefig(buffer, format=name, dpi=200, facecolor="white", metadata=dates)
        made[name] = buffer.getvalue()
    return made
