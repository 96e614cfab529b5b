"""One interface for everything that turns log-mel spectrograms into waveforms."""

from __future__ import annotations

from typing import Protocol

import torch

from hfprobe.audio import MelConfig, vocode
from hfprobe.errors import ConfigError

NAMES = ("griffin-lim", "hifigan[:SOURCE]", "speechbrain-hifigan[:SOURCE]")


class Vocoder(Protocol):
    """What a vocoder can do.

    Attributes:
        name: What results call it.
    """

    name: str

    def __call__(self, mel: torch.Tensor, config: MelConfig, lengths: torch.Tensor, seed: int = 0) -> torch.Tensor:
        """Sound of mel-spectrograms.

        Args:
            mel: Log-mel power ``(batch, frames, n_mels)`` as `hfprobe.audio.mel_spectrogram` makes it.
            config: Mel settings.
            lengths: Samples wanted of each item ``(batch,)``, int64.
            seed: Seed of whatever is drawn.

        Returns:
            Waveforms ``(batch, samples)``, float32, as long as the longest, zero behind each item's own length.
        """


class GriffinLim:
    """`hfprobe.audio.vocode` with a number of iterations.

    Args:
        n_iter: Iterations.

    Example:
        >>> GriffinLim(2)(torch.zeros(1, 11, 80), MelConfig(), torch.tensor([1600])).shape
        torch.Size([1, 1600])
    """

    name = "griffin-lim"

    def __init__(self, n_iter: int = 32):
        self.n_iter = n_iter

    def __call__(self, mel: torch.Tensor, config: MelConfig, lengths: torch.Tensor, seed: int = 0) -> torch.Tensor:
        """Sound of mel-spectrograms; see `Vocoder`."""
        return vocode(mel, config, n_iter=self.n_iter, lengths=lengths, seed=seed)


def load_vocoder(spec: str = "griffin-lim", n_iter: int = 32, device: str = "cpu") -> Vocoder:
    """Load a vocoder by name.

    Args:
        spec: ``griffin-lim``; ``hifigan[:SOURCE]``, a `SpeechT5HifiGan` (default ``microsoft/speecht5_hifigan``);
            ``speechbrain-hifigan[:SOURCE]`` (default ``speechbrain/tts-hifigan-libritts-16kHz``). SOURCE is a folder or
            a Hub repository.
        n_iter: Iterations of Griffin-Lim, also before a neural vocoder.
        device: Where a neural vocoder runs.

    Returns:
        The vocoder.

    Raises:
        ConfigError: The name is not known.
        EncoderError: The model cannot be found or read.

    Example:
        >>> load_vocoder("griffin-lim", 8).n_iter
        8
    """
    kind, _, source = spec.partition(":")
    if kind == "griffin-lim" and not source:
        return GriffinLim(n_iter)
    if kind not in ("hifigan", "speechbrain-hifigan"):
        raise ConfigError(f"unknown vocoder {spec!r}; choose from {', '.join(NAMES)}")
    from hfprobe.vocoders.neural import SpeechBrainHifiGan, SpeechT5Vocoder

    return (SpeechT5Vocoder if kind == "hifigan" else SpeechBrainHifiGan)(source or None, n_iter, device)
