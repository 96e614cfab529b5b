"""Mean-field capacity, radius and dimension of class manifolds (MFTMA), with intervals over classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from hfprobe.errors import MeasureError
from hfprobe.manifold.anchors import anchor_statistics
from hfprobe.manifold.centers import CenterStructure, center_structure
from hfprobe.manifold.inputs import check_manifolds, project_randomly
from hfprobe.metrics.bootstrap import Interval, bootstrap_mean

GIBIBYTE = 2**30
MAX_DIM = 5000


@dataclass(frozen=True, eq=False)
class ManifoldGeometry:
    """Geometry of a set of manifolds.

    Attributes:
        capacity: Manifolds per dimension that a linear readout can split in random halves; harmonic mean.
        radius: Size of the manifolds in units of the distance of their centres from the origin; mean.
        dimension: Dimensions in which they press on the margin; mean.
        center_correlation: Mean absolute cosine between centres about their mean, before anything is removed.
        capacities: Of each manifold, ``(P,)``.
        radii: Of each manifold, ``(P,)``.
        dimensions: Of each manifold, ``(P,)``.
        intervals: 95 % bounds of the four numbers by name, manifolds drawn with replacement; None where P is too small.
            What they say is how much the choice of classes matters, given the points and the centre subspace.
        floor: Capacity of as many points without any structure: 2 / M for M points and no margin.
        removed: Number K of centre directions that were removed.
        residual_correlation: Mean absolute cosine between centres after that.
        n: Number of manifolds P.
        points: Points of each manifold.
        dim: Width of the space that was analysed.
        width: Width of the points as given; larger than ``dim`` where they were projected at random.
        kappa: Margin.
        n_t: Gaussian vectors for each manifold.
        seed: Of all that was drawn.
    """

    capacity: float
    radius: float
    dimension: float
    center_correlation: float
    capacities: np.ndarray
    radii: np.ndarray
    dimensions: np.ndarray
    intervals: dict[str, tuple[float, float] | None]
    floor: float
    removed: int
    residual_correlation: float
    n: int
    points: tuple[int, ...]
    dim: int
    width: int
    kappa: float
    n_t: int
    seed: int


def manifold_geometry(
    manifolds: Sequence,
    kappa: float = 0.0,
    n_t: int = 300,
    seed: int = 0,
    *,
    n_restarts: int = 10,
    max_dim: int | None = MAX_DIM,
    n_replicates: int = 1000,
    memory_limit: float = 8 * GIBIBYTE,
) -> ManifoldGeometry:
    """Capacity, radius, dimension and centre correlation of class manifolds.

    Follows `manifold_analysis_corr` of the authors: the directions that the centres share are removed, each manifold
    is centred, divided by the length of its centre and written in coordinates of its own span, and its anchor points
    are found for Gaussian vectors. Different from there: coordinates are principal components (so that a rotation of
    space or another order of points changes nothing), equal points count once in the hull, and each manifold has its
    own generator. Values differ from the authors' as theirs do from seed to seed.

    Args:
        manifolds: One array ``(points_i, dim)`` per class.
        kappa: Margin, 0 or more.
        n_t: Gaussian vectors for each manifold.
        seed: Of the vectors, the search for centre directions, random projection and bootstrap.
        n_restarts: Starts of that search for each number of directions.
        max_dim: Wider points are projected on so many random directions; never where None.
        n_replicates: Bootstrap draws.
        memory_limit: Bytes that the analysis may take.

    Returns:
        The geometry.

    Raises:
        MeasureError: See `check_manifolds`; or a centre lies on the mean (``"zero centre"``), or a number makes no
            sense (``"settings"``).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> loose = [rng.standard_normal((10, 100)) for _ in range(20)]  # points without structure
        >>> tight = [points.mean(0) + 0.1 * points for points in loose]
        >>> found = manifold_geometry(loose), manifold_geometry(tight)
        >>> [round(geometry.capacity, 1) for geometry in found], found[0].floor
        ([0.2, 1.1], 0.2)
    """
    if not (np.isfinite(kappa) and kappa >= 0) or n_t < 1 or n_restarts < 1 or seed < 0:
        raise MeasureError(
            f"expected kappa >= 0, n_t >= 1, n_restarts >= 1 and seed >= 0, got {kappa}, {n_t}, {n_restarts}, {seed}",
            "settings",
        )
    given = check_manifolds(manifolds, memory_limit)
    width = given[0].shape[1]
    arrays = given if max_dim is None else project_randomly(given, max_dim, seed)
    centers = center_structure(np.stack([points.mean(axis=0) for points in arrays]), n_restarts, seed)
    origin = np.concatenate(arrays).mean(axis=0)
    found = []
    for place, points in enumerate(arrays):
        coordinates = manifold_coordinates(points - origin, centers.directions, place)
        vectors = np.random.default_rng([seed, place]).standard_normal((n_t, coordinates.shape[1]))
        found.append(anchor_statistics(coordinates, vectors, kappa))
    capacities, radii, dimensions = (np.array(values) for values in zip(*found, strict=True))
    inverse = bootstrap_mean(1 / capacities, n_replicates=n_replicates, seed=seed)
    radius, dimension = (bootstrap_mean(values, n_replicates=n_replicates, seed=seed) for values in (radii, dimensions))
    bounds = {
        # A mean of inverses near 0 is a large capacity, so the bounds change sides.
        "capacity": None if (of_inverse := _bounds(inverse)) is None else (1 / of_inverse[1], 1 / of_inverse[0]),
        "radius": _bounds(radius),
        "dimension": _bounds(dimension),
        "center_correlation": _correlation_bounds(centers, n_replicates, seed),
    }
    return ManifoldGeometry(
        capacity=1 / inverse.value,
        radius=radius.value,
        dimension=dimension.value,
        center_correlation=centers.correlation,
        capacities=capacities,
        radii=radii,
        dimensions=dimensions,
        intervals=bounds,
        floor=point_capacity(kappa) / float(np.mean([len(points) for points in arrays])),
        removed=centers.directions.shape[1],
        residual_correlation=min(centers.residuals, default=centers.correlation),
        n=len(arrays),
        points=tuple(len(points) for points in arrays),
        dim=arrays[0].shape[1],
        width=width,
        kappa=float(kappa),
        n_t=n_t,
        seed=seed,
    )


def manifold_coordinates(points: np.ndarray, directions: np.ndarray, place: int = 0) -> np.ndarray:
    """One manifold as `anchor_statistics` takes it.

    Args:
        points: ``(m, dim)``, the mean of all manifolds taken off.
        directions: Orthonormal centre directions to remove, ``(dim, K)``.
        place: Number of the manifold, for messages.

    Returns:
        ``(m', D + 1)``: its different points about their centre, in units of the centre's length, in principal
        components, D = min(m', dim) of them; and a column of ones.

    Raises:
        MeasureError: The centre has no length (``"zero centre"``).
    """
    rest = points - (points @ directions) @ directions.T
    center = rest.mean(axis=0)
    length = np.linalg.norm(center)
    if not length > 1e-12 * np.abs(points).max():
        raise MeasureError(
            f"expected a centre away from the origin, but that of manifold {place} has no length; leave it out or "
            "give more points",
            "zero centre",
        )
    # The hull does not know how often a point occurs, and equal points make the programme singular.
    different = np.sort(np.unique(points, axis=0, return_index=True)[1])
    u, s, _ = np.linalg.svd((rest[different] - center) / length, full_matrices=False)
    u *= np.where(u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])] < 0, -1.0, 1.0)
    return np.concatenate([u * s, np.ones((len(u), 1))], axis=1)


def point_capacity(kappa: float) -> float:
    """Points per dimension that a linear readout can split at random with a margin (Gardner, J. Phys. A 21, 1988).

    Example:
        >>> point_capacity(0.0)
        2.0
    """
    # The mean of max(t + kappa, 0)^2 over a standard normal t.
    return float(1 / ((1 + kappa**2) * norm.cdf(kappa) + kappa * norm.pdf(kappa)))


def _bounds(interval: Interval) -> tuple[float, float] | None:
    return None if interval.low is None or interval.high is None else (interval.low, interval.high)


def _correlation_bounds(centers: CenterStructure, n_replicates: int, seed: int) -> tuple[float, float] | None:
    """Manifolds drawn with replacement; a pair counts as often as both are drawn, two copies of one do not count."""
    absolute = np.abs(centers.correlations)
    count = len(absolute)
    np.fill_diagonal(absolute, 0.0)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), n_replicates).astype(float)
    pairs = np.square(weights.sum(axis=1)) - np.square(weights).sum(axis=1)
    sums = np.sum((weights @ absolute) * weights, axis=1)[pairs > 0]
    if count < 3 or not len(sums):
        return None
    low, high = np.quantile(sums / pairs[pairs > 0], [0.025, 0.975])
    return float(low), float(high)
