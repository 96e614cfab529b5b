"""What the paper shows, in its own form and on the page: Table 2, Figures 2, 3 and 4, for each run that measured it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hfprobe.reports.charts import chart, difference_chart
from hfprobe.reports.differences import difference_table
from hfprobe.reports.model import REFERENCE_LAYERS
from hfprobe.reports.paper import figure_2, figure_4, table_2
from hfprobe.reports.run_figures import caption
from hfprobe.reports.runs import Measure, Run
from hfprobe.reports.tables import Table, interval_table, metric_rows, ordered_conditions


@dataclass
class PaperFigure:
    """One figure or table of the paper.

    Attributes:
        key: Differs between all figures of a page.
        title: E.g. ``"Figure 2: who is speaking"``.
        caption: What it shows.
        charts: Key and data of each chart, drawn below one another.
        tables: Shown at once where there is no chart, else behind it.
        figure: The same with Matplotlib, for files.
        files: Label and address of each file.
        spectrograms: Whether the script draws Figure 3 here from the sounds of the page.
    """

    key: str
    title: str
    caption: str
    charts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figure: Any = None
    files: list[tuple[str, str]] = field(default_factory=list)
    spectrograms: bool = False


def paper_figures(runs: Sequence[Run], encoders: Sequence[str]) -> list[PaperFigure]:
    """All of the paper's figures that some runs can show, in the order of the paper.

    Args:
        runs: Of `hfprobe.reports.runs.load_runs`.
        encoders: All encoders of the page, in the order that fixes their colours.

    Returns:
        Table 2 and Figures 2 and 4 for each run with rows for them, and one Figure 3 where sounds are kept.
    """
    found: list[PaperFigure] = []
    measured = {metric: [run for run in runs if _has(run, metric)] for metric in ("eer", "stoi")}
    for number, run in enumerate(measured["eer"]):
        of = f", {run.name}" if len(measured["eer"]) > 1 else ""
        tables = [table_2(run.rows, intervals=intervals) for intervals in (False, True)]
        words = "Equal error rate in per cent by noise level, model and layer. Lower: voices are told apart."
        found.append(PaperFigure(f"table2-{number}", f"Table 2: EER (%){of}", words, tables=tables))
    for number, run in enumerate(measured["eer"]):
        of = f", {run.name}" if len(measured["eer"]) > 1 else ""
        rows = metric_rows(run.rows, "eer")
        first = ordered_conditions(rows)[0]
        rows = tuple(row for row in rows if row.condition == first)
        drawn = chart(rows, Measure("eer"), encoders, by_family=True)
        words = f"EER by layer, {first}: the higher, the less of the voice is left. {caption(rows, Measure('eer'))}"
        entry = PaperFigure(f"figure2-{number}", f"Figure 2: how much of the voice is left{of}", words)
        entry.charts, entry.tables = [(f"figure2-{number}", drawn)], [interval_table(rows, "eer")]
        entry.figure = figure_2(run.rows)
        found.append(entry)
    if any(run.sounds for run in runs):
        words = (
            "Mel-spectrograms of the clean sound, of what the recogniser heard, and of what each layer gives back; "
            "the baseline above the robust model. Choose a picture to hear it."
        )
        found.append(PaperFigure("figure3", "Figure 3: what the layers make of noise", words, spectrograms=True))
    for number, run in enumerate(measured["stoi"]):
        of = f", {run.name}" if len(measured["stoi"]) > 1 else ""
        rows = metric_rows(run.rows, "stoi")
        words = f"STOI by layer: the lower, the less can be understood. {caption(rows, Measure('stoi'))}"
        entry = PaperFigure(f"figure4-{number}", f"Figure 4: how much can be understood{of}", words)
        entry.charts = [(f"figure4-{number}", chart(rows, Measure("stoi"), encoders))]
        entry.tables = [interval_table(rows, "stoi")]
        if (below := difference_chart(run.differences, "stoi", rows)) is not None:
            entry.charts.append((f"figure4-{number}-less", below))
            entry.caption += (
                " Below: paired difference with its 95 % interval; filled dots are those whose interval leaves out 0."
            )
            entry.tables.append(difference_table(run.differences, "stoi"))
        entry.figure = figure_4(run.rows, run.differences)
        found.append(entry)
    return found


def _has(run: Run, metric: str) -> bool:
    rows = [row for row in run.rows if row.metric == metric and row.layer not in REFERENCE_LAYERS]
    return bool(rows) and not all("@" in row.encoder or "~" in row.encoder for row in rows)
