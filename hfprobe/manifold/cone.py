"""The quadratic programme of manifold capacity, for many vectors at once.

For points s_1..s_m with a last coordinate of 1, a vector t and a margin kappa, the programme is

    minimise |v - t|^2 subject to s_i . v <= -kappa for all i

(Chung, Lee and Sompolinsky, PRX 8, 031003, 2018, section III A). With w = v + kappa e, e the last unit vector, the
constraints become s_i . w <= 0, so w is t + kappa e less its projection p on the cone of the points, and p is a
non-negative least squares fit. Hence one solver serves every margin, and all that the theory needs is p: v = t - p,
the multipliers add up to p's last coordinate, and the anchor point is p divided by it.

The fit is done for all vectors together by block principal pivoting (Kim and Park, SIAM J. Sci. Comput. 33, 2011).
Vectors for which that does not settle quickly, or whose optimality conditions it misses, go to `scipy.optimize.nnls`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from hfprobe.errors import MeasureError

ROUNDS = 12  # full exchanges settle within these, or cycle
ACCURACY = 1e-10
CELLS = 4_000_000  # vectors x points x points held at once, about 32 MB


def project_on_cone(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Nearest points of a convex cone.

    Args:
        points: Rays of the cone, ``(m, dim)``.
        targets: What is projected, ``(n, dim)``.

    Returns:
        Float64 ``(n, dim)``: ``points.T @ z`` with the z >= 0 that comes nearest to each target.

    Raises:
        MeasureError: A fit does not converge (reason ``"convergence"``).

    Example:
        >>> project_on_cone(np.eye(2), np.array([[3.0, -1.0], [-2.0, -2.0]])).tolist()
        [[3.0, 0.0], [0.0, 0.0]]
    """
    points, targets = np.asarray(points, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    m, dim = points.shape
    projections = np.zeros_like(targets)
    scores = targets @ points.T
    left = np.flatnonzero((scores > 0).any(axis=1))  # the others lie in the polar cone: their projection is 0
    if m > dim:  # the points depend on one another, and pivoting would meet singular systems
        return _one_by_one(points, targets, left, projections)
    gram = points @ points.T
    chunk = max(1, CELLS // (m * m))
    for start in range(0, len(left), chunk):
        rows = left[start : start + chunk]
        fits, solved = _pivot(gram, scores[rows])
        projections[rows[solved]] = fits[solved] @ points
        _one_by_one(points, targets, rows[~solved], projections)
    return projections


def _one_by_one(points: np.ndarray, targets: np.ndarray, rows: np.ndarray, projections: np.ndarray) -> np.ndarray:
    matrix = np.ascontiguousarray(points.T)
    for row in rows:
        try:
            fit, _ = nnls(matrix, targets[row], maxiter=30 * len(points))
        except RuntimeError as error:
            raise MeasureError(
                f"expected the anchor point of a manifold of {len(points)} points to be found, got no convergence; "
                "leave out nearly equal points",
                "convergence",
            ) from error
        projections[row] = points.T @ fit
    return projections


def _pivot(gram: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Block principal pivoting: fits ``(n, m)``, and which of them meet the optimality conditions ``(n,)``.

    A set F of points carries weight: its weights solve G_FF z_F = b_F, and the points outside have the slack
    y = G z - b. Points with z < 0 or y < 0 change sides, all at once.
    """
    n, m = scores.shape
    scale = np.abs(scores).max(axis=1, keepdims=True)
    inside = np.zeros((n, m), dtype=bool)
    fits, slack = np.zeros((n, m)), -scores
    open_rows = np.arange(n)
    for _ in range(ROUNDS):
        wrong = np.where(inside[open_rows], fits[open_rows], slack[open_rows]) < -ACCURACY * scale[open_rows]
        unsettled = wrong.any(axis=1)
        open_rows, wrong = open_rows[unsettled], wrong[unsettled]
        if not len(open_rows):
            break
        inside[open_rows] ^= wrong
        try:
            fits[open_rows] = _solve(gram, scores[open_rows], inside[open_rows])
        except np.linalg.LinAlgError:  # equal points
            return fits, np.zeros(n, dtype=bool)
        slack[open_rows] = fits[open_rows] @ gram - scores[open_rows]
    limit = 100 * ACCURACY * scale
    settled = (fits >= -limit) & np.where(inside, np.abs(slack) <= limit, slack >= -limit)
    good = settled.all(axis=1) & np.isfinite(fits).all(axis=1)
    good[open_rows] = False
    return np.maximum(fits, 0), good


def _solve(gram: np.ndarray, scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Weights of the points inside, 0 outside; one step of refinement makes up for the squared condition number."""
    diagonal = np.arange(len(gram))
    systems = gram * (inside[:, :, None] & inside[:, None, :])
    systems[:, diagonal, diagonal] += ~inside
    fits = np.linalg.solve(systems, (scores * inside)[..., None])[..., 0]
    missing = (scores - fits @ gram) * inside
    return (fits + np.linalg.solve(systems, missing[..., None])[..., 0]) * inside
