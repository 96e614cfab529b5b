"""Confidence intervals by resampling speakers, not trials or clips that depend on one another.

Percentile bootstrap (Efron and Tibshirani, 1993). For verification the same draw of speakers weights both
sides of a trial, as in Poh and Bengio, "Estimating the confidence interval of expected performance curve",
2007.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hfprobe.errors import MeasureError
from hfprobe.metrics.verification import check_trials, eer

CHUNK_CELLS = 2_000_000  # replicates x trials held at once, about 16 MB an array


class Interval(NamedTuple):
    """A value with its confidence interval; the bounds are None where resampling says nothing."""

    value: float
    low: float | None
    high: float | None


def bootstrap_eer(
    scores, labels, left_speakers, right_speakers, n_replicates: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Equal error rate with its interval over speakers.

    Speakers are drawn with replacement. If speaker s is drawn w_s times, a trial between different speakers
    counts
    w_a w_b times and a trial within one speaker w_s times: two copies of a speaker are not compared with each
    other.

    Args:
        scores: Similarity of each trial ``(trials,)``.
        labels: 1 for the same speaker, 0 for different ones ``(trials,)``.
        left_speakers: Speaker of the first clip of each trial ``(trials,)``, any hashable kind.
        right_speakers: Speaker of the second clip ``(trials,)``.
        n_replicates: Number of draws.
        confidence: Share of the draws inside the interval.
        seed: Seed of the draws.

    Returns:
        EER of all trials and the interval; without bounds if more than half of the draws lack one class.

    Raises:
        MeasureError: See `check_trials`; or labels and speakers contradict each other.

    Example:
        >>> bootstrap_eer([1.0, 0.9, 0.1, 0.2], [1, 1, 0, 0], list("abab"), list("abba"))
        Interval(value=0.0, low=0.0, high=0.0)
    """
    scores, labels = check_trials(scores, labels)
    _check_draws(n_replicates, confidence)
    sides = [np.asarray(side) for side in (left_speakers, right_speakers)]
    if any(side.shape != scores.shape for side in sides):
        raise MeasureError(f"one speaker for each side of {len(scores)} trials is needed", "length")
    names, codes = np.unique(np.concatenate(sides), return_inverse=True)
    left, right = codes.reshape(2, -1)
    if not np.array_equal(left == right, labels):
        raise MeasureError("labels must be 1 exactly where both sides are the same speaker", "labels")
    order = np.argsort(-scores, kind="stable")
    ranked, positive, left, right = scores[order], labels[order], left[order], right[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    # Only the trials of a class carry weight in its sums, so each class is added up over its own, shorter
    # list.
    hits_before = np.searchsorted(np.flatnonzero(positive), last, side="right")
    alarms_before = last + 1 - hits_before
    same, first, second = left[positive], left[~positive], right[~positive]
    generator = np.random.default_rng(seed)
    chances = np.full(len(names), 1 / len(names))
    rates = []
    chunk = max(1, CHUNK_CELLS // len(scores))
    for start in range(0, n_replicates, chunk):
        size = min(chunk, n_replicates - start)
        weights = generator.multinomial(len(names), chances, size).astype(np.float64)
        hits = _cumulative(weights[:, same])[:, hits_before]
        alarms = _cumulative(weights[:, first] * weights[:, second])[:, alarms_before]
        rates.append(_crossings(hits, alarms))
    return _interval(eer(scores, labels), np.concatenate(rates), confidence)


def _cumulative(weights: np.ndarray) -> np.ndarray:
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _crossings(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    """EER of each replicate from cumulative weights (replicates, thresholds), NaN where a class misses."""
    usable = (hits[:, -1] > 0) & (alarms[:, -1] > 0)
    hits, alarms = hits[usable], alarms[usable]
    far, gap = alarms / alarms[:, -1:], hits / hits[:, -1:]
    gap += far
    gap -= 1.0
    # A sum of fractions can end a rounding error below its true 0.
    after = np.minimum((gap < 0).sum(axis=1), gap.shape[1] - 1)
    rows = np.arange(len(gap))
    gap_after, far_after = gap[rows, after], far[rows, after]
    gap_before = np.where(after > 0, gap[rows, after - 1], -1.0)
    far_before = np.where(after > 0, far[rows, after - 1], 0.0)
    result = np.full(len(usable), np.nan)
    result[usable] = far_before + (far_after - far_before) * gap_before / (gap_before - gap_after)
    return result


def bootstrap_mean(values, groups=None, n_replicates: int = 1000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Mean with its interval, over speakers (clusters) or over single clips.

    Args:
        values: One finite number per clip ``(clips,)``; leave out failed clips before.
        groups: Speaker of each clip ``(clips,)``: whole speakers are drawn. Single clips are drawn when None.
        n_replicates: Number of draws.
        confidence: Share of the draws inside the interval.
        seed: Seed of the draws.

    Returns:
        The mean over clips and the interval; without bounds if there is one clip or one speaker only.

    Raises:
        MeasureError: No values (``"empty"``), a value is not finite (``"nan"``), or the lengths differ.

    Example:
        >>> bootstrap_mean([0.5, 0.5, 0.5], ["a", "a", "b"])
        Interval(value=0.5, low=0.5, high=0.5)
    """
    values = np.asarray(values, dtype=np.float64)
    _check_draws(n_replicates, confidence)
    if values.ndim != 1 or len(values) == 0:
        raise MeasureError(f"values must be (clips,) with clips > 0, got shape {values.shape}", "empty")
    if not np.isfinite(values).all():
        raise MeasureError("values must be finite; leave out failed clips and count them", "nan")
    if groups is None:
        codes = np.arange(len(values))
    else:
        groups = np.asarray(groups)
        if groups.shape != values.shape:
            raise MeasureError(f"need one group per value, got {groups.shape} for {values.shape}", "length")
        codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.bincount(codes, weights=values)
    count = len(sizes)
    if count < 2:
        return Interval(float(values.mean()), None, None)
    generator = np.random.default_rng(seed)
    means = []
    chunk = max(1, CHUNK_CELLS // count)
    for start in range(0, n_replicates, chunk):
        weights = generator.multinomial(count, np.full(count, 1 / count), min(chunk, n_replicates - start))
        means.append((weights @ sums) / (weights @ sizes))
    return _interval(float(values.mean()), np.concatenate(means), confidence)


def _check_draws(n_replicates: int, confidence: float) -> None:
    if n_replicates < 1 or not 0 < confidence < 1:
        raise MeasureError(
            f"need n_replicates >= 1 and 0 < confidence < 1, got {n_replicates} and {confidence}", "draws"
        )


def _interval(value: float, replicates: np.ndarray, confidence: float) -> Interval:
    finite = replicates[np.isfinite(replicates)]
    if 2 * len(finite) < len(replicates):
        return Interval(value, None, None)
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
