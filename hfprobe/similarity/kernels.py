"""CKA with Gaussian kernels, and CKA from minibatches.

Sources: Kornblith et al. (arXiv 1905.00414) and its notebook for the width of the kernels; Nguyen et al., "Do wide and
deep networks learn the same things?" (arXiv 2010.15327), equation 3, for minibatches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.cka import hsic1, ratio
from hfprobe.similarity.inputs import as_pair, centred, check_choice
from hfprobe.similarity.null import kernel_null
from hfprobe.similarity.score import Facts, Similarity, few_samples, make_score

BLOCK_CELLS = 4_000_000  # kernel values held at once, 32 MB
MEDIAN_SAMPLES = 4000


def rbf_cka(x: Any, y: Any, sigma: float = 0.5, debiased: bool = False, seed: int = 0) -> Similarity:
    """Centred kernel alignment with Gaussian kernels.

    The kernels are computed in blocks of rows, so memory grows with n, not with its square.

    Args:
        x: Features ``(n, d1)``, array or tensor on any device; computed in float64.
        y: Features ``(n, d2)`` of the same n samples.
        sigma: Width as a share of the median distance (root of the median squared distance, over all n * n pairs,
            from 4,000 samples drawn at random where there are more).
        debiased: Use the unbiased HSIC, which leaves the diagonal out; the value may then be negative.
        seed: Of that draw.

    Returns:
        The value, in [0, 1] unless debiased.

    Raises:
        MeasureError: As for `linear_cka`; or ``sigma`` is not above 0, or more than half of the samples are equal.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).standard_normal((50, 3))
        >>> round(rbf_cka(x, 2 * x), 9)
        1.0
    """
    if not 0 < sigma < float("inf"):
        raise MeasureError(f"expected a width sigma above 0, got {sigma}", "option")
    x, y = as_pair(x, y)
    n, dims = len(x), (x.shape[1], y.shape[1])
    x, y = centred(x, "X"), centred(y, "Y")
    widths = [2 * sigma**2 * _median_square(side, name, seed) for side, name in ((x, "X"), (y, "Y"))]
    sums, rows_x, rows_y = torch.zeros(3, dtype=torch.float64, device=x.device), [], []
    block = max(1, BLOCK_CELLS // n)
    for start in range(0, n, block):
        parts = []
        for side, width in zip((x, y), widths, strict=True):
            kernel = torch.exp(-_squares(side[start : start + block], side) / width)
            # Always without the diagonal of ones; the biased sums add it again.
            kernel[torch.arange(len(kernel)), torch.arange(start, start + len(kernel))] = 0.0
            parts.append(kernel)
        k, h = parts
        sums += torch.stack([(k * h).sum(), k.square().sum(), h.square().sum()])
        rows_x.append(k.sum(dim=1))
        rows_y.append(h.sum(dim=1))
    all_x, all_y = torch.cat(rows_x), torch.cat(rows_y)
    pairs = zip(sums.tolist(), ((all_x, all_y), (all_x, all_x), (all_y, all_y)), strict=True)
    both, own_x, own_y = (_hsic(n, product, left, right, debiased) for product, (left, right) in pairs)
    # A self-HSIC is a difference of sums of this size.
    value = ratio(both, own_x, own_y, scale=(1.0 * n, 1.0 * n))
    null = 0.0
    if not debiased:
        trace_x, trace_y = (float(n - (n + rows.sum()) / n) for rows in (all_x, all_y))
        null = kernel_null(n, trace_x, trace_y, own_x**0.5, own_y**0.5)
    facts = Facts("rbf_cka", n, dims, null=null, warning=few_samples(n, max(dims)), extra={"sigma": sigma})
    return make_score(value, facts)


def gaussian_kernel(x: Tensor, sigma: float, name: str = "X", seed: int = 0) -> Tensor:
    """Gaussian kernel of all pairs of samples, with zeros on the diagonal.

    Args:
        x: Centred features ``(n, d)``.
        sigma: Width as a share of the median distance, see `rbf_cka`.
        name: What to call them in messages.
        seed: Of the draw for the median.

    Returns:
        ``(n, n)``.

    Raises:
        MeasureError: More than half of the samples are equal.
    """
    kernel = torch.exp(-_squares(x, x) / (2 * sigma**2 * _median_square(x, name, seed)))
    return kernel.fill_diagonal_(0.0)


def _hsic(n: int, product: float, rows_x: Tensor, rows_y: Tensor, debiased: bool) -> float:
    """(n - 1)^2 HSIC, or n (n - 3) HSIC1, from sums over off-diagonal kernel values; the diagonal is 1."""
    if debiased:
        sums = float(rows_x.sum() * rows_y.sum()) / ((n - 1) * (n - 2))
        return product + sums - 2 / (n - 2) * float(rows_x @ rows_y)
    # Row means are taken off before they are multiplied, which keeps the digits that their product would lose.
    rows_x, rows_y = rows_x + 1, rows_y + 1
    mean_x, mean_y = float(rows_x.mean()), float(rows_y.mean())
    spread = float((rows_x - mean_x) @ (rows_y - mean_y))
    return product + n - 2 / n * spread - mean_x * mean_y


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances ``(len(a), len(b))``."""
    return (a.square().sum(dim=1)[:, None] + b.square().sum(dim=1) - 2 * a @ b.T).clamp_min(0)


def _median_square(x: Tensor, name: str, seed: int) -> float:
    """Median squared distance over all ordered pairs, a sample with itself included (as in the notebook)."""
    if len(x) > MEDIAN_SAMPLES:
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:MEDIAN_SAMPLES]
        x = x[chosen.to(x.device)]
    squares = _squares(x, x)
    squares.fill_diagonal_(0.0)
    ranked = squares.flatten().sort().values
    half = len(ranked) // 2
    median = float(ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2)
    # Equal samples are a rounding error apart.
    if not median > 1e-12 * float(ranked[-1]):
        raise MeasureError(f"half of the distances in {name} are 0; give samples that differ", "constant")
    return median


def minibatch_cka(
    x: Any, y: Any, batch_size: int = 256, ragged: str = "drop", weighting: str = "equal"
) -> Similarity:  # fmt: skip
    """Linear CKA from HSIC1 summed over consecutive minibatches before the quotient is taken.

    Args:
        x: Features ``(n, d1)``; shuffle neighbouring frames before, or batches hold little variation.
        y: Features ``(n, d2)`` of the same samples.
        batch_size: Samples of a batch, 4 or more.
        ragged: What happens to a smaller last batch: ``"drop"``, or ``"keep"`` if it has 4 samples.
        weighting: ``"equal"``: each batch's HSIC1 counts the same (the paper, torch_cka, CKA.pytorch); ``"google"``:
            without the factor 1 / (n (n - 3)), so that large batches weigh more. Equal sizes make them equal.

    Returns:
        The value in [-1, 1]; may be negative. ``extra["batches"]`` says how many there were.

    Raises:
        MeasureError: As for `linear_cka`; a batch would be smaller than 4; or self-HSICs do not sum to more than 0.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).standard_normal((64, 3))
        >>> round(minibatch_cka(x, -x, batch_size=16), 9)
        1.0
    """
    check_choice("ragged", ragged, ("drop", "keep"))
    check_choice("weighting", weighting, ("equal", "google"))
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 4:
        raise MeasureError(f"expected batches of 4 samples or more, got {batch_size!r}", "few")
    x, y = as_pair(x, y)
    n, dims = len(x), (x.shape[1], y.shape[1])
    # HSIC1 ignores an offset, but its digits do not.
    x, y = centred(x, "X"), centred(y, "Y")
    sums, batches, biggest = torch.zeros(3, dtype=torch.float64, device=x.device), 0, (0.0, 0.0)
    for start in range(0, n, batch_size):
        a, b = x[start : start + batch_size], y[start : start + batch_size]
        size = len(a)
        if size < 4 or (size < batch_size and (ragged == "drop" and start > 0)):
            continue
        k, h = a @ a.T, b @ b.T
        found = torch.stack([hsic1(k, h), hsic1(k, k), hsic1(h, h)])
        sums += found * (size * (size - 3)) if weighting == "google" else found
        scale = 1.0 if weighting == "google" else 1.0 / (size * (size - 3))
        biggest = (biggest[0] + scale * float(k.square().sum()), biggest[1] + scale * float(h.square().sum()))
        batches += 1
    both, own_x, own_y = sums.tolist()
    value = ratio(both, own_x, own_y, scale=biggest)
    facts = Facts("minibatch_cka", n, dims, null=0.0, extra={"batches": batches, "batch_size": batch_size})
    return make_score(value, facts)
