"""Training dynamics: what was measured at several checkpoints of one encoder, for a slider over them.

Checkpoints are told by their names: ``asr@3`` and ``asr@12`` are two of ``asr`` (`hfprobe similarity --checkpoints`
names them so), ``asr@3~asr@12`` is the first compared with the last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hfprobe.reports.charts import point
from hfprobe.reports.model import REFERENCE_LAYERS, Measurement, merge_orders
from hfprobe.reports.runs import Run
from hfprobe.reports.tables import Table, metric_info, twin_of


def checkpoint_of(encoder: str) -> tuple[str, str, str] | None:
    """Encoder, checkpoint, and the checkpoint it is compared with; None for what is no checkpoint.

    Example:
        >>> checkpoint_of("asr@3"), checkpoint_of("asr@3~asr@12"), checkpoint_of("asr"), checkpoint_of("random:asr@3")
        (('asr', '3', ''), ('asr', '3', '12'), None, None)
    """
    left, _, right = encoder.partition("~")
    if twin_of(left) is not None:
        return None
    stem, _, label = left.rpartition("@")
    if not stem or not label:
        return None
    if not right:
        return stem, label, ""
    other, _, against = right.rpartition("@")
    return (stem, label, against) if other == stem else None


def without_checkpoints(runs: Iterable[Run]) -> list[Run]:
    """Runs without the rows that `training_views` shows: a curve for each checkpoint would be one too many."""
    kept = []
    for run in runs:
        labels: dict[str, set[str]] = {}
        for row in (*run.rows, *run.pairs):
            if (found := checkpoint_of(row.encoder)) is not None:
                labels.setdefault(found[0], set()).add(found[1])
        several = {stem for stem, names in labels.items() if len(names) > 1}

        def stays(row: Measurement, several: set[str] = several) -> bool:
            found = checkpoint_of(row.encoder)
            return found is None or found[0] not in several or row.layer in REFERENCE_LAYERS

        rows, pairs = (tuple(row for row in part if stays(row)) for part in (run.rows, run.pairs))
        kept.append(replace(run, rows=rows, pairs=pairs))
    return kept


def training_views(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Everything measured along a training.

    Args:
        runs: Of `hfprobe.reports.runs.load_runs`.

    Returns:
        Per run, measure and condition with two checkpoints or more, in the order of training:
        ``title``, ``axis``, ``percent``, ``digits``, ``steps`` (labels), ``layers``, and ``curves`` (a list of points
        by layer for each step) or ``maps`` (lines of values by layer for each step); ``table`` is for the reader.

    Example:
        >>> from hfprobe.reports.runs import run_of
        >>> from hfprobe.results import ResultRow, Results
        >>> rows = [ResultRow(f"asr@{k}~asr@3", "a~a", "clean", "pwcca", k / 4) for k in (2, 1)]
        >>> view, = training_views([run_of("x", Results(rows))])
        >>> view["steps"], [curve[0][0] for curve in view["curves"]]
        (['1', '2'], [0.25, 0.5])
    """
    views = []
    for run in runs:
        for kind, rows in (("curves", run.rows), ("maps", run.pairs)):
            groups: dict[tuple[str, ...], dict[str, list[Measurement]]] = {}
            for row in rows:
                found = checkpoint_of(row.encoder)
                if found is None or row.layer in REFERENCE_LAYERS or (kind == "maps" and found[2]):
                    continue
                stem, label, against = found
                groups.setdefault((stem, against, row.metric, row.condition), {}).setdefault(label, []).append(row)
            for key, steps in groups.items():
                if len(steps) > 1:
                    views.append(_view(run, kind, key, dict(sorted(steps.items(), key=lambda one: _order(one[0])))))
    return views


def _order(label: str) -> tuple[float, str]:
    number = re.search(r"\d+", label)
    return (float(number[0]) if number else math.inf, label)


def _view(run: Run, kind: str, key: Sequence[str], steps: dict[str, list[Measurement]]) -> dict[str, Any]:
    stem, against, metric, condition = key
    measure = run.measure(metric)
    info = metric_info(metric)
    what = f"with checkpoint {against} " if against else "layers against layers " if kind == "maps" else ""
    title = f"{measure.axis} {what}by checkpoint of {stem}, {condition}"
    view = {"title": title, "axis": measure.axis, "percent": info.percent, "digits": info.digits, "steps": list(steps)}
    if kind == "curves":
        layers = merge_orders([row.layer for row in rows] for rows in steps.values())
        by_step = [{row.layer: row for row in rows} for rows in steps.values()]
        view["layers"] = list(layers)
        view["curves"] = [[point(own.get(layer)) for layer in layers] for own in by_step]
        texts = [[info.text(own[layer].value) if layer in own else "" for layer in layers] for own in by_step]
        lines = [(label, *cells) for label, cells in zip(steps, texts, strict=True)]
        view["table"] = Table(title, ("checkpoint", *layers), tuple(lines), labels=1)
        return view
    sides = [tuple(row.layer.split("~", 1)) for rows in steps.values() for row in rows]
    names = tuple(dict.fromkeys([left for left, _ in sides] + [right for _, right in sides]))
    maps = []
    for rows in steps.values():
        values = {tuple(row.layer.split("~", 1)): row.value for row in rows}
        values |= {(right, left): value for (left, right), value in values.items()}
        values |= {(name, name): 1.0 for name in names}
        maps.append([[values.get((left, right)) for right in names] for left in names])
    lines = [
        (label, left, *("" if cell is None else info.text(cell) for cell in cells))
        for label, grid in zip(steps, maps, strict=True)
        for left, cells in zip(names, grid, strict=True)
    ]
    return view | {
        "layers": list(names),
        "maps": maps,
        "table": Table(title, ("checkpoint", "layer", *names), tuple(lines), labels=2),
    }
