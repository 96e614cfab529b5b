"""One pass over the data: labelled points of all layers of all encoders, and of the mel-spectrogram.

The encoders run once per batch. All layers are read at the same points: the frames of the coarsest layer (the nearest
frame of a finer one), so that no layer is judged on easier frames than another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfprobe.analysis.alignment import segments_at
from hfprobe.analysis.classify_data import RATE, TARGETS, Plan, heard
from hfprobe.audio import MelConfig, mel_spectrogram
from hfprobe.data import NoiseCorpus, pad_waveforms
from hfprobe.data.alignments import Alignment, Segment
from hfprobe.data.left_out import LeftOut
from hfprobe.errors import ConfigError, DatasetError, LayerError
from hfprobe.probes.classifier import mean_frames
from hfprobe.probes.classifier_items import Items, Reservoir, stable_hash
from hfprobe.probes.classifier_training import Head, gather
from hfprobe.similarity.grid import common_grid, on_grid, shared_points

ANY, INPUT = "-", "input"
GIBIBYTE = 2**30
TRAIN_SHARE = 0.75  # of the memory; the rest is for the points of the test
MEL = MelConfig()
# Of an utterance: grid points that lie in a phone, the phones, and which phone each point lies in.
PhonePoints = tuple[Tensor, list[Segment], np.ndarray]


@dataclass
class Found:
    """What one pass over the data gave.

    Attributes:
        train: Points to learn from.
        test: Points to test on.
        labels: Names of the classes.
        heads: What classifiers read.
        speakers: Names of the speaker codes.
        left_out: Utterances that this process could not use, by reason.
        common: Utterances and classes that no process uses, by reason.
        seen: Labelled points for training and for testing, before the sample was drawn.
    """

    train: Items
    test: Items
    labels: tuple[str, ...]
    heads: tuple[Head, ...]
    speakers: tuple[str, ...]
    left_out: Counter[str]
    common: Counter[str]
    seen: tuple[int, int]


def heads_of(encoders: Sequence[Any], layers: Sequence[str] | None = None) -> tuple[Head, ...]:
    """What is classified from: the layers of all encoders, then the mel-spectrogram.

    Raises:
        ConfigError: Two encoders have one name, or one is not for 16 kHz.
        LayerError: No encoder has a layer of this name.
    """
    names = [encoder.name for encoder in encoders]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"expected encoders of different names, got {', '.join(names) or 'none'}; give each once")
    for encoder in encoders:
        if encoder.sampling_rate != RATE:
            raise ConfigError(f"encoder {encoder.name} hears {encoder.sampling_rate} Hz; classify needs {RATE} Hz")
    known = {spec.name for encoder in encoders for spec in encoder.layers}
    for layer in layers or ():
        if layer not in known:
            raise LayerError(f"no encoder has a layer {layer!r}; choose from {', '.join(sorted(known))}")
    heads = [
        Head(f"{encoder.name} {spec.name}", spec.dim, spec.name, encoder.name, encoder.fingerprint)
        for encoder in encoders
        for spec in encoder.layers
        if layers is None or spec.name in layers
    ]
    return (*heads, Head(f"{ANY} {INPUT}", MEL.n_mels, INPUT))


class Collector:
    """Reads batches and keeps labelled points of all layers.

    Args:
        encoders: Encoders at 16 kHz with names of their own.
        plan: What is classified.
        layers: Names of layers; all where None.
        noise: For the targets with noise: noise by whether it is for testing.
        source: For phones: gives alignments, see `hfprobe.analysis.alignment`.
        memory: Bytes for the points kept.
        device: Where encoders run.
    """

    def __init__(
        self, encoders: Sequence[Any], plan: Plan, layers: Sequence[str] | None = None,
        noise: dict[bool, NoiseCorpus] | None = None, source: Any = None, memory: float = 2 * GIBIBYTE,
        device: str = "cpu",
    ):  # fmt: skip
        self.encoders, self.plan, self.noise, self.source, self.device = encoders, plan, noise or {}, source, device
        self.heads = heads_of(encoders, layers)
        self.chosen = [[spec for spec in e.layers if layers is None or spec.name in layers] for e in encoders]
        self.mel_spec = SimpleNamespace(stride=MEL.hop_length, offset=0)
        self.grid = common_grid([*(spec for specs in self.chosen for spec in specs), self.mel_spec])
        dims = {head.key: head.dim for head in self.heads}
        self.kept = {
            False: Reservoir(dims, TRAIN_SHARE * memory),
            True: Reservoir(dims, (1 - TRAIN_SHARE) * memory),
        }
        self.batch = 0
        self.codes: dict[str, int] = {}
        self.speakers: dict[str, int] = {}
        self.left_out = LeftOut()
        for encoder in encoders:
            encoder.to(device).eval()

    @torch.no_grad()
    def add(self, batch) -> None:
        """Read one `SpeechBatch`; of several processes each reads its part, empty or not, of the same batches."""
        self.batch += 1
        shortest = max([MEL.win_length, *(encoder.min_samples for encoder in self.encoders)])
        inside = [i for i, name in enumerate(batch.ids) if name in self.plan.units]
        usable = [i for i in inside if int(batch.lengths[i]) >= shortest]
        if len(usable) < len(inside):
            for name in (batch.ids[i] for i in inside if i not in usable):
                self.left_out.add("too short to encode", name)
        if not usable:
            return
        clean = [batch.clean[i, : int(batch.lengths[i])].numpy() for i in usable]
        names = [batch.ids[i] for i in usable]
        sounds = [heard(self.plan, name, sound, self.noise) for name, sound in zip(names, clean, strict=True)]
        waveforms, lengths = pad_waveforms(sounds)
        frames = TARGETS[self.plan.target] == "frame"
        aligned = self.source.align(batch) if frames else []
        points: list[PhonePoints] | None = self._points(lengths, [aligned[i] for i in usable]) if frames else None
        features = self._features(waveforms.to(self.device), lengths.to(self.device), points)
        for place, name in enumerate(names):
            labels, types = self._labels(name, None if points is None else points[place])
            if len(labels):
                rows = {key: values[place] for key, values in features.items()}
                self.kept[name in self.plan.test].add(self._items(name, rows, labels, types))

    def _points(self, lengths: Tensor, alignments: Sequence[Alignment | None]) -> list[PhonePoints]:
        """For each utterance the grid points that lie in a phone, the phones, and which phone each lies in."""
        found = []
        for size, alignment in zip(lengths.tolist(), alignments, strict=True):
            phones = list(alignment.phones) if alignment is not None else []
            specs, counts = [self.mel_spec], [1 + size // MEL.hop_length]
            for encoder, chosen in zip(self.encoders, self.chosen, strict=True):
                every = zip(encoder.layers, encoder.hidden_lengths_for(size), strict=True)
                known = {spec.name: int(count) for spec, count in every}
                specs += chosen
                counts += [known[spec.name] for spec in chosen]
            points = shared_points(self.grid, specs, counts)
            index = segments_at(phones, points.numpy() / RATE)
            found.append((points[torch.from_numpy(index >= 0)], phones, index[index >= 0]))
        return found

    def _features(
        self, waveforms: Tensor, lengths: Tensor, points: list[PhonePoints] | None
    ) -> dict[str, list[Tensor]]:
        """Layer key to ``(points, dim)`` for each utterance; one point where utterances are classified."""

        def at_points(states: Tensor, counts: Tensor, spec) -> list[Tensor]:
            if points is None:
                return list(mean_frames(states, counts)[:, None].cpu())
            return [
                on_grid(state[:n], spec, found[0], self.grid, "nearest").float().cpu()
                for state, n, found in zip(states, counts.tolist(), points, strict=True)
            ]

        mel = mel_spectrogram(waveforms, MEL, lengths=lengths)
        features = {f"{ANY} {INPUT}": at_points(mel, MEL.frames(lengths), self.mel_spec)}
        for encoder, chosen in zip(self.encoders, self.chosen, strict=True):
            if chosen:
                output = encoder(waveforms, lengths, layers=[spec.name for spec in chosen])
                for spec, states, counts in zip(chosen, output.hidden_states, output.hidden_lengths, strict=True):
                    features[f"{encoder.name} {spec.name}"] = at_points(states, counts, spec)
        return features

    def _labels(self, name: str, found: PhonePoints | None) -> tuple[list[str], list[str]]:
        if found is None:
            return [self.plan.labels[name]], [name]
        _, phones, index = found
        # A phone that lies in no known word is a type of its own.
        types = [phones[i].type or f"{name}/{i}" for i in index]
        return [phones[i].label for i in index], types

    def _items(self, name: str, rows: dict[str, Tensor], labels: list[str], types: list[str]) -> Items:
        n = len(labels)
        codes = [self.codes.setdefault(label, len(self.codes)) for label in labels]
        speaker = self.speakers.setdefault(self.plan.speakers[name], len(self.speakers))
        rng = np.random.default_rng([self.plan.seed, stable_hash(name) & 0xFFFFFFFF])
        return Items(
            rows,
            torch.tensor(codes),
            torch.tensor([stable_hash(kind) for kind in types]),
            torch.full((n,), stable_hash(self.plan.units[name])),
            torch.full((n,), speaker),
            torch.from_numpy(rng.random(n)),
            torch.full((n,), self.batch),
        )

    def finish(self) -> Found:
        """The points with their classes; classes that are not on both sides of the split are left out and counted.

        Raises:
            DatasetError: No point has a label, or fewer than two classes are left.
        """
        left = self.left_out + (self.source.failures if self.source is not None else Counter())
        common = Counter(self.plan.left_out)
        parts = {side: sample_of_all(reservoir) for side, reservoir in self.kept.items()}
        for side in parts:
            if not sum(gather(len(parts[side]))):
                reasons = ", ".join(f"{count} {reason}" for reason, count in (left + common).items())
                advice = (
                    "give their times with --alignments, or take a corpus that has phones (speechocean762)"
                    if left["no phones in the corpus"]
                    else "check the dataset's labels and alignments"
                )
                raise DatasetError(f"no labelled point was found (left out: {reasons or 'none'}); {advice}")
        names = list(self.codes)
        here = {side: {names[i] for i in torch.unique(items.labels).tolist()} for side, items in parts.items()}
        every = gather(here)
        sides = [set().union(*(one[side] for one in every)) for side in (False, True)]
        labels = tuple(sorted(sides[0] & sides[1]))
        lost = sorted((sides[0] | sides[1]) - set(labels))
        if lost:
            common[f"class on one side of the split only ({', '.join(lost[:5])})"] += len(lost)
        if len(labels) < 2:
            raise DatasetError(
                f"fewer than two classes of {self.plan.target} are in both parts (left out: {dict(left + common)}); "
                "use more data or check the labels"
            )
        place = torch.tensor([labels.index(name) if name in labels else -1 for name in names], dtype=torch.int64)
        for side, items in parts.items():
            items.labels = place[items.labels]
            parts[side] = items if bool((items.labels >= 0).all()) else items.take(items.labels >= 0)
        seen = (self.kept[False].seen, self.kept[True].seen)
        return Found(parts[False], parts[True], labels, self.heads, tuple(self.speakers), left, common, seen)


def sample_of_all(reservoir: Reservoir) -> Items:
    """This process's part of the sample that one process would have drawn from the points of all."""
    items = reservoir.items() if reservoir.seen else reservoir.nothing()
    everywhere = torch.cat(gather(items.priorities))
    if len(everywhere) <= reservoir.capacity:
        return items
    return items.take(items.priorities <= everywhere.kthvalue(reservoir.capacity).values)
