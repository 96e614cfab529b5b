"""Drawing speakers with replacement, and reading intervals and p-values off the draws.

A percentile interval from few speakers is too narrow; its percentiles are moved outwards as by Hesterberg, "What
Teachers Should Know About the Bootstrap" (2015), section 5.3, which makes it as wide as Student's t asks for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from hfprobe.errors import MeasureError

CHUNK_CELLS = 2_000_000  # replicates x thresholds (or speakers) held at once, about 16 MB an array


def mean_replicates(values: np.ndarray, groups, n_replicates: int, seed: int) -> tuple[np.ndarray, int]:
    """Means over resampled groups.

    Args:
        values: Finite numbers ``(clips,)``.
        groups: Group of each ``(clips,)``; each clip is its own when None.
        n_replicates: Number of draws.
        seed: Seed of the draws.

    Returns:
        A mean for each draw ``(n_replicates,)`` (none where there is only one group), and the number of groups.

    Raises:
        MeasureError: The lengths differ.

    Example:
        >>> mean_replicates(np.array([1.0, 1.0, 1.0]), ["a", "a", "b"], 2, 0)
        (array([1., 1.]), 2)
    """
    if groups is None:
        codes = np.arange(len(values))
    else:
        groups = np.asarray(groups)
        if groups.shape != values.shape:
            raise MeasureError(f"need one group per value, got {groups.shape} for {values.shape}", "length")
        codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.bincount(codes, weights=values)
    if len(sizes) < 2:
        return np.empty(0), len(sizes)
    draws = speaker_draws(len(sizes), n_replicates, len(sizes), seed)
    return np.concatenate([(w @ sums) / (w @ sizes) for w in draws]), len(sizes)


def speaker_draws(n_speakers: int, n_replicates: int, width: int, seed: int) -> Iterator[np.ndarray]:
    """How often each speaker is drawn, in chunks of replicates that fit in memory.

    Args:
        n_speakers: Speakers there are, and speakers that are drawn each time.
        n_replicates: Number of draws.
        width: Numbers that each replicate will need at once.
        seed: Seed; the draws do not depend on ``width``.

    Yields:
        Whole numbers as float64 ``(replicates, speakers)``, each row with the sum ``n_speakers``.

    Example:
        >>> [weights.sum(axis=1).tolist() for weights in speaker_draws(3, 2, 1, 0)]
        [[3.0, 3.0]]
    """
    generator = np.random.default_rng(seed)
    chances = np.full(n_speakers, 1 / n_speakers)
    chunk = max(1, CHUNK_CELLS // max(width, n_speakers))
    for start in range(0, n_replicates, chunk):
        yield generator.multinomial(n_speakers, chances, min(chunk, n_replicates - start)).astype(np.float64)


def check_draws(n_replicates: int, confidence: float) -> None:
    """Raise a `MeasureError` where the number of draws or the confidence is out of range."""
    if n_replicates < 1 or not 0 < confidence < 1:
        raise MeasureError(
            f"need n_replicates >= 1 and 0 < confidence < 1, got {n_replicates} and {confidence}", "draws"
        )


def bounds(replicates: np.ndarray, confidence: float, n_groups: int) -> tuple[float | None, float | None]:
    """Expanded percentile interval.

    With fewer than five groups the bounds would lie beyond the most extreme draw, and are too narrow.

    Args:
        replicates: Value in each draw ``(replicates,)``; NaN where there was none.
        confidence: Chance that the interval holds the true value.
        n_groups: How many independent groups (speakers) were drawn from.

    Returns:
        Both bounds; None where fewer than two groups, or fewer than half of the draws, have a value.

    Example:
        >>> [round(bound, 3) for bound in bounds(np.linspace(0, 1, 1001), 0.95, 10_000)]
        [0.025, 0.975]
    """
    finite = replicates[np.isfinite(replicates)]
    if n_groups < 2 or len(finite) == 0 or 2 * len(finite) < len(replicates):
        return None, None
    # Hesterberg's alpha' = Phi(-sqrt(n / (n - 1)) t): the bootstrap's spread lacks the factor n / (n - 1), and its
    # tails are those of a Gaussian.
    tail = stats.norm.cdf(np.sqrt(n_groups / (n_groups - 1)) * stats.t.ppf((1 - confidence) / 2, n_groups - 1))
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def two_sided_p_value(replicates: np.ndarray, n_groups: int) -> float | None:
    """The smallest level at which the interval of `bounds` leaves out 0.

    Args:
        replicates: Difference in each draw ``(replicates,)``; NaN where there was none.
        n_groups: How many independent groups (speakers) were drawn from.

    Returns:
        The p-value of "no difference"; 1 where no draw differs from 0; None where `bounds` has none.

    Example:
        >>> round(two_sided_p_value(np.linspace(-0.1, 0.9, 2001), 10_000), 2)
        0.2
    """
    finite = replicates[np.isfinite(replicates)]
    if n_groups < 2 or len(finite) == 0 or 2 * len(finite) < len(replicates):
        return None
    # One is added because the true value is as good as one more draw: no p-value is 0.
    share = (min((finite <= 0).sum(), (finite >= 0).sum()) + 1) / (len(finite) + 1)
    quantile = stats.norm.ppf(min(share, 0.5)) / np.sqrt(n_groups / (n_groups - 1))
    return float(2 * stats.t.cdf(quantile, n_groups - 1))
