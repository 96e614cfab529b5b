"""One pass over any number of frames, memory O(D^2): means, Gram and cross-Gram matrices of many sets of features.

From them `scores` computes mean CCA, SVCCA, PWCCA and linear CKA (biased and debiased, both exact) of every pair, with
intervals from moments that are kept apart by groups of utterances. Accumulators of different batches, processes or
machines add up.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.files import whole_file
from hfprobe.hub.safety import read_header
from hfprobe.plain import parse_json, reason, shown
from hfprobe.similarity.inputs import as_features, check_choice, check_finite
from hfprobe.similarity.moments import moved_gram, moved_sum
from hfprobe.similarity.plan import Pair, moment_bytes, ordered_pairs, partners
from hfprobe.similarity.score import Similarity


class PairAccumulator:
    """Moments of pairs of feature sets, from a stream.

    Args:
        dims: Width of each set, by name, e.g. ``{"blstm1": 256, "robust/blstm1": 256}``.
        pairs: Pairs that will be compared; all, each set with itself included, where None.
        groups: Groups of utterances whose moments are kept apart, for intervals; memory grows in proportion.
        memory_limit: Bytes that the moments may take; see `plan_passes` where they would need more.
        device: Where the moments lie and are added up.
        products: ``"float32"`` multiplies the frames of one update in float32 and adds up in float64: nearly twice as
            fast, with linear CKA right to 1e-6. CCA divides by small variances and needs ``"float64"`` where the
            largest and the smallest are far apart.

    Attributes:
        counts: Samples of each group, int64 ``(groups,)``.

    Raises:
        MeasureError: A name, pair or number makes no sense (``"option"``), or memory does not suffice (``"memory"``).

    Example:
        >>> batches = torch.randn(5, 40, 7, generator=torch.Generator().manual_seed(0))
        >>> moments = PairAccumulator({"x": 4, "y": 3})
        >>> for batch in batches:
        ...     moments.update({"x": batch[:, :4], "y": batch[:, 4:] + batch[:, :3]})
        >>> moments.n, round(moments.score("x", "x", "linear_cka"), 6)
        (200, 1.0)
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

    def merge(self, other: PairAccumulator) -> PairAccumulator:
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

    def __add__(self, other: PairAccumulator) -> PairAccumulator:
        if not isinstance(other, PairAccumulator):
            return NotImplemented
        empty = PairAccumulator(self.dims, self.pairs, self.groups, device=self.device)
        return empty.merge(self).merge(other)

    def score(self, a: str, b: str, measure: str, **options: Any) -> Similarity:
        """One measure of one pair.

        Args:
            a: Name of a set.
            b: Name of another, or the same.
            measure: Name of the measure.
            **options: As for `scores`.

        Returns:
            The score.
        """
        return self.scores((measure,), pairs=((a, b),), **options)[a, b, measure]

    def scores(
        self, measures: Sequence[str] = ("linear_cka",), pairs: Iterable[Pair] | None = None, **options: Any
    ) -> dict[tuple[str, str, str], Similarity]:
        """Measures of the accumulated pairs.

        Args:
            measures: Names of measures.
            pairs: Pairs of names; all that were accumulated where None.
            **options: See `hfprobe.similarity.finish.scores`.

        Returns:
            Scores by ``(a, b, measure)``.
        """
        from hfprobe.similarity.finish import scores

        return scores(self, measures, tuple(self.pairs if pairs is None else pairs), **options)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors, by name; not copies."""
        state = {"counts": self.counts}
        for kind, tensors in (("shift", self._shifts), ("sum", self._sums), ("rows", self._rows)):
            state.update({f"{kind}/{name}": tensor for name, tensor in tensors.items()})
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the tensors of `state_dict` of an accumulator of the same sets, pairs and groups.

        Args:
            state: What `state_dict` gave.

        Raises:
            MeasureError: A tensor is missing, surplus or of another shape.
        """
        shapes = {key: tensor.shape for key, tensor in self.state_dict().items() if not key.startswith("shift/")}
        if "counts" not in state or any(key.startswith("shift/") for key in state):
            shapes.update({f"shift/{name}": torch.Size([dim]) for name, dim in self.dims.items()})
        if {key: tensor.shape for key, tensor in state.items()} != shapes:
            wrong = sorted(set(state) ^ set(shapes)) or ["a shape"]
            raise MeasureError(f"the state is of another accumulator: {wrong[0]} does not fit", "shape")
        copies = {key: tensor.to(self.device, copy=True) for key, tensor in state.items()}
        self.counts = copies["counts"]
        self._shifts = {name: copies[f"shift/{name}"] for name in self.dims if f"shift/{name}" in copies}
        self._sums = {name: copies[f"sum/{name}"] for name in self.dims}
        self._rows = {name: copies[f"rows/{name}"] for name in self.dims}

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file, whole or not at all.

        Args:
            path: File to write.

        Returns:
            The path.
        """
        from safetensors.torch import save_file

        about = json.dumps({"dims": list(self.dims.items()), "pairs": self.pairs, "groups": self.groups})
        tensors = {key: tensor.cpu().contiguous() for key, tensor in self.state_dict().items()}
        with whole_file(path) as place:
            save_file(tensors, place, metadata={"hfprobe_pair_accumulator": about})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> PairAccumulator:
        """Read what `save` wrote.

        Args:
            path: File that `save` wrote.
            device: Where the moments shall lie.

        Returns:
            The accumulator.

        Raises:
            MeasureError: The file is missing, or is none of those (``"file"``).
        """
        from safetensors import SafetensorError, safe_open

        # The header first: `safe_open` would wait at a named pipe for ever, and no signal ends that.
        try:
            read_header(Path(path), MeasureError)
        except MeasureError as problem:
            raise MeasureError(str(problem), "file") from problem.__cause__
        try:
            with safe_open(str(path), "pt", device="cpu") as file:
                about = parse_json((file.metadata() or {})["hfprobe_pair_accumulator"])
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dictionary
            pairs = [(str(one), str(other)) for one, other in about["pairs"]]
            # Moments of such sets lie in the file: what would need more memory than that is not what it says.
            limit = 2 * sum(tensor.nbytes for tensor in state.values()) + 2**20
            found = cls(dict(about["dims"]), pairs, int(about["groups"]), memory_limit=limit, device=device)
            found.load_state_dict(state)
        except (SafetensorError, OSError, LookupError, TypeError, AttributeError, ValueError, MeasureError) as problem:
            raise MeasureError(
                f"expected saved moments in {shown(path)}, got: {reason(problem)}; save them again with `save`", "file"
            ) from problem
        return found
