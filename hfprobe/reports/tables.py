"""Tables of results: one in the shape of the paper's Table 2, a longer one with intervals and counts, and
CSV.

Source: Li, Yuan, Lee, "What does a network layer hear?", arXiv 1911.01102, Table 2 (rows: SNR and model;
    columns: layers).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hfprobe.reports.model import REFERENCE_LAYERS, Measurement, ReportError, measurements, merge_orders

MISSING = "–"
_TWIN = re.compile(r"random:(.+?)(?:@\d+)?( > .+)?", re.DOTALL)


@dataclass(frozen=True)
class Metric:
    """How a metric is written: its name, unit and digits, and what a reader should know about it."""

    label: str
    percent: bool
    digits: int
    meaning: str

    def text(self, value: float | None) -> str:
        """The printed number, without a unit; `–` for None.

        Example:
            >>> METRICS["eer"].text(0.0438), METRICS["stoi"].text(0.9291), METRICS["stoi"].text(None)
            ('4.38', '0.929', '–')
        """
        return MISSING if value is None else f"{self.scaled(value):.{self.digits}f}"

    def scaled(self, value: float) -> float:
        """The value in the unit of `axis`: per cent, or as it is."""
        return 100 * value if self.percent else value

    @property
    def axis(self) -> str:
        """Label with unit."""
        return f"{self.label} (%)" if self.percent else self.label


METRICS = {
    "eer": Metric("EER", True, 2, "speaker verification: at 0 % all voices are told apart, at 50 % it is guessing"),
    "mindcf": Metric("minDCF", False, 3, "speaker verification cost: 0 is perfect, 1 is useless"),
    "stoi": Metric("STOI", False, 3, "intelligibility against the clean original, 1 is perfect"),
    "estoi": Metric("ESTOI", False, 3, "extended intelligibility against the clean original, 1 is perfect"),
    "pesq": Metric("PESQ", False, 2, "quality as a listener would rate it, about 1 (bad) to 4.6"),
    "pesq_nb": Metric("PESQ (narrow band)", False, 2, "quality as a telephone listener would rate it, 1 to 4.5"),
    "si_sdr": Metric("SI-SDR, dB", False, 1, "signal to distortion, in dB"),
    "log_mel": Metric("log-mel distance, dB", False, 1, "distance of the log-mel spectrograms, 0 is equal"),
    "wer": Metric("WER", True, 2, "words the recogniser gets wrong"),
    "cer": Metric("CER", True, 2, "characters the recogniser gets wrong"),
    "her": Metric("HER", True, 2, "listeners who name the wrong speaker: at 0 % all voices are told apart"),
    "mel_l1": Metric("mel L1", False, 3, "mean absolute difference of the log-mel spectrograms, 0 is equal"),
    "accuracy": Metric("accuracy", True, 1, "test points that a classifier on this layer names right"),
    "control_accuracy": Metric("control accuracy", True, 1, "the same classifier where labels are drawn by type"),
    "selectivity": Metric("selectivity", True, 1, "accuracy less control accuracy: what is not only memory"),
    "mdl": Metric("description length, bits per label", False, 3, "online code of the labels, less is easier to learn"),
    "compression": Metric("compression", False, 2, "uniform code by online code: 1 is no knowledge, more is better"),
    "cosine": Metric("cosine", False, 3, "of clean and noisy frames at the same time, 1 is equal"),
    "cosine_other": Metric("cosine of two speakers", False, 3, "of frames that have nothing in common"),
    "distance": Metric("distance", False, 3, "between clean and noisy frames, by the size of a frame"),
    "distance_other": Metric("distance of two speakers", False, 3, "between clean frames, by the size of a frame"),
    "invariance": Metric("invariance", False, 3, "1 if noise changes nothing, 0 if as much as another speaker would"),
    "si_sdr_clean": Metric("SI-SDR to clean, dB", False, 1, "of the mel rebuilt from noisy input, to the clean mel"),
    "si_sdr_noisy": Metric(
        "SI-SDR to noisy, dB", False, 1, "of the mel rebuilt from noisy input, to the noisy mel: if higher, noise stays"
    ),
    "mean_cca": Metric("mean CCA", False, 3, "mean canonical correlation of two layers, 1 is the same information"),
    "svcca": Metric("SVCCA", False, 3, "CCA of the directions with most variance, 1 is the same information"),
    "pwcca": Metric("PWCCA", False, 3, "CCA weighted by what each direction explains, 1 is the same information"),
    "linear_cka": Metric("linear CKA", False, 3, "similarity of the geometry of two layers, 1 is the same"),
    "linear_cka_debiased": Metric("linear CKA, debiased", False, 3, "as linear CKA, 0 for unrelated layers"),
    "rbf_cka": Metric("RBF CKA", False, 3, "CKA that compares near neighbours, 1 is the same"),
    "minibatch_cka": Metric("minibatch CKA", False, 3, "linear CKA from debiased parts of batches"),
    "rsa": Metric("RSA", False, 3, "correlation of the distances between points in two layers"),
    "capacity": Metric("capacity", False, 3, "classes per dimension that a plane could still split, more is untangled"),
    "radius": Metric("radius", False, 2, "of a class by the size of its centre, less is untangled"),
    "dimension": Metric("dimension", False, 1, "of a class, in effective directions; less is untangled"),
    "center_correlation": Metric("centre correlation", False, 3, "of class centres, less is untangled"),
    "separability": Metric("linear separability", False, 3, "held-out points that a linear classifier names right"),
    "class_variance": Metric(
        "variance between classes", False, 3, "its share of all variance, 0 where labels tell nothing"
    ),
}
_UNTANGLED = ("capacity", "radius", "dimension", "center_correlation", "separability", "class_variance")
METRICS |= {
    f"{name}_shuffled": replace(
        METRICS[name], label=f"{METRICS[name].label}, shuffled labels", meaning="the same points with shuffled labels"
    )
    for name in _UNTANGLED
}


_AGAINST_INPUT = "_input"


def metric_info(name: str) -> Metric:
    """How to write this metric; one that is not listed is written as it is, with three digits.

    Example:
        >>> metric_info("stoi_input").label
        'STOI to input'
    """
    if name.endswith(_AGAINST_INPUT) and (known := METRICS.get(name.removesuffix(_AGAINST_INPUT))):
        meaning = known.meaning.replace(" against the clean original", "")
        return replace(
            known, label=f"{known.label} to input", meaning=f"{meaning}; against what the encoder heard, noise and all"
        )
    return METRICS.get(name) or Metric(name, False, 3, name)


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: What it shows.
        header: Column names.
        rows: As wide as the header.
        labels: How many leading columns are row labels.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 2

    def to_markdown(self) -> str:
        """The table in GitHub's Markdown, caption first, numbers to the right."""
        rules = [":---" if column < self.labels else "---:" for column in range(len(self.header))]
        lines = [[_markdown(cell) for cell in row] for row in (self.header, *self.rows)]
        lines.insert(1, rules)
        return f"{_markdown(self.caption)}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is: no cell break, no HTML, no emphasis."""
    text = " ".join(text.split())
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")


def ordered_conditions(rows: Iterable[Measurement]) -> tuple[str, ...]:
    """Conditions in order of appearance, `clean` first."""
    names = tuple(dict.fromkeys(row.condition for row in rows))
    return tuple(sorted(names, key=lambda name: name != "clean"))


def layer_orders(rows: Iterable[Measurement]) -> dict[str, tuple[str, ...]]:
    """Encoder -> its layers in order of appearance, without input, ceiling and floor."""
    orders: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.layer not in REFERENCE_LAYERS:
            orders.setdefault(row.encoder, {})[row.layer] = None
    return {encoder: tuple(layers) for encoder, layers in orders.items()}


def twin_of(name: str) -> str | None:
    """The encoder whose random twin this is; None for others.

    Example:
        >>> twin_of("random:vgg@3"), twin_of("random:vgg > whisper"), twin_of("vgg")
        ('vgg', 'vgg > whisper', None)
    """
    found = _TWIN.fullmatch(name)
    return found[1] + (found[2] or "") if found else None


def split_twins(rows: Iterable[Measurement]) -> tuple[tuple[Measurement, ...], dict[str, list[Measurement]]]:
    """Rows without those of random twins, and those by the name of the encoder that they are the floor of.

    A random encoder whose trained one has no rows is an encoder like others.
    """
    rows = tuple(rows)
    names = {row.encoder for row in rows}
    twins: dict[str, list[Measurement]] = {}
    for row in rows:
        if (trained := twin_of(row.encoder)) in names and trained is not None:
            twins.setdefault(trained, []).append(row)
    return tuple(row for row in rows if twin_of(row.encoder) not in twins), twins


def reference(
    rows: Iterable[Measurement], layer: str, condition: str, encoder: str | None = None
) -> Measurement | None:
    """The input, ceiling or floor of a condition: this encoder's own row, else any (they need no encoder).

    Args:
        rows: Rows of one metric.
        layer: ``"input"``, ``"ceiling"`` or ``"floor"``.
        condition: Its name.
        encoder: Whose row is preferred. The floor belongs to an encoder, so it is never borrowed from
            another.

    Returns:
        The row, or None.
    """
    found = [row for row in rows if row.layer == layer and row.condition == condition]
    own = [row for row in found if row.encoder == encoder]
    if layer == "floor" and encoder is not None:
        found = [row for row in found if row.encoder in ("", "-")]
    return next(iter(own or found), None)


def _select(rows: Iterable[Any], metric: str) -> tuple[Measurement, ...]:
    every = measurements(rows)
    chosen = tuple(row for row in every if row.metric == metric)
    if not chosen:
        names = ", ".join(sorted({row.metric for row in every})) or "none"
        raise ReportError(f"no result row has metric {metric!r}; metrics there are: {names}")
    return chosen


def metric_rows(rows: Iterable[Any], metric: str) -> tuple[Measurement, ...]:
    """The rows of one metric.

    Raises:
        ReportError: If there is none; the message lists the metrics there are.
    """
    return _select(rows, metric)


def layer_table(rows: Iterable[Any], metric: str) -> Table:
    """One line per condition and encoder, one column per layer, as in the paper's Table 2.

    Args:
        rows: Result rows (mappings or objects) of any metrics.
        metric: The one to print, e.g. ``"eer"``; EER, WER and CER are printed in per cent.

    Returns:
        The table. `–` marks a value that could not be computed; a cell is empty where the encoder has no such
        layer.

    Raises:
        ReportError: If no row has this metric.

    Example:
        >>> values = {"input": 0.0334, "cnn1": 0.0438, "blstm5": 0.4807}
        >>> rows = [{"encoder": "e", "layer": layer, "condition": "clean", "metric": "eer", "value": value}
        ...         for layer, value in values.items()]
        >>> print(layer_table(rows, "eer").to_markdown().splitlines()[-1])
        | clean | e | 3.34 | 4.38 | 48.07 |
    """
    chosen = _select(rows, metric)
    info = metric_info(metric)
    orders = layer_orders(chosen)
    layers = merge_orders(orders.values())
    sides = [layer for layer in REFERENCE_LAYERS if any(row.layer == layer for row in chosen)]
    values = {(row.encoder, row.condition, row.layer): row.value for row in chosen}
    lines = []
    for condition in ordered_conditions(chosen):
        # Without any layer (error rates of recognisers) each encoder still has its line.
        for encoder in orders or dict.fromkeys(row.encoder for row in chosen):
            cells = []
            for side in sides:
                row = reference(chosen, side, condition, encoder)
                cells.append(info.text(row.value if row else None))
            for layer in layers:
                here = (encoder, condition, layer)
                cells.append(info.text(values.get(here)) if layer in orders[encoder] else "")
            lines.append((condition, encoder, *cells))
    return Table(f"{info.axis} by layer: {info.meaning}", ("condition", "encoder", *sides, *layers), tuple(lines))


def interval_table(rows: Iterable[Any], metric: str) -> Table:
    """One line per value, with its 95 % interval, how many it is from and how many failed.

    Args:
        rows: Result rows (mappings or objects) of any metrics.
        metric: The one to print.

    Returns:
        The table, in the order of the rows, `clean` first.

    Raises:
        ReportError: If no row has this metric.
    """
    chosen = _select(rows, metric)
    info = metric_info(metric)
    lines = []
    for condition in ordered_conditions(chosen):
        for row in chosen:
            if row.condition == condition:
                known = row.ci_low is not None and row.ci_high is not None
                interval = f"{info.text(row.ci_low)} to {info.text(row.ci_high)}" if known else MISSING
                counts = (str(row.n), str(row.n_failed))
                lines.append((condition, row.encoder, row.layer, info.text(row.value), interval, *counts))
    header = ("condition", "encoder", "layer", info.axis, "95 % interval", "n", "failed")
    return Table(f"{info.axis} with 95 % intervals", header, tuple(lines), labels=3)


def markdown_tables(rows: Iterable[Any]) -> str:
    """All metrics: for each the table by layer, then the tables with intervals.

    Args:
        rows: Result rows (mappings or objects).

    Returns:
        Markdown text.
    """
    rows = measurements(rows)
    names = tuple(dict.fromkeys(row.metric for row in rows))
    tables = [layer_table(rows, name) for name in names] + [interval_table(rows, name) for name in names]
    return "\n".join(table.to_markdown() for table in tables)


def csv_text(rows: Iterable[Any]) -> str:
    """All rows as CSV, values as computed (fractions, not per cent); a value that is not there is empty.

    Example:
        >>> row = {"encoder": "e", "layer": "cnn1", "condition": "clean", "metric": "eer", "value": None}
        >>> print(csv_text([row]).splitlines()[1])
        e,cnn1,clean,eer,,,,0,0
    """
    names = ("encoder", "layer", "condition", "metric", "value", "ci_low", "ci_high", "n", "n_failed")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in measurements(rows):
        cells = [getattr(row, name) for name in names]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return buffer.getvalue()
