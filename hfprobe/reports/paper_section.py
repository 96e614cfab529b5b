"""What the paper shows, in its own form and on the page: Table 2, Figures 2, 3 and 4, for each run that measured it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hfprobe.reports.charts import chart, difference_chart
from hfprobe.reports.differences import difference_table
from hfprobe.reports.invariance import spectrogram_figure
from hfprobe.reports.kept_sounds import mels_by_layer
from hfprobe.reports.model import REFERENCE_LAYERS
from hfprobe.reports.paper import figure_2, figure_4, table_2
from hfprobe.reports.run_figures import caption
from hfprobe.reports.runs import Measure, Run
from hfprobe.reports.tables import Table, interval_table, metric_rows, ordered_conditions

FIGURE_3 = "Figure 3: what the layers make of noise"
_LARGEST = 20_000_000  # bytes of a picture that is taken from a run


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
        drawn: Files that are there already, by format.
        files: Label and address of each file.
        spectrograms: Whether the script draws Figure 3 here from the sounds of the page.
        image: Address of a picture that the run drew itself.
    """

    key: str
    title: str
    caption: str
    charts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figure: Any = None
    drawn: dict[str, bytes] = field(default_factory=dict)
    files: list[tuple[str, str]] = field(default_factory=list)
    spectrograms: bool = False
    image: str | None = None


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
        first = ordered_conditions([row for row in rows if row.layer not in REFERENCE_LAYERS])[0]
        rows = tuple(row for row in rows if row.condition == first)
        drawn = chart(rows, Measure("eer"), encoders, by_family=True)
        words = f"EER by layer, {first}: the higher, the less of the voice is left. {caption(rows, Measure('eer'))}"
        entry = PaperFigure(f"figure2-{number}", f"Figure 2: how much of the voice is left{of}", words)
        entry.charts = [] if drawn is None else [(f"figure2-{number}", drawn)]
        entry.tables = [interval_table(rows, "eer")]
        entry.figure = figure_2(rows)
        found.append(entry)
    if any(run.sounds for run in runs):
        words = (
            "Mel-spectrograms of the clean sound, of what the recogniser heard, and of what each layer gives back; "
            "the baseline above the robust model. Choose a picture to hear it."
        )
        entry = PaperFigure("figure3", FIGURE_3, words, spectrograms=True)
        drawable = (mels_by_layer(view) for run in runs for view in run.sounds)
        if (shown := next(filter(None, drawable), None)) is not None:
            entry.figure = spectrogram_figure(*shown)
        found.append(entry)
    for number, run in enumerate(run for run in runs if not run.sounds):
        files = own_spectrograms(run)
        if files:
            words = f"Mel-spectrograms of one utterance of {run.name}: clean, noisy, and what each layer gives back."
            found.append(PaperFigure(f"figure3-{number}", FIGURE_3, words, drawn=files))
    for number, run in enumerate(measured["stoi"]):
        of = f", {run.name}" if len(measured["stoi"]) > 1 else ""
        rows = metric_rows(run.rows, "stoi")
        words = f"STOI by layer: the lower, the less can be understood. {caption(rows, Measure('stoi'))}"
        entry = PaperFigure(f"figure4-{number}", f"Figure 4: how much can be understood{of}", words)
        drawn = chart(rows, Measure("stoi"), encoders)
        entry.charts = [] if drawn is None else [(f"figure4-{number}", drawn)]
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


def own_spectrograms(run: Run) -> dict[str, bytes]:
    """The picture that ``hfprobe invariance`` drew beside its results, by format; empty where there is none."""
    found = {}
    for suffix, magic in (("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF-")):
        file = run.folder / f"spectrograms.{suffix}" if run.folder is not None else None
        if file is None or not file.is_file() or file.stat().st_size > _LARGEST:
            continue
        data = file.read_bytes()
        if data.startswith(magic):
            found[suffix] = data
    return found if "png" in found else {}


def _has(run: Run, metric: str) -> bool:
    rows = [row for row in run.rows if row.metric == metric and row.layer not in REFERENCE_LAYERS]
    return bool(rows) and not all("@" in row.encoder or "~" in row.encoder for row in rows)
