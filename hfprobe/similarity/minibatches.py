"""Minibatch CKA of many pairs from a stream: HSIC1 summed over minibatches, with and without each group.

Minibatches of one size are cut from the frames of each update, in the order of keys drawn with a seed (see
`hfprobe.similarity.sample`), so that a minibatch holds frames of all utterances of the update and no run of neighbours;
what is left over is dropped. Memory is a number for each pair and group. Source: Nguyen et al., "Do wide and deep
networks learn the same things?" (arXiv 2010.15327), equation 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.cka import ratio
from hfprobe.similarity.groups import draw_times, draws_without, with_draws
from hfprobe.similarity.inputs import as_matrix
from hfprobe.similarity.left_out import left_of, memberships, rows_without
from hfprobe.similarity.plan import Pair, ordered_pairs
from hfprobe.similarity.score import Facts, Similarity, make_score

CELLS = 2_000_000  # products of kernels held at once, 16 MB


class MinibatchAccumulator:
    """Sums of HSIC1 over minibatches.

    Args:
        dims: Width of each set, by name.
        pairs: Pairs that will be compared; all where None.
        size: Frames of a minibatch, 4 or more.
        groups: Groups of utterances.

    Attributes:
        counts: Frames of each group in minibatches, int64 ``(groups,)``.
        batches: Minibatches so far.

    Example:
        >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        >>> sums = MinibatchAccumulator({"x": 3, "y": 3}, size=16)
        >>> sums.update({"x": x, "y": -x}, torch.arange(64))
        >>> sums.batches, round(sums.scores()["x", "y", "minibatch_cka"], 9)
        (4, 1.0)
    """

    def __init__(
        self, dims: Mapping[str, int], pairs: Iterable[Pair] | None = None, size: int = 128, groups: int = 1
    ):  # fmt: skip
        if size < 4 or groups < 1:
            raise MeasureError(f"expected minibatches of 4 frames or more and a group, got {size} and {groups}", "few")
        self.dims, self.size, self.groups = dict(dims), int(size), int(groups)
        self.pairs = ordered_pairs(self.dims, pairs)
        # Each set with itself, then the pairs.
        names = list(self.dims)
        self._keys = [(name, name) for name in names] + [pair for pair in self.pairs if pair[0] != pair[1]]
        self._left, self._right = (torch.tensor([names.index(key[side]) for key in self._keys]) for side in (0, 1))
        self.counts = torch.zeros(self.groups, dtype=torch.int64)
        self.batches = 0
        # Sums of all, and without each group; and what a self-HSIC is a difference of.
        self._sums = torch.zeros(len(self._keys), self.groups + 1, dtype=torch.float64)
        self._scales = torch.zeros(len(names), dtype=torch.float64)

    def update(self, features: Mapping[str, Tensor], keys: Tensor, codes: Tensor | None = None) -> None:
        """Add the minibatches of these frames.

        Args:
            features: ``(n, dim)`` for each name.
            keys: Of `frame_keys`, ``(n,)``: their order.
            codes: Group of each frame ``(n,)``; 0 where None.
        """
        codes = torch.zeros_like(keys) if codes is None else torch.as_tensor(codes, dtype=torch.int64)
        for batch in keys.argsort().split(self.size):
            if len(batch) == self.size:
                rows = [features[name].detach()[batch.to(features[name].device)] for name in self.dims]
                rows = [as_matrix(found, name) for found, name in zip(rows, self.dims, strict=True)]
                self._add(rows, codes[batch])

    def _add(self, rows: Sequence[Tensor], codes: Tensor) -> None:
        kernels = []
        for x in rows:
            x = x - x.mean(dim=0)  # HSIC1 ignores an offset, but its digits do not
            kernels.append((x @ x.T).fill_diagonal_(0.0).cpu())
        present = codes.unique() if self.groups > 1 else codes[:0]
        members, stack = memberships(codes, present), torch.stack(kernels)
        outside = rows_without(stack, members)
        step, parts = max(1, CELLS // self.size**2), []
        for a, b in zip(self._left.split(step), self._right.split(step), strict=True):
            parts.append(left_of(stack[a], stack[b], outside[a], outside[b], members).hsic1())
        found = torch.cat(parts)
        self._sums += found[:, :1]
        self._sums[:, 1 + present] += found[:, 1:] - found[:, :1]
        self._scales += stack.square().sum(dim=(1, 2)) / (self.size * (self.size - 3))
        self.counts += torch.bincount(codes, minlength=self.groups)
        self.batches += 1

    def merge(self, other: MinibatchAccumulator) -> MinibatchAccumulator:
        """Add what another one has seen.

        Args:
            other: Sums of the same sets, pairs, size and groups, from another share of the frames.

        Returns:
            These sums.

        Raises:
            MeasureError: It has other sets, pairs, sizes or groups.
        """
        mine, theirs = ((acc.dims, acc.pairs, acc.size, acc.groups) for acc in (self, other))
        if mine != theirs:
            raise MeasureError("only sums of the same sets, pairs, sizes and groups add up", "option")
        self._sums += other._sums
        self._scales += other._scales
        self.counts += other.counts
        self.batches += other.batches
        return self

    def scores(
        self, pairs: Iterable[Pair] | None = None, replicates: int = 0, confidence: float = 0.95, seed: int = 0,
        failures: dict[tuple[str, str, str], str] | None = None,
    ) -> dict[tuple[str, str, str], Similarity]:  # fmt: skip
        """Minibatch CKA of pairs.

        Args:
            pairs: Names of two sets each; all that were added up where None.
            replicates: Draws of groups for the intervals, see `hfprobe.similarity.groups`.
            confidence: Share of draws inside the interval.
            seed: Of the draws.
            failures: If given, pairs that have no value are noted here instead of raised.

        Returns:
            Scores by ``(a, b, "minibatch_cka")``.

        Raises:
            MeasureError: There was no minibatch, or a side has no self-HSIC above 0, and ``failures`` is None.
        """
        times = draw_times(self.counts, replicates, seed)
        places = {key: place for place, key in enumerate(self._keys)}
        found = {}
        for a, b in self.pairs if pairs is None else pairs:
            key = (a, b, "minibatch_cka")
            try:
                if not self.batches:
                    raise MeasureError(
                        f"no minibatch: no batch of utterances has {self.size} frames; use smaller minibatches, more "
                        "speech, or more frames of each utterance", "few",
                    )  # fmt: skip
                both = self._sums[places.get((a, b), places.get((b, a)))]
                sides = [places[name, name] for name in (a, b)]
                scale = float(self._scales[sides[0]]), float(self._scales[sides[1]])
                values = [both, *(self._sums[side] for side in sides)]
                of_both, of_a, of_b = (float(line[0]) for line in values)
                value = ratio(of_both, of_a, of_b, scale=scale)
            except MeasureError as error:
                if failures is None:
                    raise
                failures[key] = str(error)
                continue
            extra = {"batches": self.batches, "batch_size": self.size}
            n = int(self.counts.sum())
            facts = Facts("minibatch_cka", n, (self.dims[a], self.dims[b]), null=0.0, extra=extra)
            found[key] = make_score(value, facts, quiet=True)
            if times is not None:
                without = torch.stack(values)[:, 1:]
                without = without[0] / without[1].sqrt() / without[2].sqrt()  # NaN where a side has nothing left
                draws = draws_without(value, without.clamp(-1, 1).numpy(), times)
                found[key] = with_draws(found[key], draws, confidence, int((self.counts > 0).sum()))
        return found
