"""One panel of curves by layer: how encoders, their random twins, and input, ceiling and floor look.

Encoders differ in hue, line style and marker, so the curves can be told apart in grey and by colour-blind
eyes (hues from Okabe and Ito, "Color Universal Design", 2008). What is no encoder is grey and thin.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib

from hfprobe.reports.model import Measurement
from hfprobe.reports.tables import Metric, reference


@dataclass(frozen=True)
class EncoderStyle:
    """How one encoder looks: hue on light and on dark ground, line style and marker."""

    light: str
    dark: str
    line: str | tuple[int, tuple[float, ...]]  # Matplotlib's name, or offset and lengths of dashes
    marker: str
    filled: bool


STYLES = (
    EncoderStyle("#0072b2", "#5db8f0", "-", "o", True),
    EncoderStyle("#c4500a", "#f2965a", "--", "s", False),
    EncoderStyle("#00805d", "#4cc9a0", "-.", "^", True),
    EncoderStyle("#a2478a", "#e29ac9", ":", "D", False),
    EncoderStyle("#7a6a00", "#d9c84a", (0, (5, 1, 1, 1, 1, 1)), "v", True),
)
INK, MUTED, LINE = "#1b1d21", "#666a72", "#d8d9dc"
RANDOM_LABEL = "random weights"
# Dashes of input, ceiling and floor: grey, thin, and unlike the encoders'.
REFERENCES = {
    "input": ("input", (0, (1, 1.5))),
    "ceiling": ("ceiling", (0, (6, 2))),
    "floor": ("mean mel (floor)", (0, (3, 1.5, 1, 1.5))),
}
_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    # Names of encoders and conditions are text, never TeX: a "$" in one must not be an error.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@contextmanager
def drawing(**settings: str):
    """Matplotlib with the settings above; a letter its font lacks becomes a box, without a warning."""
    with matplotlib.rc_context({**_RC, **settings}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def style_of(index: int) -> EncoderStyle:
    """Style of the encoder with this place on the page (they repeat after five)."""
    return STYLES[index % len(STYLES)]


def draw_encoder(axes, rows: dict[str, Measurement], layers: Sequence[str], style: EncoderStyle, info, label: str):
    """One curve with its interval band; a layer without a value leaves a gap."""
    places = range(len(layers))

    def series(name: str) -> list[float]:
        values = [getattr(rows[layer], name) if layer in rows else None for layer in layers]
        return [math.nan if value is None else info.scaled(value) for value in values]

    face = style.light if style.filled else "#ffffff"
    axes.plot(
        places, series("value"), linestyle=style.line, marker=style.marker, color=style.light, markersize=5,
        markerfacecolor=face, linewidth=1.6, label=label, zorder=3,
    )  # fmt: skip
    low, high = series("ci_low"), series("ci_high")
    axes.fill_between(places, low, high, color=style.light, alpha=0.16, linewidth=0, zorder=2)
    if len(layers) == 1 or all(math.isnan(value) for value in low[1:]):
        axes.vlines(places, low, high, color=style.light, linewidth=1)


def draw_panel(
    axes: Any,
    rows: Sequence[Measurement],
    layers: Sequence[str],
    names: Sequence[str],
    condition: str,
    styles: Mapping[str, EncoderStyle],
    info: Metric,
    twins: Mapping[str, Sequence[Measurement]],
) -> None:
    """Draw all that belongs to one condition and one list of layers.

    Args:
        axes: Matplotlib axes.
        rows: Rows of the metric under this condition, without random twins.
        layers: Names along the axis.
        names: Encoders with these layers.
        condition: Its name, which becomes the title.
        styles: Style by encoder.
        info: Of the metric.
        twins: Rows of an encoder's random twin, by the encoder's name.
    """
    for kind, (label, dashes) in REFERENCES.items():
        row = reference(rows, kind, condition, names[0])
        if row is not None and row.value is not None:
            height = info.scaled(row.value)
            axes.axhline(height, color=MUTED, linestyle=dashes, linewidth=1.1, label=label, zorder=1)
    for name in names:
        style = styles[name]
        twin = {row.layer: row for row in twins.get(name, ()) if row.condition == condition}
        if twin:
            values = [twin[layer].value if layer in twin else None for layer in layers]
            heights = [math.nan if value is None else info.scaled(value) for value in values]
            axes.plot(
                range(len(layers)), heights, linestyle=(0, (2, 2)), linewidth=0.9, color=MUTED, marker=style.marker,
                markersize=3, markerfacecolor="#ffffff", markeredgewidth=0.8, label=RANDOM_LABEL, zorder=2,
            )  # fmt: skip
        own = {row.layer: row for row in rows if row.encoder == name}
        draw_encoder(axes, own, layers, style, info, name)
    axes.set_title(condition, fontsize=9.5, loc="left", fontweight="bold")
    dress(axes, layers)


def dress(axes: Any, layers: Sequence[str]) -> None:
    """Layer names, grid and frame, the same for all panels."""
    axes.set_xticks(range(len(layers)), layers, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.4, len(layers) - 0.6)
    axes.grid(axis="y", color=LINE, linewidth=0.7, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure: Any, axes: Iterable[Any], order: Mapping[str, int]) -> None:
    """One legend for all panels, above them: encoders in their order, then the grey lines."""
    handles: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    grey = [*(label for label, _ in REFERENCES.values()), RANDOM_LABEL]
    labels = sorted(handles, key=lambda label: (label in grey, order.get(label, 0)))
    if labels:
        # An entry is a sample of the line and its text: 0.9 inches, and about 0.075 for each letter of 9 points.
        widest = 0.9 + 0.075 * max(map(len, labels))
        fitting = max(1, min(len(labels), int(figure.get_figwidth() / widest)))
        columns = math.ceil(len(labels) / math.ceil(len(labels) / fitting))  # rows of equal length
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside upper left", ncols=columns,
            frameon=False, handlelength=3.2, columnspacing=1.6,
        )  # fmt: skip


def lay_out(figure: Any) -> None:
    """Lay out once: otherwise every format that is saved does it again, which takes most of the time."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
