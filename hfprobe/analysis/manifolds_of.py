"""Vectors of all layers at chosen moments of a corpus: what `hfprobe untangle` measures.

The chosen utterances are decoded, mixed with noise and aligned batch by batch, every encoder runs once per batch and
condition for all its layers, and only the vectors of the points are kept. So memory is set by classes, points and
layers, and checked beforehand; it does not grow with the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.manifold_points import Point, PointPlan
from hfprobe.analysis.pooling import POOLS, pooled
from hfprobe.analysis.test_set import length_batches
from hfprobe.audio import MelConfig, mel_spectrogram
from hfprobe.data import NoiseCorpus, pad_waveforms
from hfprobe.data.corpora import decode_row, load_corpus, row_words
from hfprobe.data.left_out import LeftOut
from hfprobe.data.stream import utterance_seed
from hfprobe.encoders.base import LayerSpec
from hfprobe.errors import AudioError, ConfigError, DatasetError
from hfprobe.similarity.grid import TimeGrid, speech_frames

BATCH_SAMPLES = 16000 * 40
POOL_SAMPLES = 16000 * 240  # decoded at a time, so that a batch has utterances of like length
RATE = 16000
GIBIBYTE = 2**30
INPUT = "input"
ANY = "-"
MEL = MelConfig()
MEL_SPEC = LayerSpec(INPUT, MEL.n_mels, MEL.hop_length, 0, "log-mel spectrogram")

Key = tuple[str, str, str]


@dataclass(eq=False)
class Collection:
    """Vectors of points.

    Attributes:
        labels: Class of each point, in the order of all arrays.
        utterances: Utterance of each point.
        speakers: Speaker of each point.
        vectors: float32 ``(points, dim)`` for each (encoder, condition, layer); the mel is layer ``input`` of ``-``.
        failures: Points that were chosen and could not be had, by reason.
        lost: How many points the classes are short of.
    """

    labels: np.ndarray
    utterances: np.ndarray
    speakers: np.ndarray
    vectors: dict[Key, np.ndarray] = field(default_factory=dict)
    failures: LeftOut = field(default_factory=LeftOut)
    lost: int = 0

    def manifolds(self, key: Key, order: np.ndarray | None = None) -> list[np.ndarray]:
        """One array ``(points_i, dim)`` per class, of rows in another order where one is given (shuffled labels)."""
        rows = self.vectors[key] if order is None else self.vectors[key][order]
        return [rows[self.labels == label] for label in np.unique(self.labels)]


def collect(
    corpus: str,
    plan: PointPlan,
    encoders: Sequence[Any],
    conditions: Sequence[Condition],
    aligner: Any = None,
    noise: NoiseCorpus | None = None,
    layers: Sequence[str] | None = None,
    pool: str = "frame",
    seed: int = 0,
    device: str = "cpu",
    memory_limit: float = 2 * GIBIBYTE,
    progress: Callable[[Any], Any] = iter,
) -> Collection:
    """Collect the vectors of a plan's points.

    Args:
        corpus: The corpus that the plan was made from.
        plan: Classes and candidates.
        encoders: Encoders with names of their own.
        conditions: What is done to the input. Times always come from the clean sound.
        aligner: Gives word and phone times, ``align_utterances(ids, waveforms, texts, words)``; speakers need none.
        noise: Noise for the noisy conditions.
        layers: Layers (all where None; a name that one encoder lacks is left out for that one).
        pool: ``"frame"``: the frame at the middle of the word or phone; for speakers at one moment of the utterance,
            drawn among those less than 40 dB under the loudest. ``"mean"``: the mean over the frames of the word, phone
            or utterance (the one at the middle where none has its centre inside).
        seed: Of noise and of speakers' moments.
        device: Where encoders run.
        memory_limit: Bytes for the vectors.
        progress: Wraps the chosen rows, e.g. ``tqdm``.

    Returns:
        The vectors; classes of fewer than two points are left out and counted.

    Raises:
        ConfigError: ``pool`` is unknown, an aligner is missing, or the vectors would not fit into memory.
        DatasetError: Fewer than two classes have two points.
    """
    if pool not in POOLS:
        raise ConfigError(f"unknown way of pooling {pool!r}; choose from {', '.join(POOLS)}")
    if aligner is None and plan.by != "speaker":
        raise ConfigError(f"manifolds by {plan.by} need word times; give an aligner or alignments")
    taps = _taps(encoders, conditions, layers)
    most = sum(len(points) for points in plan.points.values())
    needed = 4 * most * sum(spec.dim for specs in taps.values() for spec in specs)
    if needed > memory_limit:
        raise ConfigError(
            f"{len(plan.classes)} classes of {plan.wanted} points in all layers and conditions need "
            f"{needed / GIBIBYTE:.1f} GiB, the limit is {memory_limit / GIBIBYTE:.1f}; take fewer classes, points, "
            "layers or conditions, or raise the limit"
        )
    work = _Work(plan, encoders, conditions, taps, aligner, noise, pool, seed, device, most)
    wanted = plan.utterances
    rows = (row for row in load_corpus(corpus) if row["id"] in wanted)
    for batch in _batches(progress(rows), wanted, work):
        work.take(batch)
    return work.finish()


def _taps(encoders, conditions, layers) -> dict[tuple[str, str], list[LayerSpec]]:
    """Layers to be kept, by encoder and condition."""
    found = {}
    for condition in conditions:
        found[ANY, condition.name] = [MEL_SPEC]
        for encoder in encoders:
            found[encoder.name, condition.name] = [s for s in encoder.layers if layers is None or s.name in layers]
    return found


@dataclass
class _Heard:
    """A decoded utterance with its points."""

    name: str
    waveform: np.ndarray
    text: str
    words: list
    points: list[Point]


def _batches(rows, wanted: dict[str, list[Point]], work: _Work) -> Iterator[list[_Heard]]:
    pool: list[_Heard] = []
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:  # a name that comes twice has its points from the first
            continue
        seen.add(row["id"])
        points = wanted[row["id"]]
        try:
            waveform = decode_row(row)
        except (AudioError, DatasetError) as error:
            work.failures.add(getattr(error, "reason", "not speakable"), row["id"], str(error), len(points))
            continue
        if len(waveform) < work.shortest:
            work.failures.add("too short", row["id"], count=len(points))
            continue
        pool.append(_Heard(row["id"], waveform, row["text"], row_words(row), points))
        if sum(len(item.waveform) for item in pool) > POOL_SAMPLES:
            yield from _cut(pool)
            pool = []
    yield from _cut(pool)


def _cut(pool: list[_Heard]) -> list[list[_Heard]]:
    return [[pool[i] for i in part] for part in length_batches([len(item.waveform) for item in pool], BATCH_SAMPLES)]


class _Work:
    """Arrays being filled, batch by batch."""

    def __init__(self, plan, encoders, conditions, taps, aligner, noise, pool, seed, device, most):
        self.plan, self.encoders, self.conditions, self.taps = plan, encoders, conditions, taps
        self.aligner, self.noise, self.pool, self.seed, self.device = aligner, noise, pool, seed, device
        self.shortest = max([1, *(encoder.min_samples for encoder in encoders)])
        self.failures = LeftOut()
        self.points: list[Point] = []
        self.vectors = {
            (*head, spec.name): np.empty((most, spec.dim), dtype=np.float32)
            for head, specs in taps.items()
            for spec in specs
        }

    @torch.no_grad()
    def take(self, batch: list[_Heard]) -> None:
        """Encode a batch and keep what its points have."""
        spans = self._spans(batch)  # (place in the batch, point, start, end) in samples
        if not spans:
            return
        first = len(self.points)
        self.points += [point for _, point, _, _ in spans]
        for condition in self.conditions:
            heard = [apply_condition(i.waveform, i.name, condition, self.noise, self.seed) for i in batch]
            waveforms, lengths = pad_waveforms(heard)
            mels = mel_spectrogram(waveforms, MEL, lengths=lengths)
            self._keep((ANY, condition.name), [mels], [MEL.frames(lengths)], spans, first)
            for encoder in self.encoders:
                specs = self.taps[encoder.name, condition.name]
                if specs:
                    encoder.to(self.device).eval()
                    output = encoder(
                        waveforms.to(self.device), lengths.to(self.device), layers=[spec.name for spec in specs]
                    )  # fmt: skip
                    head = (encoder.name, condition.name)
                    self._keep(head, output.hidden_states, output.hidden_lengths, spans, first)

    def _keep(self, head, states, counts, spans, first: int) -> None:
        places = torch.tensor([place for place, *_ in spans])
        starts, ends = (torch.tensor([span[i] for span in spans], dtype=torch.float64) for i in (2, 3))
        for spec, state, count in zip(self.taps[head], states, counts, strict=True):
            rows = pooled(state, count.cpu(), spec, places, starts, ends, self.pool)
            self.vectors[(*head, spec.name)][first : first + len(spans)] = rows.float().cpu().numpy()

    def _spans(self, batch: list[_Heard]) -> list[tuple[int, Point, float, float]]:
        if self.plan.by == "speaker":
            return [(i, item.points[0], *self._moment(item)) for i, item in enumerate(batch)]
        names, sounds = [item.name for item in batch], [item.waveform for item in batch]
        found = self.aligner.align_utterances(names, sounds, [i.text for i in batch], [i.words for i in batch])
        spans = []
        for place, (item, alignment) in enumerate(zip(batch, found, strict=True)):
            segments = () if alignment is None else alignment.words if self.plan.by == "word" else alignment.phones
            for point in item.points:
                # A given alignment need not have the transcript's words.
                if point.number >= len(segments) or segments[point.number].label != point.label:
                    self.failures.add("not aligned", item.name)
                    continue
                segment = segments[point.number]
                spans.append((place, point, segment.start * RATE, segment.end * RATE))
        return spans

    def _moment(self, item: _Heard) -> tuple[float, float]:
        """All of an utterance, or a moment of it that is not silence."""
        if self.pool == "mean":
            return 0.0, float(len(item.waveform))
        grid = TimeGrid(MEL.hop_length, 0)
        times = grid.points(MEL.frames(len(item.waveform)))
        loud = times[speech_frames(item.waveform, times, grid)]
        chosen = float(utterance_seed(self.seed, 0, item.name).choice(loud.numpy() if len(loud) else times.numpy()))
        return chosen, chosen

    def finish(self) -> Collection:
        """The best candidates of each class, as many as are wanted."""
        order = {point: (number, rank) for number, label in enumerate(self.plan.classes)
                 for rank, point in enumerate(self.plan.points[label])}  # fmt: skip
        chosen: list[int] = []
        for label in self.plan.classes:
            own = [i for i, point in enumerate(self.points) if point.label == label]
            own = sorted(own, key=lambda i: order[self.points[i]])[: self.plan.wanted]
            if len(own) < 2:
                self.failures["class of fewer than two points"] += len(own)
                continue
            chosen += own
        points = [self.points[i] for i in chosen]
        if len({point.label for point in points}) < 2:
            raise DatasetError(
                f"fewer than two classes by {self.plan.by} have two points (lost: {dict(self.failures)}); "
                "check the alignment or use more speech"
            )
        return Collection(
            np.array([point.label for point in points]),
            np.array([point.utterance for point in points]),
            np.array([self.plan.speakers[point.utterance] for point in points]),
            {key: rows[chosen] for key, rows in self.vectors.items()},
            self.failures,
            self.plan.wanted * len(self.plan.classes) - len(points),
        )
