"""What is left of a clip's intelligibility and quality, against its reference.

STOI: Taal et al., 2011; ESTOI: Jensen and Taal, 2016 (both by pystoi). PESQ: ITU-T P.862 and P.862.2 (by the pesq
package). SI-SDR: Le Roux et al., "SDR - half-baked or well done?", 2019. Log-mel distance: `hfprobe.metrics.spectral`.
A measure that cannot be computed raises `MeasureError` with a reason; nothing is scored 0 instead.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from signal import SIG_IGN, SIGINT
from signal import signal as set_signal_handler

import numpy as np
from numpy.typing import ArrayLike

from hfprobe.errors import MeasureError
from hfprobe.metrics.signals import check_pair, finite
from hfprobe.metrics.spectral import log_mel

STOI_SECONDS = 0.3968  # 30 frames of 25.6 ms in steps of 12.8 ms
PESQ_SECONDS = 0.25
SI_SDR_LIMIT = 100.0  # dB; float32 says no more
PATIENCE = 20.0  # seconds between two looks whether anybody is there who will answer
POOL_FROM = 8  # fewer pairs are done sooner than worker processes start


def _intelligibility(reference, degraded, rate: int, extended: bool) -> float:
    from pystoi import stoi as pystoi_stoi

    reference, degraded = check_pair(reference, degraded, STOI_SECONDS, rate)
    state = np.random.get_state()
    np.random.seed(0)  # pystoi's ESTOI fills silent bands with noise of numpy's global generator
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # said below, as an error
            value = float(pystoi_stoi(reference, degraded, rate, extended=extended))
    finally:
        np.random.set_state(state)
    if value == 1e-5:  # pystoi's answer where fewer than 30 frames are left without silence
        raise MeasureError("fewer than 30 frames are left without silence", "too short")
    return finite(value, "ESTOI" if extended else "STOI")


def stoi(reference: ArrayLike, degraded: ArrayLike, sampling_rate: int = 16000) -> float:
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


def estoi(reference: ArrayLike, degraded: ArrayLike, sampling_rate: int = 16000) -> float:
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


def pesq(reference: ArrayLike, degraded: ArrayLike, sampling_rate: int = 16000, mode: str | None = None) -> float:
    """Perceptual evaluation of speech quality (MOS-LQO).

    Args:
        reference: Clean signal ``(samples,)``.
        degraded: Signal to judge ``(samples,)``.
        sampling_rate: 16000 or 8000 Hz.
        mode: ``"wb"`` (wideband, 16 kHz only) or ``"nb"``; by the rate when None, as VERSA does: 16 kHz wideband,
            8 kHz narrowband. The two scales cannot be compared.

    Returns:
        About 1 (bad) to 4.64 (wideband) or 4.55 (narrowband).

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

    mode = mode or ("nb" if sampling_rate == 8000 else "wb")
    if mode not in ("wb", "nb"):
        raise MeasureError(f"PESQ mode must be one of wb, nb, got {mode!r}", "mode")
    if sampling_rate not in (8000, 16000) or (mode == "wb" and sampling_rate != 16000):
        raise MeasureError(f"PESQ needs 16000 Hz (mode nb: or 8000), got {sampling_rate}; resample", "rate")
    reference, degraded = check_pair(reference, degraded, PESQ_SECONDS, sampling_rate)
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
    return finite(value, "PESQ")


def pesq_nb(reference: ArrayLike, degraded: ArrayLike, sampling_rate: int = 16000) -> float:
    """Narrowband PESQ at either rate: `pesq` with ``mode="nb"``.

    Args:
        reference: Clean signal ``(samples,)``.
        degraded: Signal to judge ``(samples,)``.
        sampling_rate: 16000 or 8000 Hz.

    Returns:
        About 1 (bad) to 4.55.

    Raises:
        MeasureError: See `pesq`.

    Example:
        >>> tone = np.sin(np.arange(16000) * 0.05) * (np.arange(16000) % 4000 > 500)
        >>> pesq_nb(tone, tone) > 4
        True
    """
    return pesq(reference, degraded, sampling_rate, "nb")


def si_sdr(reference: ArrayLike, degraded: ArrayLike, sampling_rate: int = 16000) -> float:
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
    reference, degraded = check_pair(reference, degraded, 0.0, sampling_rate)
    reference, degraded = reference - reference.mean(), degraded - degraded.mean()
    target = reference * (np.dot(degraded, reference) / np.dot(reference, reference))
    kept, lost = np.sum(target**2), np.sum((degraded - target) ** 2)
    if lost <= kept * 10 ** (-SI_SDR_LIMIT / 10):
        return SI_SDR_LIMIT
    if kept <= lost * 10 ** (-SI_SDR_LIMIT / 10):
        return -SI_SDR_LIMIT
    return float(10 * np.log10(kept / lost))


MEASURES = {"stoi": stoi, "estoi": estoi, "pesq": pesq, "pesq_nb": pesq_nb, "si_sdr": si_sdr, "log_mel": log_mel}


class PairScores(dict):
    """Measure name to one value per pair, None where it failed.

    Attributes:
        reasons: Measure name to the reason of each pair that failed, None for the others.
        failures: Measure name to a count of failures by reason.
    """

    def __init__(self, values: dict[str, list[float | None]], reasons: dict[str, list[str | None]]):
        super().__init__(values)
        self.reasons = reasons
        self.failures = {
            measure: dict(Counter(reason for reason in column if reason is not None))
            for measure, column in reasons.items()
        }


def _score_one(task) -> list[tuple[float | None, str | None]]:
    reference, degraded, measures, rate = task
    results: list[tuple[float | None, str | None]] = []
    for measure in measures:
        try:
            results.append((MEASURES[measure](reference, degraded, sampling_rate=rate), None))
        except MeasureError as error:
            results.append((None, error.reason))
    return results


@lru_cache(maxsize=1)
def _pool(n_jobs: int) -> ProcessPoolExecutor:
    # Kept between calls, since every layer and condition calls; spawn, since forking after torch has threads hangs.
    return ProcessPoolExecutor(n_jobs, multiprocessing.get_context("spawn"), _start_worker)


def _result(pool: ProcessPoolExecutor, future: Future) -> list:
    """What a future gives, waiting only as long as somebody is there to give it.

    Short of memory, the pool's own thread can end without a word, and whoever waits then waits for ever.
    """
    while True:
        try:
            return future.result(timeout=PATIENCE)
        except TimeoutError:
            thread = getattr(pool, "_executor_manager_thread", None)
            if future.done():
                return future.result()
            if thread is not None and not thread.is_alive():
                raise BrokenProcessPool("the thread that hands out work has ended") from None


def _score_some(tasks: list) -> list:
    return [_score_one(task) for task in tasks]


def _start_worker() -> None:
    # Ctrl-C reaches every process of the terminal; only the one that the user started is to answer it.
    set_signal_handler(SIGINT, SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported: one core for each process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _cores() -> int:
    """Cores for this process: those it may use, shared with the processes that torchrun started beside it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, cores // max(1, int(beside))) if beside.isdigit() else cores


def score_pairs(
    references: Sequence,
    degraded: Sequence,
    measures: Sequence[str] = ("stoi",),
    sampling_rate: int = 16000,
    n_jobs: int | None = None,
) -> PairScores:
    """Several measures on many pairs, on all cores.

    Args:
        references: Clean signals, each ``(samples,)``; arrays or tensors.
        degraded: Signals to judge, in the same order.
        measures: Names out of stoi, estoi, pesq, pesq_nb, si_sdr, log_mel.
        sampling_rate: In Hz.
        n_jobs: Processes; when None one for each core, shared with the processes that torchrun started; none but
            this one for 1 or for a handful of pairs. A script that calls this needs the usual
            ``if __name__ == "__main__":``.

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
    n_jobs = _cores() if n_jobs is None else n_jobs
    if n_jobs < 2 or len(tasks) < POOL_FROM:
        rows = [_score_one(task) for task in tasks]
    else:
        try:
            size = max(1, min(8, len(tasks) // (4 * n_jobs)))
            pool = _pool(n_jobs)
            futures = [pool.submit(_score_some, tasks[i : i + size]) for i in range(0, len(tasks), size)]
            try:
                rows = [row for future in futures for row in _result(pool, future)]
            finally:
                for future in futures:
                    future.cancel()  # of an error or Ctrl-C in the middle
        except BrokenProcessPool as error:
            _pool.cache_clear()
            raise MeasureError("a scoring process died; n_jobs=1 shows on which clip", "crash") from error
    columns = {measure: [row[column] for row in rows] for column, measure in enumerate(measures)}
    return PairScores(
        {measure: [value for value, _ in column] for measure, column in columns.items()},
        {measure: [reason for _, reason in column] for measure, column in columns.items()},
    )


def _plain(signal) -> np.ndarray:
    return signal.detach().cpu().numpy() if hasattr(signal, "detach") else np.asarray(signal)
