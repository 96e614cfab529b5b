"""Test sounds, batches of them, and the distance between two hidden states."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hfprobe.encoders import SpeechEncoder


def device_of(encoder: SpeechEncoder) -> torch.device:
    """Device of the encoder's weights."""
    return next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))


def sounds(encoder: SpeechEncoder, samples: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Noise whose loudness rises and falls as speech does, never silent.

    Args:
        encoder: Says the device, and the shortest utterance.
        samples: Length of each sound; raised to ``encoder.min_samples``.
        seed: Of the noise.

    Returns:
        One ``(samples,)`` float32 waveform per length.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for count in samples:
        count = max(count, encoder.min_samples)
        loudness = 0.2 + torch.sin(torch.arange(count) / 1500.0).abs()
        made.append((0.1 * loudness * torch.randn(count, generator=generator)).to(device_of(encoder)))
    return made


def batch_of(waveforms: Sequence[Tensor], padding: float = 0.0, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Pad waveforms to a batch.

    Args:
        waveforms: ``(samples,)`` each.
        padding: Value to pad with.
        extra: Samples of padding after the longest.

    Returns:
        ``(batch, longest + extra)`` waveforms and ``(batch,)`` lengths.
    """
    batch = pad_sequence(list(waveforms), batch_first=True, padding_value=padding)
    batch = torch.nn.functional.pad(batch, (0, extra), value=padding)
    return batch, torch.tensor([len(waveform) for waveform in waveforms])


def peak_error(value: Tensor, reference: Tensor) -> float:
    """Largest difference relative to the peak of the reference; infinite where the shapes differ or NaN came.

    Example:
        >>> import torch
        >>> peak_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        0.5
    """
    if value.shape != reference.shape:
        return math.inf
    if value.numel() == 0:
        return 0.0
    error = float((value.float() - reference.float()).abs().max())
    peak = float(reference.abs().max())
    if error == 0.0:
        return 0.0
    return error / peak if math.isfinite(error) and peak > 0.0 else math.inf
