"""How little layers change with noise: tables, and the paper's Figure 3, the spectrograms of one utterance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hfprobe.reports.figures import _drawing
from hfprobe.reports.model import measurements
from hfprobe.reports.paper import split_role
from hfprobe.reports.tables import interval_table, layer_table

ORDER = (
    "invariance", "linear_cka", "cosine", "cosine_other", "distance", "distance_other", "si_sdr_clean", "si_sdr_noisy",
)  # fmt: skip
MEANINGS = {
    "invariance": "1 - E|x - y|^2 / E|x - x'|^2: 1 if noise changes nothing, 0 if as much as another speaker would",
    "linear_cka": "of clean and noisy frames",
    "cosine": "of clean and noisy frames at the same time",
    "cosine_other": "of clean frames of two speakers: what cosine is for sounds that have nothing in common",
    "distance": "between clean and noisy frames, by the size of a frame",
    "distance_other": "between clean frames of two speakers, by the size of a frame",
    "si_sdr_clean": "dB, of the mel rebuilt from noisy input against the clean mel (input: the noisy mel itself)",
    "si_sdr_noisy": "dB, of the mel rebuilt from noisy input against the noisy mel; above si_sdr_clean, noise is kept",
}
DYNAMIC_RANGE = 13.0  # natural-log units of power below the loudest, about 56 dB


def invariance_markdown(rows: Iterable[Any]) -> str:
    """What the measures mean, each as a table by layer, then with intervals and counts.

    Example:
        >>> row = {"encoder": "e", "layer": "a", "condition": "noise@0dB", "metric": "invariance", "value": 0.5}
        >>> "| noise@0dB | e | 0.500 |" in invariance_markdown([row])
        True
    """
    rows = measurements(rows)
    metrics = [metric for metric in ORDER if any(row.metric == metric for row in rows)]
    text = "\n".join(f"- {metric}: {MEANINGS[metric]}" for metric in metrics) + "\n\n"
    tables = [layer_table(rows, metric) for metric in metrics] + [interval_table(rows, metric) for metric in metrics]
    return text + "\n".join(table.to_markdown() for table in tables)


def spectrogram_figure(panels: Mapping[str, Mapping[str, np.ndarray]], condition: str) -> Figure:
    """Mel-spectrograms side by side: clean, noisy, and what each layer rebuilds of the noisy sound.

    Source: Li, Yuan, Lee, "What does a network layer hear?" (arXiv 1911.01102), Figure 3.

    Args:
        panels: For each encoder title to natural-log mel ``(frames, bands)`` at 10 ms. A baseline is drawn above the
            others, as in the paper; else their order stays.
        condition: Name of the noise condition.

    Returns:
        The figure; all panels share one scale.

    Example:
        >>> mel = np.zeros((5, 80))
        >>> len(spectrogram_figure({"e": {"clean": mel, "noisy": mel, "cnn1": mel}}, "noise@10dB").axes)
        3
    """
    panels = dict(sorted(panels.items(), key=lambda item: split_role(item[0])[1] != "baseline"))
    across, down = max(map(len, panels.values())), len(panels)
    top = max(float(mel.max()) for row in panels.values() for mel in row.values())
    with _drawing():
        figure = Figure(figsize=(0.6 + 1.35 * across, 0.5 + 1.35 * down), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for axes, (encoder, row) in zip(grid, panels.items(), strict=True):
            for place, one in enumerate(axes):
                if place >= len(row):
                    one.set_visible(False)
                    continue
                title, mel = list(row.items())[place]
                one.imshow(
                    mel.T, origin="lower", aspect="auto", cmap="magma", vmin=top - DYNAMIC_RANGE, vmax=top,
                    extent=(0, len(mel) / 100, 0, mel.shape[1]), interpolation="nearest",
                )  # fmt: skip
                one.set_title(condition if title == "noisy" else title, fontsize=8)
                one.tick_params(labelsize=6)
            axes[0].set_ylabel(f"{encoder}\nmel band", fontsize=7)
        for one in grid[-1]:
            one.set_xlabel("s", fontsize=7)
    return figure
