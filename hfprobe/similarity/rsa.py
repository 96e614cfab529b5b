"""Representational similarity analysis: do two sides find the same samples alike?

Source: Kriegeskorte, Mur, Bandettini, "Representational similarity analysis" (Frontiers in Systems Neuroscience, 2008).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.inputs import as_pair, check_choice
from hfprobe.similarity.score import Facts, Similarity, make_score

DISTANCES = ("correlation", "cosine", "euclidean")
COMPARISONS = ("spearman", "pearson")


def rsa(
    x: Any, y: Any, distance: str = "correlation", comparison: str = "spearman", max_samples: int = 4000, seed: int = 0
) -> Similarity:  # fmt: skip
    """Correlation of the two matrices of distances between samples.

    Args:
        x: Features ``(n, d1)``, array or tensor on any device; computed in float64.
        y: Features ``(n, d2)`` of the same n samples.
        distance: Between two samples: ``"correlation"`` (1 - Pearson over their features, 2 features or more),
            ``"cosine"`` or ``"euclidean"``.
        comparison: Of the distances above the diagonal: ``"spearman"`` (ties share their mean rank) or ``"pearson"``.
        max_samples: With more, so many are drawn at random: memory grows with their square.
        seed: Of the draw.

    Returns:
        The value in [-1, 1]; its null is 0.

    Raises:
        MeasureError: As for `linear_cka`; a sample without variation (or length) has no correlation (or cosine); or
            all distances of a side are equal.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).standard_normal((30, 5))
        >>> round(rsa(x, 3 * x + 1), 9)
        1.0
    """
    check_choice("distance", distance, DISTANCES)
    check_choice("comparison", comparison, COMPARISONS)
    if max_samples < 4:
        raise MeasureError(f"expected max_samples of 4 or more, got {max_samples}", "few")
    x, y = as_pair(x, y)
    if len(x) > max_samples:
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:max_samples]
        x, y = x[chosen.to(x.device)], y[chosen.to(y.device)]
    sides = [Distances(side, name, distance, comparison).standardised() for side, name in ((x, "X"), (y, "Y"))]
    value = max(-1.0, min(1.0, float(sides[0] @ sides[1])))
    extra = {"distance": distance, "comparison": comparison}
    return make_score(value, Facts("rsa", len(x), (x.shape[1], y.shape[1]), null=0.0, extra=extra))


class Distances:
    """Distances between the samples of one side, above the diagonal, ready to be compared.

    Args:
        x: Features ``(n, d)``.
        name: What to call them in messages.
        distance: Of `DISTANCES`.
        comparison: Of `COMPARISONS`.
    """

    def __init__(self, x: Tensor, name: str, distance: str = "correlation", comparison: str = "spearman"):
        above = torch.triu_indices(len(x), len(x), 1, device=x.device)
        self.name, self.ranked = name, comparison == "spearman"
        self._apart = _distances(x, distance, name)[above[0], above[1]]
        if self.ranked:
            # Equal distances share a place; the places are in ascending order.
            _, self._apart = torch.unique(self._apart, return_inverse=True)

    def standardised(self, kept: Tensor | None = None) -> Tensor:
        """The distances (or their ranks) with mean 0 and norm 1, so that a correlation is an inner product.

        Args:
            kept: Boolean ``(n (n - 1) / 2,)``: which distances count; ranks are among them. All where None.

        Raises:
            MeasureError: They are all equal (``"constant"``).
        """
        apart = self._apart if kept is None else self._apart[kept]
        apart = _mean_ranks(apart) if self.ranked else apart
        apart = apart - apart.mean()
        size = torch.linalg.norm(apart)
        if not float(size) > 1e-12 * len(apart) ** 0.5:
            raise MeasureError(f"all distances in {self.name} are equal; give samples that differ", "constant")
        return apart / size


def _distances(x: Tensor, distance: str, name: str) -> Tensor:
    """Distances between rows ``(n, n)``, of a size near 1."""
    if distance == "euclidean":
        apart = torch.cdist(x / x.abs().amax().clamp_min(1e-300), x / x.abs().amax().clamp_min(1e-300))
        return apart / apart.amax().clamp_min(1e-300)
    x = x / x.abs().amax(dim=1, keepdim=True).clamp_min(1e-300)
    if distance == "correlation":
        x = x - x.mean(dim=1, keepdim=True)
    size = torch.linalg.norm(x, dim=1, keepdim=True)
    if not bool((size > 1e-12).all()):
        what = "the same in all features" if distance == "correlation" else "all zeros"
        raise MeasureError(
            f"a sample of {name} is {what}, so it has no {distance}; use distance='euclidean'", "constant"
        )
    x = x / size
    # Rounding would tell exact ties apart, and ranks would take that for order.
    return torch.round(1 - x @ x.T, decimals=12)


def _mean_ranks(places: Tensor) -> Tensor:
    """Ranks in [0, 1] of values given by their places in ascending order; ties share their mean rank."""
    counts = torch.bincount(places)
    last = counts.cumsum(0).to(torch.float64)
    return (last - (counts.to(torch.float64) + 1) / 2)[places] / max(1, len(places))
