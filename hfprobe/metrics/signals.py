"""What every measure on a pair of signals checks first, so that a failure has one of a few reasons to be counted by."""

from __future__ import annotations

import math

import numpy as np

from hfprobe.errors import MeasureError

SILENCE = 1e-8  # peak to peak


def check_pair(reference, degraded, seconds: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Both signals as float64 ``(samples,)``.

    Args:
        reference: Clean signal ``(samples,)``, array or tensor.
        degraded: Signal to judge ``(samples,)``, as long as the reference.
        seconds: Shortest duration that the measure can judge.
        rate: Samples per second, in Hz.

    Raises:
        MeasureError: Reason ``"length"`` (not one channel, or not equally long), ``"nan"``, ``"too short"`` or
            ``"silent"``.

    Example:
        >>> check_pair([0.0, 1.0], [1.0, 0.0], 0.0, 16000)[0].dtype
        dtype('float64')
    """
    signals = []
    for name, signal in (("reference", reference), ("degraded", degraded)):
        if hasattr(signal, "detach"):
            signal = signal.detach().cpu().numpy()
        signal = np.asarray(signal, dtype=np.float64)
        if signal.ndim != 1:
            raise MeasureError(f"{name} must be (samples,), got {signal.shape}; give one channel", "length")
        if not np.isfinite(signal).all():
            raise MeasureError(f"{name} holds NaN or infinite samples", "nan")
        signals.append(signal)
    if len(signals[0]) != len(signals[1]):
        raise MeasureError(
            f"signals must be equally long, got {len(signals[0])} and {len(signals[1])} samples; cut one",
            "length",
        )
    if len(signals[0]) < max(1, math.ceil(seconds * rate)):
        raise MeasureError(f"need at least {seconds:.2f} s, got {len(signals[0]) / rate:.2f} s", "too short")
    for name, signal in zip(("reference", "degraded"), signals, strict=True):
        if np.ptp(signal) < SILENCE:
            raise MeasureError(f"{name} is silent", "silent")
    return signals[0], signals[1]


def finite(value: float, name: str) -> float:
    """The value as a float.

    Raises:
        MeasureError: It is NaN or infinite (``"nan"``).
    """
    if not math.isfinite(value):
        raise MeasureError(f"{name} is not a number for this pair", "nan")
    return float(value)
