"""Wide layers by their leading principal directions: intervals where moments by group would not fit into memory.

The moments of a layer of 5,120 features take 200 MiB, those of twenty groups of utterances 4 GiB, and a bootstrap would
decompose them hundreds of times. Its value needs one group. Its spread is taken from the same measure on the leading
directions, because CKA weights directions by their squared variance and SVCCA keeps the leading ones only. The
directions come from a bounded sample of frames (`hfprobe.similarity.sample`), the draws from all frames. So the value
is exact, and the interval is exact but for the directions left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfprobe.similarity.inputs import as_matrix, centred

WIDE = 1024  # features above which a layer's interval is from its leading directions
DIRECTIONS = 128


@dataclass(frozen=True)
class Leading:
    """Leading principal directions of a set.

    Attributes:
        basis: Orthonormal, float32 ``(dim, directions)``.
        share: Of the variance of the sample that they hold.

    Example:
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double() @ torch.ones(2, 6).double()
        >>> found = leading_directions(x, 3)
        >>> found.basis.shape, round(found.share, 6)
        (torch.Size([6, 1]), 1.0)
    """

    basis: Tensor
    share: float

    def of(self, features: Tensor) -> Tensor:
        """Features ``(n, dim)`` along the directions ``(n, directions)``."""
        return features @ self.basis.to(features.device, features.dtype)


def leading_directions(x: Tensor, count: int = DIRECTIONS, name: str = "X") -> Leading:
    """The first ``count`` principal directions of a sample, or fewer where it spans fewer.

    Args:
        x: Features ``(n, d)``; n is best a few times ``count``.
        count: Directions at the most.
        name: What to call it in messages.

    Raises:
        MeasureError: The features are constant or not finite.
    """
    x = centred(as_matrix(x, name), name)
    if len(x) < x.shape[1]:
        squares, left = torch.linalg.eigh(x @ x.T)
        squares, left = squares.flip(0), left.flip(1)
    else:
        squares, vectors = torch.linalg.eigh(x.T @ x)
        squares, left = squares.flip(0), x @ vectors.flip(1)
    kept = min(count, int((squares > 1e-12 * squares[0]).sum()))
    basis = torch.linalg.qr(x.T @ left[:, :kept]).Q
    return Leading(basis.float(), float(squares[:kept].sum() / squares.sum()))
