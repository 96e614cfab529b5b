"""Mean CCA, SVCCA and PWCCA.

Sources: Raghu et al., "SVCCA" (arXiv 1706.05806); Morcos et al., "Insights on representational similarity in neural
networks with canonical correlation" (arXiv 1806.05759); where public libraries differ, see
`hfprobe.similarity.compat`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.compat import COMPAT, compat_mean_cca, compat_pwcca, compat_svcca
from hfprobe.similarity.inputs import as_pair, centred, check_choice
from hfprobe.similarity.null import cca_null
from hfprobe.similarity.score import Facts, Similarity, few_samples, make_score
from hfprobe.similarity.views import View, check_rank_option, full_view, principal_view


@dataclass(frozen=True)
class Canonical:
    """Canonical correlations and what PWCCA makes of them.

    Attributes:
        correlations: ``(k,)`` in [0, 1], largest first.
        left: Their mean weighted by the first view.
        right: Their mean weighted by the second view.
    """

    correlations: Tensor
    left: float
    right: float


def canonical(product: Tensor, left: View, right: View, weighted: bool = True) -> Canonical:
    """Canonical correlation analysis of two orthonormal bases.

    Args:
        product: ``(k1, k2)``: the first basis, transposed, times the second.
        left: First side.
        right: Second side.
        weighted: Whether PWCCA is wanted, too; without it no variates are needed, and it is NaN.

    Returns:
        Correlations, and both PWCCAs: canonical variate i weighs as much as the sum of the absolute inner products
        of it with the features of that side.
    """
    if not weighted:
        return Canonical(torch.linalg.svdvals(product).clamp(0, 1), float("nan"), float("nan"))
    u, correlations, v = torch.linalg.svd(product, full_matrices=False)
    correlations = correlations.clamp(0, 1)
    sides = [u.T @ left.projections, v @ right.projections]
    weights = [side.abs().sum(dim=1) for side in sides]
    scores = [float((w * correlations).sum() / w.sum()) for w in weights]
    return Canonical(correlations, *(min(1.0, score) for score in scores))


def mean_cca(x: Any, y: Any, compat: str = "exact", rank: str = "error") -> Similarity:
    """Mean of the canonical correlations.

    Args:
        x: Features ``(n, d1)``, array or tensor on any device; computed in float64.
        y: Features ``(n, d2)`` of the same n samples.
        compat: ``"exact"`` (also Pasad's and anatome's, which agree), or ``"google"`` for what google/svcca returns
            as ``"mean"``: the mean of the first correlations that make up 98 % of their sum.
        rank: ``"error"`` if columns of one side depend on one another; ``"reduce"`` compares the spans.

    Returns:
        The value in [0, 1], with correlations and null.

    Raises:
        MeasureError: Not two matrices of finite numbers with the same n >= 4 samples; constant or dependent columns.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((100, 3))
        >>> round(mean_cca(x, x @ [[1, 2, 0], [0, 1, 5], [1, 0, 0]]), 9)
        1.0
    """
    check_choice("compat", compat, COMPAT)
    check_rank_option(rank)
    x, y = as_pair(x, y)
    left, right = full_view(centred(x, "X"), "X", rank), full_view(centred(y, "Y"), "Y", rank)
    found = canonical(left.map.T @ right.map, left, right)
    value = float(found.correlations.mean())
    correlations = None
    if compat == "google":
        value, correlations = compat_mean_cca(x, y)
    return cca_score("mean_cca", value, len(x), dims_of(x, y), left, right, found, compat, correlations)


def svcca(x: Any, y: Any, variance: float = 0.99, compat: str = "exact") -> Similarity:
    """Mean canonical correlation of the leading principal directions of each side.

    Args:
        x: Features ``(n, d1)``; columns may depend on one another.
        y: Features ``(n, d2)`` of the same samples.
        variance: Share of the variance (squared singular values, after centring) that is kept on each side.
        compat: ``"exact"``; ``"google"``: the tutorial's fixed 20 directions and eps 1e-10; ``"anatome"``: no
            centring before the SVD, shares of the sum of singular values, the crossing direction dropped. Pasad's
            code has no SVCCA.

    Returns:
        The value in [0, 1]; ``directions`` are those kept.

    Raises:
        MeasureError: See `mean_cca`; or ``variance`` is not in (0, 1].

    Example:
        >>> x = np.random.default_rng(0).standard_normal((100, 3))
        >>> round(svcca(x, np.hstack([x, x])), 9)
        1.0
    """
    check_choice("compat", compat, tuple(name for name in COMPAT if name != "pasad"))
    if not 0 < variance <= 1:
        raise MeasureError(f"expected a share of variance in (0, 1], got {variance}", "option")
    x, y = as_pair(x, y)
    left, right = principal_view(centred(x, "X"), variance), principal_view(centred(y, "Y"), variance)
    if compat != "exact":
        value, correlations, kept = compat_svcca(x, y, compat, variance)
        facts = Facts(
            "svcca", len(x), dims_of(x, y), kept, correlations, None, None, cca_null(len(x), *kept),
            few_samples(len(x), max(kept)), compat,
        )  # fmt: skip
        return make_score(value, facts)
    found = canonical(left.map.T @ right.map, left, right, weighted=False)
    return cca_score("svcca", float(found.correlations.mean()), len(x), dims_of(x, y), left, right, found)


def pwcca(x: Any, y: Any, compat: str = "exact", rank: str = "error") -> Similarity:
    """Canonical correlations weighted by how much of one side each canonical variate accounts for.

    Where two correlations are equal (two features copied from one side to the other), their variates may be turned into
    one another and the weights are not unique: a limit of the measure, not of its computation.

    Args:
        x: Features ``(n, d1)``.
        y: Features ``(n, d2)`` of the same samples.
        compat: ``"exact"``: orthonormal variates of centred features, which no offset and no sign changes;
            ``"google"``, ``"pasad"``, ``"anatome"``: what those libraries compute, the first two of which depend on
            the linear algebra library unless the features are centred before.
        rank: As for `mean_cca`.

    Returns:
        The value weighted by the side with fewer directions, the first where equal; ``left`` and ``right`` are the
        values weighted by either side.

    Raises:
        MeasureError: See `mean_cca`.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((100, 3))
        >>> score = pwcca(x[:, :2], x)
        >>> round(score, 9), round(score.right, 9)
        (1.0, 1.0)
    """
    check_choice("compat", compat, COMPAT)
    check_rank_option(rank)
    x, y = as_pair(x, y)
    left, right = full_view(centred(x, "X"), "X", rank), full_view(centred(y, "Y"), "Y", rank)
    found = canonical(left.map.T @ right.map, left, right)
    value = found.left if left.directions <= right.directions else found.right
    if compat != "exact":
        value = compat_pwcca(x, y, compat)
    return cca_score("pwcca", value, len(x), dims_of(x, y), left, right, found, compat)


def dims_of(x: Tensor, y: Tensor) -> tuple[int, int]:
    """Widths of two matrices."""
    return x.shape[1], y.shape[1]


def cca_score(
    measure: str, value: float, n: int, dims: tuple[int, int], left: View, right: View, found: Canonical,
    compat: str = "exact", correlations: np.ndarray | None = None, quiet: bool = False,
) -> Similarity:  # fmt: skip
    """Put a CCA measure and its facts together."""
    directions = (left.directions, right.directions)
    if correlations is None:
        correlations = found.correlations.cpu().numpy()
    weighted = measure == "pwcca"
    facts = Facts(
        measure, n, dims, directions, correlations,
        found.left if weighted else None, found.right if weighted else None,
        cca_null(n, *directions), few_samples(n, max(directions)), compat,
    )  # fmt: skip
    return make_score(value, facts, quiet, depth=2)
