"""Confidence intervals by resampling speakers, not trials or clips that depend on one another.

Bootstrap over clusters (Efron and Tibshirani, 1993). For verification the same draw of speakers weights both sides of
a trial, as in Poh and Bengio, "Estimating the confidence interval of expected performance curve", 2007. How the bounds
are read off the draws: `hfprobe.metrics.resample`. What simulations say about them: `tests/metrics/test_coverage.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hfprobe.errors import MeasureError
from hfprobe.metrics.resample import bounds, check_draws, mean_replicates, speaker_draws
from hfprobe.metrics.verification import check_costs, check_trials, eer, min_dcf
from hfprobe.metrics.weighted import WeightedTrials, equal_error_rates, smallest_costs, speaker_codes


class Interval(NamedTuple):
    """A value with its confidence interval; the bounds are None where resampling says nothing."""

    value: float
    low: float | None
    high: float | None


def bootstrap_eer(
    scores: ArrayLike,
    labels: ArrayLike,
    left_speakers: Sequence[Hashable],
    right_speakers: Sequence[Hashable],
    n_replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    convention: str = "roc",
) -> Interval:
    """Equal error rate with its interval over speakers.

    Speakers are drawn with replacement. If speaker s is drawn w_s times, a trial between different speakers counts
    w_a w_b times and a trial within one speaker w_s times: two copies of a speaker are not compared with each other.
    Noise of single trials counts more than once in w_a w_b: with balanced draws, where there is much of it, a 95 %
    interval held the truth in 97 to 100 % of simulated experiments; with all pairs in 92 to 98 %. The limit of the
    method: no draw has a speaker who was not there. Where errors come from few odd speakers (an EER of 6 % that is all
    speakers' doing, with 10, 25, 60 speakers) it was 66, 88 and 89 %.

    Args:
        scores: Similarity of each trial ``(trials,)``.
        labels: 1 for the same speaker, 0 for different ones ``(trials,)``.
        left_speakers: Speaker of the first clip of each trial ``(trials,)``, any hashable kind.
        right_speakers: Speaker of the second clip ``(trials,)``.
        n_replicates: Number of draws.
        confidence: Chance that the interval holds the true value.
        seed: Seed of the draws.
        convention: Of the EER, of all trials and of each draw; see `hfprobe.metrics.eer`.

    Returns:
        EER of all trials and the interval; without bounds if more than half of the draws lack one class.

    Raises:
        MeasureError: See `check_trials` and `eer`; or labels and speakers contradict each other.

    Example:
        >>> bootstrap_eer([1.0, 0.9, 0.1, 0.2], [1, 1, 0, 0], list("abab"), list("abba"))
        Interval(value=0.0, low=0.0, high=0.0)
    """
    trials = (scores, labels, left_speakers, right_speakers)
    whole, each = partial(eer, convention=convention), partial(equal_error_rates, convention=convention)
    value, replicates, n_speakers = _bootstrap(whole, each, trials, n_replicates, confidence, seed)
    return Interval(value, *bounds(replicates, confidence, n_speakers))


def bootstrap_min_dcf(
    scores: ArrayLike,
    labels: ArrayLike,
    left_speakers: Sequence[Hashable],
    right_speakers: Sequence[Hashable],
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    n_replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Normalised minimum detection cost with its interval over speakers, drawn as for `bootstrap_eer`.

    The threshold is the best one for these very trials, so that minDCF comes out too low where they are few, and lower
    still in each draw. The interval therefore is symmetric about the value and reaches as far as the farther bound of
    the draws, within 0 and 1. Simulated with ``p_target`` 0.01 and 12 to 40 speakers, it holds the truth in 91 to 99 %
    of experiments with all pairs (`all_trials`), but in 73 to 76 % with balanced trials, which are too few: it then
    lies too low. See also the limit of `bootstrap_eer`.

    Args:
        scores: Similarity of each trial ``(trials,)``.
        labels: 1 for the same speaker, 0 for different ones ``(trials,)``.
        left_speakers: Speaker of the first clip of each trial ``(trials,)``.
        right_speakers: Speaker of the second clip ``(trials,)``.
        p_target: Prior probability of the same speaker.
        c_miss: Cost of a false rejection.
        c_fa: Cost of a false acceptance.
        n_replicates: Number of draws.
        confidence: Chance that the interval holds the true value.
        seed: Seed of the draws.

    Returns:
        minDCF of all trials and the interval; without bounds if more than half of the draws lack one class.

    Raises:
        MeasureError: See `check_trials` and `min_dcf`; or labels and speakers contradict each other.

    Example:
        >>> bootstrap_min_dcf([1.0, 0.9, 0.1, 0.2], [1, 1, 0, 0], list("abab"), list("abba"))
        Interval(value=0.0, low=0.0, high=0.0)
    """
    check_costs(p_target, c_miss, c_fa)
    trials = (scores, labels, left_speakers, right_speakers)
    whole = partial(min_dcf, p_target=p_target, c_miss=c_miss, c_fa=c_fa)
    replicates = partial(smallest_costs, p_target=p_target, c_miss=c_miss, c_fa=c_fa)
    value, draws, n_speakers = _bootstrap(whole, replicates, trials, n_replicates, confidence, seed)
    low, high = bounds(draws, confidence, n_speakers)
    if low is None or high is None:
        return Interval(value, None, None)
    reach = max(value - low, high - value)
    return Interval(value, max(0.0, value - reach), min(1.0, value + reach))


def _bootstrap(
    whole: Callable, replicates: Callable, trials: tuple, n_replicates: int, confidence: float, seed: int
) -> tuple[float, np.ndarray, int]:
    """The measure of all trials and of each draw, and the number of speakers."""
    scores, labels, *sides = trials
    scores, labels = check_trials(scores, labels)
    check_draws(n_replicates, confidence)
    left, right, n_speakers = speaker_codes(labels, *sides)
    ranked = WeightedTrials(scores, labels, left, right)
    values = [replicates(*ranked.counts(w)) for w in speaker_draws(n_speakers, n_replicates, ranked.width, seed)]
    return whole(scores, labels), np.concatenate(values), n_speakers


def bootstrap_mean(
    values: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    n_replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean with its interval, over speakers (clusters) or over single clips.

    Args:
        values: One finite number per clip ``(clips,)``; leave out failed clips before.
        groups: Speaker of each clip ``(clips,)``: whole speakers are drawn. Single clips are drawn when None.
        n_replicates: Number of draws.
        confidence: Chance that the interval holds the true value.
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
    check_draws(n_replicates, confidence)
    if values.ndim != 1 or len(values) == 0:
        raise MeasureError(f"values must be (clips,) with clips > 0, got shape {values.shape}", "empty")
    if not np.isfinite(values).all():
        raise MeasureError("values must be finite; leave out failed clips and count them", "nan")
    means, count = mean_replicates(values, groups, n_replicates, seed)
    return Interval(float(values.mean()), *bounds(means, confidence, count))
