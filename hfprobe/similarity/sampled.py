"""RBF CKA and RSA of many pairs from one bounded sample of frames, with intervals by leaving out groups.

Values are those of `rbf_cka` and `rsa` on the sampled frames, and ``n`` is their number. What one set contributes (its
kernel, its distances in order) is computed once and not once per pair; only the latest few are held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.cka import ratio
from hfprobe.similarity.groups import draw_times, draws_without, with_draws
from hfprobe.similarity.inputs import as_matrix, centred, check_count
from hfprobe.similarity.kernels import gaussian_kernel
from hfprobe.similarity.left_out import left_of, memberships, rows_without
from hfprobe.similarity.null import kernel_null
from hfprobe.similarity.plan import Pair
from hfprobe.similarity.rsa import Distances
from hfprobe.similarity.sample import FrameSample
from hfprobe.similarity.score import Facts, Similarity, few_samples, make_score

SAMPLED = ("rbf_cka", "rsa")
HELD = 24  # sets whose kernels or distances are held: 8 and 12 MB each at 1,000 frames
SIGMA = 0.5


def sampled_scores(
    sample: FrameSample, measures: Sequence[str], pairs: Sequence[Pair], replicates: int = 0, confidence: float = 0.95,
    seed: int = 0, failures: dict[tuple[str, str, str], str] | None = None,
) -> dict[tuple[str, str, str], Similarity]:  # fmt: skip
    """RBF CKA (biased, width half the median distance) and RSA (correlation distances, Spearman) of pairs.

    Args:
        sample: Frames.
        measures: Of `SAMPLED`.
        pairs: Names of two sets each.
        replicates: Draws of groups for the intervals, see `hfprobe.similarity.groups`; the widths of the kernels stay
            those of the whole sample, the ranks of distances do not.
        confidence: Share of draws inside the interval.
        seed: Of the draws.
        failures: If given, measures that have no value are noted here instead of raised.

    Returns:
        Scores by ``(a, b, measure)``.

    Raises:
        MeasureError: Fewer than 4 frames; or a measure has no value and ``failures`` is None.

    Example:
        >>> sample, x = FrameSample({"x": 3, "y": 3}), torch.randn(50, 3)
        >>> sample.update({"x": x, "y": -2 * x}, torch.arange(50))
        >>> scores = sampled_scores(sample, ["rbf_cka"], [("x", "y")])
        >>> round(float(scores["x", "y", "rbf_cka"]), 6)
        1.0
    """
    check_count(len(sample.keys))
    times = draw_times(sample.counts, replicates, seed)
    found = {}
    for measure in measures:
        values = {"rbf_cka": _rbf_values, "rsa": _rsa_values}[measure](sample, pairs, times is not None)
        for a, b in pairs:
            key = (a, b, measure)
            try:
                value, null, without = values(a, b)
            except MeasureError as error:
                if failures is None:
                    raise
                failures[key] = str(error)
                continue
            dims, n = (sample.dims[a], sample.dims[b]), len(sample.keys)
            warning = few_samples(n, max(dims)) if measure == "rbf_cka" else None
            score = make_score(value, Facts(measure, n, dims, null=null, warning=warning), quiet=True)
            if times is not None:
                score = with_draws(
                    score, draws_without(value, without, times), confidence, int((sample.counts > 0).sum())
                )
            found[key] = score
    return found


Values = Callable[[str, str], tuple[float, float, np.ndarray]]


def _rbf_values(sample: FrameSample, pairs: Sequence[Pair], intervals: bool) -> Values:
    groups = sample.codes.unique() if intervals else sample.codes[:0]
    members = memberships(sample.codes, groups)

    @lru_cache(HELD)
    def side(name: str) -> tuple[Tensor, Tensor]:
        x = centred(as_matrix(sample.features(name), name), name)
        kernel = gaussian_kernel(x, SIGMA, name)
        return kernel, rows_without(kernel, members)

    @lru_cache(len(sample.dims))
    def own(name: str) -> Tensor:
        kernel, rows = side(name)
        return left_of(kernel, kernel, rows, rows, members).biased()

    def values(a: str, b: str) -> tuple[float, float, np.ndarray]:
        (kernel_a, rows_a), (kernel_b, rows_b) = side(a), side(b)
        left = left_of(kernel_a, kernel_b, rows_a, rows_b, members)
        lines = torch.stack([left.biased(), own(a), own(b)]).T.tolist()
        found = [_quotient(line, float(n)) for line, n in zip(lines, left.n, strict=True)]
        if np.isnan(found[0]):
            ratio(lines[0][0], lines[0][1], lines[0][2], scale=(float(left.n[0]),) * 2)  # raises with the reason
        n = len(members)
        trace_a, trace_b = (float(n - (n + rows[:, 0].sum()) / n) for rows in (rows_a, rows_b))
        null = kernel_null(n, trace_a, trace_b, lines[0][1] ** 0.5, lines[0][2] ** 0.5)
        without = np.full(sample.groups, found[0])
        without[groups.numpy()] = found[1:]
        return found[0], null, without

    return values


def _quotient(line: list[float], n: float) -> float:
    try:
        both, own_a, own_b = line
        return ratio(both, own_a, own_b, scale=(n, n))
    except MeasureError:
        return float("nan")


def _rsa_values(sample: FrameSample, pairs: Sequence[Pair], intervals: bool) -> Values:
    """Leaves out group by group, so that the ranks of few sets have to be held."""
    groups = sample.codes.unique().tolist() if intervals else []
    first, second = torch.triu_indices(len(sample.keys), len(sample.keys), 1)

    @lru_cache(HELD)
    def side(name: str) -> Distances:
        return Distances(as_matrix(sample.features(name), name), name)

    table: dict[Pair, list[Any]] = {pair: [] for pair in pairs}
    for group in [None, *groups]:
        kept = None
        if group is not None:
            outside = sample.codes != group
            kept = outside[first] & outside[second]

        @lru_cache(HELD)
        def ranks(name: str, kept: Tensor | None = kept) -> Tensor:
            return side(name).standardised(kept)

        for (a, b), found in table.items():
            try:
                found.append(max(-1.0, min(1.0, float(ranks(a) @ ranks(b)))))
            except MeasureError as error:
                found.append(error)

    def values(a: str, b: str) -> tuple[float, float, np.ndarray]:
        value, *rest = table[a, b]
        if isinstance(value, MeasureError):
            raise value
        without = np.full(sample.groups, value)
        without[groups] = [float("nan") if isinstance(item, MeasureError) else item for item in rest]
        return value, 0.0, without

    return values
