"""One pass over any number of frames, memory O(D^2): means, Gram and cross-Gram matrices of many sets of features.

From them `scores` computes mean CCA, SVCCA, PWCCA and linear CKA (biased and debiased, both exact) of every pair, with
intervals from moments that are kept apart by groups of utterances. Accumulators of different batches, processes or
machines add up.
"""

from __future__ import annotations

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
from hfprobe.similarity.pair_moments import PairMoments
from hfprobe.similarity.plan import Pair
from hfprobe.similarity.score import Similarity


class PairAccumulator(PairMoments):
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
