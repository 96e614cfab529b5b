"""Frames of all layers under study on one time grid, batch by batch, for whatever accumulates them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.test_set import TestSet, length_batches
from hfprobe.data import NoiseCorpus, pad_waveforms
from hfprobe.errors import DatasetError
from hfprobe.similarity import TimeGrid, common_grid, draw_frames
from hfprobe.similarity.grid import on_grid, shared_points, speech_frames
from hfprobe.similarity.groups import MIN_GROUPS
from hfprobe.similarity.sample import frame_keys

BATCH_SAMPLES = 16000 * 40


@dataclass(frozen=True, eq=False)
class Source:
    """An encoder and what it hears.

    Attributes:
        encoder: A `SpeechEncoder`; its name must tell it from the other encoders.
        condition: What is done to the input.
        layers: Names of the layers under study.
    """

    encoder: Any
    condition: Condition
    layers: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name of this source among others."""
        return f"{self.encoder.name} {self.condition.name}"


@dataclass(frozen=True)
class Tap:
    """One layer of one source, by names."""

    encoder: str
    condition: str
    layer: str

    @property
    def key(self) -> str:
        """Name of its set of features."""
        return f"{self.encoder} {self.condition} {self.layer}"


@dataclass(frozen=True)
class Sink:
    """What takes frames.

    Attributes:
        names: Keys of the sets that it takes.
        add: Called with the features by key, ``(n, dim)`` each, the keys of the frames (`frame_keys`) and their groups,
            both ``(n,)``.
    """

    names: tuple[str, ...]
    add: Callable[[Mapping[str, Tensor], Tensor, Tensor], None]


class FrameStream:
    """Frames of several sources on one grid.

    Args:
        sources: Encoders with conditions.
        test: Utterances.
        settings: A `CompareSettings`.
        noise: Noise for the noisy conditions.
        device: Where encoders run.

    Attributes:
        dims: Width of each set of features, by `Tap.key`.
        groups: Groups of speakers, or of utterances where there are fewer than 5 speakers.
        batches: Indices of utterances of similar length, long ones first.

    Raises:
        DatasetError: No utterance is as long as the encoders need.
    """

    def __init__(
        self, sources: Sequence[Source], test: TestSet, settings: Any, noise: NoiseCorpus | None = None,
        device: str = "cpu",
    ):  # fmt: skip
        self.sources, self.test, self.settings, self.noise, self.device = sources, test, settings, noise, device
        self.specs = {
            Tap(source.encoder.name, source.condition.name, layer).key: source.encoder.layer(layer)
            for source in sources
            for layer in source.layers
        }
        self.dims = {key: spec.dim for key, spec in self.specs.items()}
        self.grid: TimeGrid = common_grid(list(self.specs.values()))
        shortest = max(source.encoder.min_samples for source in sources)
        usable = [i for i, w in enumerate(test.waveforms) if len(w) >= shortest]
        if not usable:
            raise DatasetError(f"no utterance has the {shortest} samples that the encoders need; use longer ones")
        units = [test.speakers[i] for i in usable]
        if len(set(units)) < MIN_GROUPS:
            units = [test.ids[i] for i in usable]
        order = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
        self.groups = max(1, min(settings.groups, len(order)))
        self.group_of = {i: order[unit] % self.groups for i, unit in zip(usable, units, strict=True)}
        self.batches = [
            [usable[place] for place in batch]
            for batch in length_batches([len(test.waveforms[i]) for i in usable], BATCH_SAMPLES)
        ]

    @torch.no_grad()
    def run(self, sinks: Sequence[Sink], batches: Any) -> None:
        """One pass: every source that is needed encodes each batch once, for all of its layers that are needed.

        Args:
            sinks: What takes the frames.
            batches: Of `batches`, in a progress bar or not.
        """
        wanted = {key for sink in sinks for key in sink.names}
        for indices in batches:
            points = [self._points(i) for i in indices]
            parts: dict[str, list[Tensor]] = {key: [] for key in self.dims if key in wanted}
            for source in self.sources:
                layers = [name for name in source.layers if f"{source.key} {name}" in wanted]
                if layers:
                    self._encode(source, layers, indices, points, parts)
            features = {key: torch.cat(parts.pop(key)) for key in list(parts)}
            keys = [
                frame_keys(self.test.ids[i], len(found), self.settings.seed)
                for i, found in zip(indices, points, strict=True)
            ]
            codes = [torch.full((len(found),), self.group_of[i]) for i, found in zip(indices, points, strict=True)]
            for sink in sinks:
                sink.add({key: features[key] for key in sink.names}, torch.cat(keys), torch.cat(codes))

    def _points(self, index: int) -> Tensor:
        """Grid points of an utterance that count: there is a frame in all layers, of all passes."""
        waveform, layers, lengths = self.test.waveforms[index], [], []
        for source in self.sources:
            counts = source.encoder.hidden_lengths_for(len(waveform))
            known = {spec.name: int(count) for spec, count in zip(source.encoder.layers, counts, strict=True)}
            layers += [source.encoder.layer(name) for name in source.layers]
            lengths += [known[name] for name in source.layers]
        points = shared_points(self.grid, layers, lengths)
        if self.settings.drop_silence:
            points = points[speech_frames(waveform, points, self.grid)]
        return points[draw_frames(len(points), self.settings.frames, self.test.ids[index], self.settings.seed)]

    def _encode(self, source: Source, layers, indices, points, parts) -> None:
        heard = [
            apply_condition(
                self.test.waveforms[i], self.test.ids[i], source.condition, self.noise, self.settings.seed
            )  # fmt: skip
            for i in indices
        ]
        waveforms, lengths = pad_waveforms(heard)
        source.encoder.to(self.device).eval()
        output = source.encoder(waveforms.to(self.device), lengths.to(self.device), layers=layers)
        for name, states, counts in zip(layers, output.hidden_states, output.hidden_lengths, strict=True):
            spec = source.encoder.layer(name)
            parts[f"{source.key} {name}"] += [
                on_grid(state[: int(count)], spec, found, self.grid, self.settings.rule)
                for state, count, found in zip(states, counts, points, strict=True)
            ]


def grid_of(sources: Sequence[Source]) -> TimeGrid:
    """The time grid on which these sources are compared."""
    return common_grid([source.encoder.layer(name) for source in sources for name in source.layers])
