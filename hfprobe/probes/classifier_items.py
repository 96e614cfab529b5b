"""What classifiers learn from: labelled vectors of all layers at the same points, a bounded fair sample of a corpus.

Every point of the corpus gets a random number that depends on the seed and its utterance alone; those with the
smallest are kept. So the sample is uniform, does not depend on the order of the data, and memory does not grow with
the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from hfprobe.errors import ConfigError, DatasetError

SLACK = 1.25  # how far a reservoir overfills before it is cut: cutting copies it
FEWEST = 32  # points below which there is nothing to learn


def stable_hash(text: str) -> int:
    """A signed 64-bit number for a text, the same in every process and run.

    Example:
        >>> stable_hash("a") == stable_hash("a"), stable_hash("a") == stable_hash("b")
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


@dataclass
class Items:
    """Labelled points.

    Attributes:
        features: Layer key to vectors, float32 ``(points, dim)``.
        labels: Class of each point, int64 ``(points,)``.
        types: What a control task gives one label to, as `stable_hash`, int64 ``(points,)``.
        units: What is split (utterance, session or speaker), as `stable_hash`, int64 ``(points,)``.
        speakers: Speaker code, int64 ``(points,)``.
        priorities: The random numbers, float64 ``(points,)``.
        batches: Number of the batch that each point came in, int64 ``(points,)``: their order over all processes; one
            batch if None.
    """

    features: dict[str, Tensor]
    labels: Tensor
    types: Tensor
    units: Tensor
    speakers: Tensor
    priorities: Tensor
    batches: Tensor = None  # type: ignore[assignment]  # None may be given, and is filled in at once

    def __post_init__(self):
        if self.batches is None:
            self.batches = torch.zeros_like(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Items:
        """Some of the points, by index or mask."""
        rest = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "features"}
        return Items({name: values[index] for name, values in self.features.items()}, **rest)


class Reservoir:
    """A uniform sample of points, bounded in bytes.

    Args:
        dims: Width of each layer by key.
        memory: Bytes for the features.

    Attributes:
        seen: Points that came by.

    Raises:
        ConfigError: The memory does not hold `FEWEST` points.

    Example:
        >>> sample = Reservoir({"x": 1}, memory=4 * 40)
        >>> for start in (0, 100):
        ...     ids = torch.arange(start, start + 100)
        ...     order = torch.rand(100, dtype=torch.float64)
        ...     sample.add(Items({"x": ids[:, None].float()}, ids, ids, ids, ids, order))
        >>> sample.seen, len(sample.items())
        (200, 40)
    """

    def __init__(self, dims: Mapping[str, int], memory: float):
        self.dims = dict(dims)
        point = 4 * sum(dims.values())
        self.capacity = int(memory // point)
        if self.capacity < FEWEST:
            raise ConfigError(
                f"one point of all layers takes {point / 2**20:.2f} MiB, so the {memory / 2**20:.0f} MiB for them hold "
                f"{self.capacity}; choose fewer --layers or more --memory"
            )
        self.seen = 0
        self._parts: list[Items] = []
        self._held = 0

    def add(self, items: Items) -> None:
        """Show points to the sample."""
        self.seen += len(items)
        self._parts.append(replace(items, features=dict(items.features)))  # `items` takes layers out of its parts
        self._held += len(items)
        if self._held > SLACK * self.capacity:
            self._parts = [self.items()]
            self._held = len(self._parts[0])

    def nothing(self) -> Items:
        """A sample without points: that of a process whose share had none."""
        none, features = torch.zeros(0, dtype=torch.int64), {k: torch.zeros(0, d) for k, d in self.dims.items()}
        return Items(features, none, none, none, none, none.double())

    def items(self) -> Items:
        """The sample.

        Raises:
            DatasetError: No point came by.
        """
        if not self._parts:
            raise DatasetError("no labelled point was found; check the dataset's labels and alignments")
        joined = {
            f.name: torch.cat([getattr(part, f.name) for part in self._parts])
            for f in fields(Items)
            if f.name != "features"
        }
        order = joined["priorities"].argsort()[: self.capacity].sort().values
        features = {}
        for name in list(self._parts[0].features):
            # Popped, so that a layer's parts are freed once they are joined.
            features[name] = torch.cat([part.features.pop(name) for part in self._parts])[order]
        whole = Items(features, **{name: values[order] for name, values in joined.items()})
        self._parts, self._held = [whole], len(whole)
        return whole


def control_labels(types: Tensor, counts: Tensor, seed: int) -> Tensor:
    """A random label for each type, from the labels' own distribution: the control task of Hewitt and Liang (2019).

    Args:
        types: `Items.types` ``(points,)``; a type that occurs once makes its label a shuffled one.
        counts: How often each class occurs ``(classes,)``.
        seed: Another seed gives another task.

    Returns:
        int64 ``(points,)``, the same for equal types.

    Example:
        >>> drawn = control_labels(torch.tensor([5, 9, 5]), torch.tensor([1, 1]), 0)
        >>> bool(drawn[0] == drawn[2])
        True
    """
    kinds, place = np.unique(types.numpy(), return_inverse=True)
    # SplitMix64 (Steele, Lea, Flood 2014) of type and seed: uniform, and the same in every process.
    with np.errstate(over="ignore"):
        z = kinds.view(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        uniform = (z ^ (z >> np.uint64(31))).astype(np.float64) / 2.0**64
    shares = np.cumsum(counts.numpy() / counts.sum().item())
    drawn = np.searchsorted(shares, uniform, side="right").clip(max=len(shares) - 1)
    return torch.from_numpy(drawn[place.reshape(-1)].astype(np.int64))
