"""Several runs side by side by layer: which measures there are, in which order, and a panel per run and measure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hfprobe.reports import tables
from hfprobe.reports.charts import chart, share_limits
from hfprobe.reports.model import REFERENCE_LAYERS, Measurement, merge_orders
from hfprobe.reports.room import slug
from hfprobe.reports.run_figures import COMPANIONS, caption, finish, run_figure
from hfprobe.reports.runs import NOBODY, Measure, Run
from hfprobe.reports.tables import Table, metric_info

# What is read first: reconstruction, labels, geometry, similarity. Others follow in the order of the runs.
ORDER = (
    "eer", "stoi", "estoi", "pesq", "pesq_nb", "wer", "cer", "her", "mindcf", "accuracy", "selectivity",
    "compression", "mdl", "capacity", "separability", "class_variance", "radius", "dimension", "center_correlation",
    "invariance", "linear_cka", "linear_cka_debiased", "pwcca", "svcca", "mean_cca", "cosine", "distance",
    "si_sdr_clean", "si_sdr_noisy",
)  # fmt: skip
SUBJECTS = ("phone", "word", "speaker")
_CONTROLS = {control: main for main, (control, _) in COMPANIONS.items()}
_READER = " > "


@dataclass
class Panel:
    """One measure of one run: its figure, where there are layers, and its tables."""

    run: str
    rows: tuple[Measurement, ...]
    tables: list[Table]
    caption: str
    key: str = ""
    chart: dict[str, Any] | None = None
    figure: Any = None
    stem: str = ""
    files: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Section:
    """One measure: a panel per run that has it."""

    key: str
    title: str
    meaning: str
    panels: list[Panel]

    @property
    def narrow(self) -> bool:
        """Whether half the width of a page is enough."""
        return len(self.panels) == 1 and (self.panels[0].chart is None or len(self.panels[0].chart["panels"]) == 1)


def encoder_names(runs: Iterable[Run]) -> tuple[str, ...]:
    """Encoders that have a layer, trained ones first: the order that fixes their colours."""
    names = dict.fromkeys(row.encoder for run in runs for row in run.rows if row.layer not in REFERENCE_LAYERS)
    return tuple(sorted(names, key=lambda name: tables.twin_of(name) is not None))


def ordered_measures(runs: Iterable[Run]) -> list[Measure]:
    """All measures in reading order; a control that is drawn with its measure is none of its own."""
    found = dict.fromkeys(run.measure(row.metric) for run in runs for row in run.rows)

    def drawn_with_another(measure: Measure) -> bool:
        return measure.metric in _CONTROLS and replace(measure, metric=_CONTROLS[measure.metric]) in found

    def place(measure: Measure) -> tuple[int, int]:
        metric = ORDER.index(measure.metric) if measure.metric in ORDER else len(ORDER)
        return metric, SUBJECTS.index(measure.subject) if measure.subject in SUBJECTS else len(SUBJECTS)

    return sorted((measure for measure in found if not drawn_with_another(measure)), key=place)


def titles(measures: Sequence[Measure]) -> dict[Measure, str]:
    """Titles with units; how a number was taken is said where two differ in nothing else.

    Example:
        >>> both = [Measure("accuracy", "phone", "linear"), Measure("accuracy", "phone", "mlp")]
        >>> list(titles(both).values())
        ['phone accuracy (%), linear', 'phone accuracy (%), mlp']
    """
    plain = [measure.axis for measure in measures]
    return {m: f"{m.axis}, {m.how}" if plain.count(m.axis) > 1 and m.how else m.axis for m in measures}


def make_section(runs: Iterable[Run], measure: Measure, title: str, encoders: Sequence[str], key: str) -> Section:
    """One measure of all runs that have it."""
    panels = []
    companion = replace(measure, metric=COMPANIONS.get(measure.metric, ("",))[0])
    for number, run in enumerate(runs):
        own = run.of(measure)
        # Of a run that an earlier one repeats, only the input may be left.
        if not own or (run.repeated and all(row.encoder in NOBODY for row in own)):
            continue
        rows = (*own, *run.of(companion))
        behind = []
        for part in (measure, companion):
            if run.of(part):
                layers = tables.layer_table(rows, part.metric)
                behind.append(replace(layers, caption=f"{part.axis} by layer, {run.name}"))
                intervals = tables.interval_table(rows, part.metric)
                behind.append(replace(intervals, caption=f"{part.axis} with 95 % intervals and counts, {run.name}"))
        told = run.results.config.get("random_capacity") if measure.metric == "capacity" else None
        floor = float(told) if isinstance(told, float | int) and math.isfinite(told) else None
        panel = Panel(run.name, rows, behind, caption(rows, measure, floor))
        panel.key = f"{key}-{number}"
        panel.chart = chart(rows, measure, encoders, floor)
        panel.figure = run_figure(rows, measure, encoders, floor)
        panel.stem = f"{key}-{number}-{slug(measure.label)}-{slug(run.name)}"
        panels.append(panel)
    info = metric_info(measure.metric)
    share_limits(panel.chart for panel in panels if panel.chart is not None)
    drawn = [panel.figure for panel in panels if panel.figure is not None]
    if drawn:
        finish(drawn, encoders, info)
    return Section(key, title, info.meaning, panels)


def summary_tables(runs: Sequence[Run], measures: dict[Measure, str], encoders: Iterable[str]) -> list[Table]:
    """Per encoder: one line per layer, one column per measure, `clean` or else the first condition there is.

    Error rates by a second recogniser (``NAME > READER``) stand in the table of the encoder NAME.
    """
    encoders = tuple(encoders)
    heads = {name: name.partition(_READER)[0] for name in encoders}
    heads = {name: head if head in encoders else name for name, head in heads.items()}
    made = []
    for encoder in dict.fromkeys(heads.values()):
        columns: dict[str, dict[str, str]] = {}
        orders: list[list[str]] = []
        for name in (name for name, head in heads.items() if head == encoder):
            for measure, title in measures.items():
                found = [(run, row) for run in runs for row in run.of(measure) if row.encoder == name]
                at_layers = [row for _, row in found if row.layer not in REFERENCE_LAYERS]
                if not at_layers:
                    continue
                condition = tables.ordered_conditions(at_layers)[0]
                orders += [[row.layer for row in at_layers if row.condition == condition]]
                # Input, ceiling and majority are no encoder's: those of the runs that hold this encoder.
                shared = [(run, row) for run in {run.name: run for run, _ in found}.values() for row in run.of(measure)]
                found += [pair for pair in shared if pair[1].encoder in NOBODY]
                own_references = {row.layer for _, row in found if row.encoder == name}
                cells: dict[str, dict[str, None]] = {}
                for _, row in found:
                    borrowed = row.encoder in NOBODY and row.layer in own_references
                    if row.condition == condition and not borrowed:
                        cells.setdefault(row.layer, {})[metric_info(measure.metric).text(row.value)] = None
                label = title + (f", {condition}" if condition != "clean" else "")
                label += f", read by {name.partition(_READER)[2]}" if name != encoder else ""
                columns[label] = {layer: " / ".join(texts) for layer, texts in cells.items()}
        layers = ("input", "ceiling", *merge_orders(orders), "floor")
        lines = [(layer, *(column.get(layer, "") for column in columns.values())) for layer in layers]
        lines = [line for line in lines if any(line[1:])]
        made.append(Table(encoder, ("layer", *columns), tuple(lines), labels=1))
    return made


def pair_maps(run: Run) -> list[dict[str, Any]]:
    """Layers against layers: for each comparison a grid of texts and shares of the largest value (0 to 100)."""
    maps = []
    for encoder, condition, metric in dict.fromkeys((row.encoder, row.condition, row.metric) for row in run.pairs):
        chosen = [row for row in run.pairs if (row.encoder, row.condition, row.metric) == (encoder, condition, metric)]
        values = {tuple(row.layer.split("~", 1)): row.value for row in chosen}
        down, across = (list(dict.fromkeys(names)) for names in zip(*values, strict=True))
        if "~" not in encoder:  # of one encoder each pair is measured once, and a layer is equal to itself
            down = across = list(dict.fromkeys([*down, *across]))
            values |= {(right, left): value for (left, right), value in values.items()}
            values |= {(name, name): 1.0 for name in down}
        info = metric_info(metric)
        lines = []
        for left in down:
            cells = [values.get((left, right)) for right in across]
            shares = [0 if cell is None else round(100 * min(1.0, max(0.0, cell))) for cell in cells]
            texts = ["" if (left, right) not in values else info.text(values[left, right]) for right in across]
            lines.append((left, list(zip(texts, shares, strict=True))))
        maps.append({"caption": f"{info.axis}, {encoder}, {condition}", "header": across, "lines": lines})
    return maps


def failures(run: Run) -> dict[str, int]:
    """Measure to how many of its measurements failed, for those where any did."""
    counts: dict[str, int] = {}
    for row in run.results.rows:
        name = run.measure(row.metric).label
        counts[name] = counts.get(name, 0) + row.n_failed
    return {name: count for name, count in counts.items() if count}
