"""What independent data of the same size would give: the floor under every similarity.

- Canonical correlations of independent Gaussian data have the law of a multivariate Beta (Muirhead, "Aspects of
  Multivariate Statistical Theory", 1982, section 11.3): the squares are the eigenvalues of A (A + B)^-1 with Wishart
  matrices A of d2 and B of n - 1 - d2 degrees of freedom. Both are drawn directly (B by Bartlett's decomposition), so
  the cost does not depend on n. PWCCA has the same mean: its directions are then independent of the correlations.
- For kernels, the mean over all pairings of the samples is exact: tr(K) tr(L) / ((n - 1) |K| |L|) for centred K, L.
- Debiased CKA, minibatch CKA and RSA have mean 0.

Samples count as independent. Neighbouring frames of speech are not, so the true floor lies somewhat higher.
"""

from __future__ import annotations

from functools import lru_cache

import torch

_REPLICATES_COST = 64**3 * 32


@lru_cache(maxsize=4096)
def cca_null(n: int, d1: int, d2: int, seed: int = 0) -> float:
    """Mean canonical correlation of independent Gaussian data, by seeded simulation.

    Args:
        n: Samples.
        d1: Directions of one side.
        d2: Directions of the other side.
        seed: Seed of the draws.

    Returns:
        Mean over min(d1, d2) correlations and over draws: 32 up to 64 dimensions, fewer (one at the least) above,
        where single draws hardly differ. 1.0 where ``n - 1 <= max(d1, d2)``: then one side spans all samples.

    Example:
        >>> round(cca_null(1000, 20, 20), 2)
        0.12
    """
    few, many = sorted((d1, d2))
    free = n - 1 - many
    if free <= 0:
        return 1.0
    generator = torch.Generator().manual_seed(seed)
    draws = max(1, min(32, _REPLICATES_COST // few**3))
    # With fewer than `few` degrees of freedom left, that many correlations are exactly 1.
    total = 0.0
    for _ in range(draws):
        between = torch.randn(few, many, dtype=torch.float64, generator=generator)
        between = between @ between.T
        if free < few:
            within = torch.randn(few, free, dtype=torch.float64, generator=generator)
            within = within @ within.T
        else:
            root = torch.randn(few, few, dtype=torch.float64, generator=generator).tril(-1)
            # chi-squared is twice a Gamma of half the degrees of freedom
            freedom = torch.arange(free, free - few, -1, dtype=torch.float64)
            chi = 2 * torch._standard_gamma(freedom / 2, generator=generator)
            root = root + torch.diag(chi.sqrt())
            within = root @ root.T
        factor = torch.linalg.cholesky(between + within)
        half = torch.linalg.solve_triangular(factor, between, upper=False)
        squares = torch.linalg.eigvalsh(torch.linalg.solve_triangular(factor, half.T, upper=False))
        total += float(squares.clamp(0, 1).sqrt().mean())
    return total / draws


def kernel_null(n: int, trace_x: float, trace_y: float, norm_x: float, norm_y: float) -> float:
    """Mean CKA over all pairings of the samples of X and Y.

    Args:
        n: Samples.
        trace_x: Trace of the centred kernel of X (for a linear one: its total scatter).
        trace_y: That of Y.
        norm_x: Frobenius norm of the centred kernel of X.
        norm_y: That of Y.

    Example:
        >>> kernel_null(11, 2.0, 2.0, 2.0, 1.0)
        0.2
    """
    return trace_x * trace_y / ((n - 1) * norm_x * norm_y)
