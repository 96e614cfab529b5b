"""Intervals over groups of utterances: which groups a draw counts, and draws from values with one group left out.

A draw takes as many groups as there are, with replacement. Measures from moments are computed anew for every draw. For
measures from kernels only the values without one group each are computed (the delete-a-group jackknife, Efron and
Stein, "The jackknife estimate of variance", 1981), and a draw is the linear expansion of the measure about its value,
``value + (G - 1) / G * sum_g (times_g - 1) (value - value_without_g)``: for a mean over G groups, the bootstrap.

An interval is about the spread over speakers. That few speakers make two sides look more alike than many do is not in
it; the null shows the part of that which independent frames would give.

The bootstrap of few groups is too narrow: by the factor sqrt((G - 1) / G), and because its spread is itself estimated
from G groups. Draws are widened by both, as for a mean: sqrt(G / (G - 1)) times the quantile of Student's t over the
normal one (the expanded percentile interval of Hesterberg, "What teachers should know about the bootstrap", 2015).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hfprobe.similarity.score import Similarity

MIN_GROUPS = 5
# Measures that may be negative.
SIGNED = ("linear_cka_debiased", "minibatch_cka", "rsa")


def draw_times(counts: Tensor, replicates: int, seed: int) -> np.ndarray | None:
    """How often each draw takes each group.

    Args:
        counts: Samples of each group ``(groups,)``; empty groups are never drawn.
        replicates: Number of draws.
        seed: Of the draws; the same counts and seed give the same draws, for all measures.

    Returns:
        ``(replicates, groups)``, or None where there is nothing to draw: no replicates, or fewer than 5 groups.

    Example:
        >>> draw_times(torch.tensor([9, 9, 0, 9, 9, 9]), 2, 0).sum(axis=1).tolist()
        [5.0, 5.0]
    """
    filled = torch.nonzero(counts > 0).flatten().cpu().numpy()
    if replicates == 0 or len(filled) < MIN_GROUPS:
        return None
    generator = np.random.default_rng(seed)
    times = np.zeros((replicates, len(counts)))
    for line in times:
        line[filled] = generator.multinomial(len(filled), np.full(len(filled), 1 / len(filled)))
    return times


def draws_without(value: float, without: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Draws from the values without one group each.

    Args:
        value: Of all groups.
        without: ``(groups,)``: the value without each group; the value itself for a group without samples.
        times: Of `draw_times`.

    Returns:
        ``(replicates,)``; all NaN where the measure has no value without some group.

    Example:
        >>> draws_without(0.5, np.array([0.4, 0.6]), np.array([[1, 1], [2, 0]])).round(2).tolist()
        [0.5, 0.6]
    """
    count = np.count_nonzero(times.sum(axis=0))
    return value + (count - 1) / count * ((times - 1) @ (value - without))


def with_draws(score: Similarity, draws: np.ndarray, confidence: float, groups: int, **extra: object) -> Similarity:
    """The score with the interval that its draws of groups give; none where fewer than half of them have a value.

    Drawing groups twice makes two sides look more alike than they are, so only the spread of the draws is used: the
    interval is the value plus the quantiles of their deviations from their own mean, widened, within the measure's
    range.
    """
    known = np.isfinite(draws)
    if 2 * known.sum() < len(draws) or known.sum() < 2:
        return score
    spread = widening(groups, confidence) * (draws - draws[known].mean())
    draws = np.clip(float(score) + spread, -1.0 if score.measure in SIGNED else 0.0, 1.0)
    bounds = np.quantile(draws[known], [(1 - confidence) / 2, (1 + confidence) / 2])
    # Where most draws lie at the end of the range, the value may lie beyond them.
    interval = (min(float(bounds[0]), float(score)), max(float(bounds[1]), float(score)))
    facts = replace(score.facts, interval=interval, replicates=draws, extra={**score.facts.extra, **extra})
    return Similarity(float(score), facts)


def widening(groups: int, confidence: float = 0.95) -> float:
    """By what draws of so many groups are too narrow.

    Example:
        >>> round(widening(20), 2), round(widening(5), 2)
        (1.1, 1.58)
    """
    from scipy.special import ndtri, stdtrit

    tail = (1 + confidence) / 2
    return float((groups / (groups - 1)) ** 0.5 * stdtrit(groups - 1, tail) / ndtri(tail))
