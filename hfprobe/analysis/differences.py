"""Is a layer, or an encoder, different from another? Paired on the same trials and clips, with interval and p value.

Two values whose intervals overlap can still differ for certain, because both were measured on the same speakers,
noises and trials: only the interval of the difference says. Compared are, under each condition: each layer with the
one before it, each layer with the ceiling, the same layer of two encoders, and each layer with that of the encoder's
random twin. Resampling: see :mod:`hfprobe.metrics.paired`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any, cast

import numpy as np

from hfprobe.analysis.pairs import trained_name
from hfprobe.analysis.systems import ANY, Measured
from hfprobe.metrics import paired_eer_difference, paired_mean_difference
from hfprobe.metrics.paired import PairedDifference

REFERENCES = ("input", "ceiling", "floor")


@dataclass(frozen=True)
class Difference:
    """One comparison: first less second.

    Attributes:
        condition: Both were heard under it.
        metric: ``eer`` (by the convention of the evaluation), or a quality measure.
        encoder: First encoder.
        layer: Its layer.
        other_encoder: Second encoder; ``-`` for the ceiling.
        other_layer: Its layer, or ``ceiling``.
        value: Of the first, over what both have.
        other_value: Of the second.
        difference: First less second; None where nothing could be compared.
        ci_low: Lower bound of its 95 % interval.
        ci_high: Upper bound.
        p_value: Two-sided, of "no difference", not corrected for the number of comparisons.
        n: Trials or clips that both have.
        n_dropped: Those that either lacks.
    """

    condition: str
    metric: str
    encoder: str
    layer: str
    other_encoder: str
    other_layer: str
    value: float | None = None
    other_value: float | None = None
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    n: int = 0
    n_dropped: int = 0


COLUMNS = tuple(column.name for column in fields(Difference))
Key = tuple[str, str, str]


def paired_differences(measured: Measured, progress: Callable[[Any], Any] = iter) -> list[Difference]:
    """All comparisons that the module's text lists.

    Args:
        measured: From `hfprobe.analysis.evaluate.measure_systems`.
        progress: Wraps the list of comparisons, e.g. ``tqdm``.

    Returns:
        One row per comparison and metric.
    """
    work = [(one, two, metric) for one, two in _pairs(measured) for metric in _metrics(measured, one, two)]
    return [_compare(measured, *item) for item in progress(work)]


def differences_csv(rows: Sequence[Difference]) -> str:
    """The rows as CSV with a header; None is an empty cell.

    Example:
        >>> print(differences_csv([Difference("clean", "eer", "a", "cnn1", "b", "cnn1")]).splitlines()[1])
        clean,eer,a,cnn1,b,cnn1,,,,,,,0,0
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if cell is None else cell for cell in asdict(row).values()])
    return buffer.getvalue()


def _pairs(measured: Measured) -> Iterator[tuple[Key, Key]]:
    """Systems to compare; the deeper, the later named, or the encoder itself comes first."""
    layers: dict[str, dict[str, list[str]]] = {}
    for condition, encoder, layer in measured.systems:
        if encoder != ANY and layer not in REFERENCES:
            layers.setdefault(condition, {}).setdefault(encoder, []).append(layer)
    for condition, encoders in layers.items():
        random = {name: trained_name(name, list(encoders)) for name in encoders}
        trained = [name for name in encoders if not random[name]]
        for encoder in trained:
            for before, layer in zip(encoders[encoder], encoders[encoder][1:], strict=False):
                yield (condition, encoder, layer), (condition, encoder, before)
            for layer in encoders[encoder]:
                yield (condition, encoder, layer), (condition, ANY, "ceiling")
        twins = [(name, twin) for twin, name in random.items() if name]
        for one, two in [*combinations(trained, 2), *twins]:
            for layer in encoders[one]:
                if layer in encoders[two]:
                    yield (condition, one, layer), (condition, two, layer)


def _metrics(measured: Measured, one: Key, two: Key) -> list[str]:
    """EER and the quality measures that both have."""
    return ["eer", *(name for name in measured.systems[one].quality if name in measured.systems[two].quality)]


def _compare(measured: Measured, one: Key, two: Key, metric: str) -> Difference:
    names = one[0], metric, *one[1:], *two[1:]
    found = _paired(measured, one, two, metric)
    if found is None:
        return Difference(*names)
    values = found.first, found.second, found.difference, found.low, found.high, found.p_value
    return Difference(*names, *values, found.n, found.n_dropped)


def _paired(measured: Measured, one: Key, two: Key, metric: str) -> PairedDifference | None:
    """The difference, or None where too little is left of one side to compare."""
    if metric != "eer":
        values, others = measured.values(one, metric), measured.values(two, metric)
        if not any(a is not None and b is not None for a, b in zip(values, others, strict=True)):
            return None
        return paired_mean_difference(values, others, measured.test.speakers, seed=measured.seed)
    first, second, trials = measured.scores(one), measured.scores(two), measured.trials
    usable = np.isfinite(first) & np.isfinite(second)
    if not 0 < trials.labels[usable].sum() < usable.sum():
        return None
    # Arrays do here what sequences do.
    sides = cast("tuple[Sequence[int], Sequence[int]]", (trials.left_speakers, trials.right_speakers))
    return paired_eer_difference(
        first, second, trials.labels, *sides, seed=measured.seed, convention=measured.convention
    )
