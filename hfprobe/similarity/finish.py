"""Scores from accumulated moments: whitening once per set, a small product and SVD per pair, bootstrap over groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.cca import Canonical, canonical, cca_score
from hfprobe.similarity.cka import LinearMoments, linear_score, linear_value
from hfprobe.similarity.groups import draw_times, with_draws
from hfprobe.similarity.inputs import all_constant, check_choice, check_count, still_columns
from hfprobe.similarity.moments import moved_gram
from hfprobe.similarity.score import Similarity
from hfprobe.similarity.views import View, check_rank_option, full_view_of_scatter, principal_view_of_scatter

MEASURES = ("mean_cca", "svcca", "pwcca", "linear_cka", "linear_cka_debiased")
ALL_DIRECTIONS = ("mean_cca", "pwcca")


class Snapshot:
    """Centred moments for given weights of the groups, and what was already computed from them.

    Args:
        moments: The `PairAccumulator` that they come from.
        weights: How often each group counts ``(groups,)``.
        variance: Share of variance that SVCCA keeps.
        rank: ``"error"`` or ``"reduce"``, as for `mean_cca`.
    """

    def __init__(self, moments: Any, weights: Tensor, variance: float = 0.99, rank: str = "error"):
        self.moments, self.variance, self.rank = moments, variance, rank
        self.weights = weights.to(moments.device, torch.float64)
        self.n = float(self.weights @ moments.counts.to(torch.float64))
        self._grams: dict[str, Tensor] = {}
        self._views: dict[tuple[str, str], View] = {}
        # Of the pair at hand only: all of them would take as much memory as the moments.
        self._pair: tuple[str, str] | None = None
        self._cross: Tensor | None = None
        self._found: dict[str, Canonical] = {}
        self._linear: LinearMoments | None = None

    def gram(self, a: str, b: str) -> Tensor:
        """Gram matrix of centred, scaled features with their squared norms as last column."""
        left, right = (self.weights @ self.moments.sums(name) for name in (a, b))
        block = torch.tensordot(self.weights, self.moments.block(a, b), dims=1)
        gram = moved_gram(block, left, right, self.n, left[:-1] / self.n, right[:-1] / self.n)
        if not bool(torch.isfinite(gram).all()):
            raise MeasureError(f"the moments of {a} and {b} overflow; scale the features down", "nan")
        return gram

    def own(self, name: str) -> Tensor:
        """Gram matrix of a set with itself, of total scatter 1; constant columns are 0.

        Raises:
            MeasureError: All columns are constant.
        """
        if name not in self._grams:
            gram = self.gram(name, name)
            gram[:-1, :-1] = (gram[:-1, :-1] + gram[:-1, :-1].T) / 2
            mean = self.moments.shift(name) + (self.weights @ self.moments.sums(name))[:-1] / self.n
            still = still_columns(gram.diagonal()[:-1], mean, self.n)
            gram[:-1, :-1].masked_fill_(still[:, None] | still, 0.0)
            total = float(gram.diagonal()[:-1].sum())
            if not total > 0:
                raise all_constant(name)
            self._grams[name] = gram
        return self._grams[name]

    def size(self, name: str) -> float:
        """Total scatter of a set."""
        return float(self.own(name).diagonal()[:-1].sum())

    def view(self, name: str, kind: str) -> View:
        """Basis of all directions (``"full"``) or of the principal ones."""
        key = (name, kind)
        if key not in self._views:
            scatter = self.own(name)[:-1, :-1] / self.size(name)
            if kind == "full":
                self._views[key] = full_view_of_scatter(scatter, name, int(self.n), self.rank)
            else:
                self._views[key] = principal_view_of_scatter(scatter, self.variance, int(self.n))
        return self._views[key]

    def canonical(self, a: str, b: str, kind: str) -> Canonical:
        """Canonical correlations of a pair."""
        cross = self._turn_to(a, b)[:-1, :-1]
        if kind not in self._found:
            left, right = self.view(a, kind), self.view(b, kind)
            cross = cross / self.size(a) ** 0.5 / self.size(b) ** 0.5
            self._found[kind] = canonical(left.map.T @ cross @ right.map, left, right, kind == "full")
        return self._found[kind]

    def _turn_to(self, a: str, b: str) -> Tensor:
        """Make this the pair at hand; returns its `gram`."""
        if self._pair != (a, b) or self._cross is None:
            self._cross, self._found, self._linear = self.gram(a, b), {}, None
            self._pair = (a, b)
        return self._cross

    def linear(self, a: str, b: str) -> LinearMoments:
        """What linear CKA needs, with both sides at total scatter 1."""
        xy = self._turn_to(a, b)
        if self._linear is not None:
            return self._linear
        x, y, sx, sy = self.own(a), self.own(b), self.size(a), self.size(b)
        self._linear = LinearMoments(
            self.n,
            float((xy[:-1, :-1] / sx**0.5 / sy**0.5).square().sum()),
            float((x[:-1, :-1] / sx).square().sum()),
            float((y[:-1, :-1] / sy).square().sum()),
            1.0, 1.0,
            float(xy[-1, -1]) / sx / sy, float(x[-1, -1]) / sx / sx, float(y[-1, -1]) / sy / sy,
        )  # fmt: skip
        return self._linear

    def value(self, a: str, b: str, measure: str) -> float:
        """A measure of a pair."""
        if measure.startswith("linear_cka"):
            return linear_value(self.linear(a, b), measure.endswith("debiased"))
        kind = "principal" if measure == "svcca" else "full"
        found = self.canonical(a, b, kind)
        if measure == "pwcca":
            return found.left if self.view(a, kind).directions <= self.view(b, kind).directions else found.right
        return float(found.correlations.mean())

    def score(self, a: str, b: str, measure: str, quiet: bool) -> Similarity:
        """A measure of a pair with its facts."""
        dims = (self.moments.dims[a], self.moments.dims[b])
        if measure.startswith("linear_cka"):
            return linear_score(self.linear(a, b), dims, measure.endswith("debiased"), quiet)
        value, kind = self.value(a, b, measure), "principal" if measure == "svcca" else "full"
        found, left, right = self.canonical(a, b, kind), self.view(a, kind), self.view(b, kind)
        return cca_score(measure, value, int(self.n), dims, left, right, found, quiet=quiet)


def scores(
    moments: Any,
    measures: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    replicates: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    variance: float = 0.99,
    rank: str = "error",
    quiet: bool = False,
    failures: dict[tuple[str, str, str], str] | None = None,
    spread: Any = None,
) -> dict[tuple[str, str, str], Similarity]:
    """Measures of pairs from accumulated moments.

    Args:
        moments: The accumulator.
        measures: Of `MEASURES`.
        pairs: Pairs of set names, in the order in which sides are to count.
        replicates: Bootstrap draws of groups for the intervals, see `hfprobe.similarity.groups`; none where 0, or with
            fewer than 5 groups that hold samples.
        confidence: Share of draws inside the interval.
        seed: Of the draws.
        variance: Share of variance that SVCCA keeps.
        rank: ``"error"`` if columns of a set depend on one another; ``"reduce"`` compares the spans.
        quiet: No Python warnings; ``warning`` is set all the same.
        failures: If given, measures that have no value are noted here instead of raised.
        spread: Another accumulator of the same pairs, by groups, whose draws make the intervals: sets that are too wide
            to be kept by groups are there by their leading directions (`hfprobe.similarity.leading`). Mean CCA and
            PWCCA of such sets have no interval, since all directions count in them.

    Returns:
        Scores by ``(a, b, measure)``.

    Raises:
        MeasureError: Fewer than 4 samples; or a measure has no value and ``failures`` is None.
    """
    for measure in measures:
        check_choice("measure", measure, MEASURES)
    check_rank_option(rank)
    check_count(moments.n)
    if not 0 < variance <= 1 or not 0 < confidence < 1 or replicates < 0:
        raise MeasureError("expected variance in (0, 1], confidence in (0, 1), replicates of 0 or more", "option")
    whole = Snapshot(moments, torch.ones(moments.groups), variance, rank)
    source = moments if spread is None else spread
    drawn = _bootstrap(source, measures, pairs, replicates, seed, variance)
    results = {}
    for a, b in pairs:
        narrowed = [name for name in (a, b) if source.dims[name] != moments.dims[name]]
        for measure in measures:
            key = (a, b, measure)
            try:
                score = whole.score(*key, quiet)
            except MeasureError as error:
                if failures is None:
                    raise
                failures[key] = str(error)
                continue
            if key in drawn and not (narrowed and measure in ALL_DIRECTIONS):
                note = {"interval_directions": tuple(source.dims[name] for name in (a, b))} if narrowed else {}
                score = with_draws(score, drawn[key], confidence, int((source.counts > 0).sum()), **note)
            results[key] = score
    return results


def _bootstrap(moments, measures, pairs, replicates, seed, variance) -> dict[tuple[str, str, str], np.ndarray]:
    """Values of all measures for groups drawn with replacement; NaN where there is none."""
    times = draw_times(moments.counts, replicates, seed)
    if times is None:
        return {}
    values = {(a, b, measure): np.full(replicates, np.nan) for a, b in pairs for measure in measures}
    for replicate, weights in enumerate(times):
        drawn = Snapshot(moments, torch.from_numpy(weights), variance, "reduce")
        for key, places in values.items():
            try:
                places[replicate] = drawn.value(*key)
            except MeasureError:  # this draw says nothing about this measure
                continue
    return values
