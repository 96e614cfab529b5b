"""One side of a canonical correlation analysis, as an orthonormal basis, from features or from their scatter alone.

Everything that CCA, SVCCA and PWCCA need of a side X (centred, ``(n, d)``) is an orthonormal basis B of chosen
directions and the projections ``B.T @ X``. From features B is kept; from the scatter ``X.T @ X`` only the map W with
``B = X @ W`` is known, which is enough, because products of bases are ``W_x.T @ (X.T @ Y) @ W_y``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.inputs import all_constant, rank_error

EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class View:
    """An orthonormal basis of directions of one side.

    Attributes:
        map: The basis ``(n, k)`` itself, or ``(d, k)`` the map from features to it.
        projections: ``(k, d)``: inner products of the basis with each centred feature.
    """

    map: Tensor
    projections: Tensor

    @property
    def directions(self) -> int:
        """Number of directions."""
        return self.projections.shape[0]


def check_rank_option(rank: str) -> None:
    """Refuse another word than ``"error"`` and ``"reduce"``."""
    if rank not in ("error", "reduce"):
        raise MeasureError(f"rank must be 'error' or 'reduce', got {rank!r}", "option")


def full_view(x: Tensor, name: str, rank: str = "error") -> View:
    """All directions of centred features.

    Args:
        x: ``(n, d)``, centred.
        name: What to call it in messages.
        rank: What to do if columns depend on one another: ``"error"``, or ``"reduce"`` to the span.

    Raises:
        MeasureError: Columns depend on one another (``"rank"``).
    """
    norms = torch.linalg.norm(x, dim=0)
    scaled = x / norms.masked_fill(norms == 0, 1.0)  # CCA ignores scales, the rank of a matrix does not
    basis, values, _ = thin_svd(scaled)
    found = int((values > values[0] * max(x.shape) * EPS).sum())
    if found < x.shape[1] and rank == "error":
        raise rank_error(name, found, x.shape[1], len(x))
    basis = basis[:, :found]
    return View(basis, basis.T @ x)


def principal_view(x: Tensor, variance: float) -> View:
    """The first directions of centred features that hold this share of their variance."""
    basis, values, _ = thin_svd(x)
    basis = basis[:, : kept_directions(values.square(), variance, max(x.shape) * EPS)]
    return View(basis, basis.T @ x)


def full_view_of_scatter(scatter: Tensor, name: str, n: int, rank: str = "error") -> View:
    """As `full_view`, from the scatter ``(d, d)`` of the centred features.

    Squaring halves the digits: columns whose dependence shows only below 1e-7 count as dependent here.
    """
    sizes = scatter.diagonal().clamp_min(0).sqrt()
    scale = torch.where(sizes > 0, 1 / sizes, torch.zeros_like(sizes))
    values, vectors = torch.linalg.eigh(scatter * scale[:, None] * scale)
    found = int((values > values[-1] * 4 * len(values) * EPS).sum())
    found = min(found, n - 1)
    if found < len(values) and rank == "error":
        raise rank_error(name, found, len(values), n)
    return _mapped(scatter, values.flip(0)[:found], vectors.flip(1)[:, :found] * scale[:, None])


def principal_view_of_scatter(scatter: Tensor, variance: float, n: int) -> View:
    """As `principal_view`, from the scatter ``(d, d)`` of the centred features."""
    values, vectors = _eigh_of_rank(scatter, n - 1)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    kept = min(kept_directions(values, variance, 4 * len(values) * EPS, squared=True), n - 1)
    return _mapped(scatter, values[:kept], vectors[:, :kept])


def _eigh_of_rank(scatter: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues in ascending order and eigenvectors of a matrix of at most this rank; all, or as many as the rank.

    With fewer samples than half the features, products with a few more random vectors than the rank span the matrix but
    for rounding, and decomposing it there takes seconds where the whole takes minutes (Halko, Martinsson and Tropp,
    "Finding structure with randomness", arXiv 0909.4061, section 4.1; exact for exact rank).
    """
    if 2 * rank >= len(scatter):
        return torch.linalg.eigh(scatter)
    generator = torch.Generator(device="cpu").manual_seed(0)
    probes = torch.randn(len(scatter), rank + 8, dtype=scatter.dtype, generator=generator).to(scatter.device)
    span = torch.linalg.qr(scatter @ torch.linalg.qr(scatter @ probes).Q).Q
    values, vectors = torch.linalg.eigh(span.T @ scatter @ span)
    return values[-rank:], span @ vectors[:, -rank:]


def _mapped(scatter: Tensor, values: Tensor, vectors: Tensor) -> View:
    mapping = vectors / values.sqrt()
    return View(mapping, mapping.T @ scatter)


def kept_directions(squares: Tensor, variance: float, tolerance: float, squared: bool = False) -> int:
    """First k whose squared singular values hold this share of their sum, without those that are rounding.

    Example:
        >>> kept_directions(torch.tensor([90.0, 9.5, 0.5]), 0.99, 1e-12)
        2
    """
    shares = squares.cumsum(0) / squares.sum()
    # A share that should be exact may fall short by rounding.
    wanted = int((shares < variance - 1e-12).sum()) + 1
    real = int((squares > squares[0] * (tolerance if squared else tolerance**2)).sum())
    return min(wanted, real)


def thin_svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decomposition of a tall or wide matrix; tall ones are made square by QR first.

    Raises:
        MeasureError: All values are 0 (``"constant"``).
    """
    if len(x) > x.shape[1]:
        q, r = torch.linalg.qr(x)
        u, values, right = torch.linalg.svd(r, full_matrices=False)
        u = q @ u
    else:
        u, values, right = torch.linalg.svd(x, full_matrices=False)
    if values[0] == 0:
        raise all_constant("features")
    return u, values, right
