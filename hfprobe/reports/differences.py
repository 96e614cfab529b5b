"""A table of paired differences: which steps between layers and encoders are more than chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hfprobe.reports.tables import MISSING, Metric, Table, metric_info

CAPTION = (
    "first less second, on the same trials and clips; 95 % intervals and p values by paired bootstrap over speakers, "
    "not corrected for the number of comparisons"
)


def difference_table(rows: Iterable[Any], metric: str) -> Table:
    """One line per comparison.

    Args:
        rows: `hfprobe.analysis.differences.Difference` or mappings with its names, of any metrics.
        metric: The one to print; rates are differences of per cents.

    Returns:
        The table. `–` stands for what could not be compared.

    Example:
        >>> row = {"condition": "clean", "metric": "eer", "encoder": "vgg", "layer": "blstm1", "other_encoder": "vgg",
        ...        "other_layer": "cnn4", "difference": 0.093, "ci_low": 0.05, "ci_high": 0.13, "p_value": 0.0005,
        ...        "n": 800, "n_dropped": 0}
        >>> difference_table([row], "eer").rows[0][1:6]
        ('vgg blstm1', 'vgg cnn4', '+9.30', '+5.00 to +13.00', '< 0.001')
    """
    info = metric_info(metric)
    lines = []
    for each in rows:
        row = each if isinstance(each, Mapping) else vars(each)
        if row["metric"] != metric:
            continue
        known = row["ci_low"] is not None and row["ci_high"] is not None
        interval = f"{_signed(info, row['ci_low'])} to {_signed(info, row['ci_high'])}" if known else MISSING
        sides = _side(row["encoder"], row["layer"]), _side(row["other_encoder"], row["other_layer"])
        p_value = row["p_value"]
        shown = MISSING if p_value is None else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
        counts = str(row["n"]), str(row["n_dropped"])
        lines.append((row["condition"], *sides, _signed(info, row["difference"]), interval, shown, *counts))
    header = ("condition", "first", "second", info.axis, "95 % interval", "p", "n", "left out")
    return Table(f"{info.axis}, {CAPTION}", header, tuple(lines), labels=3)


def difference_markdown(rows: Iterable[Any]) -> str:
    """A table for each metric."""
    rows = list(rows)
    names = dict.fromkeys(each["metric"] if isinstance(each, Mapping) else each.metric for each in rows)
    return "\n".join(difference_table(rows, name).to_markdown() for name in names)


def _side(encoder: str, layer: str) -> str:
    return layer if encoder == "-" else f"{encoder} {layer}"


def _signed(info: Metric, value: float | None) -> str:
    return MISSING if value is None else f"{info.scaled(value):+.{info.digits}f}"
