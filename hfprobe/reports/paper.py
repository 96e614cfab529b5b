"""The paper's Table 2 and Figures 2 and 4 from result rows, with what the paper had not: ceiling, floors, intervals.

Source: Li, Yuan, Lee, "What does a network layer hear?", arXiv 1911.01102. Table 2: EER (%) by SNR and model (robust or
baseline), with the architectures side by side; Figure 2: EER by layer; Figure 4: STOI by layer, robust against
baseline.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.reports.figures import families, layer_curves
from hfprobe.reports.model import Measurement
from hfprobe.reports.panels import INK, add_legend, draw_panel, drawing, dress, lay_out, style_of
from hfprobe.reports.tables import (
    MISSING,
    Metric,
    Table,
    layer_orders,
    metric_info,
    metric_rows,
    ordered_conditions,
    reference,
    split_twins,
    twin_of,
)

ROLES = ("robust", "baseline")
_SNR = re.compile(r"(?P<kind>.+)@(?P<snr>-?\d+(\.\d+)?)dB")


def split_role(name: str) -> tuple[str, str | None]:
    """Architecture and role in the name of an encoder.

    Args:
        name: E.g. ``"vgg-blstm-robust"``.

    Returns:
        The rest of the name, and ``robust``, ``baseline`` or None.

    Example:
        >>> split_role("vgg-blstm-robust"), split_role("wav2vec2-base")
        (('vgg-blstm', 'robust'), ('wav2vec2-base', None))
    """
    for role in ROLES:
        found = re.fullmatch(rf"(.*?)[-_.]?\b{role}\b[-_.]?(.*)", name.replace("_", "-"))
        if found:
            return "-".join(part for part in found.groups() if part) or role, role
    return name, None


def snr_name(condition: str) -> str:
    """A condition as the paper's first column has it.

    Example:
        >>> snr_name("noise@10dB"), snr_name("music@0dB"), snr_name("clean")
        ('10 dB', '0 dB music', 'clean')
    """
    found = _SNR.fullmatch(condition)
    if not found:
        return condition
    return f"{found['snr']} dB" + ("" if found["kind"] == "noise" else f" {found['kind']}")


def table_2(rows: Iterable[Any], metric: str = "eer", intervals: bool = False) -> Table:
    """Lines by SNR and model, columns by layer, architectures side by side, as the paper's Table 2.

    Args:
        rows: Result rows (mappings or objects) of any metrics.
        metric: The one to print.
        intervals: Print each value with its 95 % interval.

    Returns:
        The table. Input and ceiling, which no encoder enters, come first; random twins have lines of their own. An
        encoder whose name has no ``robust`` or ``baseline`` is a model of that name.

    Raises:
        ReportError: If no row has this metric.

    Example:
        >>> rows = [{"encoder": f"{kind}-{role}", "layer": layer, "condition": "noise@10dB", "metric": "eer",
        ...          "value": 0.1} for kind in ("vgg", "pure") for role in ("robust", "baseline")
        ...         for layer in (("cnn1", "blstm1") if kind == "vgg" else ("blstm1", "blstm2"))]
        >>> table = table_2(rows)
        >>> table.header
        ('SNR', 'model', 'vgg: cnn1', 'vgg: blstm1', 'pure: blstm1', 'pure: blstm2')
        >>> table.rows[0]
        ('10 dB', 'robust', '10.00', '10.00', '10.00', '10.00')
    """
    chosen = metric_rows(rows, metric)
    info = metric_info(metric)
    columns: dict[str, tuple[str, ...]] = {}
    lines: dict[str, dict[str, str]] = {}  # model -> architecture -> encoder
    for encoder, layers in layer_orders(chosen).items():
        trained = twin_of(encoder)
        architecture, role = split_role(trained or encoder)
        # Different layers under one name are different architectures.
        if columns.setdefault(architecture, layers) != layers:
            architecture = trained or encoder
            columns[architecture] = layers
        model = role or architecture
        lines.setdefault(f"{model}, random weights" if trained else model, {})[architecture] = encoder
    sides = [side for side in ("input", "ceiling") if any(row.layer == side for row in chosen)]
    values = {(row.encoder, row.condition, row.layer): row for row in chosen}
    body = []
    ordered = sorted(lines, key=lambda model: (model.endswith("random weights"), *_role_place(model)))
    for condition in ordered_conditions(chosen):
        for model in ordered:
            encoders = lines[model]
            first = next(iter(encoders.values()))
            cells = [_cell(reference(chosen, side, condition, first), info, intervals) for side in sides]
            for architecture, layers in columns.items():
                shown_by = encoders.get(architecture)
                cells += [
                    _cell(values.get((shown_by, condition, layer)), info, intervals) if shown_by else ""
                    for layer in layers
                ]
            body.append((snr_name(condition), model, *cells))
    plain = len(columns) == 1
    names = [name if plain else f"{architecture}: {name}" for architecture, each in columns.items() for name in each]
    shown = " [95 % interval]" if intervals else ""
    return Table(f"{info.axis}{shown} by layer, as in Table 2", ("SNR", "model", *sides, *names), tuple(body))


def _role_place(model: str) -> tuple[int, str]:
    role = model.removesuffix(", random weights")
    return (ROLES.index(role), "") if role in ROLES else (len(ROLES), "")


def _cell(row: Measurement | None, info: Metric, intervals: bool) -> str:
    if row is None:
        return MISSING
    bounds = row.ci_low is not None and row.ci_high is not None
    return info.text(row.value) + (
        f" [{info.text(row.ci_low)}, {info.text(row.ci_high)}]" if intervals and bounds else ""
    )


def figure_2(rows: Iterable[Any], metric: str = "eer") -> Figure:
    """EER by layer without noise, one panel per architecture, as the paper's Figure 2a; with HER where there is one.

    Args:
        rows: Result rows of any metrics; those without noise are drawn, or the first condition's where there are none.
        metric: ``eer`` unless told otherwise.

    Returns:
        The figure, with input, ceiling, the mean-mel floor and random twins.

    Raises:
        ReportError: If no row has this metric.
    """
    chosen = metric_rows(rows, metric)
    first = ordered_conditions(chosen)[0]
    return layer_curves([row for row in chosen if row.condition == first], metric)


def figure_4(
    rows: Iterable[Any], differences: Iterable[Any] = (), metric: str = "stoi", columns: int | None = None
) -> Figure:
    """STOI by layer, robust against baseline, as the paper's Figure 4; below, how far they are apart.

    Args:
        rows: Result rows of any metrics.
        differences: Paired differences (`hfprobe.analysis.differences.Difference` or mappings) of any metrics; those
            between two trained encoders at one layer are drawn below the curves, with their interval around 0.
        metric: ``stoi`` unless told otherwise.
        columns: Panels side by side; default: all conditions of an architecture, four at most.

    Returns:
        The figure: a row of panels per architecture, with a flat one below for the differences.

    Raises:
        ReportError: If no row has this metric.
    """
    chosen, twins = split_twins(metric_rows(rows, metric))
    info, orders, conditions = metric_info(metric), layer_orders(chosen), ordered_conditions(chosen)
    places = {name: place for place, name in enumerate(orders)}
    styles = {name: style_of(place) for name, place in places.items()}
    gaps = _gaps(differences, metric, places)
    groups = list(families(orders).items())
    across = max(1, min(columns or min(len(conditions), 4), len(conditions)))
    heights: list[float] = []
    for _, names in groups:
        for _ in range(math.ceil(len(conditions) / across)):
            heights += [2.0, 0.9] if _has_gap(gaps, names) else [2.0]
    with drawing():
        figure = Figure(figsize=(1.1 + 2.75 * across, 0.75 + 1.2 * sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
        line, drawn, lower = 0, [], []
        for layers, names in groups:
            for start in range(0, len(conditions), across):
                below = _has_gap(gaps, names)
                for column in range(across):
                    upper = grid[line, column]
                    here = conditions[start + column : start + column + 1]
                    if not here:
                        upper.set_visible(False)
                        if below:
                            grid[line + 1, column].set_visible(False)
                        continue
                    among = [row for row in chosen if row.condition == here[0]]
                    draw_panel(upper, among, layers, names, here[0], styles, info, twins)
                    drawn.append(upper)
                    if column == 0:
                        upper.set_ylabel(info.axis)
                    if below:
                        upper.tick_params(labelbottom=False)
                        _draw_gaps(grid[line + 1, column], gaps, here[0], layers, names, info, column == 0)
                        lower.append(grid[line + 1, column])
                line += 1 + below
        for panels in (drawn, lower):  # one scale for all panels of a kind
            if panels:
                low = min(axes.get_ylim()[0] for axes in panels)
                high = max(axes.get_ylim()[1] for axes in panels)
                for axes in panels:
                    axes.set_ylim(low, high)
        add_legend(figure, drawn, places)
        lay_out(figure)
    return figure


Gaps = Mapping[tuple[str, str], Mapping[tuple[str, str], Any]]


def _gaps(differences: Iterable[Any], metric: str, places: Mapping[str, int]) -> Gaps:
    """(encoder, other encoder) -> (condition, layer) -> difference, of trained encoders at one layer."""
    found: dict[tuple[str, str], dict[tuple[str, str], Any]] = {}
    for each in differences:
        one = each if isinstance(each, Mapping) else vars(each)
        sides = (one["encoder"], one["other_encoder"])
        same = one["layer"] == one["other_layer"] and one["metric"] == metric and one["difference"] is not None
        if same and all(side in places for side in sides):
            found.setdefault(sides, {})[one["condition"], one["layer"]] = one
    return found


def _has_gap(gaps: Gaps, names: Sequence[str]) -> bool:
    return any(one in names and two in names for one, two in gaps)


def _draw_gaps(
    axes: Any, gaps: Gaps, condition: str, layers: Sequence[str], names: Sequence[str], info: Metric, first: bool
) -> None:
    """Differences with their intervals around 0, the first pair of encoders only where there are several."""
    one, two = next(sides for sides in gaps if set(sides) <= set(names))
    axes.axhline(0, color=INK, linewidth=0.8, zorder=2.6)  # above the grid
    for place, layer in enumerate(layers):
        found = gaps[one, two].get((condition, layer))
        if found is None:
            continue
        value = info.scaled(found["difference"])
        sure = False
        if found["ci_low"] is not None:
            low, high = info.scaled(found["ci_low"]), info.scaled(found["ci_high"])
            sure = not low <= 0 <= high
            axes.vlines(place, low, high, color=INK, linewidth=1.2, zorder=2)
        # Filled: the interval leaves out 0.
        face = INK if sure else "#ffffff"
        axes.plot(place, value, marker="o", markersize=4, color=INK, markerfacecolor=face, zorder=3)
    dress(axes, layers)
    if first:
        short = [split_role(name)[1] or name for name in (one, two)]
        axes.set_ylabel(f"{short[0]}\nless {short[1]}", fontsize=8)
