"""How far a layer sees, and how many parameters feed it: measured by tracing gradients back from its frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hfprobe.encoders.base import SpeechEncoder

# The memory of a recurrent layer fades until float32 holds it no more; the window of a convolution ends while its
# gradient is still large. Below this fraction of the peak a gradient has faded.
_FADED = 1e-20
# Frames that are tried: a rectifier may be silent in some.
_TRIES = 20


@dataclass(frozen=True)
class Reach:
    """What feeds a frame in the middle of an utterance.

    Args:
        parameters: Parameters that feed the layer, those of the layers below included.
        before: Samples seen before the centre of the frame; infinite where it sees everything before it, NaN where
            the layer was silent in all frames that were tried.
        after: Samples seen after the centre of the frame; infinite where it sees everything after it.
    """

    parameters: int
    before: float
    after: float

    @property
    def samples(self) -> float:
        """Receptive field in samples; infinite where it reaches over the whole input on one side at least."""
        return self.before + self.after + 1


def measure_reach(encoder: SpeechEncoder, seconds: float = 6.0, frames: int = 3) -> tuple[Reach, ...]:
    """Measure every layer's receptive field and the parameters that feed it.

    Layers are measured from the first to the last; above one that sees everything, all do.

    Args:
        encoder: In ``eval()`` mode.
        seconds: Length of the noise that is encoded; a field that is longer counts as infinite.
        frames: Neighbouring frames to trace back from, because a maximum or a rectifier may cut off a part of the
            field of one.

    Returns:
        One entry per layer.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> reach = measure_reach(AutoSpeechEncoder.from_pretrained("blstm-robust"), seconds=2.0)
        >>> reach[0].samples, reach[0].parameters < reach[-1].parameters
        (inf, True)
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in encoder.parameters()]
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(parameter.is_floating_point())
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            counts = _count_parameters(encoder)
            fields = _measure_fields(encoder, seconds, frames)
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
    return tuple(Reach(count, *field) for count, field in zip(counts, fields, strict=True))


def _noise(encoder: SpeechEncoder, samples: int) -> Tensor:
    device = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))
    noise = 0.1 * torch.randn(1, max(samples, encoder.min_samples), generator=torch.Generator().manual_seed(0))
    return noise.to(device)


def _count_parameters(encoder: SpeechEncoder) -> list[int]:
    """Sizes of the parameters in the graph below each layer."""
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    states = encoder(_noise(encoder, encoder.sampling_rate // 4)).hidden_states
    counts = []
    for state in states:
        reached: tuple[Tensor | None, ...] = ()
        if parameters and state.requires_grad:
            reached = torch.autograd.grad(state.sum(), parameters, retain_graph=True, allow_unused=True)
        counts.append(sum(value.numel() for value in reached if value is not None))
    return counts


def _measure_fields(encoder: SpeechEncoder, seconds: float, frames: int) -> list[tuple[float, float]]:
    """Samples before and after the centre of a middle frame that each layer sees."""
    waveform = _noise(encoder, int(seconds * encoder.sampling_rate)).requires_grad_()
    for parameter in encoder.parameters():
        # The gradients of the weights are not needed here and would cost half of the time.
        parameter.requires_grad_(False)
    states = encoder(waveform).hidden_states
    fields: list[tuple[float, float]] = []
    for spec, state in zip(encoder.layers, states, strict=True):
        if fields and fields[-1] == (math.inf, math.inf):
            fields.append(fields[-1])
            continue
        before = after = math.nan
        traced, middle = 0, state.shape[1] // 2
        direction = torch.randn(state.shape[2], generator=torch.Generator().manual_seed(1)).to(state.device)
        for frame in range(middle, min(middle + _TRIES, state.shape[1])):
            value = state[0, frame] @ direction.to(state.dtype)
            [gradient] = torch.autograd.grad(value, waveform, retain_graph=True)
            support = _support(gradient[0].abs())
            if support is None:
                continue
            centre = spec.offset + frame * spec.stride
            # The comparison with NaN is false, so the first support replaces it.
            before, after = max(centre - support[0], before), max(support[1] - centre, after)
            traced += 1
            if traced == frames:
                break
        fields.append((before, after))
    return fields


def _support(gradient: Tensor) -> tuple[float, float] | None:
    """First and last sample with a gradient; infinite where it reaches the end of the input, or fades."""
    touched = gradient.nonzero().flatten()
    if len(touched) == 0:
        return None
    first, last = int(touched[0]), int(touched[-1])
    faded = _FADED * float(gradient.max())
    past_start = first == 0 or float(gradient[first : first + 8].max()) < faded
    past_end = last == len(gradient) - 1 or float(gradient[last - 7 : last + 1].max()) < faded
    return -math.inf if past_start else first, math.inf if past_end else last
