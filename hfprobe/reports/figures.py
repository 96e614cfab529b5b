"""Curves by layer as Matplotlib figures: for papers (PNG, PDF), and inline in a page as SVG.

Encoders differ in hue, line style and marker, so the curves can be told apart in grey and by colour-blind
eyes (hues from Okabe and Ito, "Color Universal Design", 2008). A figure is drawn without pyplot: no global
state, no display.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.files import write_whole
from hfprobe.reports.model import Measurement
from hfprobe.reports.tables import layer_orders, metric_info, metric_rows, ordered_conditions, reference


@dataclass(frozen=True)
class EncoderStyle:
    """How one encoder looks: hue on light and on dark ground, line style and marker."""

    light: str
    dark: str
    line: str
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
# Dashes of input, ceiling and floor: grey, thin, and unlike the encoders'.
_REFERENCES = {
    "input": ("input", (0, (1, 1.5))),
    "ceiling": ("ceiling", (0, (6, 2))),
    "floor": ("floor", (0, (3, 1.5, 1, 1.5))),
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
def _drawing(**settings: str):
    """Matplotlib with the settings above; a letter its font lacks becomes a box, without a warning."""
    with matplotlib.rc_context({**_RC, **settings}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def style_of(index: int) -> EncoderStyle:
    """Style of the encoder with this place on the page (they repeat after five)."""
    return STYLES[index % len(STYLES)]


def _families(orders: dict[str, tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    """Encoders by their list of layers: those of one architecture share a row of panels."""
    families: dict[tuple[str, ...], list[str]] = {}
    for encoder, layers in orders.items():
        families.setdefault(layers, []).append(encoder)
    return families


def _draw_encoder(axes, rows: dict[str, Measurement], layers: Sequence[str], style: EncoderStyle, info, label: str):
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


def layer_curves(
    rows: Iterable[Any], metric: str, encoders: Sequence[str] | None = None, columns: int | None = None
) -> Figure:
    """One panel per condition (one row of panels per architecture): the metric by layer, for all encoders.

    Args:
        rows: Result rows (mappings or objects) of any metrics.
        metric: The one to draw, e.g. ``"eer"`` or ``"stoi"``.
        encoders: All encoders in the order that fixes their colours; default: order of appearance.
        columns: Panels side by side; default: all conditions of an architecture in one row, four at most.

    Returns:
        The figure: bands are 95 % intervals; grey lines are the unprocessed input (natural speech in
        `clean`), the ceiling, and the floor where there is one.

    Raises:
        ReportError: If no row has this metric.

    Example:
        >>> point = {"encoder": "e", "condition": "clean", "metric": "eer", "value": 0.1}
        >>> rows = [{**point, "layer": f"blstm{depth}"} for depth in (1, 2, 3)]
        >>> len(layer_curves(rows, "eer").axes)
        1
    """
    chosen = metric_rows(rows, metric)
    info = metric_info(metric)
    orders = layer_orders(chosen)
    places = {name: place for place, name in enumerate(encoders or orders)}
    conditions = ordered_conditions(chosen)
    panels = [(layers, names, condition) for layers, names in _families(orders).items() for condition in conditions]
    across = max(1, min(columns or min(len(conditions), 4), len(panels)))
    down = max(1, math.ceil(len(panels) / across))
    with _drawing():
        figure = Figure(figsize=(1.1 + 2.75 * across, 0.75 + 2.35 * down), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, sharey=True, squeeze=False)
        handles: dict[str, Any] = {}
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_visible(False)
                continue
            layers, names, condition = panels[place]
            here = [row for row in chosen if row.condition == condition]
            for kind, (label, dashes) in _REFERENCES.items():
                row = reference(here, kind, condition, names[0])
                if row is not None and row.value is not None:
                    axes.axhline(
                        info.scaled(row.value),
                        color=MUTED,
                        linestyle=dashes,
                        linewidth=1.1,
                        label=label,
                        zorder=1,
                    )
            for name in names:
                own = {row.layer: row for row in here if row.encoder == name}
                _draw_encoder(axes, own, layers, style_of(places.get(name, 0)), info, name)
            axes.set_title(condition, fontsize=9.5, loc="left", fontweight="bold")
            axes.set_xticks(range(len(layers)), layers, rotation=40, ha="right", rotation_mode="anchor")
            axes.set_xlim(-0.4, len(layers) - 0.6)
            axes.grid(axis="y", color=LINE, linewidth=0.7, zorder=0)
            axes.spines[["top", "right"]].set_visible(False)
            if place % across == 0:
                axes.set_ylabel(info.axis)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        if info.percent and chosen:
            grid.flat[0].set_ylim(bottom=0)
        order = sorted(handles, key=lambda label: (label in _REFERENCES, places.get(label, 0)))
        if order:
            figure.legend(
                [handles[label] for label in order], order, loc="outside upper left",
                ncols=min(len(order), 2 * across),
                frameon=False, handlelength=3.2, columnspacing=1.6,
            )  # fmt: skip
        # Lay out once: otherwise every format that is saved does it again, which takes most of the time.
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine("none")
    return figure


def caption(rows: Iterable[Any], metric: str) -> str:
    """What a figure of this metric shows, with its counts.

    Args:
        rows: Result rows of any metrics.
        metric: The one drawn.

    Returns:
        Two or three sentences.

    Raises:
        ReportError: If no row has this metric.

    Example:
        >>> row = {"encoder": "e", "layer": "cnn1", "condition": "clean", "metric": "stoi", "value": 1}
        >>> row["n"] = 20
        >>> caption([row], "stoi")[-48:]
        'Each point is from 20 measurements; none failed.'
    """
    chosen = metric_rows(rows, metric)
    info = metric_info(metric)
    counts = [row.n for row in chosen]
    low, high = min(counts), max(counts)
    each = f"{low}" if low == high else f"{low} to {high}"
    failed = sum(row.n_failed for row in chosen)
    bands = "Bands are 95 % intervals. " if any(row.ci_low is not None for row in chosen) else ""
    kinds = [kind for kind in _REFERENCES if any(row.layer == kind for row in chosen)]
    meanings = {
        "input": "input: the sound that went in (natural speech where clean)",
        "ceiling": "ceiling: the true mel made sound again",
        "floor": "floor: a probe that only knows the mean mel",
    }
    lines = f"Grey lines: {'; '.join(meanings[kind] for kind in kinds)}. " if kinds else ""
    ending = f"{failed} failed and are left out, not scored 0." if failed else "none failed."
    what = f"{info.axis} by layer; {info.meaning}. {bands}{lines}"
    return f"{what}Each point is from {each} measurements; {ending}"


def save_figure(figure: Figure, stem: Path, formats: Sequence[str] = ("png", "pdf")) -> tuple[Path, ...]:
    """Write a figure as `stem.png` and `stem.pdf`, whole or not at all, without dates inside.

    Args:
        figure: From `layer_curves`.
        stem: Path without a suffix.
        formats: File formats that Matplotlib knows.

    Returns:
        The files.
    """
    written = []
    for name in formats:
        buffer = io.BytesIO()
        dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(name)
        with _drawing():
            figure.savefig(buffer, format=name, dpi=200, facecolor="white", metadata=dates)
        written.append(write_whole(Path(f"{stem}.{name}"), buffer.getvalue()))
    return tuple(written)


def inline_svg(figure: Figure, salt: str, encoders: int = len(STYLES)) -> str:
    """A figure as an `<svg>` element whose colours are the page's own, so that it follows dark mode.

    Args:
        figure: From `layer_curves`.
        salt: Differs between the figures of a page, so that their internal names do.
        encoders: How many encoder colours the page defines as `--encoder-0`, `--encoder-1`, ...

    Returns:
        The element, text kept as text and escaped by Matplotlib; no script, no address, no date.
    """
    buffer = io.StringIO()
    with _drawing(**{"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Its rule is for "*": inside a page it would apply to all of it. The page styles its figures itself.
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg, count=2)
    # Names that nothing refers to ("axes_1") would come twice in a page with two figures.
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    colours = {INK: "currentColor", MUTED: "var(--muted)", LINE: "var(--line)", "#ffffff": "var(--ground)"}
    colours |= {style_of(place).light: f"var(--encoder-{place})" for place in range(min(encoders, len(STYLES)))}
    for old, new in colours.items():
        # Only in paint: a name in the figure's text stays as it is.
        svg = re.sub(rf"((?:fill|stroke): ){old}\b", rf"\g<1>{new}", svg)
    return svg
