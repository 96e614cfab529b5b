"""Accuracy of classifiers by layer with their controls: a figure and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.reports.figures import LINE, MUTED, _drawing, style_of
from hfprobe.reports.model import Measurement, measurements
from hfprobe.reports.tables import interval_table, layer_orders, layer_table

METRICS = ("accuracy", "selectivity", "control_accuracy", "mdl", "compression")


def _series(rows: Iterable[Measurement], encoder: str, metric: str) -> dict[str, Measurement]:
    return {row.layer: row for row in rows if row.encoder == encoder and row.metric == metric}


def accuracy_curves(rows: Iterable[Any], target: str) -> Figure:
    """Accuracy by layer: one panel per list of layers, all encoders that have it, and the controls.

    Args:
        rows: Result rows of `hfprobe classify`.
        target: What was classified, for the axis.

    Returns:
        The figure. Bands are 95 % intervals; thin lines of an encoder's own colour are its control task, grey ones the
        mel-spectrogram (``input``) and the majority class.

    Example:
        >>> point = {"encoder": "e", "condition": "clean", "metric": "accuracy", "value": 0.4, "n": 10}
        >>> figure = accuracy_curves([{**point, "layer": "a"}, {**point, "layer": "b"}], "phone")
        >>> figure.axes[0].get_ylabel()
        'phone accuracy (%)'
    """
    rows = measurements(rows)
    orders = layer_orders(row for row in rows if row.metric == "accuracy")
    families: dict[tuple[str, ...], list[str]] = {}
    for encoder, layers in orders.items():
        families.setdefault(layers, []).append(encoder)
    places = {encoder: place for place, encoder in enumerate(orders)}
    references = {row.layer: row for row in rows if row.metric == "accuracy" and row.layer in ("input", "floor")}
    count = max(1, len(families))
    with _drawing():
        width = 1.4 + sum(max(2.4, 0.42 * len(layers)) for layers in families)
        figure = Figure(figsize=(width, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(1, count, sharey=True, squeeze=False)[0]
        handles: dict[str, Any] = {}
        for axes, (layers, encoders) in zip(grid, families.items(), strict=False):
            for name, label, dashes in (("input", "input mel", (0, (1, 1.5))), ("floor", "majority", (0, (3, 1.5)))):
                row = references.get(name)
                if row is not None and row.value is not None:
                    axes.axhline(100 * row.value, color=MUTED, linestyle=dashes, linewidth=1.2, label=label, zorder=1)
            for encoder in encoders:
                _curves(axes, rows, encoder, layers, places[encoder])
            axes.set_xticks(range(len(layers)), layers, rotation=40, ha="right", rotation_mode="anchor")
            axes.set_xlim(-0.4, len(layers) - 0.6)
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", color=LINE, linewidth=0.7, zorder=0)
            axes.spines[["top", "right"]].set_visible(False)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        grid[0].set_ylabel(f"{target} accuracy (%)")
        if handles:
            figure.legend(
                list(handles.values()), list(handles), loc="outside upper left", frameon=False, fontsize=8,
                ncols=2 if count == 1 else 4,
            )  # fmt: skip
    return figure


def _curves(axes, rows, encoder: str, layers: tuple[str, ...], place: int) -> None:
    style = style_of(place)
    nan = float("nan")
    for metric, label in (("accuracy", encoder), ("control_accuracy", f"{encoder}, control task")):
        found = _series(rows, encoder, metric)
        if not found:
            continue
        cells = [found.get(layer) for layer in layers]
        values, low, high = (
            [nan if cell is None or getattr(cell, name) is None else 100 * getattr(cell, name) for cell in cells]
            for name in ("value", "ci_low", "ci_high")
        )
        main = metric == "accuracy"
        axes.plot(
            range(len(layers)), values, linestyle=style.line if main else (0, (1, 1)),
            marker=style.marker if main else "",
            color=style.light, markerfacecolor=style.light if style.filled else "#ffffff", markersize=5,
            linewidth=1.6 if main else 0.9, label=label, zorder=3,
        )  # fmt: skip
        axes.fill_between(range(len(layers)), low, high, color=style.light, alpha=0.16 if main else 0.08, linewidth=0)


def classify_markdown(rows: Iterable[Any], facts: Mapping[str, Any]) -> str:
    """The tables of a run, with what was classified, how many points there were and what was left out.

    Args:
        rows: Result rows.
        facts: The run's settings and facts (``target``, ``classes``, ``train_points``, ``test_points``, ...).

    Returns:
        Markdown text.
    """
    rows = measurements(rows)
    metrics = [metric for metric in METRICS if any(row.metric == metric for row in rows)]
    what = "frames" if facts.get("target") == "phone" else "utterances"
    lines = [
        f"{facts.get('target')}: {len(facts.get('classes', ()))} classes, {facts.get('probe')} classifiers, "
        f"{facts.get('train_points')} {what} to learn from (of {facts.get('train_points_seen')}) and "
        f"{facts.get('test_points')} to test on (of {facts.get('test_points_seen')}). "
        f"Majority class: {facts.get('majority')}. In the tables n counts {what}, failed counts utterances.",
    ]
    if facts.get("left_out"):
        named = "; ".join(f"{count} {reason}" for reason, count in facts["left_out"].items() if count)
        lines.append(f"Left out: {named or 'nothing'}.")
    tables = [layer_table(rows, metric) for metric in metrics] + [interval_table(rows, metric) for metric in metrics]
    return "\n\n".join(lines) + "\n\n" + "\n".join(table.to_markdown() for table in tables)
