"""How far two log-mel spectrograms are apart, in dB: what the probes are trained to make small, seen in the sound."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hfprobe.metrics.signals import check_pair, finite

WINDOW_SECONDS, HOP_SECONDS, N_FFT, N_MELS = 0.025, 0.010, 512, 80
RANGE_DB = 80.0  # below the loudest cell of the reference; digital silence would be infinitely far from any sound


def log_mel(reference: ArrayLike, degraded: ArrayLike, sampling_rate: int = 16000) -> float:
    """Log-mel distance: the mean over frames of the root mean square over bands of the difference in level.

    ``mean_t sqrt(mean_k (L_ref[t, k] - L_deg[t, k])^2)`` with ``L = 10 log10`` of the power in 80 Slaney mel bands
    up to half the sampling rate (window 25 ms, hop 10 ms): the log-spectral distance of Gray and Markel, "Distance
    measures for speech processing", 1976, on the mel scale. Levels more than 80 dB below the loudest cell of the
    reference are raised to there in both. It follows loudness: a factor of 2 in amplitude is 6.02 dB.

    Args:
        reference: Clean signal ``(samples,)``.
        degraded: Signal to judge ``(samples,)``, aligned with it.
        sampling_rate: In Hz.

    Returns:
        Distance in dB: 0 for equal signals, at most 80 for a degraded signal that is no louder; lower is better.

    Raises:
        MeasureError: Reason ``"length"``, ``"nan"``, ``"silent"`` or ``"too short"``.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(16000)
        >>> round(log_mel(noise, noise), 3), round(log_mel(noise, 2 * noise), 2)
        (0.0, 6.02)
    """
    import torch  # scoring processes that measure something else start faster without

    from hfprobe.audio.mel import MelConfig, mel_spectrogram

    pair = np.stack(check_pair(reference, degraded, WINDOW_SECONDS, sampling_rate))
    window = round(WINDOW_SECONDS * sampling_rate)
    config = MelConfig(
        sampling_rate=sampling_rate,
        n_fft=max(N_FFT, 2 ** math.ceil(math.log2(window))),
        win_length=window,
        hop_length=round(HOP_SECONDS * sampling_rate),
        n_mels=N_MELS,
        f_max=sampling_rate / 2,
        log_floor=1e-30,  # the floor is set below, relative to the reference, so that the level does not matter
    )
    levels = mel_spectrogram(torch.from_numpy(pair), config) * (10 / math.log(10))  # (2, frames, bands), dB
    levels = levels.clamp(min=float(levels[0].max()) - RANGE_DB)
    return finite(float((levels[0] - levels[1]).square().mean(-1).sqrt().mean()), "log-mel distance")
