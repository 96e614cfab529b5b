"""Centred kernel alignment with linear kernels: biased, debiased, and from moments alone.

Sources: Kornblith et al., "Similarity of neural network representations revisited" (arXiv 1905.00414) and its notebook;
Székely and Rizzo, "Partial distance correlation with methods for dissimilarities" (2014) for the debiasing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.inputs import as_pair, centred
from hfprobe.similarity.null import kernel_null
from hfprobe.similarity.score import Facts, Similarity, few_samples, make_score


@dataclass(frozen=True)
class LinearMoments:
    """What linear CKA needs of a pair, all of centred features.

    Attributes:
        n: Samples.
        xy: Squared Frobenius norm of the cross-scatter.
        xx: That of the scatter of X.
        yy: That of the scatter of Y.
        total_x: Sum of the squared row norms of X.
        total_y: That of Y.
        rows_xy: Sum over samples of the product of both squared row norms.
        rows_xx: Sum of the squares of those of X.
        rows_yy: That of Y.
    """

    n: float
    xy: float
    xx: float
    yy: float
    total_x: float
    total_y: float
    rows_xy: float
    rows_xx: float
    rows_yy: float


def linear_cka(x: Any, y: Any, debiased: bool = False) -> Similarity:
    """Linear centred kernel alignment.

    Args:
        x: Features ``(n, d1)``, array or tensor on any device; computed in float64.
        y: Features ``(n, d2)`` of the same n samples.
        debiased: Remove the bias that grows with ``d / n``; the value may then be negative.

    Returns:
        The value, in [0, 1] unless debiased, then in [-1, 1].

    Raises:
        MeasureError: Not two matrices of finite numbers with the same n >= 4 samples; all features of one side
            constant; or, debiased, nothing is left of one side.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).standard_normal((100, 3))
        >>> round(linear_cka(x, 2 * x[:, ::-1] + 7), 9)
        1.0
    """
    x, y = as_pair(x, y)
    n, dims = len(x), (x.shape[1], y.shape[1])
    x, y = centred(x, "X"), centred(y, "Y")
    rows_x, rows_y = x.square().sum(dim=1), y.square().sum(dim=1)
    if n < min(dims):  # the smaller Gram matrix
        kernel_x, kernel_y = x @ x.T, y @ y.T
        products = [(kernel_x * kernel_y).sum(), kernel_x.square().sum(), kernel_y.square().sum()]
    else:
        products = [(x.T @ y).square().sum(), (x.T @ x).square().sum(), (y.T @ y).square().sum()]
    sums = [rows_x.sum(), rows_y.sum(), rows_x @ rows_y, rows_x @ rows_x, rows_y @ rows_y]
    moments = LinearMoments(n, *torch.stack(products + sums).tolist())
    return linear_score(moments, dims, debiased)


def linear_score(moments: LinearMoments, dims: tuple[int, int], debiased: bool, quiet: bool = False) -> Similarity:
    """Linear CKA and its facts from moments."""
    value, null = linear_value(moments, debiased), 0.0
    if not debiased:
        null = kernel_null(int(moments.n), moments.total_x, moments.total_y, moments.xx**0.5, moments.yy**0.5)
    name = "linear_cka_debiased" if debiased else "linear_cka"
    warning = few_samples(int(moments.n), max(dims)) if not debiased else None
    facts = Facts(name, int(moments.n), dims, null=null, warning=warning)
    return make_score(value, facts, quiet, depth=2)


def linear_value(m: LinearMoments, debiased: bool) -> float:
    """Linear CKA from moments.

    Raises:
        MeasureError: A side has no variation (left).
    """
    if debiased:
        both = _debiased(m.n, m.xy, m.rows_xy, m.total_x, m.total_y)
        sides = [
            _debiased(m.n, m.xx, m.rows_xx, m.total_x, m.total_x),
            _debiased(m.n, m.yy, m.rows_yy, m.total_y, m.total_y),
        ]
    else:
        both, sides = m.xy, [m.xx, m.yy]
    return ratio(both, sides[0], sides[1], scale=(m.xx, m.yy))


def ratio(both: float, side_x: float, side_y: float, scale: tuple[float, float] = (0.0, 0.0)) -> float:
    """The quotient of HSICs, in [-1, 1].

    Args:
        both: HSIC of both sides.
        side_x: HSIC of X with itself.
        side_y: That of Y.
        scale: What the self-HSICs are differences of: below rounding of it they are nothing.

    Raises:
        MeasureError: A self-HSIC is not above 0 (``"constant"``).
    """
    for name, side, size in (("X", side_x, scale[0]), ("Y", side_y, scale[1])):
        if not side > 1e-13 * size:
            raise MeasureError(
                f"the self-similarity of {name} is {side:.3g}, not above 0; give more samples, or features that vary",
                "constant",
            )
    # Two roots, since the product of two small numbers may vanish.
    return max(-1.0, min(1.0, both / side_x**0.5 / side_y**0.5))


def _debiased(n: float, product: float, rows: float, total_x: float, total_y: float) -> float:
    """Inner product of the U-centred Gram matrices, from centred features (Kornblith's notebook)."""
    return product - n / (n - 2) * rows + total_x * total_y / ((n - 1) * (n - 2))


def hsic1(kernel_x: Tensor, kernel_y: Tensor) -> Tensor:
    """Unbiased HSIC of two Gram matrices ``(n, n)`` (Song et al. 2012, equation 5).

    Args:
        kernel_x: Gram matrix of X; its diagonal is not read.
        kernel_y: That of Y.

    Returns:
        A scalar tensor; may be negative.

    Raises:
        MeasureError: Fewer than 4 samples (``"few"``).
    """
    n = len(kernel_x)
    if n < 4:
        raise MeasureError(f"HSIC1 needs at least 4 samples, got {n}; give larger batches", "few")
    own = torch.eye(n, dtype=torch.bool, device=kernel_x.device)
    k, h = kernel_x.masked_fill(own, 0.0), kernel_y.masked_fill(own, 0.0)
    rows_k, rows_h = k.sum(dim=1), h.sum(dim=1)
    alike = (k * h).sum() + rows_k.sum() * rows_h.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows_k @ rows_h
    return alike / (n * (n - 3))
