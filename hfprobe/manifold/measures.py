"""Cheap measures of how classes lie: variance within and between, linear separability, and two kinds of dimension."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from hfprobe.errors import MeasureError
from hfprobe.manifold.inputs import check_manifolds
from hfprobe.metrics.bootstrap import Interval

MAX_COMPONENTS = 256
FOLDS = 5


def class_variance(manifolds: Sequence, n_replicates: int = 1000, seed: int = 0) -> Interval:
    """Share of the variance that lies between classes, in traces: 1 for compact classes, 0 where labels mean nothing.

    ``B / (B + W)`` with W the variance within classes and B that of the class means less what W alone would make them
    spread (one-way analysis of variance, classes of equal weight; the intraclass correlation of Fisher). So it has no
    bias from few points, and is a little below 0 as often as above where there is nothing. The ratio of variance within
    to between is ``(1 - share) / share``.

    Args:
        manifolds: One array ``(points_i, dim)`` per class.
        n_replicates: Bootstrap draws of classes for the interval.
        seed: Of the draws.

    Returns:
        The share with its 95 % interval.

    Raises:
        MeasureError: See `check_manifolds`; or all points are equal (``"no variance"``).

    Example:
        >>> round(class_variance([np.array([[0.0], [2.0]]), np.array([[10.0], [12.0]])]).value, 4)  # 49 / (49 + 2)
        0.9608
    """
    arrays = check_manifolds(manifolds)
    centers = np.stack([points.mean(axis=0) for points in arrays])
    sizes = np.array([len(points) for points in arrays], dtype=np.float64)
    within = np.array([np.square(p - c).sum() for p, c in zip(arrays, centers, strict=True)]) / (sizes - 1)
    around = centers - centers.mean(axis=0)
    gram, count = around @ around.T, len(arrays)

    def shares(weights: np.ndarray, draws: int = 0) -> np.ndarray:
        """One share per row of class weights, NaN where nothing varies.

        Drawing from P classes takes 1 / P of the variance between them away, and drawing again from these as much.
        """
        weights = weights / weights.sum(axis=1, keepdims=True)
        spread = weights @ np.diagonal(gram) - np.sum((weights @ gram) * weights, axis=1)
        inside = weights @ within
        between = spread * (count / (count - 1)) ** (1 + draws) - weights @ (within / sizes)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(between + inside > 0, between / (between + inside), np.nan)

    value = float(shares(np.ones((1, count)))[0])
    if not np.isfinite(value):
        raise MeasureError("expected points that differ, got equal ones: there is no variance to share", "no variance")
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), n_replicates).astype(float)
    draws = shares(drawn, draws=1)
    draws = draws[np.isfinite(draws)]
    if count < 3 or 2 * len(draws) < n_replicates:
        return Interval(value, None, None)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def separability(
    manifolds: Sequence, groups: Sequence | None = None, n_replicates: int = 1000, seed: int = 0
) -> Interval:
    """Share of held-out points that a linear classifier gives the right class, by cross-validation.

    Linear discriminant analysis with Ledoit-Wolf shrinkage on the first 256 principal components (of all points, labels
    unseen), in five folds (fewer where a class has fewer points). Classes count alike.

    Args:
        manifolds: One array ``(points_i, dim)`` per class.
        groups: For each class the groups of its points, e.g. utterances: a group is never in two folds.
        n_replicates: Bootstrap draws of classes for the interval.
        seed: Of the folds and draws.

    Returns:
        Accuracy with its 95 % interval; chance is 1 / classes.

    Raises:
        MeasureError: See `check_manifolds`; or the groups do not fit (``"groups"``).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> separability([rng.standard_normal((10, 3)) + 20 * k for k in range(3)]).value
        1.0
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    from hfprobe.metrics.bootstrap import bootstrap_mean

    arrays = check_manifolds(manifolds)
    points = np.concatenate(arrays)
    labels = np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])
    folds = min(FOLDS, *(len(array) for array in arrays))
    components = min(MAX_COMPONENTS, points.shape[1], len(points) - 1)
    if points.shape[1] > components:
        points = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(points)
    codes = None
    if groups is not None:
        names = [str(name) for part in groups for name in part]
        if [len(part) for part in groups] != [len(array) for array in arrays]:
            raise MeasureError("expected one group for every point of every class", "groups")
        codes = np.unique(names, return_inverse=True)[1]
        folds = min(folds, codes.max() + 1)
    if folds < 2:
        raise MeasureError("expected points of two groups or more, got one; give points of more utterances", "groups")
    kind = StratifiedKFold if codes is None else StratifiedGroupKFold
    right = np.zeros(len(points))
    for train, test in kind(int(folds), shuffle=True, random_state=seed).split(points, labels, codes):
        if len(test) and len(np.unique(labels[train])) > 1:
            model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
            with warnings.catch_warnings():  # with groups apart a class can have one point left to learn from
                warnings.filterwarnings("ignore", message="Only one sample available")
                right[test] = model.fit(points[train], labels[train]).predict(points[test]) == labels[test]
    shares = np.bincount(labels, weights=right) / np.bincount(labels)
    return bootstrap_mean(shares, n_replicates=n_replicates, seed=seed)


def _spectrum(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or len(points) < 2 or not np.isfinite(points).all():
        raise MeasureError(f"expected finite points (n, dim) with n of 2 or more, got shape {points.shape}", "shape")
    values = np.square(np.linalg.svd(points - points.mean(axis=0), compute_uv=False))
    if not values.sum() > 0:
        raise MeasureError("expected points that differ, got equal ones: they have no dimension", "no variance")
    return values


def participation_ratio(points: np.ndarray) -> float:
    """Dimension as ``(sum l)^2 / sum l^2`` over the variances l along principal components.

    The authors' `alldata_dimension_analysis` drops the smallest of them, whatever it is.

    Args:
        points: ``(n, dim)``.

    Returns:
        From 1 to min(n - 1, dim).

    Raises:
        MeasureError: Points of the wrong shape (``"shape"``) or all equal (``"no variance"``).

    Example:
        >>> participation_ratio(np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]))
        2.0
    """
    values = _spectrum(points)
    return float(np.square(values.sum()) / np.square(values).sum())


def explained_variance_dimension(points: np.ndarray, share: float = 0.9) -> int:
    """The fewest principal components that hold a share of the variance.

    The authors' `compute_dim_expvar` takes features for samples (so that it centres the wrong way) and counts the
    components up to the share, which is one too few.

    Args:
        points: ``(n, dim)``.
        share: Above 0, at most 1.

    Returns:
        Number of components.

    Raises:
        MeasureError: As `participation_ratio`, or a share out of range (``"settings"``).

    Example:
        >>> explained_variance_dimension(np.array([[3, 0], [-3, 0], [0, 1], [0, -1]]), 0.9)
        1
    """
    if not 0 < share <= 1:
        raise MeasureError(f"expected a share above 0 and at most 1, got {share}", "settings")
    values = _spectrum(points)
    shares = np.cumsum(values) / values.sum()
    return min(int(np.searchsorted(shares, share * (1 - 1e-12))) + 1, len(values))
