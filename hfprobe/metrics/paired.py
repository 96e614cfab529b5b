"""Is one layer or encoder better than another? Differences on the same trials or clips, with interval and p-value.

Two measures on the same speech rise and fall together, so that two intervals that overlap say little about the
difference. Here the difference itself is resampled: the same draw of speakers for both sides (paired bootstrap over
clusters; Efron and Tibshirani, 1993, chapter 16; Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR
performance evaluation", 2004). The p-value is the level at which the interval begins to leave out 0;
with two or three speakers there is too little to resample, and the two may disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hfprobe.errors import MeasureError
from hfprobe.metrics.resample import bounds, check_draws, mean_replicates, speaker_draws, two_sided_p_value
from hfprobe.metrics.verification import check_costs, check_trials, eer, min_dcf
from hfprobe.metrics.weighted import WeightedTrials, equal_error_rates, smallest_costs, speaker_codes


class PairedDifference(NamedTuple):
    """The difference between two measures on the same speech.

    Attributes:
        difference: First value less the second.
        low: Lower bound of the difference; None where resampling says nothing (a single speaker).
        high: Upper bound.
        p_value: Two-sided, of "no difference"; None as the bounds.
        first: Value of the first, over what both have.
        second: Value of the second.
        n: Trials or clips that both have.
        n_dropped: Those left out because either is missing.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    first: float
    second: float
    n: int
    n_dropped: int


def paired_eer_difference(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    labels: ArrayLike,
    left_speakers: Sequence[Hashable],
    right_speakers: Sequence[Hashable],
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    convention: str = "roc",
) -> PairedDifference:
    """Difference between two equal error rates on identical trials.

    Args:
        scores_a: Scores of the first ``(trials,)``; NaN where a clip could not be embedded.
        scores_b: Scores of the second, of the same trials.
        labels: 1 for the same speaker, 0 for different ones ``(trials,)``.
        left_speakers: Speaker of the first clip of each trial ``(trials,)``.
        right_speakers: Speaker of the second clip ``(trials,)``.
        n_boot: Number of draws of speakers, on both sides of a trial jointly (see `bootstrap_eer`).
        confidence: Chance that the interval holds the true difference.
        seed: Seed of the draws.
        convention: Of the EER, see `hfprobe.metrics.eer`.

    Returns:
        EER of the first less that of the second. Trials that lack either score are left out of both.

    Raises:
        MeasureError: See `check_trials`; or lengths differ, or labels and speakers contradict each other.

    Example:
        >>> sides = list("abab"), list("abba")
        >>> result = paired_eer_difference([3, 4, 1, 2], [1, 4, 3, 2], [1, 1, 0, 0], *sides)
        >>> result.difference, result.first, result.second, result.n
        (-0.5, 0.0, 0.5, 4)
    """
    trials = (labels, left_speakers, right_speakers)
    whole, each = partial(eer, convention=convention), partial(equal_error_rates, convention=convention)
    return _paired(whole, each, scores_a, scores_b, trials, n_boot, confidence, seed)


def paired_min_dcf_difference(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    labels: ArrayLike,
    left_speakers: Sequence[Hashable],
    right_speakers: Sequence[Hashable],
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Difference between two normalised minimum detection costs on identical trials.

    Args:
        scores_a: Scores of the first ``(trials,)``; NaN where a clip could not be embedded.
        scores_b: Scores of the second, of the same trials.
        labels: 1 for the same speaker, 0 for different ones ``(trials,)``.
        left_speakers: Speaker of the first clip of each trial ``(trials,)``.
        right_speakers: Speaker of the second clip ``(trials,)``.
        p_target: Prior probability of the same speaker.
        c_miss: Cost of a false rejection.
        c_fa: Cost of a false acceptance.
        n_boot: Number of draws of speakers.
        confidence: Chance that the interval holds the true difference.
        seed: Seed of the draws.

    Returns:
        minDCF of the first less that of the second.

    Raises:
        MeasureError: As for `paired_eer_difference`; or a prior or cost is out of range.

    Example:
        >>> sides = list("abab"), list("abba")
        >>> paired_min_dcf_difference([3, 4, 1, 2], [1, 4, 3, 2], [1, 1, 0, 0], *sides).difference
        -0.5
    """
    check_costs(p_target, c_miss, c_fa)
    whole = partial(min_dcf, p_target=p_target, c_miss=c_miss, c_fa=c_fa)
    replicates = partial(smallest_costs, p_target=p_target, c_miss=c_miss, c_fa=c_fa)
    trials = (labels, left_speakers, right_speakers)
    return _paired(whole, replicates, scores_a, scores_b, trials, n_boot, confidence, seed)


def _paired(
    whole: Callable,
    replicates: Callable,
    scores_a,
    scores_b,
    trials: tuple,
    n_boot: int,
    confidence: float,
    seed: int,
) -> PairedDifference:
    check_draws(n_boot, confidence)
    first, second = _two(scores_a, scores_b)
    labels, left, right = (np.asarray(side) for side in trials)
    if any(side.shape != first.shape for side in (labels, left, right)):
        raise MeasureError(f"one label and two speakers for each of {len(first)} trials are needed", "length")
    kept = np.isfinite(first) & np.isfinite(second)
    first, labels = check_trials(first[kept], labels[kept])
    second = second[kept]
    left, right, n_speakers = speaker_codes(labels, left[kept], right[kept])
    ranked = [WeightedTrials(scores, labels, left, right) for scores in (first, second)]
    width = max(item.width for item in ranked)
    differences = np.concatenate(
        [
            replicates(*ranked[0].counts(weights)) - replicates(*ranked[1].counts(weights))
            for weights in speaker_draws(n_speakers, n_boot, width, seed)
        ]
    )
    values = whole(first, labels), whole(second, labels)
    return _result(*values, differences, confidence, n_speakers, len(first), int((~kept).sum()))


def paired_mean_difference(
    values_a: Sequence[float | None],
    values_b: Sequence[float | None],
    speakers: Sequence[Hashable] | None = None,
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Difference between two means over the same clips: STOI, PESQ, SI-SDR and the like.

    Args:
        values_a: Value of each clip for the first ``(clips,)``; None or NaN where it failed.
        values_b: The same for the second.
        speakers: Speaker of each clip ``(clips,)``: whole speakers are drawn. Single clips are drawn when None.
        n_boot: Number of draws.
        confidence: Chance that the interval holds the true difference.
        seed: Seed of the draws.

    Returns:
        Mean of the first less that of the second, over the clips that have both.

    Raises:
        MeasureError: Lengths differ (``"length"``), or no clip has both values (``"empty"``).

    Example:
        >>> result = paired_mean_difference([0.75, 0.5, None], [0.5, 0.25, 0.9], ["a", "b", "b"])
        >>> result.difference, result.n, result.n_dropped
        (0.25, 2, 1)
    """
    check_draws(n_boot, confidence)
    first, second = _two(values_a, values_b)
    kept = np.isfinite(first) & np.isfinite(second)
    groups = None
    if speakers is not None:
        groups = np.asarray(speakers)
        if groups.shape != first.shape:
            raise MeasureError(f"need one speaker per clip, got {groups.shape} for {first.shape}", "length")
        groups = groups[kept]
    if not kept.any():
        raise MeasureError(f"none of {len(first)} clips has both values; nothing to compare", "empty")
    first, second = first[kept], second[kept]
    differences, count = mean_replicates(first - second, groups, n_boot, seed)
    return _result(first.mean(), second.mean(), differences, confidence, count, len(first), int((~kept).sum()))


def _two(first, second) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, None as NaN."""
    first, second = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if first.ndim != 1 or first.shape != second.shape:
        raise MeasureError(f"both need one value for the same items, got {first.shape} and {second.shape}", "length")
    return first, second


def _result(first, second, differences, confidence, n_speakers, n, n_dropped) -> PairedDifference:
    low, high = bounds(differences, confidence, n_speakers)
    p_value = two_sided_p_value(differences, n_speakers)
    return PairedDifference(float(first - second), low, high, p_value, float(first), float(second), n, n_dropped)
