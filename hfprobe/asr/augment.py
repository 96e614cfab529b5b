"""SpecAugment for features of several channels, and speed perturbation of a batch; both off unless asked for."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from espnet2.asr.specaug.specaug import SpecAug
from torch import Tensor

from hfprobe.data import SpeechBatch, pad_waveforms
from hfprobe.errors import ConfigError

CHANNELS = 3
SPECAUG_NAME = "delta"
SLOWEST, FASTEST = 0.5, 2.0


class DeltaSpecAug(SpecAug):
    """ESPnet's SpecAug for features of several channels, as ``[static | delta | acceleration]`` or feature maps.

    ESPnet's own masks a stretch of the 240 columns, so a masked band can still be read from its deltas. Here the
    same bands and frames are masked in all channels. They become the mean of the batch in that column (as the
    original sets them to the mean; zeros before normalisation, as ESPnet's default, would be loud bands).

    Source: Park et al., "SpecAugment", Interspeech 2019.

    Args:
        channels: Channels, one after the other in a frame.
        options: Those of `espnet2.asr.specaug.specaug.SpecAug`.

    Example:
        >>> augment = DeltaSpecAug(apply_time_warp=False, apply_time_mask=False, freq_mask_width_range=[2, 3])
        >>> masked, _ = augment(torch.rand(1, 5, 24), torch.tensor([5]))
        >>> masked.shape
        torch.Size([1, 5, 24])
    """

    def __init__(self, *args, channels: int = CHANNELS, **options):
        super().__init__(*args, **options)
        self.channels = channels

    def forward(self, x: Tensor, x_lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Warp and mask ``(batch, frames, channels * bands)`` features; lengths ``(batch,)`` stay what they are.

        Raises:
            ConfigError: The width does not divide by the channels.
        """
        batch, frames, width = x.shape
        if width % self.channels:
            raise ConfigError(
                f"specaug 'delta' needs features of {self.channels} channels, got width {width}; set channels in "
                "specaug_conf, or use 'specaug'"
            )
        if self.time_warp is not None:
            x, x_lengths = self.time_warp(x, x_lengths)
        kept = torch.ones(batch, frames, width // self.channels, device=x.device)
        for mask in (self.freq_mask, self.time_mask):
            if mask is not None:
                kept, _ = mask(kept, x_lengths)
        masked = kept.repeat(1, 1, self.channels) == 0
        mean = x.mean(dim=(0, 1)) if x_lengths is None else x.sum(dim=(0, 1)) / x_lengths.sum()
        return torch.where(masked, mean.to(x.dtype), x), x_lengths


def register_specaug() -> None:
    """Make ``specaug: delta`` known to ESPnet's ASR task; call it before a parser or ``build_model`` is made."""
    from espnet2.tasks.asr import specaug_choices

    specaug_choices.classes[SPECAUG_NAME] = DeltaSpecAug


def check_speeds(speeds: Sequence[float]) -> tuple[float, ...]:
    """The speeds as a tuple.

    Raises:
        ConfigError: One is not between 0.5 and 2.

    Example:
        >>> check_speeds([0.9, 1, 1.1])
        (0.9, 1.0, 1.1)
    """
    for speed in speeds:
        if not SLOWEST <= speed <= FASTEST:
            raise ConfigError(f"--hf_speeds must be between {SLOWEST} and {FASTEST}, got {speed}; usual: 0.9 1.0 1.1")
    return tuple(float(speed) for speed in speeds)


def change_speed(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Play faster or slower: duration and pitch both change, as with Kaldi's ``speed`` (resampling).

    Args:
        waveform: float32 ``(samples,)``.
        speed: Above 1 is faster.

    Returns:
        float32, about ``samples / speed`` long.

    Example:
        >>> len(change_speed(np.zeros(1000, np.float32), 1.25))
        800
    """
    import soxr

    return waveform if speed == 1 else soxr.resample(waveform, speed, 1.0).astype(np.float32)


def perturb_speed(batch: SpeechBatch, speeds: Sequence[float], seed: int, epoch: int) -> SpeechBatch:
    """Give each utterance one of the speeds, noise and all; the clean signals are dropped.

    Which one depends on (seed, epoch, utterance) alone, so a resumed training hears the same.

    Source: Ko et al., "Audio augmentation for speech recognition", Interspeech 2015.

    Args:
        batch: A padded batch.
        speeds: Factors, all equally likely.
        seed: Seed of the training.
        epoch: Number of the epoch.

    Returns:
        The batch with other ``waveforms`` and ``lengths``; ``clean`` is ``waveforms``.
    """
    changed = []
    for name, row, length in zip(batch.ids, batch.waveforms, batch.lengths.tolist(), strict=True):
        # The last number keeps this draw apart from those of the noise.
        rng = np.random.default_rng([seed, epoch, zlib.crc32(name.encode()), 1])
        changed.append(change_speed(row[:length].numpy(), speeds[int(rng.integers(len(speeds)))]))
    waveforms, lengths = pad_waveforms(changed)
    return replace(batch, waveforms=waveforms, lengths=lengths, clean=waveforms)
