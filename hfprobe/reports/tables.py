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
from dataclasses import dataclass
from typing import Any

from hfprobe.reports.metric_names import METRICS, MISSING, Metric, metric_info
from hfprobe.reports.model import REFERENCE_LAYERS, Measurement, ReportError, measurements, merge_orders

__all__ = [
    "METRICS", "MISSING", "Metric", "Table", "csv_text", "interval_table", "layer_orders", "layer_table",
    "markdown_tables", "metric_info", "metric_rows", "ordered_conditions", "reference", "split_twins", "twin_of",
]  # fmt: skip
_TWIN = re.compile(r"random:(.+?)(?:@\d+)?( > .+)?", re.DOTALL)


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


def markdown_tables(rows: Iterable[Any], intervals: bool = True) -> str:
    """All metrics: for each the table by layer, then the tables with intervals.

    Args:
        rows: Result rows (mappings or objects).
        intervals: Whether the tables with intervals and counts are among them, where there is one row per value.

    Returns:
        Markdown text.
    """
    rows = measurements(rows)
    names = tuple(dict.fromkeys(row.metric for row in rows))
    tables = [layer_table(rows, name) for name in names]
    tables += [interval_table(rows, name) for name in names] if intervals else []
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
