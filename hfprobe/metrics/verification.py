"""Speaker verification: equal error rate and detection cost, by one sort of the scores.

A trial is accepted when its score is at least the threshold. Equal scores are accepted together, so the ROC
has one point for every distinct score and slanted pieces where both classes tie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hfprobe.errors import MeasureError

CONVENTIONS = ("roc", "speechbrain")


def check_trials(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 ``(n,)`` and labels as bool ``(n,)``.

    Raises:
        MeasureError: Lengths differ (``"length"``), a score is not finite (``"nan"``), labels other than 0
            and 1 (``"labels"``), or one class is missing (``"one class"``).

    Example:
        >>> check_trials([0.5, 1], [0, 1])[1].tolist()
        [False, True]
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise MeasureError(
            f"scores and labels must be (trials,), equally long, got {scores.shape}, {labels.shape}", "length"
        )
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise MeasureError(f"scores must be finite, {bad} of {len(scores)} are not; leave them out", "nan")
    if not np.isin(labels, (0, 1)).all():
        raise MeasureError("labels must be 1 (same speaker) or 0 (different speakers)", "labels")
    labels = labels.astype(bool)
    if labels.all() or not labels.any():
        raise MeasureError(
            f"need trials of both classes, got {int(labels.sum())} of the same speaker among {len(labels)}",
            "one class",
        )
    return scores, labels


def check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    """Raise a `MeasureError` (``"prior"``) where the prior or a cost of `min_dcf` is out of range."""
    if not (0 < p_target < 1 and 0 < c_miss < np.inf and 0 < c_fa < np.inf):
        raise MeasureError(f"need 0 < p_target < 1 and positive costs, got {p_target}, {c_miss} and {c_fa}", "prior")


def _counts(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
    """False acceptances and rejections at every threshold, rejecting all first, and both class sizes."""
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], labels[order]
    # The last trial of every run of equal scores.
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.append(0, np.cumsum(positive)[last])
    alarms = np.append(0, last + 1) - hits
    return alarms, hits[-1] - hits, int(alarms[-1]), int(hits[-1])


def eer(scores: ArrayLike, labels: ArrayLike, convention: str = "roc") -> float:
    """Equal error rate, a fraction.

    Args:
        scores: Similarity of each trial ``(trials,)``; higher means more alike.
        labels: 1 for the same speaker, 0 for different ones ``(trials,)``.
        convention: ``"roc"``: the exact crossing of the piecewise linear ROC with the line where both errors
            are equal (S3PRL's and VGG-Speaker-Recognition's ``compute_eer`` without the error of its root
            finder); ``"speechbrain"``: the mean of both errors at the threshold where they differ least, as
            in ``speechbrain.utils.metric_stats.EER``.

    Returns:
        The rate between 0 and 1; 0.5 when all scores tie.

    Raises:
        MeasureError: See `check_trials`; or the convention is unknown.

    Example:
        >>> eer([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0])
        0.5
    """
    if convention not in CONVENTIONS:
        raise MeasureError(f"convention: {', '.join(CONVENTIONS)}; got {convention!r}", "convention")
    alarms, misses, n_negative, n_positive = _counts(*check_trials(scores, labels))
    # Far minus frr in whole numbers, so that ties are seen; it rises from one end of the ROC to the other.
    gap = alarms * n_positive - misses * n_negative
    if convention == "speechbrain":
        # SpeechBrain goes through ascending thresholds and keeps the first of equal gaps: the last one here.
        best = len(gap) - 1 - int(np.argmin(np.abs(gap[::-1])))
        return float((alarms[best] / n_negative + misses[best] / n_positive) / 2)
    after = int(np.searchsorted(gap, 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float((alarms[after - 1] + share * (alarms[after] - alarms[after - 1])) / n_negative)


def min_dcf(
    scores: ArrayLike, labels: ArrayLike, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Smallest detection cost over all thresholds, normalised (NIST SRE; as in S3PRL's ``compute_minDCF``).

    Args:
        scores: Similarity of each trial ``(trials,)``.
        labels: 1 for the same speaker, 0 for different ones ``(trials,)``.
        p_target: Prior probability of the same speaker.
        c_miss: Cost of a false rejection.
        c_fa: Cost of a false acceptance.

    Returns:
        ``min(c_miss FRR p + c_fa FAR (1 - p)) / min(c_miss p, c_fa (1 - p))``, between 0 and 1.

    Raises:
        MeasureError: See `check_trials`; or a prior or cost is out of range.

    Example:
        >>> min_dcf([0.9, 0.8, 0.3, 0.1], [1, 1, 0, 0])
        0.0
    """
    check_costs(p_target, c_miss, c_fa)
    alarms, misses, n_negative, n_positive = _counts(*check_trials(scores, labels))
    cost = c_miss * p_target * misses / n_positive + c_fa * (1 - p_target) * alarms / n_negative
    return float(cost.min() / min(c_miss * p_target, c_fa * (1 - p_target)))
