"""Check of strides and offsets: plant an impulse in the waveform and look which frames react.

A layer that sees a stretch of the input (convolutions) reacts in a block of frames, and the middle of the block
lies where the impulse was. A layer that sees everything (attention, recurrence, statistics over the utterance)
reacts everywhere, but most strongly nearby: there the strongest frame is taken, and the median over the positions,
because a few positions may be misled by what the network makes of them; where the peaks lie all over the place,
the layer says nothing. The impulses stand in noise as loud as
speech: after silence, a recurrent network reacts late.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfprobe.encoders import LayerSpec, SpeechEncoder
from hfprobe.testing.contract import CheckSkipped, Settings, expect, leaves_no_trace, states_of
from hfprobe.testing.signals import sounds

POSITIONS = 24
IMPULSE = 0.5
# A frame reacts if it changes by more than this fraction of the largest change.
REACTS = 1e-4
# A layer reacts in a block if at most this fraction of its frames reacts, and if a few frames outside nothing does:
# the memory of a recurrent layer fades, the window of a convolution ends.
LOCAL, EDGE, NOTHING = 0.7, 3, 1e-6
# The peak of a layer that reacts everywhere must stand out this much from the median frame.
DISTINCT = 3.0
# Tolerances in strides. A block of frames is symmetric about the impulse to within rounding, which the positions,
# spread over all phases of the stride, average out; a peak is not.
BLOCK_TOLERANCE, PEAK_TOLERANCE = 0.25, 1.0


@dataclass(frozen=True)
class Reaction:
    """Where a layer reacted.

    Args:
        local: Whether it reacted in a block of frames instead of everywhere.
        drift: ``(positions,)`` samples from the impulse to where the spec puts the reacting frames.
    """

    local: bool
    drift: Tensor


@leaves_no_trace
@torch.no_grad()
def check_time_axis(encoder: SpeechEncoder, settings: Settings) -> None:
    """Strides and offsets are where an impulse makes frames react: within a quarter of a stride (plus a sample) for
    layers that react in a block of frames, one stride for those that react everywhere.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.
        CheckSkipped: It cannot be tried here; the message says why.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_time_axis(encoder, Settings())
    """
    unclear = []
    for spec, reaction in zip(encoder.layers, reactions(encoder, settings.seed), strict=True):
        if reaction is None:
            unclear.append(spec.name)
            continue
        drift, stride = reaction.drift, spec.stride
        middle = float(drift.mean() if reaction.local else drift.median())
        tolerance = 1 + stride * (BLOCK_TOLERANCE if reaction.local else PEAK_TOLERANCE)
        declared = f"stride {stride} and offset {spec.offset}"
        expect(
            abs(middle) <= tolerance,
            f"layer {spec.name}: {declared} put the reaction to an impulse {middle:+.0f} samples away from it, "
            f"more than {tolerance:.0f}",
        )
        # A wrong stride makes the drift grow from the first position to the last.
        half = len(drift) // 2
        growth = float(drift[half:].median() - drift[:half].median())
        expect(
            abs(growth) <= 2 * tolerance + stride,
            f"layer {spec.name}: {declared} drift by {growth:+.0f} samples along the waveform: another stride?",
        )
    if len(unclear) == len(encoder.layers):
        raise CheckSkipped(f"no layer reacts more strongly near an impulse than elsewhere ({', '.join(unclear)})")


def reactions(encoder: SpeechEncoder, seed: int = 0) -> list[Reaction | None]:
    """Measure where each layer reacts to impulses.

    Args:
        encoder: In ``eval()`` mode.
        seed: Of the quiet noise around the impulses.

    Returns:
        One entry per layer; None where no frame stands out.
    """
    widest = max(spec.stride for spec in encoder.layers)
    # At least a second between the first and the last position, every phase of the stride once.
    step = widest * max(1, round(16000 / POSITIONS / widest)) + widest // POSITIONS + 1
    positions = 12000 + step * torch.arange(POSITIONS)
    samples = max(int(positions[-1]) + 12000, encoder.min_samples)
    [background] = sounds(encoder, [samples], seed)
    background = background[None]
    still = states_of(encoder, background)
    changes: list[list[Tensor]] = [[] for _ in encoder.layers]
    for position in positions.tolist():
        struck = background.clone()
        struck[0, position] += IMPULSE
        for layer, state in enumerate(states_of(encoder, struck)):
            changes[layer].append((state - still[layer]).norm(dim=-1)[0].float().cpu())
    return [
        _reaction(spec, torch.stack(change), positions) for spec, change in zip(encoder.layers, changes, strict=True)
    ]


def _reaction(spec: LayerSpec, change: Tensor, positions: Tensor) -> Reaction | None:
    """Interpret the ``(positions, frames)`` change of a layer."""
    peak = change.amax(dim=1, keepdim=True)
    if not bool((peak > 0).all()):
        return None
    frames = torch.arange(change.shape[1])
    reacts = change > REACTS * peak
    first = torch.where(reacts, frames, change.shape[1]).amin(dim=1, keepdim=True)
    last = torch.where(reacts, frames, -1).amax(dim=1, keepdim=True)
    outside = (frames < first - EDGE) | (frames > last + EDGE)
    ends = bool((change * outside <= NOTHING * peak).all())
    if ends and bool(outside.float().mean() >= 1 - LOCAL):
        return Reaction(True, ((first + last) / 2).squeeze(1) * spec.stride + spec.offset - positions)
    floor = change.median(dim=1, keepdim=True).values
    if float((peak / floor).median()) < DISTINCT:
        return None
    drift = change.argmax(dim=1).float() * spec.stride + spec.offset - positions
    return Reaction(False, drift) if _scatter(drift, positions) <= spec.stride else None


def _scatter(drift: Tensor, positions: Tensor) -> float:
    """Median distance of the drifts from the straight line through them (Theil and Sen's, which strays bear).

    Where attention mixes all frames, the strongest one may be anywhere: such peaks say nothing about the axis. A wrong
    offset or stride moves them along a line, and is still seen.
    """
    one, other = torch.triu_indices(len(drift), len(drift), 1)
    slope = ((drift[other] - drift[one]) / (positions[other] - positions[one])).median()
    rest = drift - slope * positions
    return float((rest - rest.median()).abs().median())
