"""Speech of the lengths that a benchmark wants, spoken by espeak-ng: there on every machine, the same on all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SAMPLING_RATE = 16000


@lru_cache(maxsize=4)
def _spoken(seconds: float) -> np.ndarray:
    """So many seconds, different voices one after the other."""
    from hfprobe.data import decode_row, load_corpus

    parts, total = [], 0
    while total < seconds * SAMPLING_RATE:
        for row in load_corpus("espeak:test"):
            parts.append(decode_row(row))
            total += len(parts[-1])
            if total >= seconds * SAMPLING_RATE:
                break
    return np.concatenate(parts)


def clips(seconds: Sequence[float]) -> list[Tensor]:
    """Clips of given lengths, no two of the same speech.

    Args:
        seconds: Length of each.

    Returns:
        Waveforms ``(samples,)``, float32 in [-1, 1] at 16 kHz.

    Example:
        >>> [len(clip) for clip in clips([0.5, 0.25])]
        [8000, 4000]
    """
    counts = [round(each * SAMPLING_RATE) for each in seconds]
    sound, made, start = _spoken(float(sum(seconds)) + 1.0), [], 0
    for count in counts:
        made.append(torch.from_numpy(sound[start : start + count].copy()))
        start += count
    return made


def mixed_lengths(count: int, longest: float, least: float = 0.2) -> list[float]:
    """Lengths from a part of the longest up to it, evenly spread, in an order as they might arrive.

    Args:
        count: How many.
        longest: Of the longest, in seconds.
        least: The shortest, as a part of the longest.

    Returns:
        Seconds.

    Example:
        >>> mixed_lengths(3, 10.0)
        [2.0, 10.0, 6.0]
    """
    lengths = np.linspace(least * longest, longest, count)
    order = sorted(range(count), key=lambda i: (i * 0.618) % 1)  # neighbours in length end up far from one another
    return [round(float(lengths[i]), 3) for i in order]


def pad(waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Padded batch ``(batch, samples)`` and ``(batch,)`` lengths, on the device of the waveforms."""
    batch = torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True)
    return batch, torch.tensor([len(one) for one in waveforms], device=batch.device)
