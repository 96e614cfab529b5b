"""What is left of a clip's intelligibility and quality, against its reference.

STOI: Taal et al., 2011; ESTOI: Jensen and Taal, 2016 (both by pystoi). PESQ: ITU-T P.862 and P.862.2 (by the
    pesq
package). SI-SDR: Le Roux et al., "SDR - half-baked or well done?", 2019. A measure that cannot be computed
raises `MeasureError` with a reason; nothing is scored 0 instead.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from signal import SIG_IGN, SIGINT
from signal import signal as set_signal_handler

import numpy as np

from hfprobe.errors import MeasureError

SILENCE = 1e-8  # peak to peak
STOI_SECONDS = 0.3968  # 30 frames of 25.6 ms in steps of 12.8 ms
PESQ_SECONDS = 0.25
SI_SDR_LIMIT = 100.0  # dB; float32 says no more
POOL_FROM = 8  # fewer pairs are done sooner than worker processes start


def _check_pair(reference, degraded, seconds: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
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


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise MeasureError(f"{name} is not a number for this pair", "nan")
    return float(value)


def _intelligibility(reference, degraded, rate: int, extended: bool) -> float:
    from pystoi import stoi as pystoi_stoi

    reference, degraded = _check_pair(reference, degraded, STOI_SECONDS, rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # said below, as an error
        value = float(pystoi_stoi(reference, degraded, rate, extended=extended))
    if value == 1e-5:  # pystoi's answer where fewer than 30 frames are left without silence
        raise MeasureError("fewer than 30 frames are left without silence", "too short")
    return _finite(value, "ESTOI" if extended else "STOI")


def stoi(reference, degraded, sampling_rate: int = 16000) -> float:
    """Short-time objective intelligibility.

    Args:
        reference: Clean signal ``(samples,)``.
        degraded: Signal to judge ``(samples,)``, aligned with it.
        sampling_rate: In Hz.

    Returns:
        About 0 (nothing) to 1 (everything).

    Raises:
        MeasureError: Reason ``"length"``, ``"nan"``, ``"silent"`` or ``"too short"``.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(16000)
        >>> round(stoi(noise, noise), 6)
        1.0
    """
    return _intelligibility(reference, degraded, sampling_rate, extended=False)


def estoi(reference, degraded, sampling_rate: int = 16000) -> float:
    """Extended STOI, which also follows modulated noise.

    Args:
        reference: Clean signal ``(samples,)``.
        degraded: Signal to judge ``(samples,)``, aligned with it.
        sampling_rate: In Hz.

    Returns:
        About 0 (nothing) to 1 (everything).

    Raises:
        MeasureError: Reason ``"length"``, ``"nan"``, ``"silent"`` or ``"too short"``.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(16000)
        >>> round(estoi(noise, noise), 6)
        1.0
    """
    return _intelligibility(reference, degraded, sampling_rate, extended=True)


def pesq(reference, degraded, sampling_rate: int = 16000, mode: str = "wb") -> float:
    """Perceptual evaluation of speech quality (MOS-LQO).

    Args:
        reference: Clean signal ``(samples,)``.
        degraded: Signal to judge ``(samples,)``.
        sampling_rate: 16000 or 8000 Hz.
        mode: ``"wb"`` (wideband, 16 kHz only) or ``"nb"``.

    Returns:
        About 1 (bad) to 4.6.

    Raises:
        MeasureError: Reason ``"length"``, ``"nan"``, ``"silent"``, ``"too short"``, ``"no utterance"``,
            ``"rate"``, ``"mode"`` or ``"failed"``.

    Example:
        >>> pesq(np.zeros(16000), np.zeros(16000))
        Traceback (most recent call last):
        ...
        hfprobe.errors.MeasureError: reference is silent
    """
    import pesq as package

    if mode not in ("wb", "nb"):
        raise MeasureError(f"PESQ mode must be one of wb, nb, got {mode!r}", "mode")
    if sampling_rate not in (8000, 16000) or (mode == "wb" and sampling_rate != 16000):
        raise MeasureError(f"PESQ needs 16000 Hz (mode nb: or 8000), got {sampling_rate}; resample", "rate")
    reference, degraded = _check_pair(reference, degraded, PESQ_SECONDS, sampling_rate)
    try:
        value = package.pesq(sampling_rate, reference, degraded, mode)
    except package.NoUtterancesError as error:
        raise MeasureError("PESQ finds no utterance", "no utterance") from error
    except package.BufferTooShortError as error:
        raise MeasureError("the clip is too short for PESQ", "too short") from error
    except package.PesqError as error:
        raise MeasureError(f"PESQ failed: {error}", "failed") from error
    except ValueError as error:  # raised by the wrapper when the level of the clip comes out as NaN
        raise MeasureError("PESQ is not a number for this pair", "nan") from error
    return _finite(value, "PESQ")


def si_sdr(reference, degraded, sampling_rate: int = 16000) -> float:
    """Scale-invariant signal-to-distortion ratio.

    Args:
        reference: Clean signal ``(samples,)``.
        degraded: Signal to judge ``(samples,)``.
        sampling_rate: Not used; there so that all measures are called alike.

    Returns:
        Ratio in dB, between -100 and 100.

    Raises:
        MeasureError: Reason ``"length"``, ``"nan"``, ``"silent"`` or ``"too short"``.

    Example:
        >>> si_sdr([1.0, -1.0, 1.0, -1.0], [2.0, -2.0, 2.0, -2.0])
        100.0
    """
    reference, degraded = _check_pair(reference, degraded, 0.0, sampling_rate)
    reference, degraded = reference - reference.mean(), degraded - degraded.mean()
    target = reference * (np.dot(degraded, reference) / np.dot(reference, reference))
    kept, lost = np.sum(target**2), np.sum((degraded - target) ** 2)
    if lost <= kept * 10 ** (-SI_SDR_LIMIT / 10):
        return SI_SDR_LIMIT
    if kept <= lost * 10 ** (-SI_SDR_LIMIT / 10):
        return -SI_SDR_LIMIT
    return float(10 * np.log10(kept / lost))


MEASURES = {"stoi": stoi, "estoi": estoi, "pesq": pesq, "si_sdr": si_sdr}


class PairScores(dict):
    """Measure name to one value per pair, None where it failed.

    Attributes:
        failures: Measure name to a count of failures by reason.
    """

    def __init__(self, values: dict[str, list[float | None]], failures: dict[str, dict[str, int]]):
        super().__init__(values)
        self.failures = failures


def _score_one(task) -> list[tuple[float | None, str | None]]:
    reference, degraded, measures, rate = task
    results = []
    for measure in measures:
        try:
            results.append((MEASURES[measure](reference, degraded, sampling_rate=rate), None))
        except MeasureError as error:
            results.append((None, error.reason))
    return results


@lru_cache(maxsize=1)
def _pool(n_jobs: int) -> ProcessPoolExecutor:
    # Kept between calls, since every layer and condition calls; spawn, since forking after torch has threads
    # hangs.
    # Ctrl-C reaches every process of the terminal; only the one that the user started is to answer it.
    return ProcessPoolExecutor(n_jobs, multiprocessing.get_context("spawn"), set_signal_handler, (SIGINT, SIG_IGN))


def score_pairs(
    references, degraded, measures=("stoi",), sampling_rate: int = 16000, n_jobs: int | None = None
) -> PairScores:
    """Several measures on many pairs, on all cores.

    Args:
        references: Clean signals, each ``(samples,)``; arrays or tensors.
        degraded: Signals to judge, in the same order.
        measures: Names out of stoi, estoi, pesq, si_sdr.
        sampling_rate: In Hz.
        n_jobs: Processes; all cores when None, none but this one for 1 or for a handful of pairs. A script
            that calls this needs the usual ``if __name__ == "__main__":``.

    Returns:
        Values in the order of the pairs, and failures counted by reason.

    Raises:
        MeasureError: Unknown measure, different numbers of signals, or a worker process died.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(16000)
        >>> scores = score_pairs([noise, noise], [noise, 0 * noise])
        >>> scores["stoi"][1], scores.failures
        (None, {'stoi': {'silent': 1}})
    """
    measures = tuple(measures)
    for measure in measures:
        if measure not in MEASURES:
            raise MeasureError(f"unknown measure {measure!r}; known: {', '.join(MEASURES)}", "measure")
    references, degraded = list(map(_plain, references)), list(map(_plain, degraded))
    if len(references) != len(degraded):
        raise MeasureError(f"got {len(references)} references for {len(degraded)} degraded signals", "length")
    tasks = [(a, b, measures, sampling_rate) for a, b in zip(references, degraded, strict=True)]
    n_jobs = (os.cpu_count() or 1) if n_jobs is None else n_jobs
    if n_jobs < 2 or len(tasks) < POOL_FROM:
        rows = [_score_one(task) for task in tasks]
    else:
        try:
            chunksize = max(1, min(8, len(tasks) // (4 * n_jobs)))
            rows = list(_pool(n_jobs).map(_score_one, tasks, chunksize=chunksize))
        except BrokenProcessPool as error:
            _pool.cache_clear()
            raise MeasureError("a scoring process died; n_jobs=1 shows on which clip", "crash") from error
    values, failures = {}, {}
    for column, measure in enumerate(measures):
        values[measure] = [row[column][0] for row in rows]
        failures[measure] = dict(Counter(row[column][1] for row in rows if row[column][1] is not None))
    return PairScores(values, failures)


def _plain(signal) -> np.ndarray:
    return signal.detach().cpu().numpy() if hasattr(signal, "detach") else np.asarray(signal)
