"""Layers compared: within an encoder, between encoders, clean against noisy, and along the checkpoints of a training.

Frames of all layers under study are brought to one time grid (`hfprobe.similarity.grid`) and added to a
`PairAccumulator`; hidden states are never stored. If its moments would not fit into the memory that is allowed, the
pairs are cut into several passes over the data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.test_set import TestSet, length_batches
from hfprobe.data import NoiseCorpus, pad_waveforms
from hfprobe.errors import ConfigError, DatasetError, MeasureError
from hfprobe.results import METRICS, ResultRow
from hfprobe.similarity import PairAccumulator, Similarity, TimeGrid, common_grid, draw_frames, plan_passes
from hfprobe.similarity.finish import MEASURES, MIN_GROUPS
from hfprobe.similarity.grid import on_grid, shared_points, speech_frames

logger = logging.getLogger(__name__)

BATCH_SAMPLES = 16000 * 40
GIBIBYTE = 2**30


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
class PairScore:
    """One measure of two taps; ``score`` is None where it has no value, and ``error`` says why."""

    left: Tap
    right: Tap
    measure: str
    score: Similarity | None
    error: str = ""
    n: int = 0


@dataclass(frozen=True)
class CompareSettings:
    """How layers are compared.

    Attributes:
        measures: Of `hfprobe.similarity.finish.MEASURES`.
        rule: How finer layers come to the grid: ``"mean"`` or ``"nearest"``.
        frames: Frames drawn from each utterance; all where None.
        drop_silence: Leave out frames 40 dB under the loudest of their utterance, judged on the clean sound.
        groups: Groups of speakers (of utterances where there are fewer than 5 speakers) for the intervals.
        replicates: Bootstrap draws of groups; no intervals where 0.
        memory_limit: Bytes for the moments of a pass.
        variance: Share of variance that SVCCA keeps.
        seed: Of noise, frames and bootstrap.

    Raises:
        ConfigError: A measure is unknown, or a number makes no sense.
    """

    measures: tuple[str, ...] = ("linear_cka", "pwcca")
    rule: str = "mean"
    frames: int | None = None
    drop_silence: bool = False
    groups: int = 20
    replicates: int = 100
    memory_limit: float = 2 * GIBIBYTE
    variance: float = 0.99
    seed: int = 0

    def __post_init__(self):
        for measure in self.measures:
            if measure not in MEASURES:
                raise ConfigError(f"unknown measure {measure!r}; choose from {', '.join(MEASURES)}")
        if not self.measures or len(set(self.measures)) < len(self.measures):
            raise ConfigError(f"expected each measure once and one at the least, got {' '.join(self.measures)!r}")


def within(source: Source) -> list[tuple[Tap, Tap]]:
    """All pairs of layers of one source, each once, a layer with itself left out."""
    taps = _taps(source)
    return [(a, b) for i, a in enumerate(taps) for b in taps[i + 1 :]]


def between(left: Source, right: Source) -> list[tuple[Tap, Tap]]:
    """Every layer of one source with every layer of another."""
    return [(a, b) for a in _taps(left) for b in _taps(right)]


def same_layers(left: Source, right: Source) -> list[tuple[Tap, Tap]]:
    """Layers of one name of two sources."""
    return [(a, b) for a in _taps(left) for b in _taps(right) if a.layer == b.layer]


def _taps(source: Source) -> list[Tap]:
    return [Tap(source.encoder.name, source.condition.name, layer) for layer in source.layers]


def compare(
    sources: Sequence[Source],
    pairs: Sequence[tuple[Tap, Tap]],
    test: TestSet,
    settings: CompareSettings | None = None,
    noise: NoiseCorpus | None = None,
    device: str = "cpu",
    progress: Callable[[Any], Any] = iter,
) -> list[PairScore]:
    """Compare pairs of layers on the same frames of a test set.

    Args:
        sources: Encoders with conditions; no two with one name and condition.
        pairs: What to compare, from `within`, `between` and `same_layers`.
        test: Utterances.
        settings: How to compare.
        noise: Noise for the noisy conditions.
        device: Where encoders run and moments are added up.
        progress: Wraps the list of batches, e.g. ``tqdm``.

    Returns:
        One score per pair and measure, in that order.

    Raises:
        ConfigError: Two sources have one name, or there is no pair.
        DatasetError: No frame is left to compare.
        MeasureError: Not even one pair fits into memory.
    """
    settings = settings or CompareSettings()
    if len({source.key for source in sources}) < len(sources):
        raise ConfigError(f"two sources have one name: {', '.join(source.key for source in sources)}; rename a folder")
    if not pairs:
        raise ConfigError("no pair of layers to compare; give an encoder of two layers or a second encoder")
    stream = _Frames(sources, test, settings, noise, device)
    names = [(a.key, b.key) for a, b in dict.fromkeys(pairs)]
    groups, passes = _plan(stream.dims, names, stream.groups, settings.memory_limit)
    found: dict[tuple[str, str, str], Similarity] = {}
    failures: dict[tuple[str, str, str], str] = {}
    frames = 0
    for part in passes:
        moments = stream.accumulate(part, groups, progress)
        frames = moments.n
        if not frames:
            raise DatasetError("no frame of the dataset is left to compare; use longer utterances or keep silence")
        wanted = [pair for pair in names if pair in part or pair[::-1] in part]
        found |= moments.scores(
            settings.measures, wanted, replicates=settings.replicates, seed=settings.seed, variance=settings.variance,
            rank="reduce", quiet=True, failures=failures,
        )  # fmt: skip
    return [
        PairScore(a, b, measure, found.get(key), failures.get(key, ""), frames)
        for a, b in dict.fromkeys(pairs)
        for measure in settings.measures
        for key in [(a.key, b.key, measure)]
    ]


def _plan(dims: Mapping[str, int], names: list, groups: int, memory_limit: float) -> tuple[int, list]:
    """Groups and passes that fit into memory.

    Fewer groups rather than more passes, but never so few that there is no interval; only where not even one pair fits
    with that many (flattened convolution maps), a single group, and no intervals.
    """
    enough = min(groups, MIN_GROUPS)
    for count in (groups, min(groups, 2 * MIN_GROUPS), enough):
        try:
            passes = plan_passes(dims, names, count, memory_limit)
        except MeasureError:
            continue
        if len(passes) == 1 or count <= 2 * MIN_GROUPS:
            return count, passes
    passes = plan_passes(dims, names, 1, memory_limit)
    if enough > 1:
        logger.warning("no intervals: the moments of these wide layers fit into memory in one group only")
    return 1, passes


class _Frames:
    """Frames of all sources on one grid, batch by batch."""

    def __init__(self, sources, test, settings, noise, device):
        self.sources, self.test, self.settings, self.noise, self.device = sources, test, settings, noise, device
        self.specs = {
            Tap(source.encoder.name, source.condition.name, layer).key: source.encoder.layer(layer)
            for source in sources
            for layer in source.layers
        }
        self.dims = {key: spec.dim for key, spec in self.specs.items()}
        self.grid: TimeGrid = common_grid(list(self.specs.values()))
        shortest = max(source.encoder.min_samples for source in sources)
        self.usable = [i for i, w in enumerate(test.waveforms) if len(w) >= shortest]
        if not self.usable:
            raise DatasetError(f"no utterance has the {shortest} samples that the encoders need; use longer ones")
        units = [test.speakers[i] for i in self.usable]
        if len(set(units)) < MIN_GROUPS:
            units = [test.ids[i] for i in self.usable]
        order = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
        self.groups = max(1, min(settings.groups, len(order)))
        self.group_of = {i: order[unit] for i, unit in zip(self.usable, units, strict=True)}

    @torch.no_grad()
    def accumulate(self, pairs, groups: int, progress) -> PairAccumulator:
        """One pass: every source that is needed encodes each batch once, for all of its layers that are needed."""
        wanted = {key for pair in pairs for key in pair}
        dims = {key: dim for key, dim in self.dims.items() if key in wanted}
        moments = PairAccumulator(dims, pairs, groups, device=self.device)
        batches = length_batches([len(self.test.waveforms[i]) for i in self.usable], BATCH_SAMPLES)
        for batch in progress(batches):
            indices = [self.usable[place] for place in batch]
            points = [self._points(i) for i in indices]
            parts: dict[str, list[Tensor]] = {key: [] for key in dims}
            for source in self.sources:
                layers = [name for name in source.layers if f"{source.key} {name}" in dims]
                if layers:
                    self._encode(source, layers, indices, points, parts)
            codes = [self.group_of[i] % groups for i, found in zip(indices, points, strict=True) for _ in found]
            moments.update({key: torch.cat(found) for key, found in parts.items()}, codes)
        return moments

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


def result_rows(scores: Sequence[PairScore]) -> list[ResultRow]:
    """Scores as result rows.

    A row of two things names them with ``~`` between: encoder ``a~b`` (``a`` where both are one), layer ``x~y``
    always. Condition is that of the right side, which differs from the left one only where one encoder hears clean and
    noisy input. ``n`` counts frames. Measures that `hfprobe.results` does not know are left to ``similarity.csv``.
    """
    rows = []
    for item in scores:
        if item.measure not in METRICS:
            continue
        score, interval = item.score, (None, None)
        if score is not None and score.interval is not None:
            interval = score.interval
        counts = (item.n, 0) if score is not None else (0, item.n)
        value = None if score is None else float(score)
        names = encoder_name(item), f"{item.left.layer}~{item.right.layer}", item.right.condition
        rows.append(ResultRow(*names, item.measure, value, *interval, *counts))
    return rows


def encoder_name(item: PairScore) -> str:
    """``a``, or ``a~b`` for two encoders.

    Example:
        >>> encoder_name(PairScore(Tap("a", "clean", "x"), Tap("b", "clean", "y"), "pwcca", None))
        'a~b'
    """
    left, right = item.left.encoder, item.right.encoder
    return left if left == right else f"{left}~{right}"
