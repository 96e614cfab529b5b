"""A bounded sample of frames, drawn with a seed: what measures that need all samples at once are computed from.

Every frame has a key that depends on the seed, its utterance and its place alone; the frames with the smallest keys
are kept. So the sample is the same in whatever order, batches or processes the frames come, every frame has the same
chance, and memory does not grow with the corpus.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.inputs import as_matrix


def frame_keys(utterance: str, count: int, seed: int) -> Tensor:
    """Keys of the frames of one utterance: the frames with the smallest keys of a corpus are its sample.

    Args:
        utterance: Name of the utterance.
        count: How many frames it has.
        seed: Seed of the sample.

    Returns:
        int64 ``(count,)``, the same whatever else is in the corpus.

    Example:
        >>> bool((frame_keys("u1", 3, 0) == frame_keys("u1", 3, 0)).all()), len(set(frame_keys("u1", 3, 0).tolist()))
        (True, 3)
    """
    generator = np.random.default_rng([seed, zlib.crc32(utterance.encode()), 0x5A])
    return torch.from_numpy(generator.integers(0, 2**63 - 1, count))


class FrameSample:
    """The same frames of several sets of features.

    Args:
        dims: Width of each set, by name.
        size: Frames that are kept at the most.
        groups: Groups of utterances.

    Attributes:
        counts: Frames of each group that were seen, int64 ``(groups,)``.
        keys: Of the kept frames, in ascending order.
        codes: Their groups.

    Example:
        >>> sample = FrameSample({"x": 2}, size=4)
        >>> sample.update({"x": torch.arange(10.0).reshape(5, 2)}, frame_keys("u1", 5, 0))
        >>> sample.features("x").shape, int(sample.counts.sum())
        (torch.Size([4, 2]), 5)
    """

    def __init__(self, dims: Mapping[str, int], size: int = 1000, groups: int = 1):
        if size < 4 or groups < 1 or not dims:
            raise MeasureError(
                f"expected sets, 4 frames or more and 1 group or more, got {size} and {groups}", "option"
            )
        self.dims, self.size, self.groups = dict(dims), int(size), int(groups)
        self.counts = torch.zeros(self.groups, dtype=torch.int64)
        self.keys = torch.zeros(0, dtype=torch.int64)
        self.codes = torch.zeros(0, dtype=torch.int64)
        self._features = {name: torch.zeros(0, dim, dtype=torch.float64) for name, dim in self.dims.items()}

    def update(self, features: Mapping[str, Tensor], keys: Tensor, codes: Tensor | None = None) -> None:
        """Add frames.

        Args:
            features: ``(n, dim)`` for each name.
            keys: Of `frame_keys`, ``(n,)``.
            codes: Group of each frame ``(n,)``; 0 where None.
        """
        codes = torch.zeros_like(keys) if codes is None else torch.as_tensor(codes, dtype=torch.int64)
        self.counts += torch.bincount(codes, minlength=self.groups)
        # Most frames of a long stream come too late.
        chosen = keys <= self.keys[-1] if len(self.keys) == self.size else torch.ones_like(keys, dtype=torch.bool)
        if bool(chosen.any()):
            rows = {
                name: as_matrix(features[name].detach()[chosen.to(features[name].device)], name) for name in self.dims
            }
            self._keep(keys[chosen], codes[chosen], {name: found.cpu() for name, found in rows.items()})

    def _keep(self, keys: Tensor, codes: Tensor, features: Mapping[str, Tensor]) -> None:
        keys, codes = torch.cat([self.keys, keys]), torch.cat([self.codes, codes])
        first = keys.argsort()[: self.size]
        self.keys, self.codes = keys[first], codes[first]
        for name in self.dims:
            self._features[name] = torch.cat([self._features[name], features[name]])[first]

    def features(self, name: str) -> Tensor:
        """Kept frames of a set, in ascending order of their keys.

        Args:
            name: Name of the set.

        Returns:
            float64 ``(kept, dim)`` on the CPU.
        """
        return self._features[name]

    def merge(self, other: FrameSample) -> FrameSample:
        """Add what another sample has seen.

        Args:
            other: A sample of the same sets, size and groups, from another share of the frames.

        Returns:
            This sample.

        Raises:
            MeasureError: It has other sets, another size or other groups.
        """
        if (self.dims, self.size, self.groups) != (other.dims, other.size, other.groups):
            raise MeasureError("only samples of the same sets, sizes and groups add up", "option")
        self.counts += other.counts
        self._keep(other.keys, other.codes, other._features)
        return self
