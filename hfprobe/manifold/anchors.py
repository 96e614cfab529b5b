"""Capacity, radius and dimension of one manifold from its anchor points.

Chung, Lee and Sompolinsky, "Classification and geometry of general perceptual manifolds", PRX 8, 031003, 2018,
equations 16, 17, 28 and 29, as computed by the authors' `neural_manifolds_replicaMFT`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hfprobe.errors import MeasureError
from hfprobe.manifold.cone import project_on_cone

INTERIOR = 1e-8  # a projection shorter than this is none: t itself meets the constraints


class AnchorStatistics(NamedTuple):
    """What the anchor points of one manifold say."""

    capacity: float
    radius: float
    dimension: float


def anchor_statistics(points: np.ndarray, vectors: np.ndarray, kappa: float = 0.0) -> AnchorStatistics:
    """Capacity, radius and dimension of one manifold.

    Each Gaussian vector t has an anchor point s(t) on the convex hull: the point that the margin presses on. Capacity
    is ``1 / mean(max(t.s + kappa, 0)^2 / |s|^2)``, radius the root mean square of ``s - mean s`` and dimension
    ``D mean(cos(t, s))^2``, the latter two without the last coordinate.

    Args:
        points: ``(m, D + 1)``: the manifold about its centre, in units of its centre's norm, and a last column of ones.
        vectors: Standard normal, ``(n_t, D + 1)``.
        kappa: Margin, 0 or more.

    Returns:
        The three numbers.

    Raises:
        MeasureError: Shapes do not fit (``"shape"``), or no vector presses on the manifold (``"few vectors"``).

    Example:
        >>> vectors = np.random.default_rng(0).standard_normal((4000, 3))
        >>> found = anchor_statistics(np.array([[0.0, 0.0, 1.0]]), vectors)  # a single point
        >>> round(found.capacity, 1), found.radius
        (2.0, 0.0)
    """
    points, vectors = np.asarray(points, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    if points.ndim != 2 or vectors.ndim != 2 or points.shape[1] != vectors.shape[1] or not len(vectors):
        raise MeasureError(
            f"expected points (m, D + 1) and vectors (n_t, D + 1), got {points.shape} and {vectors.shape}", "shape"
        )
    dim = points.shape[1] - 1
    shifted = vectors.copy()
    shifted[:, -1] += kappa
    anchors = project_on_cone(points, shifted)
    interior = np.linalg.norm(anchors, axis=1) < INTERIOR
    # The points' last coordinate is 1, so the last one of the projection is the sum of the multipliers.
    anchors[~interior] /= anchors[~interior, -1:]
    nearest = np.argmax(vectors[interior, :dim] @ points[:, :dim].T, axis=1)
    anchors[interior] = points[nearest]
    pressed = np.maximum(np.sum(vectors * anchors, axis=1) + kappa, 0.0)
    load = np.mean(np.square(pressed) / np.sum(np.square(anchors), axis=1))
    if load == 0:
        raise MeasureError(
            f"expected vectors that press on the manifold, got none of {len(vectors)}; raise n_t", "few vectors"
        )
    around = anchors - anchors.mean(axis=0)
    radius = np.sqrt(np.mean(np.sum(np.square(around[:, :dim]), axis=1)))
    t_hat = vectors[:, :dim] / np.linalg.norm(vectors[:, :dim], axis=1, keepdims=True)
    s_hat = anchors[:, :dim] / np.sqrt(np.sum(np.square(anchors[:, :dim]), axis=1, keepdims=True) + 1e-12)
    dimension = dim * np.square(np.mean(np.sum(t_hat * s_hat, axis=1)))
    return AnchorStatistics(float(1 / load), float(radius), float(dimension))
