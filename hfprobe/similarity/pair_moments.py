"""One pass over any number of frames, memory O(D^2): sums, Gram and cross-Gram matrices of many sets of features.

Each set is kept about a shift near its mean (`hfprobe.similarity.moments`), and by groups of utterances.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.inputs import as_features, check_choice, check_finite
from hfprobe.similarity.moments import moved_gram, moved_sum
from hfprobe.similarity.plan import Pair, moment_bytes, ordered_pairs, partners


class PairMoments:
    """Moments of pairs of feature sets; see `PairAccumulator`, which makes scores and files of them.

    Args:
        dims: Width of each set, by name.
        pairs: Pairs that will be compared; all, each set with itself included, where None.
        groups: Groups of utterances whose moments are kept apart.
        memory_limit: Bytes that the moments may take.
        device: Where the moments lie and are added up.
        products: ``"float64"`` or ``"float32"``, the precision of products within one update.

    Attributes:
        counts: Samples of each group, int64 ``(groups,)``.

    Raises:
        MeasureError: A name, pair or number makes no sense (``"option"``), or memory does not suffice (``"memory"``).

    Example:
        >>> moments = PairMoments({"x": 2, "y": 1})
        >>> moments.update({"x": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "y": torch.tensor([[5.0], [6.0]])})
        >>> moments.n, tuple(moments.block("x", "y").shape)  # of each set and its squared norm
        (2, (1, 3, 2))
    """

    def __init__(
        self, dims: Mapping[str, int], pairs: Iterable[Pair] | None = None, groups: int = 1,
        memory_limit: float | None = None, device: str | torch.device = "cpu", products: str = "float64",
    ):  # fmt: skip
        check_choice("products", products, ("float64", "float32"))
        self.dims = {str(name): int(dim) for name, dim in dims.items()}
        if not self.dims or min(self.dims.values()) < 1 or groups < 1:
            raise MeasureError(f"expected named sets of width 1 or more and 1 group or more, got {self.dims}", "option")
        self.pairs = ordered_pairs(self.dims, pairs)
        self.groups, self.device, self.products = int(groups), torch.device(device), products
        need = moment_bytes(self.dims, self.pairs, self.groups)
        if memory_limit is not None and need > memory_limit:
            raise MeasureError(
                f"the moments need {need / 2**20:.1f} MiB, the limit is {memory_limit / 2**20:.1f} MiB; compare fewer "
                "pairs at once (see plan_passes), use fewer groups, or raise the limit",
                "memory",
            )
        # The squared norm is one more column of each set.
        self._widths = {name: dim + 1 for name, dim in self.dims.items()}
        ends = list(itertools.accumulate(self._widths.values()))
        self._places = {
            name: slice(end - width, end) for (name, width), end in zip(self._widths.items(), ends, strict=True)
        }
        self._width = ends[-1]
        self._partners = partners(self.dims, self.pairs)
        self.counts = torch.zeros(self.groups, dtype=torch.int64, device=self.device)
        self._shifts: dict[str, Tensor] = {}
        self._sums = {name: self._zeros(width) for name, width in self._widths.items()}
        self._rows = {
            name: self._zeros(self._widths[name], sum(self._widths[other] for other in others))
            for name, others in self._partners.items()
        }

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(self.groups, *shape, dtype=torch.float64, device=self.device)

    @property
    def n(self) -> int:
        """Samples so far."""
        return int(self.counts.sum())

    @property
    def nbytes(self) -> int:
        """Bytes that the moments take."""
        return moment_bytes(self.dims, self.pairs, self.groups)

    def update(self, features: Mapping[str, Any], group: int | Sequence[int] | Tensor = 0) -> None:
        """Add the same samples of every set.

        Args:
            features: ``(n, dim)`` array or tensor for each name; 0 samples are no change.
            group: Group of all samples, or one for each ``(n,)``.

        Raises:
            MeasureError: A set is missing, surplus, of another width or length, or holds NaN or infinity.
        """
        if set(features) != set(self.dims):
            wrong = sorted(set(features) ^ set(self.dims))
            raise MeasureError(f"expected features of {', '.join(self.dims)}; check {', '.join(wrong)}", "shape")
        lengths = {len(value) for value in features.values()}
        if len(lengths) != 1:
            raise MeasureError(f"expected as many samples of every set, got {sorted(lengths)}", "length")
        n = lengths.pop()
        codes = torch.as_tensor(group, dtype=torch.int64).reshape(-1)
        if len(codes) not in (1, n) or (len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < self.groups):
            raise MeasureError(f"expected groups from 0 to {self.groups - 1}, one or {n} of them", "option")
        if n == 0:
            return
        matrices = {}
        for name, dim in self.dims.items():
            value = features[name]
            value = value.detach().to(self.device) if isinstance(value, Tensor) else value
            matrices[name] = as_features(value, name, self.device)
            if matrices[name].shape[1] != dim:
                raise MeasureError(f"expected {name} {dim} wide, got {matrices[name].shape[1]}", "shape")
        together = self._extended(matrices)
        if self.products == "float32":
            together = together.float()
        if len(codes) == 1:
            self._add(together, int(codes[0]))
            return
        for code in codes.unique().tolist():
            self._add(together[(codes == code).to(self.device)], code)

    def _extended(self, matrices: dict[str, Tensor]) -> Tensor:
        """The z of all sets (`hfprobe.similarity.moments`) side by side: one copy of the features, no more."""
        together = torch.empty(len(next(iter(matrices.values()))), self._width, dtype=torch.float64, device=self.device)
        shifts = dict(self._shifts)
        for name, matrix in matrices.items():
            place = self._places[name]
            moved, norms = together[:, place.start : place.stop - 1], together[:, place.stop - 1]
            moved.copy_(matrix)
            if name not in shifts:
                # Any shift near the mean keeps the digits; the first batch's mean is near enough.
                shifts[name] = moved.mean(dim=0)
            moved -= shifts[name]
            torch.sum(moved.square(), dim=1, out=norms)
            if not bool(torch.isfinite(norms).all()):
                check_finite(matrix.to(torch.float64), name)
        self._shifts = shifts
        return together

    def _add(self, together: Tensor, group: int) -> None:
        self.counts[group] += len(together)
        for name, others in self._partners.items():
            left, place = together[:, self._places[name]], self._places[others[0]]
            self._sums[name][group] += left.sum(dim=0, dtype=torch.float64)
            span = slice(place.start, self._places[others[-1]].stop)
            # Neighbours in the order of the sets are one slice; others have to be copied together.
            if span.stop - span.start == self._rows[name].shape[2]:
                right = together[:, span]
            else:
                right = torch.cat([together[:, self._places[other]] for other in others], dim=1)
            if self.products == "float64":
                self._rows[name][group].addmm_(left.T, right)
            else:
                self._rows[name][group] += left.T @ right

    def block(self, a: str, b: str) -> Tensor:
        """Gram matrices of two sets about their shifts, by group.

        Args:
            a: Name of a set.
            b: Name of another, or the same.

        Returns:
            ``(groups, d1 + 1, d2 + 1)``.

        Raises:
            MeasureError: This pair is not accumulated.
        """
        for first, second, turned in ((a, b, False), (b, a, True)):
            others = self._partners.get(first, ())
            if second in others:
                start = sum(self._widths[other] for other in others[: others.index(second)])
                found = self._rows[first][:, :, start : start + self._widths[second]]
                return found.transpose(1, 2) if turned else found
        raise MeasureError(f"the pair {a!r}, {b!r} is not accumulated; give it in pairs", "option")

    def sums(self, name: str) -> Tensor:
        """Sums of a set about its shift, by group.

        Args:
            name: Name of the set.

        Returns:
            ``(groups, dim + 1)``.
        """
        return self._sums[name]

    def shift(self, name: str) -> Tensor:
        """Shift of a set.

        Args:
            name: Name of the set.

        Returns:
            ``(dim,)``; zeros before the first update.
        """
        return self._shifts.get(name, torch.zeros(self.dims[name], dtype=torch.float64, device=self.device))

    def merge(self, other: PairMoments) -> Self:
        """Add what another accumulator has seen.

        Args:
            other: Another accumulator of the same sets, pairs and groups.

        Returns:
            This accumulator.

        Raises:
            MeasureError: It has other sets, pairs or groups.
        """
        mine, theirs = ((acc.dims, acc.pairs, acc.groups) for acc in (self, other))
        if mine != theirs:
            raise MeasureError("only accumulators of the same sets, pairs and groups add up", "option")
        if not other._shifts:
            return self
        if not self._shifts:
            self._shifts = {name: shift.to(self.device, copy=True) for name, shift in other._shifts.items()}
        counts = other.counts.to(self.device)
        moves = {name: self._shifts[name] - other._shifts[name].to(self.device) for name in self.dims}
        sums = {name: total.to(self.device) for name, total in other._sums.items()}
        for name, others in self._partners.items():
            start = 0
            for partner in others:
                place = slice(start, start + self._widths[partner])
                rows = other._rows[name][:, :, place].to(self.device)
                self._rows[name][:, :, place] += moved_gram(
                    rows, sums[name], sums[partner], counts, moves[name], moves[partner]
                )
                start = place.stop
        for name in self.dims:
            self._sums[name] += moved_sum(sums[name], counts, moves[name])
        self.counts += counts
        return self
