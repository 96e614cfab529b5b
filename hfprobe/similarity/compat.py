"""What google/svcca, Pasad's layerwise-analysis and anatome compute, where it is not the definition.

They are written from the descriptions of their algorithms, quirks included, so that published numbers can be compared.
NumPy is used as they use it (anatome's PyTorch calls have the same meaning), because on features with offsets the
first two depend on the signs that the linear algebra library happens to give singular vectors.

- google: ``Sxx^-1/2`` is left out of the PWCCA directions, the means are added back to them, and uncentred features are
  projected. With fewer features on the second side it fails or mixes the sides up; here that is an error.
- pasad: directions are right, but the means of as many features as there are directions are added to them. Where both
  sides keep equally many, it is weighted by the second.
- anatome: weights by the first side always, through a QR decomposition of the *coefficients* rather than the variates,
  on uncentred features.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hfprobe.errors import MeasureError

COMPAT = ("exact", "google", "pasad", "anatome")
GOOGLE_DIRECTIONS = 20
TUTORIAL_EPSILON = 1e-10
PASAD_EPSILON = 1e-10


def compat_mean_cca(x: Tensor, y: Tensor, threshold: float = 0.98) -> tuple[float, np.ndarray]:
    """google/svcca's ``"mean"`` and all its correlations."""
    *_, correlations = _scaled_cca(_rows(x), _rows(y), 0.0, 0.0)
    before = np.concatenate([[0.0], np.cumsum(correlations)[:-1]]) / correlations.sum()
    enough = np.flatnonzero(before >= threshold)
    kept = correlations[: enough[0]] if len(enough) else correlations
    return min(1.0, float(kept.mean())), np.clip(correlations, 0, 1)


def compat_svcca(x: Tensor, y: Tensor, compat: str, variance: float) -> tuple[float, np.ndarray, tuple[int, int]]:
    """SVCCA as google's tutorial or anatome has it: value, correlations, directions kept."""
    sides = [_rows(x), _rows(y)]
    if compat == "google":
        sides = [_leading(side, GOOGLE_DIRECTIONS) for side in sides]
        *_, correlations = _scaled_cca(sides[0], sides[1], TUTORIAL_EPSILON, TUTORIAL_EPSILON)
        value = float(correlations.mean())
    else:
        sides = [_anatome_reduction(side, variance) for side in sides]
        _, correlations = _anatome_cca(*(side.T for side in sides))
        value = float(correlations.sum() / min(len(side) for side in sides))
    return min(1.0, value), np.clip(correlations, 0, 1), (len(sides[0]), len(sides[1]))


def compat_pwcca(x: Tensor, y: Tensor, compat: str) -> float:
    """PWCCA as one of the libraries has it, in [0, 1].

    Raises:
        MeasureError: google/svcca is asked for and the second side is narrower, where it fails.
    """
    value = {"google": _google_pwcca, "pasad": _pasad_pwcca, "anatome": _anatome_pwcca}[compat](_rows(x), _rows(y))
    if not np.isfinite(value):
        raise MeasureError(f"{compat}'s PWCCA has no value on these features; use compat='exact'", "compat")
    return min(1.0, float(value))


def _rows(x: Tensor) -> np.ndarray:
    """Features as the libraries want them: ``(neurons, samples)``."""
    return np.ascontiguousarray(x.cpu().numpy().T)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _scaled_cca(a: np.ndarray, b: np.ndarray, epsilon_a: float, epsilon_b: float):
    """CCA of rescaled covariances with a ridge: ``u, v, root_a, root_b, correlations``."""
    joint = np.cov(a, b)
    split = len(a)
    aa, ab, bb = joint[:split, :split], joint[:split, split:], joint[split:, split:]
    peak_a, peak_b = np.abs(aa).max(), np.abs(bb).max()
    aa = aa / peak_a + epsilon_a * np.eye(len(aa))
    bb = bb / peak_b + epsilon_b * np.eye(len(bb))
    root_a, root_b = _root(np.linalg.pinv(aa)), _root(np.linalg.pinv(bb))
    u, values, v = np.linalg.svd(root_a @ (ab / np.sqrt(peak_a * peak_b)) @ root_b)
    return u, v, root_a, root_b, np.abs(values)


def _weighted(directions: np.ndarray, features: np.ndarray, correlations: np.ndarray) -> float:
    """Correlations weighted by the projections of features on orthonormalised directions, all ``(k, samples)``."""
    basis, _ = np.linalg.qr(directions.T)
    weights = np.abs(basis.T @ features.T).sum(axis=1)
    return float((weights * correlations).sum() / weights.sum())


def _google_pwcca(a: np.ndarray, b: np.ndarray) -> float:
    if len(b) < len(a):
        raise MeasureError(
            f"google/svcca's PWCCA fails where the second side is narrower ({len(b)} after {len(a)}); "
            "swap the sides, or use compat='exact'",
            "compat",
        )
    u, _, _, _, correlations = _scaled_cca(a, b, 0.0, 0.0)
    means = a.mean(axis=1, keepdims=True)
    return _weighted(u.T @ (a - means) + means, a, correlations)


def _pasad_pwcca(a: np.ndarray, b: np.ndarray) -> float:
    u, v, root_a, root_b, _ = _scaled_cca(a, b, PASAD_EPSILON, PASAD_EPSILON)
    count = min(len(a), len(b))
    means = [side.mean(axis=1, keepdims=True) for side in (a, b)]
    left = (u.T @ root_a)[:count] @ (a - means[0])
    right = (v @ root_b)[:count] @ (b - means[1])
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    correlations = (left * right).sum(axis=1) / norms
    if len(a) < len(b):
        return _weighted(left + means[0][:count], a[:count], correlations)
    return _weighted(right + means[1][:count], b[:count], correlations)


def _leading(a: np.ndarray, count: int) -> np.ndarray:
    _, values, right = np.linalg.svd(a - a.mean(axis=1, keepdims=True), full_matrices=False)
    return values[:count, None] * right[:count]


def _anatome_reduction(a: np.ndarray, accepted: float) -> np.ndarray:
    left, values, _ = np.linalg.svd(a, full_matrices=False)
    kept = int((np.cumsum(values) / values.sum() < accepted).sum())
    if kept == 0:
        raise MeasureError("anatome's SVCCA keeps no direction of these features; use compat='exact'", "compat")
    return left[:, :kept].T @ a


def _anatome_cca(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of the first side ``(d1, k)`` and correlations, from ``(samples, d)``."""
    left, right = (np.linalg.svd(side - side.mean(axis=0), full_matrices=False) for side in (a, b))
    u, correlations, _ = np.linalg.svd(left[0].T @ right[0], full_matrices=False)
    return (left[2].T / left[1]) @ u, correlations


def _anatome_pwcca(a: np.ndarray, b: np.ndarray) -> float:
    coefficients, correlations = _anatome_cca(a.T, b.T)
    basis, _ = np.linalg.qr(coefficients)
    weights = np.abs(a.T @ basis).sum(axis=0)
    return float((weights * correlations).sum() / weights.sum())
