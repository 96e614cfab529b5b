"""Which benchmarks there are and at which sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hfprobe.bench.machine import Machine
from hfprobe.bench.report import Section
from hfprobe.bench.speech import mixed_lengths
from hfprobe.errors import ConfigError


@dataclass(frozen=True)
class Size:
    """How much is done.

    Args:
        repeats: Rounds.
        train: Utterances and seconds of the longest, of a training step.
        frames: Mel frames per layer and step, in the training that takes not all of them.
        encoders: Utterances and seconds of the longest, for encoders.
        models: Sizes of transformers' models (`hfprobe.bench.stock.SIZES`).
        vocoder: Clips and seconds of the longest, for vocoders.
        evaluate: Utterances and seconds of the longest, for each process that evaluates.
        starts: Rounds of starts, which are slow and differ little.
    """

    repeats: int
    train: tuple[int, float]
    frames: int
    encoders: tuple[int, float]
    models: tuple[str, ...]
    vocoder: tuple[int, float]
    evaluate: tuple[int, float]
    starts: int


FULL = Size(5, (4, 3.0), 360, (6, 6.0), ("tiny", "medium"), (8, 6.0), (4, 3.0), 5)
QUICK = Size(2, (2, 1.0), 60, (3, 1.5), ("tiny",), (2, 1.5), (4, 1.0), 1)


def bench(what: Sequence[str], machine: Machine, size: Size, encoder: str, seed: int) -> Iterator[Section]:
    """Run benchmarks, one after the other.

    Args:
        what: Names of `BENCHMARKS`.
        machine: Where.
        size: How much.
        encoder: Shipped ESPnet encoder whose probes are trained.
        seed: Seed.

    Yields:
        Sections.

    Raises:
        ConfigError: A name is not known.
    """
    unknown = [name for name in what if name not in BENCHMARKS]
    if unknown:
        raise ConfigError(f"unknown benchmark {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    for name in what:
        yield from BENCHMARKS[name](machine, size, encoder, seed)


def _train(machine: Machine, size: Size, encoder: str, seed: int) -> Iterator[Section]:
    from hfprobe.bench.train import bench_train
    from hfprobe.encoders import AutoSpeechEncoder

    model, lengths = AutoSpeechEncoder.from_pretrained(encoder), mixed_lengths(*size.train)
    yield bench_train(machine, model, lengths, size.repeats, seed=seed)
    # As the shipped probes were trained: narrower, on about half of the frames of a batch.
    section = bench_train(machine, model, lengths, size.repeats, size.frames, hidden_dim=128, seed=seed)
    section.name = "train_sampled"
    yield section


def _encoders(machine: Machine, size: Size, encoder: str, seed: int) -> Iterator[Section]:
    """A section for the shipped recognisers, and one for each size of transformers' models."""
    from hfprobe.bench.encoders import bench_encoders
    from hfprobe.bench.stock import FAMILIES, build_transformers, espnet_forward
    from hfprobe.encoders import AutoSpeechEncoder

    lengths = mixed_lengths(*size.encoders)
    shipped = [AutoSpeechEncoder.from_pretrained(name) for name in ("vgg-blstm-robust", "blstm-robust")]
    found = [("ESPnet", model, espnet_forward(model)) for model in shipped]
    yield bench_encoders(machine, found, lengths, size.repeats)
    for model_size in size.models:
        with tempfile.TemporaryDirectory() as place:
            folders = {family: Path(place) / family for family in FAMILIES}
            found = [
                ("transformers", *build_transformers(family, model_size, folder, seed))
                for family, folder in folders.items()
            ]
            section = bench_encoders(machine, found, lengths, size.repeats)
        section.name, section.title = f"encoders_{model_size}", f"{section.title} (transformers, {model_size})"
        yield section


def _vocoder(machine: Machine, size: Size, encoder: str, seed: int) -> Iterator[Section]:
    from hfprobe.bench.vocoder import bench_vocoder

    yield bench_vocoder(machine, mixed_lengths(*size.vocoder), size.repeats, seed=seed)


def _evaluate(machine: Machine, size: Size, encoder: str, seed: int) -> Iterator[Section]:
    from hfprobe.bench.evaluate import bench_evaluate

    # STOI wants 0.4 s that are not silent.
    yield bench_evaluate(machine, mixed_lengths(*size.evaluate, least=0.7), size.repeats)


def _start(machine: Machine, size: Size, encoder: str, seed: int) -> Iterator[Section]:
    from hfprobe.bench.start import bench_start

    yield bench_start(machine, size.starts)


BENCHMARKS: dict[str, Callable[[Machine, Size, str, int], Iterator[Section]]] = {
    "train": _train,
    "encoders": _encoders,
    "vocoder": _vocoder,
    "evaluate": _evaluate,
    "start": _start,
}
