"""Curves by layer as plain data, for the script of the page to draw: every value with its interval and counts.

Values are as in the result file (fractions, not per cent); `templates/charts.js` scales and writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hfprobe.reports.figures import families
from hfprobe.reports.model import Measurement
from hfprobe.reports.panels import RANDOM_LABEL, REFERENCES
from hfprobe.reports.paper import split_role
from hfprobe.reports.run_figures import CLASSES, COMPANIONS, RANDOM_POINTS
from hfprobe.reports.runs import Measure
from hfprobe.reports.tables import layer_orders, metric_info, ordered_conditions, reference, split_twins

_BY_CLASS = ("accuracy", "selectivity", "compression", "mdl")


def point(row: Measurement | None) -> list[Any] | None:
    """``[value, low, high, n, failed]``; None where there is no row.

    Example:
        >>> point(Measurement("e", "cnn1", "clean", "stoi", 0.912345678, 0.9, 0.95, 20, 1))
        [0.9123457, 0.9, 0.95, 20, 1]
    """
    if row is None:
        return None
    return [*(_rounded(value) for value in (row.value, row.ci_low, row.ci_high)), row.n, row.n_failed]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.7g}")


def chart(
    rows: Sequence[Measurement],
    measure: Measure,
    encoders: Sequence[str],
    floor: float | None = None,
    by_family: bool = False,
) -> dict[str, Any] | None:
    """Curves of one measure of one run: a panel per condition and list of layers, with controls and grey lines.

    Args:
        rows: Rows of the measure and of its companion, of one run.
        measure: What they measure.
        encoders: All encoders of the page, in the order that fixes their colours.
        floor: Capacity of points without structure.
        by_family: Name panels by their encoders rather than by their condition.

    Returns:
        The chart, or None where no encoder has a layer. ``panels`` hold ``layers``, ``lines`` (``label``, ``kind``,
        ``point``) and ``series`` (``label``, ``kind``: ``layer``, ``control`` or ``random``, ``encoder``: its colour,
        ``points``: one per layer).

    Example:
        >>> rows = [Measurement("e", f"blstm{k}", "clean", "stoi", 0.4) for k in (1, 2)]
        >>> made = chart(rows, Measure("stoi"), ["e"])
        >>> made["panels"][0]["series"][0]["points"]
        [[0.4, None, None, 0, 0], [0.4, None, None, 0, 0]]
    """
    companion, control = COMPANIONS.get(measure.metric, ("", ""))
    controls = [row for row in rows if row.metric == companion]
    chosen, twins = split_twins(row for row in rows if row.metric == measure.metric)
    orders, info = layer_orders(chosen), metric_info(measure.metric)
    if not orders:
        return None
    panels = []
    grouped = families(orders)
    for layers, names in grouped.items():
        for condition in ordered_conditions(chosen):
            here = [row for row in chosen if row.condition == condition]
            series = []
            for name in names:
                place = encoders.index(name) if name in encoders else 0
                own = _points(here, name, layers)
                if own is None:
                    continue
                series.append({"label": name, "kind": "layer", "encoder": place, "points": own})
                beside = [row for row in controls if row.condition == condition]
                if (points := _points(beside, name, layers)) is not None:
                    label = f"{name}, {control}"
                    series.append({"label": label, "kind": "control", "encoder": place, "points": points})
                twin = [row for row in twins.get(name, ()) if row.condition == condition]
                if twin and (points := _points(twin, twin[0].encoder, layers)) is not None:
                    label = f"{name}, {RANDOM_LABEL}"
                    series.append({"label": label, "kind": "random", "encoder": place, "points": points})
            if not series:
                continue
            title = condition if len(grouped) == 1 else f"{condition}: {_family(names)}"
            panels.append({
                "title": _family(names) if by_family else title,
                "layers": list(layers),
                "series": series,
                "lines": _lines(here, condition, names[0], measure, floor),
            })  # fmt: skip
    return {"axis": measure.axis, "percent": info.percent, "digits": info.digits, "panels": panels} | _range(
        panels, info.percent
    )


def _points(rows: Iterable[Measurement], encoder: str, layers: Sequence[str]) -> list[Any] | None:
    own = {row.layer: row for row in rows if row.encoder == encoder}
    return [point(own.get(layer)) for layer in layers] if any(layer in own for layer in layers) else None


def _family(names: Sequence[str]) -> str:
    """What encoders of one architecture have in common."""
    return ", ".join(dict.fromkeys(split_role(name)[0] for name in names))


def _lines(rows, condition: str, encoder: str, measure: Measure, floor: float | None) -> list[dict[str, Any]]:
    lines = []
    for kind, (label, _) in REFERENCES.items():
        row = reference(rows, kind, condition, encoder)
        if row is not None and row.value is not None:
            label = CLASSES[kind][0] if measure.metric in _BY_CLASS and kind in CLASSES else label
            lines.append({"label": label, "kind": kind, "point": point(row)})
    if floor is not None and measure.metric == "capacity":
        lines.append({"label": RANDOM_POINTS, "kind": "floor", "point": [_rounded(floor), None, None, 0, 0]})
    return lines


def _range(panels: Iterable[Mapping[str, Any]], percent: bool) -> dict[str, Any]:
    """Lowest and highest number drawn; per cent start at 0 unless some are negative."""
    values = [
        value
        for panel in panels
        for one in [*(p for s in panel["series"] for p in s["points"]), *(line["point"] for line in panel["lines"])]
        for value in (one or ())[:3]
        if value is not None
    ]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return {"low": min(0.0, low) if percent else low, "high": high}


def share_limits(charts: Iterable[dict[str, Any]]) -> None:
    """Give charts of one measure the same limits, so that runs can be compared."""
    charts = list(charts)
    if charts:
        low, high = min(each["low"] for each in charts), max(each["high"] for each in charts)
        for each in charts:
            each.update(low=low, high=high)


def difference_chart(differences: Iterable[Mapping[str, Any]], metric: str, rows: Sequence[Measurement]) -> Any:
    """Paired differences of two trained encoders at the same layer, around 0; None where there are none.

    Args:
        differences: As ``differences.json`` has them.
        metric: One metric.
        rows: Rows of the same run, which say the order of layers and conditions.

    Returns:
        A chart as `chart` makes it, with one series for each pair of encoders.
    """
    chosen, _ = split_twins(row for row in rows if row.metric == metric)
    orders, info = layer_orders(chosen), metric_info(metric)
    pairs: dict[tuple[str, str], dict[tuple[str, str], Mapping[str, Any]]] = {}
    for each in differences:
        sides = each["encoder"], each["other_encoder"]
        if each["metric"] == metric and each["layer"] == each["other_layer"] and all(side in orders for side in sides):
            pairs.setdefault(sides, {})[each["condition"], each["layer"]] = each
    panels = []
    for condition in ordered_conditions(chosen):
        for layers, names in families(orders).items():
            series = []
            for sides, found in pairs.items():
                cells = [found.get((condition, layer)) for layer in layers]
                if set(sides) <= set(names) and any(cells):
                    series.append({
                        "label": " less ".join(sides), "kind": "difference", "encoder": -1,
                        "points": [_difference_point(cell) for cell in cells],
                    })  # fmt: skip
            if series:
                panels.append({"title": condition, "layers": list(layers), "series": series, "lines": []})
    if not panels:
        return None
    limits = _range(panels, False)
    limits = {"low": min(0.0, limits["low"]), "high": max(0.0, limits["high"])}
    axis = f"difference of {info.axis}"
    return {"axis": axis, "percent": info.percent, "digits": info.digits, "panels": panels, "zero": True} | limits


def _difference_point(cell: Mapping[str, Any] | None) -> list[Any] | None:
    if cell is None or cell["difference"] is None:
        return None
    numbers = [None if cell[key] is None else _rounded(cell[key]) for key in ("difference", "ci_low", "ci_high")]
    return [*numbers, int(cell.get("n") or 0), int(cell.get("n_dropped") or 0)]
