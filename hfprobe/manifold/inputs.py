"""Checks of manifolds given by points, and the random projection of very wide ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hfprobe.errors import MeasureError

BLOCK = 1024  # features projected at a time
COPIES = 4  # arrays as large as the input that are held at once


def check_manifolds(manifolds: Sequence, memory_limit: float = float("inf")) -> list[np.ndarray]:
    """Manifolds as float64 arrays.

    Args:
        manifolds: Two or more arrays ``(points_i, dim)``, two points or more in each.
        memory_limit: Bytes that an analysis of them may take.

    Returns:
        Float64 arrays ``(points_i, dim)``.

    Raises:
        MeasureError: There are fewer than two (``"too few manifolds"``), one has fewer than two points (``"too few
            points"``), shapes differ (``"shape"``), there is NaN or infinity (``"nan"``), or they are too large
            (``"memory"``).

    Example:
        >>> [m.shape for m in check_manifolds([np.zeros((3, 4)), np.ones((2, 4))])]
        [(3, 4), (2, 4)]
    """
    if isinstance(manifolds, np.ndarray) and manifolds.ndim != 3:
        raise MeasureError(
            f"expected a list of arrays (points, dim), got one array of shape {manifolds.shape}", "shape"
        )
    shapes = [np.shape(manifold) for manifold in manifolds]
    if len(shapes) < 2:
        raise MeasureError(
            f"expected two manifolds or more, got {len(shapes)}; give one per class", "too few manifolds"
        )
    for place, shape in enumerate(shapes):
        if len(shape) != 2 or shape[1] != shapes[0][-1] or shape[1] == 0:
            raise MeasureError(
                f"expected every manifold as (points, dim) with one dim, got {shape} for manifold {place} and "
                f"{shapes[0]} for the first",
                "shape",
            )
        if shape[0] < 2:
            raise MeasureError(
                f"expected two points or more in every manifold, got {shape[0]} in manifold {place}; "
                "leave out classes with one member",
                "too few points",
            )
    needed = COPIES * 8 * sum(points * dim for points, dim in shapes)
    if needed > memory_limit:
        raise MeasureError(
            f"{len(shapes)} manifolds of {sum(s[0] for s in shapes)} points in {shapes[0][1]} dimensions need about "
            f"{needed / 2**30:.2f} GiB, the limit is {memory_limit / 2**30:.2f}; take fewer classes or points",
            "memory",
        )
    arrays = [np.asarray(manifold, dtype=np.float64) for manifold in manifolds]
    for place, array in enumerate(arrays):
        if not np.isfinite(array).all():
            raise MeasureError(f"expected finite points, got NaN or infinity in manifold {place}; repair them", "nan")
    return arrays


def project_randomly(manifolds: Sequence[np.ndarray], dims: int, seed: int) -> list[np.ndarray]:
    """Manifolds wider than ``dims`` on as many random directions, as the reference's `analyze` does.

    Each direction is a Gaussian vector of length 1; distances keep their proportions (Johnson and Lindenstrauss, 1984).

    Args:
        manifolds: Arrays ``(points_i, width)``.
        dims: Directions.
        seed: Of the directions.

    Returns:
        Arrays ``(points_i, dims)``; the same ones where they are not wider.
    """
    width = manifolds[0].shape[1]
    if width <= dims:
        return list(manifolds)
    rng = np.random.default_rng([seed, 0x70])
    points = np.concatenate(list(manifolds))
    projected, lengths = np.zeros((len(points), dims)), np.zeros(dims)
    for start in range(0, width, BLOCK):  # the directions of all features at once can be larger than the points
        block = rng.standard_normal((min(BLOCK, width - start), dims))
        projected += points[:, start : start + BLOCK] @ block
        lengths += np.square(block).sum(axis=0)
    projected /= np.sqrt(lengths)
    return np.split(projected, np.cumsum([len(manifold) for manifold in manifolds])[:-1])
