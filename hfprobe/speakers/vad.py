"""Loudness and silence, as GE2E was trained to expect them.

Source: Resemblyzer's preprocessing (resemble-ai/Resemblyzer, `audio.py`), whose numbers this reproduces:
volume is raised to -30 dBFS where it is lower, then pauses are shortened by WebRTC's voice activity detector.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

INT16_MAX = 2**15 - 1
SAMPLING_RATE = 16000  # Hz
WINDOW = SAMPLING_RATE * 30 // 1000  # samples in one decision of the detector (30 ms)
AVERAGE_WINDOWS = 8  # decisions that are averaged
MAX_SILENCE_WINDOWS = 6  # longest pause that stays
TARGET_DBFS = -30.0
MODE = 3  # the detector's strictest


def raise_volume(waveform: np.ndarray, target_dbfs: float = TARGET_DBFS) -> np.ndarray:
    """Bring a quiet clip up to a level; leave a loud one alone.

    Args:
        waveform: Clip `(samples,)` in [-1, 1], not silent.
        target_dbfs: Level in dB relative to full scale.

    Returns:
        The clip, scaled or as it was.

    Example:
        >>> float(np.round(20 * np.log10(np.sqrt(np.mean(raise_volume(np.full(10, 1e-4)) ** 2))), 6))
        -30.0
    """
    rms = np.sqrt(np.mean((waveform * INT16_MAX) ** 2))
    change = target_dbfs - 20 * np.log10(rms / INT16_MAX)
    return waveform if change < 0 else waveform * (10 ** (change / 20))


def shorten_pauses(waveform: np.ndarray) -> np.ndarray:
    """Cut pauses so that none is much longer than `MAX_SILENCE_WINDOWS` windows of 30 ms.

    Args:
        waveform: Clip `(samples,)` at 16,000 Hz.

    Returns:
        What is left, possibly nothing.
    """
    # The extension itself: its wrapper imports pkg_resources, which takes half a second and newer setuptools lack.
    import _webrtcvad

    n_windows = len(waveform) // WINDOW
    if n_windows == 0:
        return waveform[:0]
    waveform = waveform[: n_windows * WINDOW]
    # Raising the volume can push a peak beyond 16 bits. Resemblyzer lets it wrap around; so do we, through a
    # wider integer where that is well defined, because published embeddings were made so.
    pcm = np.round(waveform * INT16_MAX).astype(np.int64).astype(np.int16).tobytes()
    detector = _detector()
    _webrtcvad.init(detector)  # as new
    _webrtcvad.set_mode(detector, MODE)
    step = 2 * WINDOW  # bytes
    voiced = [
        _webrtcvad.process(detector, SAMPLING_RATE, pcm[start : start + step], WINDOW)
        for start in range(0, len(pcm), step)
    ]
    # Mean over 8 windows, 3 before and 4 after; np.round takes a half to the even number, 0.
    padded = np.concatenate([np.zeros((AVERAGE_WINDOWS - 1) // 2), voiced, np.zeros(AVERAGE_WINDOWS // 2)])
    sums = np.convolve(padded, np.ones(AVERAGE_WINDOWS), mode="valid")
    kept = binary_dilation(np.round(sums / AVERAGE_WINDOWS).astype(bool), np.ones(MAX_SILENCE_WINDOWS + 1))
    return waveform[np.repeat(kept, WINDOW)]


_kept = threading.local()


def _detector() -> Any:
    """One detector for each thread: the extension never frees one, and what stays cuts the heap into pieces."""
    import _webrtcvad

    if not hasattr(_kept, "detector"):
        _kept.detector = _webrtcvad.create()
    return _kept.detector
