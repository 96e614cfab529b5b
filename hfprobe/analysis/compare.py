"""Layers compared: within an encoder, between encoders, clean against noisy, and along the checkpoints of a training.

Frames of all layers under study are brought to one time grid (`hfprobe.similarity.grid`) and added to accumulators in
one pass; hidden states are never stored. CCA and linear CKA come from moments, minibatch CKA from sums over
minibatches, RBF CKA and RSA from a bounded sample of frames. If the moments would not fit into the memory that is
allowed, the pairs are cut into several passes over the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from hfprobe.analysis.compare_frames import FrameStream, Sink, Source, Tap, grid_of
from hfprobe.analysis.compare_plan import GIBIBYTE, Plan, make_plan
from hfprobe.analysis.processes import Processes
from hfprobe.analysis.test_set import TestSet
from hfprobe.data import NoiseCorpus
from hfprobe.errors import ConfigError, DatasetError, MeasureError
from hfprobe.results import METRICS, ResultRow
from hfprobe.similarity import PairAccumulator, Similarity
from hfprobe.similarity.finish import MEASURES as FROM_MOMENTS
from hfprobe.similarity.leading import DIRECTIONS, Leading, leading_directions
from hfprobe.similarity.minibatches import MinibatchAccumulator
from hfprobe.similarity.sample import FrameSample
from hfprobe.similarity.sampled import SAMPLED, sampled_scores

__all__ = [
    "GIBIBYTE", "MEASURES", "CompareSettings", "PairScore", "Source", "Tap", "between", "compare", "encoder_name",
    "grid_of", "result_rows", "same_layers", "within",
]  # fmt: skip
BASIS_FRAMES = 4 * DIRECTIONS
BASIS_BATCHES = 8
MEASURES = (*FROM_MOMENTS, *SAMPLED, "minibatch_cka")


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
        measures: Of `MEASURES`.
        rule: How finer layers come to the grid: ``"mean"`` or ``"nearest"``.
        frames: Frames drawn from each utterance; all where None.
        drop_silence: Leave out frames 40 dB under the loudest of their utterance, judged on the clean sound.
        groups: Groups of speakers (of utterances where there are fewer than 5 speakers) for the intervals.
        replicates: Bootstrap draws of groups; no intervals where 0.
        memory_limit: Bytes for the moments of a pass.
        variance: Share of variance that SVCCA keeps.
        sample: Frames that RBF CKA and RSA are computed from, at the most.
        minibatch: Frames of a minibatch for minibatch CKA.
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
    sample: int = 1000
    minibatch: int = 128
    seed: int = 0

    def __post_init__(self):
        for measure in self.measures:
            if measure not in MEASURES:
                raise ConfigError(f"unknown measure {measure!r}; choose from {', '.join(MEASURES)}")
        if not self.measures or len(set(self.measures)) < len(self.measures):
            raise ConfigError(f"expected each measure once and one at the least, got {' '.join(self.measures)!r}")
        if min(self.sample, self.minibatch) < 4:
            raise ConfigError(
                f"expected 4 frames or more, got a sample of {self.sample} and {self.minibatch} a minibatch"
            )


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
    processes: Processes | None = None,
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
        processes: Others that do the same with the same arguments; each takes a share of the batches.

    Returns:
        One score per pair and measure, in that order; nothing in processes but the first.

    Raises:
        ConfigError: Two sources have one name, or there is no pair.
        DatasetError: No frame is left to compare.
        MeasureError: Not even one pair fits into memory.
    """
    settings, processes = settings or CompareSettings(), processes or Processes()
    if len({source.key for source in sources}) < len(sources):
        raise ConfigError(f"two sources have one name: {', '.join(source.key for source in sources)}; rename a folder")
    if not pairs:
        raise ConfigError("no pair of layers to compare; give an encoder of two layers or a second encoder")
    stream = FrameStream(sources, test, settings, noise, device)
    names = [(a.key, b.key) for a, b in dict.fromkeys(pairs)]
    plan = make_plan(stream.dims, names, stream.groups, settings)
    bases = _bases(stream, plan, progress, processes)
    found: dict[tuple[str, str, str], Similarity] = {}
    failures: dict[tuple[str, str, str], str] = {}
    drawing: _Drawing = {"replicates": settings.replicates, "seed": settings.seed, "failures": failures}
    sample = FrameSample(stream.dims, settings.sample, stream.groups) if plan.sampled else None
    sums = MinibatchAccumulator(stream.dims, names, settings.minibatch, stream.groups) if plan.minibatch else None
    frames = 0
    for number, part in enumerate(plan.passes):
        # What does not depend on pairs comes along with the first pass.
        sinks = [] if number else [Sink(tuple(stream.dims), item.update) for item in (sample, sums) if item is not None]
        moments = spread = None
        if part:
            dims = {key: dim for key, dim in stream.dims.items() if any(key in pair for pair in part)}
            moments = PairAccumulator(dims, part, plan.groups, device=device)
            sinks.append(_moment_sink(moments))
            if plan.narrow:
                narrow = {key: bases[key].basis.shape[1] if key in bases else dim for key, dim in dims.items()}
                spread = PairAccumulator(narrow, part, plan.spread_groups, device=device)
                sinks.append(_moment_sink(spread, bases))
        counter = FrameCount()
        stream.run([*sinks, Sink((), counter.update)], progress(processes.share(stream.batches)))
        for item in (counter, moments, spread, *((sample, sums) if number == 0 else ())):
            if item is not None:
                processes.merged(item)
        if not processes.first:
            continue
        frames = counter.n
        if not frames:
            raise DatasetError("no frame of the dataset is left to compare; use longer utterances or keep silence")
        if moments is not None:
            wanted = [pair for pair in names if pair in part or pair[::-1] in part]
            found |= moments.scores(
                plan.moments, wanted, variance=settings.variance, rank="reduce", quiet=True, spread=spread, **drawing
            )  # fmt: skip
    if not processes.first:
        return []
    if sample is not None:
        found |= sampled_scores(sample, plan.sampled, names, **drawing)
    if sums is not None:
        found |= sums.scores(names, **drawing)
    return [
        PairScore(a, b, measure, score, failures.get(key, ""), frames if score is None else score.n)
        for a, b in dict.fromkeys(pairs)
        for measure in settings.measures
        for key in [(a.key, b.key, measure)]
        for score in [found.get(key)]
    ]


class _Drawing(TypedDict):
    """How intervals are drawn, and where it is noted which score has no value."""

    replicates: int
    seed: int
    failures: dict[tuple[str, str, str], str]


class FrameCount:
    """Counts frames."""

    def __init__(self):
        self.n = 0

    def update(self, features: Any, keys: Any, codes: Any) -> None:
        """Add frames."""
        self.n += len(keys)

    def merge(self, other: FrameCount) -> FrameCount:
        """Add those of another process."""
        self.n += other.n
        return self


def _moment_sink(moments: PairAccumulator, bases: dict[str, Leading] | None = None) -> Sink:
    def add(features: Mapping[str, Tensor], keys: Tensor, codes: Tensor) -> None:
        if bases:
            features = {key: bases[key].of(x) if key in bases else x for key, x in features.items()}
        moments.update(features, codes % moments.groups)

    return Sink(tuple(moments.dims), add)


def _sample_sink(sample: FrameSample) -> Sink:
    def add(features: Mapping[str, Tensor], keys: Tensor, codes: Tensor) -> None:
        sample.update(features, keys)  # whose frames they are does not matter

    return Sink(tuple(sample.dims), add)


def _bases(stream: FrameStream, plan: Plan, progress, processes: Processes) -> dict[str, Leading]:
    """Leading directions of wide sets, from frames of batches spread over all lengths.

    The first process finds them for all, so that moments along them add up.
    """
    found: dict[str, Leading] = {}
    if not plan.narrow:
        return found
    step = max(1, len(stream.batches) // BASIS_BATCHES)
    for source in stream.sources if processes.first else ():  # one after the other, to hold the frames of one
        keys = [key for key in (f"{source.key} {name}" for name in source.layers) if key in plan.narrow]
        if not keys:
            continue
        sample = FrameSample({key: stream.dims[key] for key in keys}, BASIS_FRAMES)
        stream.run([_sample_sink(sample)], progress(stream.batches[::step]))
        for key in keys:
            try:
                found[key] = leading_directions(sample.features(key), DIRECTIONS, key)
            except MeasureError:  # constant, or no frame: its measures say so
                found[key] = Leading(torch.eye(stream.dims[key], 1), 0.0)
    return processes.from_first(found)


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
