"""Measures of encoders with different numbers of layers on one axis: relative depth, 0 the first layer, 1 the last."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.errors import HfprobeError
from hfprobe.files import write_whole
from hfprobe.reports.figures import save_figure
from hfprobe.reports.model import REFERENCE_LAYERS
from hfprobe.reports.panels import INK, LINE, MUTED, drawing, style_of
from hfprobe.results import ResultRow, Results

# What is drawn, of all that the runs hold: name of the run's folder, metric, title.
SHOWN = (
    ("evaluation", "eer", "EER of rebuilt speech"),
    ("evaluation", "stoi", "STOI of rebuilt speech"),
    ("phone", "selectivity", "phones: selectivity"),
    ("speaker", "accuracy", "speakers: accuracy"),
)
COLUMNS = ("run", "metric", "condition", "encoder", "layer", "depth", "value", "ci_low", "ci_high", "n", "n_failed")


def by_depth(rows: Iterable[ResultRow]) -> list[tuple[float, ResultRow]]:
    """Each layer's row with its relative depth; input, ceiling and floor have none and are left out.

    Layers count in the order in which a run lists them, which is the encoder's.

    Example:
        >>> rows = [ResultRow("hubert", f"transformer{i}", "clean", "eer", 0.2, n=4) for i in (1, 2, 3)]
        >>> [(depth, row.layer) for depth, row in by_depth(rows)]
        [(0.0, 'transformer1'), (0.5, 'transformer2'), (1.0, 'transformer3')]
    """
    rows = [row for row in rows if row.layer not in REFERENCE_LAYERS]
    orders: dict[str, list[str]] = {}
    for row in rows:
        order = orders.setdefault(row.encoder, [])
        if row.layer not in order:
            order.append(row.layer)
    return [(orders[row.encoder].index(row.layer) / max(1, len(orders[row.encoder]) - 1), row) for row in rows]


def csv_of(runs: dict[str, Results]) -> str:
    """All rows of all runs with their depth."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, results in runs.items():
        for depth, row in by_depth(results):
            fields = (row.metric, row.condition, row.encoder, row.layer, f"{depth:.4f}")
            writer.writerow((name, *fields, row.value, row.ci_low, row.ci_high, row.n, row.n_failed))
    return text.getvalue()


def draw(runs: dict[str, Results], condition: str, encoders: Sequence[str]) -> Figure | None:
    """A panel for each measure of `SHOWN` that the runs hold in this condition; bands are 95 % intervals."""
    panels = []
    for run, metric, label in SHOWN:
        found = [
            (depth, row)
            for depth, row in by_depth(runs.get(run, ()))
            if row.metric == metric and row.condition == condition and row.value is not None
        ]
        if found:
            panels.append((label, found))
    if not panels:
        return None
    with drawing():
        figure = Figure(figsize=(3.1 * len(panels), 3.3), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (label, found) in zip(grid, panels, strict=True):
            for place, encoder in enumerate(encoders):
                points = sorted(((d, r) for d, r in found if r.encoder == encoder), key=lambda point: point[0])
                if not points:
                    continue
                style, depth = style_of(place), [d for d, _ in points]
                axes.plot(
                    depth, [r.value for _, r in points], color=style.light, linestyle=style.line, marker=style.marker,
                    markersize=4, markerfacecolor=style.light if style.filled else "white", label=encoder,
                )  # fmt: skip
                if all(r.ci_low is not None and r.ci_high is not None for _, r in points):
                    low, high = [r.ci_low for _, r in points], [r.ci_high for _, r in points]
                    axes.fill_between(depth, low, high, color=style.light, alpha=0.12, linewidth=0)
            axes.set_title(label, color=INK, fontsize=9)
            axes.set_xlabel("relative depth", color=MUTED)
            axes.grid(color=LINE, linewidth=0.5)
            axes.spines[["top", "right"]].set_visible(False)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(condition, color=INK, fontsize=10)
    return figure


def main() -> None:
    """Read the runs; write ``by_depth.csv`` and a figure for each condition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of `hfprobe evaluate` and `hfprobe classify`")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    try:
        runs = {folder.name: Results.from_json(folder / "results.json") for folder in args.runs}
    except HfprobeError as error:
        raise SystemExit(f"by_depth.py: error: {error}") from None
    rows = [row for results in runs.values() for row in results if row.layer not in REFERENCE_LAYERS]
    encoders = list(dict.fromkeys(row.encoder for row in rows))
    args.output.mkdir(parents=True, exist_ok=True)
    write_whole(args.output / "by_depth.csv", csv_of(runs))
    for condition in dict.fromkeys(row.condition for row in rows):
        if figure := draw(runs, condition, encoders):
            save_figure(figure, args.output / condition.replace("@", "-"))
    print(f"{len(rows)} rows of {len(encoders)} encoders by relative depth are in {args.output}")


if __name__ == "__main__":
    main()
