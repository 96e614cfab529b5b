"""What a listening test found, as Markdown, CSV, and the paper's Figure 2: EER beside HER, layer by layer.

Source: Li, Yuan, Lee, "What does a network layer hear?", arXiv 1911.01102, Figure 2.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.listening.score import Separation, TripletScore
from hfprobe.listening.score_ratings import RatingScore
from hfprobe.reports.figures import families
from hfprobe.reports.model import measurements
from hfprobe.reports.panels import MUTED, add_legend, draw_panel, drawing, lay_out, style_of
from hfprobe.reports.tables import MISSING, Table, layer_orders, metric_info, ordered_conditions

GUESSING = 50  # per cent, of triplets
MOST_MARK = 102  # a little more than 100, so that the best is seen


def figure_2b(rows: Iterable[Any], machine: Iterable[Any] = (), metric: str = "her") -> Figure:
    """Human error rate by layer, beside the machine's equal error rate where there is one.

    Args:
        rows: Result rows of ``metric``.
        machine: Result rows of any metrics; ``eer`` of the same encoders, layers and conditions is drawn.
        metric: ``her`` unless told otherwise.

    Returns:
        The figure: a row of panels per condition and list of layers, EER (a) left of HER (b).

    Raises:
        ReportError: Rows contradict one another.
    """
    # The low-pass anchor belongs to no encoder, and to no depth.
    chosen = tuple(row for row in measurements(rows) if row.metric == metric and row.layer != "lowpass")
    orders = layer_orders(chosen)
    encoders = set(orders)
    eer = tuple(row for row in measurements(machine) if row.metric == "eer" and row.encoder in {*encoders, "-", ""})
    eer = eer if any(row.encoder in encoders for row in eer) else ()
    groups = [(layers, names, c) for layers, names in families(orders).items() for c in ordered_conditions(chosen)]
    groups = [
        (layers, names, c)
        for layers, names, c in groups
        if any(r.condition == c and r.encoder in names for r in chosen)
    ]
    columns = [("eer", eer), (metric, chosen)] if eer else [(metric, chosen)]
    places = {name: place for place, name in enumerate(orders)}
    styles = {name: style_of(place) for name, place in places.items()}
    bounds = [row.ci_high for row in (*chosen, *eer) if row.ci_high is not None]
    top = 100 * max([0.6, *(1.03 * bound for bound in bounds)])
    with drawing():
        figure = Figure(figsize=(1.1 + 3.3 * len(columns), 0.75 + 2.6 * max(1, len(groups))), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(max(1, len(groups)), len(columns), squeeze=False, sharey=metric == "her")
        for line, (layers, names, condition) in enumerate(groups):
            for column, (each, found) in enumerate(columns):
                axes, info = grid[line, column], metric_info(each)
                here = [row for row in found if row.condition == condition]
                letter = f"({'ab'[column]}) " if eer else ""
                draw_panel(axes, here, layers, names, condition, styles, info, {})
                axes.set_title(f"{letter}{info.label}, {condition}", fontsize=9.5, loc="left", fontweight="bold")
                axes.set_ylabel(info.axis)
                if metric == "her":
                    axes.axhline(GUESSING, color=MUTED, linewidth=0.8, zorder=1)
                    axes.annotate(
                        "guessing", (0.01, GUESSING), xycoords=("axes fraction", "data"), ha="left", va="bottom",
                        fontsize=7.5, color=MUTED,
                    )  # fmt: skip
                axes.set_ylim(0, top if metric == "her" else MOST_MARK)
        add_legend(figure, list(grid.flat), places)
        lay_out(figure)
    return figure


def triplet_markdown(score: TripletScore, correlation: float | None = None) -> str:
    """Tables of a triplet test.

    Args:
        score: The score.
        correlation: Spearman's correlation of HER and EER over layers, where both are there.

    Returns:
        Markdown text.
    """
    counted = [each for each in score.listeners if not each.excluded]
    lines = [f"{len(counted)} of {len(score.listeners)} listeners count.", ""]
    if (all_in := score.overall).n:
        bounds = f"{_percent(all_in.ci_low)} to {_percent(all_in.ci_high)}"
        lines += [f"Human error rate over all items: {_percent(all_in.value)} % (95 % {bounds}, n = {all_in.n}).", ""]
    if score.alpha is not None:
        lines += [f"Agreement of the listeners (Krippendorff's alpha, 1 is full, 0 is chance): {score.alpha:.2f}.", ""]
    if correlation is not None:
        lines += [f"Spearman's correlation of HER and the machine's EER over layers: {correlation:.2f}.", ""]
    neighbours = [pair for pair in score.separations if _next_to(score, pair)]
    tables = [_rates(score), _separations(neighbours), _listeners(score)]
    return "\n".join([*lines, *(table.to_markdown() for table in tables if table.rows)]) + "\n"


def _rates(score: TripletScore) -> Table:
    body = []
    for each in score.cells:
        rate, over = each.rate, each.over_listeners
        body.append(
            (
                each.cell.encoder, each.cell.condition, each.cell.layer, _percent(rate.value),
                f"{_percent(rate.ci_low)} to {_percent(rate.ci_high)}" if rate.n else MISSING,
                f"{_percent(over[0])} to {_percent(over[1])}" if over else MISSING,
                str(rate.n), str(rate.n_failed), MISSING if each.alpha is None else f"{each.alpha:.2f}",
            )
        )  # fmt: skip
    header = (
        "encoder",
        "condition",
        "layer",
        "HER (%)",
        "95 % (Wilson)",
        "95 % (over listeners)",
        "n",
        "failed",
        "alpha",
    )
    return Table("Human error rate by layer; 50 % is guessing", header, tuple(body), labels=3)


def _next_to(score: TripletScore, pair: Separation) -> bool:
    cells = [
        e.cell for e in score.cells if (e.cell.encoder, e.cell.condition) == (pair.first.encoder, pair.first.condition)
    ]
    return cells.index(pair.second) - cells.index(pair.first) == 1


def _separations(pairs: Sequence[Separation]) -> Table:
    body = tuple(
        (
            f"{pair.first.encoder}, {pair.first.condition}", f"{pair.first.layer}, {pair.second.layer}",
            f"{100 * pair.difference:+.1f}", f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}",
            "yes" if pair.separated else "no", _more(pair),
        )
        for pair in pairs
    )  # fmt: skip
    header = ("encoder", "layers", "difference (points)", "95 % (Newcombe)", "separated", "answers more per layer")
    return Table("Neighbouring layers: are they apart, and if not, how many answers more would show it", header, body)


def _more(pair: Separation) -> str:
    if pair.more is None:
        return "equal rates: no number would"
    return "none" if pair.more == 0 else f"{pair.more} (about {pair.needed} in all)"


def _listeners(score: TripletScore) -> Table:
    body = tuple(
        (
            each.listener, str(each.n), _percent(each.errors / each.n if each.n else None),
            f"{each.catch_errors} of {each.catch_n}", MISSING if each.seconds is None else f"{each.seconds:.0f}",
            "left out" if each.excluded else "yes",
        )
        for each in score.listeners
    )  # fmt: skip
    return Table(
        "Listeners",
        ("listener", "answers", "HER (%)", "catch items wrong", "seconds per item", "in the result"),
        body,
        labels=1,
    )


def ratings_markdown(score: RatingScore) -> str:
    """Tables of a quality test."""
    counted = [each for each in score.listeners if not each.excluded]
    marks = tuple(
        (
            each.cell.encoder, each.cell.condition, each.cell.layer, _number(each.mean),
            MISSING if each.low is None else f"{each.low:.1f} to {each.high:.1f}", str(each.n), str(each.n_failed),
        )
        for each in score.cells
    )  # fmt: skip
    header = ("encoder", "condition", "layer", "mean mark", "95 % (over listeners)", "n", "failed")
    raters = tuple(
        (
            each.listener, str(each.n), _number(each.mean), f"{each.missed} of {each.n}",
            MISSING if each.seconds is None else f"{each.seconds:.0f}", "left out" if each.excluded else "yes",
        )
        for each in score.listeners
    )  # fmt: skip
    names = ("listener", "items", "mean mark", "hidden reference below 90", "seconds per item", "in the result")
    tables = [
        Table("Quality by layer, 0 (bad) to 100 (like the reference)", header, marks, labels=3),
        Table("Listeners", names, raters, labels=1),
    ]
    lines = [f"{len(counted)} of {len(score.listeners)} listeners count.", ""]
    return "\n".join([*lines, *(table.to_markdown() for table in tables)]) + "\n"


def separations_csv(score: TripletScore) -> str:
    """All pairs of layers as CSV, fractions."""
    names = (
        "encoder",
        "condition",
        "layer",
        "other_layer",
        "difference",
        "ci_low",
        "ci_high",
        "separated",
        "needed",
        "more",
    )
    rows = [
        (p.first.encoder, p.first.condition, p.first.layer, p.second.layer, p.difference, p.low, p.high, p.separated)
        + tuple("" if count is None else count for count in (p.needed, p.more))
        for p in score.separations
    ]
    return _csv(names, rows)


def listeners_csv(score: TripletScore | RatingScore) -> str:
    """All listeners as CSV."""
    names = [field.name for field in fields(score.listeners[0])]
    rows = [["" if getattr(each, name) is None else getattr(each, name) for name in names] for each in score.listeners]
    return _csv(names, rows)


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return buffer.getvalue()


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f}"
