"""Encoders against their own libraries, at equal outputs: alone, in padded batches, in batches of like lengths.

hfprobe keeps the states of all layers while the libraries' forward gives the last one (ESPnet) or references to all
(transformers), so it does the same work or more; asked for the last layer only, it gives what they give. What every
contender gives is compared, utterance by utterance, with the library's own output for that utterance alone: a batch in
which padding changes frames is fast at another answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hfprobe.analysis.test_set import length_batches
from hfprobe.bench.floors import encoder_floor
from hfprobe.bench.machine import Machine
from hfprobe.bench.measure import Timing, interleave, ratio
from hfprobe.bench.report import Goal, Section
from hfprobe.bench.speech import clips, pad
from hfprobe.bench.stock import Forward

EQUAL = 1e-3  # of the peak, up to which outputs count as equal
NOISE = 0.97  # of two equal times, the one that may look slower by chance
TITLES = {
    "stock alone": "{library}, one by one",
    "stock batch": "{library}, one padded batch",
    "own batch": "hfprobe, one padded batch",
    "own lengths": "hfprobe, batches of like length",
    "own last": "hfprobe, one padded batch, last layer only",
    "stock even": "{library}, a batch of equal lengths",
    "own even": "hfprobe, a batch of equal lengths",
}


def bench_encoders(
    machine: Machine, contenders: Sequence[tuple[str, Any, Forward]], seconds: Sequence[float], repeats: int
) -> Section:
    """Compare encoders with their libraries.

    Args:
        machine: Machine.
        contenders: Name of the library, encoder of hfprobe, and the library's own forward.
        seconds: Lengths of the utterances.
        repeats: Rounds.

    Returns:
        The section.
    """
    section = Section("encoders", "Encoders: all layers from hfprobe, against the library's own forward")
    speech = [clip.to(machine.device) for clip in clips(seconds)]
    even = [clip.to(machine.device) for clip in clips([sum(seconds) / len(seconds)] * len(seconds))]
    for library, encoder, stock in contenders:
        _compare(section, machine, library, encoder.to(machine.device).eval(), stock, speech, even, repeats)
    section.notes = [
        f"{len(seconds)} utterances, {min(seconds):g} to {max(seconds):g} s, {sum(seconds):.1f} s in all, and as many "
        "of equal lengths. Outputs are compared with the library's for each utterance alone, relative to its peak; "
        f"contenders that differ by more than {EQUAL:g} do not count as equal."
    ]
    return section


def _compare(section, machine, library, encoder, stock, speech, even, repeats) -> None:
    parts = length_batches([len(one) for one in speech], max(len(one) for one in speech) * 2)
    runs: dict[str, Callable[[], list[Tensor]]] = {
        "stock alone": lambda: [stock([one])[0] for one in speech],
        "stock batch": lambda: stock(speech),
        "own batch": lambda: _own(encoder, speech),
        "own lengths": lambda: _in_parts(encoder, speech, parts),
        "own last": lambda: _own(encoder, speech, every=False),
        "stock even": lambda: stock(even),
        "own even": lambda: _own(encoder, even),
    }
    truth = {"speech": runs["stock alone"](), "even": [stock([one])[0] for one in even]}
    apart = {name: _difference(run(), truth["even" if "even" in name else "speech"]) for name, run in runs.items()}
    times = interleave(runs, repeats, machine.device, warm_up=0, others=[name for name in runs if "stock" in name])
    floors = {"speech": encoder_floor(encoder, speech), "even": encoder_floor(encoder, even)}
    for name, timing in times.items():
        like = "own even" if "even" in name else "own lengths"
        section.add(
            f"{encoder.name}: {TITLES[name].format(library=library)}", timing,
            floors["even" if "even" in name else "speech"], machine,
            times=ratio(timing, times[like], machine.clock).row(), difference=apart[name],
        )  # fmt: skip
    section.goals += _goals(encoder.name, library, times, apart, machine.clock)


def _goals(name: str, library: str, times: dict[str, Timing], apart: dict[str, float], clock: str) -> list[Goal]:
    """Outputs equal; not slower on equal lengths nor on mixed ones, than the fastest that gives the same.

    On mixed lengths both give the last layer only: states of all in one padded batch are a copy that no library makes.
    """
    own = max(apart[key] for key in ("own batch", "own lengths", "own last", "own even"))
    best = min(
        (key for key in ("stock alone", "stock batch") if apart[key] <= EQUAL), key=lambda key: times[key].median(clock)
    )
    mine = "own last"
    return [
        Goal(f"{name}: outputs differ from {library}'s, relative", own, "at most", EQUAL),
        Goal(
            f"{name}: {library} over hfprobe, equal lengths",
            ratio(times["stock even"], times["own even"], clock).median, "at least", NOISE,
        ),
        Goal(
            f"{name}: {TITLES[best].format(library=library)} over {TITLES[mine]}, mixed lengths",
            ratio(times[best], times[mine], clock).median, "at least", NOISE,
        ),
    ]  # fmt: skip


@torch.no_grad()
def _own(encoder: Any, waveforms: Sequence[Tensor], every: bool = True) -> list[Tensor]:
    output = encoder(*pad(waveforms), output_hidden_states=every)
    counts = output.hidden_lengths[-1].tolist()
    return [row[:count] for row, count in zip(output.last_hidden_state, counts, strict=True)]


def _in_parts(encoder: Any, waveforms: Sequence[Tensor], parts: Sequence[Sequence[int]]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for part in parts:
        found.update(zip(part, _own(encoder, [waveforms[i] for i in part]), strict=True))
    return [found[i] for i in range(len(waveforms))]


def _difference(values: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Largest difference over all utterances, relative to each one's peak."""
    return max(
        float((one - two).abs().max() / two.abs().max().clamp_min(1e-12))
        for one, two in zip(values, truth, strict=True)
    )
