"""From mel-spectrograms back to linear magnitudes.

80 mel bands do not determine 257 bins. The pseudo-inverse takes the solution of least norm, which is negative
in places; clamping it at zero no longer fits the mel. The non-negative inversion starts there and fits it
again by multiplicative updates that lower the Kullback-Leibler divergence between the mel powers (Richardson,
1972; Lee and Seung, "Algorithms for non-negative matrix factorization", 2001). Being relative, that
divergence counts soft bands too, where least squares would only look at the loud ones.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from hfprobe.audio.mel import MelConfig, mel_filters
from hfprobe.errors import AudioError

METHODS = ("nnls", "pinv")
# Share of the smooth spectrum that stays where the pseudo-inverse is below it: zeros could never grow again.
SMOOTH_SHARE = 0.1


@lru_cache(maxsize=32)
def _inverses(config: MelConfig, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Filters (freqs, mels), their pseudo-inverse, a smoothing matrix (mels, freqs), row sums (freqs,)."""
    with torch.inference_mode(False):
        filters = mel_filters(config, "cpu", torch.float64)
        per_bin = filters.sum(1)
        safe = per_bin.clamp(min=1e-12)
        band = filters.sum(0).clamp(min=1e-12)
        smooth = (filters / safe.unsqueeze(1) / band).T  # mean power density of the bands around a bin
        matrices = (filters, torch.linalg.pinv(filters), smooth, safe)
        return tuple(matrix.to(device=device, dtype=torch.float32).contiguous() for matrix in matrices)


@torch.no_grad()
def invert_mel(
    mel: torch.Tensor, config: MelConfig | None = None, method: str = "nnls", n_iter: int = 20
) -> torch.Tensor:
    """Linear STFT magnitudes whose mel-spectrogram is the given one, or close to it.

    Values at the log floor mean silence and give exact zeros. Frames are independent of one another.

    Args:
        mel: Natural-log mel power ``(..., frames, n_mels)``, as `mel_spectrogram` makes it.
        config: Mel settings; the defaults when None.
        method: ``"nnls"``, non-negative (0.4 wideband PESQ better on speech), or ``"pinv"``, the clamped
            pseudo-inverse.
        n_iter: Multiplicative updates of ``"nnls"``; 20 bring the mel within about 0.15 % of its power.

    Returns:
        Magnitudes ``(..., frames, n_fft // 2 + 1)``, float32, not negative; bins outside all mel bands are 0.

    Raises:
        AudioError: Wrong shape, values that are not finite or too large, or an unknown method.

    Example:
        >>> invert_mel(torch.zeros(3, 80)).shape
        torch.Size([3, 257])
    """
    config = config or MelConfig()
    if method not in METHODS:
        raise AudioError(f"inversion method must be one of {', '.join(METHODS)}, got {method!r}")
    if mel.ndim < 1 or mel.shape[-1] != config.n_mels:
        raise AudioError(f"mel must be (..., frames, {config.n_mels}), got shape {tuple(mel.shape)}")
    mel = mel.to(torch.float32)
    # exp(60) is far beyond any sound, and its square is still finite in float32.
    if not bool(torch.isfinite(mel).all()) or mel.numel() and float(mel.max()) > 60:
        raise AudioError("mel must be finite log powers, at most 60; look for NaN or a missing logarithm")
    filters, inverse, smooth, per_bin = _inverses(config, mel.device)
    power = mel.exp().masked_fill(mel <= math.log(config.log_floor) + 1e-5, 0.0)
    spectrum = (power @ inverse).clamp(min=0)
    if method == "nnls":
        spectrum = spectrum.maximum(SMOOTH_SHARE * (power @ smooth))
        for _ in range(n_iter):
            ratio = power / (spectrum @ filters).clamp(min=1e-20)
            spectrum = spectrum * ((ratio @ filters.T) / per_bin)
    return spectrum.sqrt()
