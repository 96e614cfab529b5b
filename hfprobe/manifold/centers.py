"""The low-rank structure that the centres of the manifolds share, which the theory takes out first.

Capacity theory holds for centres in random directions. Following Cohen et al. (Nature Communications 11, 746, 2020,
supplementary methods) the few directions are sought whose removal leaves the centres least correlated. The search
follows the authors' `fun_FA`: for K = 1, 2, ... directions, minimise over orthonormal V

    F(V) = 1/2 sum_ab (C - c c^T)_ab^2 / (r_a r_b),   C = X X^T,  c = X V,  r_a = C_aa - |c_a|^2

from several starts, keep the start that shortens the shortest centre least, and stop when the mean residual
correlation has risen three times in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from hfprobe.errors import MeasureError

VARIANCE = 0.95
MORE_DIRECTIONS = 11
MAX_ITERATIONS = 1000
GRADIENT_TOLERANCE = 1e-6
ROUGH, FINE = 1e-5, 1e-9  # relative change of F at which a start is near its minimum, and has reached it


@dataclass(frozen=True, eq=False)
class CenterStructure:
    """How the centres correlate, and what has to go for them to correlate least.

    Attributes:
        correlations: Cosines of the centres about their mean, before anything is removed, ``(P, P)``.
        correlation: Mean absolute value off the diagonal.
        directions: The K directions to remove, orthonormal columns ``(dim, K)``.
        residuals: Mean absolute correlation after removing 1, 2, ... directions; empty where nothing can be removed.
    """

    correlations: np.ndarray
    correlation: float
    directions: np.ndarray
    residuals: tuple[float, ...]


def center_structure(centers: np.ndarray, n_restarts: int = 10, seed: int = 0) -> CenterStructure:
    """Find the directions to remove.

    Args:
        centers: Means of the manifolds, ``(P, dim)``.
        n_restarts: Random starts for every number of directions.
        seed: Of the starts.

    Returns:
        The structure. At least two dimensions are left to the centres, so with three manifolds or fewer, or in three
        dimensions or fewer less one, nothing is removed.

    Raises:
        MeasureError: A centre lies on the mean of all centres (``"zero centre"``).

    Example:
        >>> centers = np.random.default_rng(0).standard_normal((10, 50)) + 5 * np.ones(50)
        >>> center_structure(centers).directions.shape
        (50, 1)
    """
    around = centers - centers.mean(axis=0)
    basis, _ = np.linalg.qr(around.T)
    basis = basis[:, : len(centers) - 1]
    x = around @ basis
    norms = np.linalg.norm(x, axis=1)
    if not norms.min() > 1e-12 * max(norms.max(), np.abs(centers).max()):
        raise MeasureError(
            f"expected centres that differ from their mean, but manifold {int(norms.argmin())} lies on it; "
            "leave it out or give more points",
            "zero centre",
        )
    x = x / norms.max()  # F does not depend on the scale, the optimiser's tolerances do
    correlations, before = _correlations(x)
    found, residuals = _search(x, n_restarts, np.random.default_rng(seed))
    best = found[int(np.argmin(residuals))] if found else np.zeros((x.shape[1], 0))
    return CenterStructure(correlations, before, basis @ best, tuple(residuals))


def _search(x: np.ndarray, n_restarts: int, rng: np.random.Generator) -> tuple[list[np.ndarray], list[float]]:
    """Best directions and residual correlation for K = 1, 2, ..."""
    shares = np.cumsum(np.square(np.linalg.svd(x, compute_uv=False)))
    shares = shares / shares[-1]
    # The reference counts from the last share below 95 %, or from the first where there is none.
    below = np.flatnonzero(shares < VARIANCE)
    most = (int(below[-1]) if len(below) else 0) + MORE_DIRECTIONS
    most = min(most, x.shape[1] - 2)
    last = np.zeros((x.shape[1], 0))
    found: list[np.ndarray] = []
    residuals: list[float] = []
    for _ in range(most):
        starts = [rng.standard_normal((1, len(x))) @ x for _ in range(n_restarts)]
        last = _most_stable([np.concatenate([start.T, last], axis=1) for start in starts], x)
        found.append(last)
        residuals.append(_correlations(x - (x @ last) @ last.T)[1])
        steps = np.diff(residuals[-4:])
        if len(residuals) > 4 and (steps > 0).all():
            break
    return found, residuals


def _most_stable(starts: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Of the minima reached from these starts the one that shortens the shortest centre least.

    Many minima remove one centre wholly, which leaves its manifold infinitely large in units of it, and a minimum shows
    that only when it is reached. All starts are taken near theirs, and to the end only while one may be the best.
    """

    def stability(v: np.ndarray) -> float:
        return float(np.min(np.linalg.norm(x - (x @ v) @ v.T, axis=1) / np.linalg.norm(x, axis=1)))

    near = sorted((_minimise(start, x, ROUGH) for start in starts), key=stability, reverse=True)
    best, best_stability = near[0], -1.0
    for v in near:
        if stability(v) < best_stability:
            break
        v = _minimise(v, x, FINE)
        if stability(v) > best_stability:
            best, best_stability = v, stability(v)
    return best


def _minimise(start: np.ndarray, x: np.ndarray, tolerance: float) -> np.ndarray:
    """A local minimum of F from ``start`` ``(r, K)``: orthonormal ``(r, K)``.

    F depends on the span of V alone, so it is minimised over all W of full rank, with V an orthonormal basis of their
    span; no step has to be brought back to the manifold.
    """
    gram = x @ x.T
    options = {"maxiter": MAX_ITERATIONS, "gtol": GRADIENT_TOLERANCE, "ftol": tolerance, "maxcor": 20}
    begin = np.linalg.qr(start)[0]
    found = minimize(_cost, begin.ravel(), (x, gram), method="L-BFGS-B", jac=True, options=options)
    return np.linalg.qr(found.x.reshape(start.shape))[0]


def _cost(flat: np.ndarray, x: np.ndarray, gram: np.ndarray) -> tuple[float, np.ndarray]:
    """F on the span of W ``(r, K)``, and its derivative with respect to W, both flat."""
    w = flat.reshape(x.shape[1], -1)
    inner, outer = w.T @ w, x @ w
    weighted = np.linalg.solve(inner, outer.T).T
    rest = gram - weighted @ outer.T
    # A centre that lies wholly in the removed span would divide by zero.
    weight = 1 / np.maximum(np.diagonal(rest), 1e-14)
    squares = np.square(rest) @ weight
    scaled = rest * np.outer(weight, weight)
    slope = x.T @ ((np.square(weight) * squares)[:, None] * weighted - scaled @ weighted)
    slope = 2 * (slope - w @ np.linalg.solve(inner, w.T @ slope))
    return 0.5 * float(weight @ squares), slope.ravel()


def _correlations(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Cosines between rows and their mean absolute value off the diagonal."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    cosines = unit @ unit.T
    count = len(x)
    return cosines, float((np.abs(cosines).sum() - count) / (count * (count - 1)))
