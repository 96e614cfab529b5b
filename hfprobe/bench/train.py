"""Training the probes of all layers in one pass, against one probe at a time and against the encoder alone.

The contenders:

- *all probes, one pass*: steps as `hfprobe.probes.train_bank` takes them.
- *one probe at a time*: the same loop with one layer only, once for each layer, so that the encoder runs for each.
- *one at a time, as the text says*: ESPnet's own forward with a hook on the layer, a probe of plain ``nn.Linear`` s on
  the padded frames, masked L1, AdamW; once for each layer. What the paper's sentences become if nothing is thought of.
- *the encoder alone*: one pass without gradients that keeps every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hfprobe.audio import MelConfig
from hfprobe.bench.floors import Floor, count_operations, encoder_floor
from hfprobe.bench.machine import Machine
from hfprobe.bench.measure import Timing, interleave, ratio
from hfprobe.bench.plain import plain_trainings
from hfprobe.bench.report import Goal, Section
from hfprobe.bench.speech import clips, pad
from hfprobe.data import SpeechBatch
from hfprobe.probes import ProbeTrainingConfig
from hfprobe.probes.normalisation import ProbeStatistics
from hfprobe.probes.probe_set import ProbeSet

SHARE = 0.6  # of the matrix-product peak at which the probes' own arithmetic is counted


def bench_train(
    machine: Machine,
    encoder: Any,
    seconds: list[float],
    repeats: int,
    frames: int | None = None,
    plain: bool = True,
    **options: Any,
) -> Section:
    """Measure the training of an encoder's probes.

    Args:
        machine: Machine.
        encoder: An encoder whose layers all have probes (`AutoSpeechEncoder`); an `EspnetEncoder` for ``plain``.
        seconds: Lengths of the utterances of the batch.
        repeats: Rounds.
        frames: Mel frames per layer and step; all where None.
        plain: Whether to measure the plain training too.
        **options: Further settings of `ProbeTrainingConfig`.

    Returns:
        The section.
    """
    device = machine.device
    encoder = encoder.to(device).eval()
    names = [spec.name for spec in encoder.layers]
    waveforms, lengths = pad([clip.to(device) for clip in clips(seconds)])
    batch = _batch(waveforms, lengths)
    config = ProbeTrainingConfig(frames_per_batch=frames, **options)
    steps = [ProbeSteps(encoder, batch, config, [name], device) for name in names]
    whole = ProbeSteps(encoder, batch, config, names, device)
    contenders: dict[str, Callable[[], object]] = {
        "all": whole,
        "each": lambda: [step() for step in steps],
        "encoder": lambda: _bare(encoder, waveforms, lengths),
    }
    if plain:
        naive = plain_trainings(encoder, waveforms, lengths, **options)
        contenders["plain"] = lambda: [step() for step in naive]
    times = interleave(contenders, repeats, device, others=("plain",))
    operations = count_operations(whole) - count_operations(contenders["encoder"])
    return _section(machine, encoder, seconds, frames, times, operations)


def _batch(waveforms: Tensor, lengths: Tensor) -> SpeechBatch:
    """A batch as streams make them, of clean speech."""
    count = len(lengths)
    blank = {"ids": [f"clip{i}" for i in range(count)], "texts": [""] * count, "speakers": [""] * count}
    fields = SpeechBatch.__dataclass_fields__
    values: dict[str, Any] = {"waveforms": waveforms, "lengths": lengths, "clean": waveforms, **blank}
    return SpeechBatch(**{name: values.get(name, [None] * count) for name in fields})


class ProbeSteps:
    """Training steps on one batch, as `hfprobe.probes.train_bank` takes them (a test compares the weights).

    Args:
        encoder: Encoder, on the device.
        batch: Batch.
        config: Settings; its seed is that of weights and frames.
        layers: Layers that have probes.
        device: Device.
    """

    def __init__(self, encoder: Any, batch: SpeechBatch, config: ProbeTrainingConfig, layers: list[str], device: str):
        self.encoder, self.batch, self.config, self.mel, self.count = encoder, batch, config, MelConfig(), 0
        specs = [encoder.layer(name) for name in layers]
        self.probes = ProbeSet(specs, config, self.mel, encoder.name, "").to(device)
        self.optimizer = torch.optim.AdamW(self.probes.parameter_groups(config), lr=config.learning_rate, fused=True)
        gathered = {name: ProbeStatistics(probe) for name, probe in self.probes.by_name.items()}
        for name, packed in self.probes.pack(encoder, batch, self.mel).items():
            gathered[name].add(packed)
        for statistics in gathered.values():
            statistics.apply()

    def __call__(self) -> Tensor:
        """Take a step; the losses."""
        seed = (self.config.seed, "frames", 0, self.count)
        packed = self.probes.pack(self.encoder, self.batch, self.mel, self.config.frames_per_batch, seed)
        fraction = self.count / self.config.max_steps if self.config.max_steps else 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * self.config.learning_rate_at(self.count, fraction)
        losses = torch.stack(list(self.probes(packed).values()))
        losses.sum().backward()
        if self.config.clip_norm is not None:
            self.probes.clip_gradients(self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.count += 1
        return losses.detach()


@torch.no_grad()
def _bare(encoder: Any, waveforms: Tensor, lengths: Tensor) -> None:
    encoder(waveforms, lengths)


def _section(machine, encoder, seconds, frames, times: dict[str, Timing], operations: int) -> Section:
    count, clock = len(encoder.layers), machine.clock
    speech = sum(seconds)
    what = "all frames" if frames is None else f"{frames} mel frames of each layer, drawn at random"
    section = Section("train", f"Training {count} probes of {encoder.name}, {what}")
    alone = encoder_floor(encoder, [clip.to(machine.device) for clip in clips(seconds)])
    probes = Floor(operations, 0.0)
    floors = {"all": alone + probes, "encoder": alone}
    floors["each"] = Floor(count * alone.operations + operations, count * alone.bytes)
    titles = {
        "all": f"all {count} probes, one pass",
        "each": "one probe at a time",
        "plain": "one at a time, as the text says",
        "encoder": "the encoder alone, no gradients",
    }
    for name, timing in times.items():
        # The plain training has no floor of its own: it does the same work.
        floor = floors.get(name, floors["each"])
        section.add(titles[name], timing, floor, machine, times=ratio(timing, times["all"], clock).row())
    own = operations / (SHARE * machine.matmul)
    bare = [value + own for value in times["encoder"].seconds(clock)]
    limit = Timing(tuple(bare), tuple(bare))
    if "plain" in times:
        found = ratio(times["plain"], times["all"], clock).median
        section.goals.append(Goal(f"{titles['plain']}, times as long as one pass", found, "at least", 6.0))
    found = ratio(times["all"], limit, clock).median
    section.goals.append(
        Goal("one pass over encoder alone + probes' arithmetic at 60 % of peak", found, "at most", 1.5)
    )
    section.notes = [
        f"{titles['each'].capitalize()}: the same code, {floors['each'].operations / floors['all'].operations:.1f} "
        "times the arithmetic of one pass. As the text says: ESPnet's forward.",
        f"A step on {len(seconds)} utterances, {speech:.1f} s of speech. The probes' own arithmetic is "
        f"{operations / 1e9:.1f} Gflop, {own:.3f} s at 60 % of the peak; the encoder's is "
        f"{alone.operations / 1e9:.1f} Gflop.",
    ]
    return section
