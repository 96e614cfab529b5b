"""Error counts of trials whose speakers carry weights, for all thresholds and many weightings at once.

Resampling speakers changes how often a trial counts, never its score: trials are sorted once, and each weighting costs
one product with a sparse matrix.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hfprobe.errors import MeasureError

# Beyond this, neighbouring scores share a threshold: an error rate then moves by less than 1 / MAX_THRESHOLDS.
MAX_THRESHOLDS = 20_000


def speaker_codes(labels: np.ndarray, left_speakers, right_speakers) -> tuple[np.ndarray, np.ndarray, int]:
    """Speakers of both sides as numbers.

    Args:
        labels: True for the same speaker ``(trials,)``.
        left_speakers: Speaker of the first clip of each trial ``(trials,)``.
        right_speakers: Speaker of the second clip ``(trials,)``.

    Returns:
        Number of the left and of the right speaker ``(trials,)``, and how many speakers there are.

    Raises:
        MeasureError: Lengths differ (``"length"``), or labels and speakers contradict each other (``"labels"``).

    Example:
        >>> speaker_codes(np.array([True, False]), ["b", "a"], ["b", "b"])
        (array([1, 0]), array([1, 1]), 2)
    """
    sides = [np.asarray(side) for side in (left_speakers, right_speakers)]
    if any(side.shape != labels.shape for side in sides):
        raise MeasureError(f"one speaker for each side of {len(labels)} trials is needed", "length")
    names, codes = np.unique(np.concatenate(sides), return_inverse=True)
    left, right = codes.reshape(2, -1)
    if not np.array_equal(left == right, labels):
        raise MeasureError("labels must be 1 exactly where both sides are the same speaker", "labels")
    return left, right, len(names)


class WeightedTrials:
    """Trials in the order of their scores.

    Args:
        scores: Similarity of each trial ``(trials,)``, finite.
        labels: True for the same speaker ``(trials,)``.
        left: Number of the first speaker ``(trials,)``.
        right: Number of the second speaker ``(trials,)``.

    Attributes:
        width: Numbers that one weighting needs at once.
    """

    def __init__(self, scores: np.ndarray, labels: np.ndarray, left: np.ndarray, right: np.ndarray):
        order = np.argsort(-scores, kind="stable")
        ranked, positive, left, right = scores[order], labels[order], left[order], right[order]
        # Thresholds from the highest down; equal scores share one.
        threshold = np.append(0, np.cumsum(np.diff(ranked) != 0))
        if threshold[-1] >= MAX_THRESHOLDS:
            first = np.flatnonzero(np.append(True, np.diff(threshold) != 0))
            shared = np.unique(first * MAX_THRESHOLDS // len(ranked), return_inverse=True)[1]
            threshold = shared.reshape(-1)[threshold]
        count = int(threshold[-1]) + 1
        self._same = _tally(threshold[positive], left[positive], count, int(max(left.max(), right.max())) + 1)
        low, high = np.minimum(left, right)[~positive], np.maximum(left, right)[~positive]
        pairs, column = np.unique(np.stack([low, high]), axis=1, return_inverse=True)
        self._first, self._second = pairs
        self._different = _tally(threshold[~positive], column.reshape(-1), count, pairs.shape[1])
        self.width = max(count, pairs.shape[1])

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accepted trials of both classes at every threshold.

        A trial within speaker s counts w_s times, one between a and b counts w_a w_b times.

        Args:
            weights: Of each speaker ``(replicates, speakers)``.

        Returns:
            Right and false acceptances ``(thresholds, replicates)``, thresholds from the highest down.
        """
        weights = np.ascontiguousarray(weights.T)
        hits = self._same @ weights
        alarms = self._different @ (weights[self._first] * weights[self._second])
        return np.cumsum(hits, axis=0, out=hits), np.cumsum(alarms, axis=0, out=alarms)


def _tally(row: np.ndarray, column: np.ndarray, n_rows: int, n_columns: int) -> sparse.csr_array:
    return sparse.coo_array((np.ones(len(row)), (row, column)), shape=(n_rows, n_columns)).tocsr()


def _rates(hits: np.ndarray, alarms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of both classes ``(thresholds, replicates)`` where both have weight, and which replicates those are."""
    usable = (hits[-1] > 0) & (alarms[-1] > 0)
    hits, alarms = hits[:, usable], alarms[:, usable]
    return hits / hits[-1], alarms / alarms[-1], usable


def equal_error_rates(hits: np.ndarray, alarms: np.ndarray, convention: str = "roc") -> np.ndarray:
    """Equal error rate of each replicate, where the line through the ROC's points has equal errors.

    Args:
        hits: Weight of accepted trials of the same speaker ``(thresholds, replicates)``.
        alarms: Weight of accepted trials of different speakers ``(thresholds, replicates)``.
        convention: ``"roc"`` or ``"speechbrain"``, see `hfprobe.metrics.eer`.

    Returns:
        Rates ``(replicates,)``, NaN where a class has no weight.

    Example:
        >>> equal_error_rates(np.array([[1.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [2.0]])).tolist()
        [0.5]
    """
    if convention == "speechbrain":
        return _nearest_error_rates(hits, alarms)
    gap, far, usable = _rates(hits, alarms)
    gap += far
    gap -= 1.0  # false acceptances less false rejections: it rises along the ROC
    # A sum of fractions can end a rounding error below its true 0.
    after = np.minimum((gap < 0).sum(axis=0), len(gap) - 1)
    columns = np.arange(gap.shape[1])
    gap_after, far_after = gap[after, columns], far[after, columns]
    gap_before = np.where(after > 0, gap[after - 1, columns], -1.0)
    far_before = np.where(after > 0, far[after - 1, columns], 0.0)
    result = np.full(len(usable), np.nan)
    result[usable] = far_before + (far_after - far_before) * gap_before / (gap_before - gap_after)
    return result


def _nearest_error_rates(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    """Mean of both errors where they differ least; of equal gaps the lowest threshold's, as `eer` takes it."""
    # Weights are whole numbers: gaps are compared without a rounding error. (Rejecting all is never nearer than
    # accepting all, and has the same mean error.)
    gap = np.abs(alarms * hits[-1] - (hits[-1] - hits) * alarms[-1])
    best = len(gap) - 1 - np.argmin(gap[::-1], axis=0)
    hit_rate, far, usable = _rates(hits, alarms)
    place = best[usable], np.arange(int(usable.sum()))
    result = np.full(len(usable), np.nan)
    result[usable] = (far[place] + 1.0 - hit_rate[place]) / 2
    return result


def smallest_costs(
    hits: np.ndarray, alarms: np.ndarray, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
) -> np.ndarray:
    """Normalised smallest detection cost of each replicate; see `hfprobe.metrics.min_dcf`.

    Args:
        hits: Weight of accepted trials of the same speaker ``(thresholds, replicates)``.
        alarms: Weight of accepted trials of different speakers ``(thresholds, replicates)``.
        p_target: Prior probability of the same speaker.
        c_miss: Cost of a false rejection.
        c_fa: Cost of a false acceptance.

    Returns:
        Costs ``(replicates,)``, NaN where a class has no weight.

    Example:
        >>> smallest_costs(np.array([[2.0], [2.0]]), np.array([[0.0], [2.0]])).tolist()
        [0.0]
    """
    hit_rate, far, usable = _rates(hits, alarms)
    cost = c_miss * p_target * (1 - hit_rate) + c_fa * (1 - p_target) * far
    # Rejecting everything is a choice too.
    smallest = np.minimum(cost.min(axis=0), c_miss * p_target)
    result = np.full(len(usable), np.nan)
    result[usable] = np.maximum(smallest, 0.0) / min(c_miss * p_target, c_fa * (1 - p_target))
    return result
