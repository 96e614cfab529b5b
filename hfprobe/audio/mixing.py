"""Adding noise to speech at a signal-to-noise ratio.

The ratio is that of the mean powers over the whole utterance, as in the x-vector recipe of Kaldi
(``wav-reverberate --snrs``) and in MUSAN augmentation; nothing is normalised or clipped afterwards.
"""

from __future__ import annotations

import math
from typing import overload

import numpy as np
import torch
from numpy.typing import ArrayLike

from hfprobe.errors import AudioError

Lengths = ArrayLike | torch.Tensor | None


@overload
def mix_at_snr(
    speech: np.ndarray, noise: np.ndarray | torch.Tensor, snr_db: float, offset: int = 0, lengths: Lengths = None
) -> np.ndarray: ...


@overload
def mix_at_snr(
    speech: torch.Tensor, noise: np.ndarray | torch.Tensor, snr_db: float, offset: int = 0, lengths: Lengths = None
) -> torch.Tensor: ...


def mix_at_snr(
    speech: np.ndarray | torch.Tensor,
    noise: np.ndarray | torch.Tensor,
    snr_db: float,
    offset: int = 0,
    lengths: Lengths = None,
) -> np.ndarray | torch.Tensor:
    """Add noise to speech so that the ratio of their powers is ``snr_db``.

    The noise starts at ``offset`` and is repeated or cut to the length of the speech; the speech itself is
    not scaled. The mixture may exceed [-1, 1]; saving it as 16-bit sound then clips, which `save_audio` says.

    Args:
        speech: Signals ``(..., samples)``, float tensor or numpy array; it is not changed.
        noise: Noise ``(..., noise_samples)``; leading axes, if any, must broadcast to those of the speech.
        snr_db: Ratio of speech power to noise power over the whole utterance, in dB.
        offset: Sample of the noise to start at; taken modulo its length.
        lengths: Valid samples ``(...)`` of padded speech; powers are taken over them, the padding stays zero.

    Returns:
        Mixture ``(..., samples)``, a tensor if the speech is one, else a numpy array, of the speech's type.

    Raises:
        AudioError: Speech or noise is silent, empty or not finite, or the SNR is not a finite number.

    Example:
        >>> speech, noise = np.ones(4, np.float32), np.array([1.0, -1.0], np.float32)
        >>> mix_at_snr(speech, noise, 20.0).round(3).tolist()
        [1.100000023841858, 0.8999999761581421, 1.100000023841858, 0.8999999761581421]
    """
    if not math.isfinite(snr_db):
        raise AudioError(f"snr_db must be a finite number of decibels, got {snr_db!r}; use plain speech")
    as_numpy = not isinstance(speech, torch.Tensor)
    clean = _signal(speech, "speech")
    samples = clean.shape[-1]
    added = _signal(noise, "noise").to(clean.device)
    index = (torch.arange(samples, device=clean.device) + int(offset)) % added.shape[-1]
    added = added[..., index].to(torch.float64)
    target = clean.to(torch.float64)
    valid = torch.ones((), dtype=torch.float64, device=clean.device)
    if lengths is not None:
        ends = torch.as_tensor(lengths, device=clean.device)
        if ends.shape != clean.shape[:-1]:
            raise AudioError(f"lengths must have shape {tuple(clean.shape[:-1])}, got {tuple(ends.shape)}")
        valid = (torch.arange(samples, device=clean.device) < ends.unsqueeze(-1)).to(torch.float64)
    # Both means run over the same number of samples, so sums of squares give the same ratio.
    speech_energy = (target * valid).square().sum(-1, keepdim=True)
    noise_energy = (added * valid).square().sum(-1, keepdim=True)
    for name, energy in (("speech", speech_energy), ("noise", noise_energy)):
        if not bool((energy > 0).all()):
            raise AudioError(f"{name} is silent, so no SNR can be set; leave it out or take another part")
    scale = (speech_energy / noise_energy).sqrt() * 10.0 ** (-snr_db / 20.0)
    mixture = ((target + scale * added) * valid).to(clean.dtype)
    return mixture.numpy() if as_numpy else mixture


def _signal(values, name: str) -> torch.Tensor:
    tensor = values.detach() if isinstance(values, torch.Tensor) else torch.from_numpy(np.array(values))
    if not tensor.is_floating_point():
        raise AudioError(f"{name} must be floating point in [-1, 1], got {tensor.dtype}; rescale it first")
    if tensor.ndim < 1 or tensor.shape[-1] == 0:
        raise AudioError(f"{name} must be (..., samples), not empty, got shape {tuple(tensor.shape)}")
    if not bool(torch.isfinite(tensor).all()):
        raise AudioError(f"{name} holds NaN or infinite samples; repair or leave out the clip")
    return tensor
