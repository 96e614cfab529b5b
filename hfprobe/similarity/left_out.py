"""Sums over two kernels with every group of samples left out in turn, at the cost of one more matrix product.

HSIC needs of two kernels the sum of their products and the sums of their rows. Without the samples of a group these are
the whole sums less what the group has to do with, so no kernel is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def memberships(codes: Tensor, groups: Tensor) -> Tensor:
    """Which samples are left out: nothing in the first column, then each group ``(n, len(groups) + 1)``.

    Example:
        >>> memberships(torch.tensor([7, 9, 7]), torch.tensor([7, 9])).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    chosen = (codes[:, None] == groups).to(torch.float64)
    return torch.cat([chosen.new_zeros(len(codes), 1), chosen], dim=1)


def rows_without(kernel: Tensor, members: Tensor) -> Tensor:
    """Sums of the rows of a kernel over what is left, 0 in the rows that are left out.

    Args:
        kernel: ``(..., n, n)``, symmetric, with zeros on the diagonal.
        members: Of `memberships`, ``(n, m)``.

    Returns:
        ``(..., n, m)``.
    """
    return (kernel.sum(dim=-1, keepdim=True) - kernel @ members) * (1 - members)


@dataclass(frozen=True)
class Left:
    """What is left of two kernels; the first entry is the whole.

    Attributes:
        n: Samples ``(m,)``.
        product: Sum of products off the diagonal ``(..., m)``.
        rows_x: Of `rows_without` ``(..., n, m)``.
        rows_y: That of the other kernel.
        members: What is left out.
    """

    n: Tensor
    product: Tensor
    rows_x: Tensor
    rows_y: Tensor
    members: Tensor

    def hsic1(self) -> Tensor:
        """Unbiased HSIC ``(..., m)`` (Song et al. 2012, equation 5); 0 where fewer than 4 samples are left."""
        n = self.n.clamp_min(4)
        sums = self.rows_x.sum(dim=-2) * self.rows_y.sum(dim=-2) / ((n - 1) * (n - 2))
        found = self.product + sums - 2 / (n - 2) * (self.rows_x * self.rows_y).sum(dim=-2)
        return torch.where(self.n >= 4, found / (n * (n - 3)), 0.0)

    def biased(self) -> Tensor:
        """``(n - 1)^2`` times the biased HSIC ``(..., m)``, of kernels with ones on the diagonal."""
        left = 1 - self.members
        rows_x, rows_y = self.rows_x + left, self.rows_y + left
        mean_x, mean_y = (rows.sum(dim=-2, keepdim=True) / self.n for rows in (rows_x, rows_y))
        # Means are taken off before the product, which keeps the digits that it would lose.
        spread = ((rows_x - mean_x * left) * (rows_y - mean_y * left)).sum(dim=-2)
        return self.product + self.n - 2 / self.n * spread - (mean_x * mean_y).squeeze(-2)


def left_of(x: Tensor, y: Tensor, rows_x: Tensor, rows_y: Tensor, members: Tensor) -> Left:
    """`Left` of two kernels ``(..., n, n)`` whose rows are known already."""
    product = x * y
    touched = product @ members
    both = product.sum(dim=(-2, -1))[..., None] - 2 * touched.sum(dim=-2) + (members * touched).sum(dim=-2)
    n = len(members) - members.sum(dim=0)
    return Left(n, both, rows_x, rows_y, members)
