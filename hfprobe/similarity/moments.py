"""Moments of shifted features, and how they change with the shift.

A set of features X ``(n, d)`` is kept as ``z = [x - s, |x - s|^2]``, one column more than X: the squared norm makes
debiased CKA exact in one pass, since it needs sums of products of squared row norms, which are then entries of the Gram
matrix of the z. A change of the shift s is a linear map of z and the constant 1, so moments about one shift give those
about any other, the mean included, without the samples.
"""

from __future__ import annotations

import torch
from torch import Tensor


def moved_sum(total: Tensor, n: Tensor | float, by: Tensor) -> Tensor:
    """Sum of z after the shift has moved by ``by``.

    Args:
        total: ``(..., d + 1)``.
        n: Samples, ``(...)``.
        by: New shift minus old, ``(d,)``.
    """
    first, last = total[..., :-1], total[..., -1:]
    n = torch.as_tensor(n, dtype=total.dtype, device=total.device)[..., None]
    return torch.cat([first - n * by, last - 2 * (first @ by)[..., None] + n * (by @ by)], dim=-1)


def moved_gram(gram: Tensor, left: Tensor, right: Tensor, n: Tensor | float, by_left: Tensor, by_right: Tensor):
    """Gram matrix of the z of two sets after their shifts have moved.

    Args:
        gram: ``(..., d1 + 1, d2 + 1)``; not changed.
        left: Sum of the left z before the move ``(..., d1 + 1)``.
        right: That of the right.
        n: Samples, ``(...)``.
        by_left: New left shift minus old ``(d1,)``.
        by_right: That of the right ``(d2,)``.

    Returns:
        A tensor of the shape of ``gram``.
    """
    gram = gram.clone()
    # z_new = A z + b with A the identity but for its last row [-2 by, 1], and b = [-by, |by|^2].
    gram[..., -1, :] -= 2 * torch.einsum("d,...dk->...k", by_left, gram[..., :-1, :])
    gram[..., :, -1] -= 2 * torch.einsum("d,...kd->...k", by_right, gram[..., :, :-1])
    n = torch.as_tensor(n, dtype=gram.dtype, device=gram.device)
    left, right = _mapped(left, by_left), _mapped(right, by_right)
    moves = [torch.cat([-by, (by @ by)[None]]) for by in (by_left, by_right)]
    gram += left[..., :, None] * moves[1] + moves[0][:, None] * right[..., None, :]
    gram += n[..., None, None] * (moves[0][:, None] * moves[1])
    return gram


def _mapped(total: Tensor, by: Tensor) -> Tensor:
    first, last = total[..., :-1], total[..., -1:]
    return torch.cat([first, last - 2 * (first @ by)[..., None]], dim=-1)
