"""Heat maps of layers against layers, curves over training and over conditions, and the tables behind them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.analysis.compare import PairScore, encoder_name
from hfprobe.reports.figures import INK, LINE, MUTED, _drawing
from hfprobe.reports.tables import MISSING, Table
from hfprobe.similarity import Similarity
from hfprobe.similarity.groups import SIGNED

LABELS = {
    "mean_cca": "mean CCA", "svcca": "SVCCA", "pwcca": "PWCCA", "linear_cka": "linear CKA",
    "linear_cka_debiased": "linear CKA, debiased", "rbf_cka": "RBF CKA", "rsa": "RSA",
    "minibatch_cka": "minibatch CKA",
}  # fmt: skip
COLUMNS = (
    "encoder_a", "condition_a", "layer_a", "encoder_b", "condition_b", "layer_b", "measure", "value", "ci_low",
    "ci_high", "null", "n", "dim_a", "dim_b", "directions_a", "directions_b", "samples_per_dimension", "left", "right",
    "warning", "error", "interval_directions",
)  # fmt: skip


def score_csv(scores: Sequence[PairScore]) -> str:
    """All that is known of each score, one line each; an empty cell where there is nothing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in scores:
        score, sides = item.score, (item.left, item.right)
        cells: list[Any] = [text for tap in sides for text in (tap.encoder, tap.condition, tap.layer)] + [item.measure]
        if score is None:
            cells += [None] * 4 + [item.n] + [None] * 8 + [item.error, None]
        else:
            cells += [float(score), *(score.interval or (None, None)), score.null, score.n, *score.dims]
            cells += [*(score.directions or (None, None)), round(score.samples_per_dimension, 3)]
            # Of wide layers: from how many directions of either side the interval is.
            directions = score.extra.get("interval_directions")
            cells += [score.left, score.right, score.warning, None, directions and " ".join(map(str, directions))]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return buffer.getvalue()


def grids(scores: Sequence[PairScore]) -> Iterator[tuple[str, str, str, list[PairScore]]]:
    """Scores that make one heat map: ``(encoders, condition, measure, scores)``."""
    found: dict[tuple[str, str, str], list[PairScore]] = {}
    for item in scores:
        if item.left.condition == item.right.condition:
            found.setdefault((encoder_name(item), item.left.condition, item.measure), []).append(item)
    for key, items in found.items():
        # Same layers of two checkpoints are a curve, not a map.
        if any(item.left.layer != item.right.layer for item in items):
            yield *key, items


def matrix(items: Sequence[PairScore]) -> tuple[list[str], list[str], list[list[float | None]]]:
    """Row layers, column layers, values; within one encoder it is symmetric, with 1 on the diagonal."""
    one = all(item.left.encoder == item.right.encoder for item in items)
    rows = list(dict.fromkeys(item.left.layer for item in items))
    columns = list(dict.fromkeys(item.right.layer for item in items))
    if one:
        rows = columns = list(dict.fromkeys([*rows, *columns]))
    values: dict[tuple[str, str], Similarity | float | None]
    values = {(item.left.layer, item.right.layer): item.score for item in items}
    if one:
        values |= {(b, a): score for (a, b), score in values.items()} | {(name, name): 1.0 for name in rows}
    cells = [[values.get((row, column)) for column in columns] for row in rows]
    return rows, columns, [[None if cell is None else float(cell) for cell in line] for line in cells]


def score_markdown(scores: Sequence[PairScore], brief: bool = False) -> str:
    """Tables: layers against layers, then checkpoints and conditions with intervals and nulls.

    Args:
        scores: Scores of a comparison.
        brief: Leave out layers against layers of all checkpoints but the last, to be read on a terminal.

    Returns:
        Markdown.
    """
    parts = []
    earlier = {item.left.encoder for items in _along_training(scores).values() for item in items} if brief else set()
    for encoders, condition, measure, items in grids(scores):
        if encoders in earlier:
            continue
        rows, columns, cells = matrix(items)
        lines = [(row, *(_text(cell) for cell in line)) for row, line in zip(rows, cells, strict=True)]
        left, right = items[0].left.encoder, items[0].right.encoder
        named = encoders if left == right else f"{left} (rows) and {right} (columns)"
        caption = f"{LABELS[measure]}, {named}, {condition}; {_facts(items)}"
        parts.append(Table(caption, ("layer", *columns), tuple(lines), labels=1).to_markdown())
    for caption, items in (*_along_training(scores).items(), *_over_conditions(scores).items()):
        lines = []
        for item in items:
            score = item.score
            bounds = f"{score.interval[0]:.3f} to {score.interval[1]:.3f}" if score and score.interval else MISSING
            left = f"{item.left.encoder}, {item.left.condition}"
            right = f"{item.right.encoder}, {item.right.condition}"
            null = _text(score.null if score else None)
            lines.append((left, right, item.left.layer, _text(score), bounds, null, str(item.n)))
        header = ("left", "right", "layer", LABELS[items[0].measure], "95 % interval", "null", "frames")
        parts.append(Table(caption, header, tuple(lines), labels=3).to_markdown())
    errors = dict.fromkeys(f"{item.left.key} ~ {item.right.key}: {item.error}" for item in scores if item.error)
    warned = [item.score.samples_per_dimension for item in scores if item.score is not None and item.score.warning]
    if warned:
        parts.append(
            f"{len(warned)} of {len(scores)} values are from fewer than 10 samples per dimension (down to "
            f"{min(warned):.1f}): read them against their null in similarity.csv, or use more speech.\n"
        )
    narrowed = [item.score for item in scores if item.score is not None and "interval_directions" in item.score.extra]
    if narrowed:
        most = max(max(score.extra["interval_directions"]) for score in narrowed)
        parts.append(
            f"The intervals of {len(narrowed)} values of wide layers are from their leading principal directions, "
            f"up to {most}; the values are from all features.\n"
        )
    parts += [f"No value: {error}\n" for error in errors]
    return "\n".join(parts)


def _text(value: float | None) -> str:
    return MISSING if value is None else f"{float(value):.3f}"


def _facts(items: Sequence[PairScore]) -> str:
    """Frames and nulls of a map, in words."""
    known = [item.score for item in items if item.score is not None]
    if not known:
        return "no value could be computed"
    nulls = [score.null for score in known if score.null is not None]
    widest = max((hi - lo for lo, hi in (s.interval for s in known if s.interval)), default=None)
    words = f"{known[0].n} frames; null {min(nulls):.3f} to {max(nulls):.3f}"
    return words if widest is None else f"{words}; 95 % intervals up to {widest:.3f} wide"


def figures(scores: Sequence[PairScore]) -> Iterator[tuple[str, Figure]]:
    """All figures of a comparison with the names of their files."""
    for encoders, condition, measure, items in grids(scores):
        yield _stem("map", measure, encoders, condition), heat_map(items)
    for curves in (_along_training(scores), _over_conditions(scores)):
        for caption, items in curves.items():
            encoders = f"{items[0].left.encoder.rpartition('@')[0]}" if "training" in caption else items[0].left.encoder
            kind = "training" if "training" in caption else "noise"
            yield _stem(kind, items[0].measure, encoders), curve(items, kind == "training")


def _stem(*parts: str) -> str:
    return "_".join(re.sub(r"[^A-Za-z0-9.+\-~@]+", "-", part) for part in parts)


def heat_map(items: Sequence[PairScore]) -> Figure:
    """Layers against layers, with the numbers in the cells.

    Args:
        items: Scores of one measure of one encoder, or of two.

    Returns:
        The figure; a cell is empty where there is no value.

    Example:
        >>> from hfprobe.analysis.compare import Tap
        >>> item = PairScore(Tap("e", "clean", "a"), Tap("e", "clean", "b"), "pwcca", None)
        >>> len(heat_map([item]).axes)
        2
    """
    rows, columns, cells = matrix(items)
    low = 0.0 if items[0].measure not in SIGNED else min([0.0, *(v for c in cells for v in c if v)])
    with _drawing():
        figure = Figure(
            figsize=(max(4.6, 1.9 + 0.5 * len(columns)), max(2.8, 1.5 + 0.42 * len(rows))), layout="constrained"
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        values = [[math.nan if value is None else value for value in line] for line in cells]
        image = axes.imshow(values, vmin=low, vmax=1.0, cmap="viridis", aspect="auto", origin="lower")
        for i, line in enumerate(cells):
            for j, value in enumerate(line):
                if value is not None and len(columns) <= 16:
                    bright = (value - low) / (1.0 - low) > 0.6
                    axes.text(
                        j, i, f"{value:.2f}".replace("0.", "."), ha="center", va="center", fontsize=7,
                        color=INK if bright else "#ffffff",
                    )  # fmt: skip
        axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows)
        left, right = items[0].left, items[0].right
        axes.set_ylabel(left.encoder)
        axes.set_xlabel(right.encoder)
        axes.set_title(f"{LABELS[items[0].measure]}, {left.condition}", fontsize=9.5, loc="left", fontweight="bold")
        bar = figure.colorbar(image, ax=axes)
        bar.outline.set_visible(False)
        figure.supxlabel(_facts(items), fontsize=7, color=MUTED)
    return figure


def curve(items: Sequence[PairScore], training: bool) -> Figure:
    """Similarity to the end of training by checkpoint, one line per layer; or to the clean input by layer.

    Args:
        items: Scores of one measure.
        training: Which of the two.

    Returns:
        The figure: bands are 95 % intervals, dots in grey the null of each value.
    """
    lines: dict[str, list[tuple[str, PairScore]]] = {}
    for item in items:
        step = item.left.encoder.rpartition("@")[2]
        line, place = (item.left.layer, step) if training else (item.right.condition, item.left.layer)
        lines.setdefault(line, []).append((place, item))
    places = list(dict.fromkeys(place for line in lines.values() for place, _ in line))
    with _drawing():
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for number, (name, points) in enumerate(lines.items()):
            known = [(places.index(place), item.score) for place, item in points if item.score is not None]
            colour = colormaps["viridis"](number / max(1, len(lines)))
            spots = [spot for spot, _ in known]
            axes.plot(
                spots, [float(score) for _, score in known], color=colour, marker="os^Dv<>"[number % 7], markersize=4,
                linewidth=1.5, label=name,
            )  # fmt: skip
            bounds = [score.interval or (float(score), float(score)) for _, score in known]
            axes.fill_between(
                spots, [low for low, _ in bounds], [high for _, high in bounds], color=colour, alpha=0.15, linewidth=0
            )
            axes.plot(spots, [score.null for _, score in known], color=MUTED, linestyle="", marker=".", markersize=3)
        ticks, title = _checkpoints(places) if training else (places, "layer")
        axes.set_xticks(range(len(places)), ticks, rotation=0 if training else 40, ha="center" if training else "right")
        axes.set_xlabel(title)
        against = items[0].right.encoder if training else f"{items[0].left.condition} input"
        axes.set_ylabel(f"{LABELS[items[0].measure]}\nwith {against}")
        axes.set_ylim(top=1.02)
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right center", frameon=False)
    return figure


def _checkpoints(names: Sequence[str]) -> tuple[list[str], str]:
    """Ticks that stand side by side, and the title of their axis: ``12`` for ``12step`` where all are steps."""
    for unit in ("step", "epoch"):
        if all(re.fullmatch(rf"\d+{unit}", name) for name in names):
            return [name.removesuffix(unit) for name in names], f"checkpoint ({unit} of training)"
    return list(names), "checkpoint"


def _along_training(scores: Sequence[PairScore]) -> dict[str, list[PairScore]]:
    """Same layers of two checkpoints of one training, by caption."""
    found: dict[str, list[PairScore]] = {}
    for item in scores:
        left, right = item.left, item.right
        start, end = left.encoder.rpartition("@")[0], right.encoder.rpartition("@")[0]
        if left.encoder != right.encoder and start and start == end and left.layer == right.layer:
            found.setdefault(f"{LABELS[item.measure]} with {right.encoder}, along training", []).append(item)
    return found


def _over_conditions(scores: Sequence[PairScore]) -> dict[str, list[PairScore]]:
    """Same layers under two conditions, by caption."""
    found: dict[str, list[PairScore]] = {}
    for item in scores:
        if item.left.condition != item.right.condition:
            caption = f"{LABELS[item.measure]} of {item.left.encoder}, {item.left.condition} against other input"
            found.setdefault(caption, []).append(item)
    return found
