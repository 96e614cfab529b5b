"""Measure sound files that something else made against their references: quality by system, and who can be told apart.

The same measures, trials and intervals as `hfprobe.analysis.evaluate`, for files instead of layers. Files are read,
measured and dropped a few at a time, one system after the other, so memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile
import soxr

from hfprobe.analysis.score_files import FilePairs, System
from hfprobe.analysis.test_set import length_batches
from hfprobe.audio import load_audio
from hfprobe.data import pad_waveforms
from hfprobe.errors import AudioError, ConfigError
from hfprobe.metrics import Trials, bootstrap_eer, bootstrap_mean, bootstrap_min_dcf, score_pairs
from hfprobe.results import ResultRow

CHUNK = max(64, 4 * (os.cpu_count() or 1))  # pairs of files held at once: enough for all cores
EMBED_SAMPLES = 16000 * 40
VERIFIER_RATE = 16000
# What `load_audio` says, by the words that tell it: AudioError has no reason of its own.
REASONS = {
    "does not exist": "missing", "(0 bytes)": "empty", "no samples": "empty", "cut off": "cut off", "NaN": "nan",
    " ms are needed": "too short", "is silent": "silent", "not readable": "unreadable",
}  # fmt: skip


@dataclass
class ClipScore:
    """What was measured on one degraded file.

    Attributes:
        system: Its system.
        name: Name of the reference.
        file: The degraded file.
        speaker: Who speaks, if known.
        seconds: What was compared.
        values: Measure to value, None where it failed.
        failures: Measure (or ``verifier``) to the reason.
        cosine: Similarity of the speaker embeddings of this file and of its reference.
    """

    system: System
    name: str
    file: Path
    speaker: str | None
    seconds: float | None = None
    values: dict[str, float | None] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    cosine: float | None = None


@dataclass
class ScoreReport:
    """Rows of results, every clip, and what a reader should know about them.

    Attributes:
        rows: As `hfprobe.results` describes them.
        clips: One entry per degraded file.
        failures: System to measure to a count by reason.
        notes: What was done to files: note to the number of files.
        longest_cut: Most seconds that were cut off to make a pair equally long.
    """

    rows: list[ResultRow] = field(default_factory=list)
    clips: list[ClipScore] = field(default_factory=list)
    failures: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    longest_cut: float = 0.0


def native_rate(path: Path) -> int:
    """8000 Hz for a telephone recording, else 16000 Hz: PESQ knows these two, and sounds are not blown up to 16 kHz."""
    try:
        return 8000 if soundfile.info(str(path)).samplerate <= 8000 else 16000
    except soundfile.LibsndfileError:
        return 16000


def score_files(
    pairs: FilePairs,
    quality: Sequence[str] = ("stoi", "pesq"),
    speakers: Sequence[str] | None = None,
    verifier: Any = None,
    trials: Trials | None = None,
    name: str = "degraded",
    condition: str = "clean",
    sampling_rate: int = 16000,
    seed: int = 0,
    device: str = "cpu",
    n_jobs: int | None = None,
    progress: Callable[[Any], Any] = iter,
) -> ScoreReport:
    """Measure every system against the references.

    A pair is cut to the shorter of both, as VERSA does, not aligned. Quality has a 95 % interval by bootstrap over
    speakers, or over clips where no speaker is known; EER and minDCF by bootstrap over the speakers of both sides.

    Args:
        pairs: From `hfprobe.analysis.score_files.match_files`.
        quality: Names of `hfprobe.metrics.quality.MEASURES`.
        speakers: Speaker of each reference.
        verifier: A speaker encoder of `hfprobe.speakers.load_speaker_encoder`; no EER when None.
        trials: Pairs of references to verify, the same for every system; needed with a verifier.
        name: What results call the encoder.
        condition: Condition of the references in results.
        sampling_rate: In Hz; files with another one are resampled.
        seed: Seed of the bootstrap.
        device: Where the verifier runs.
        n_jobs: Processes; all cores when None.
        progress: Wraps the list of chunks, e.g. ``tqdm``.

    Returns:
        Rows (``input`` is the references themselves, for EER), clips, failures and notes.

    Raises:
        ConfigError: There is a verifier, and there are no trials.
    """
    if verifier is not None and trials is None:
        raise ConfigError("a verifier needs trials; draw them with hfprobe.metrics.draw_trials")
    report = ScoreReport()
    notes: dict[str, set[Path]] = defaultdict(set)
    load = partial(_load, rate=sampling_rate, notes=notes)
    every = list(range(len(pairs.references)))
    work: list[tuple[System | None, list[int]]] = []
    if verifier is not None:
        work += [(None, every[i : i + CHUNK]) for i in range(0, len(every), CHUNK)]
    for system in pairs.systems:
        indices = list(system.files)
        work += [(system, indices[i : i + CHUNK]) for i in range(0, len(indices), CHUNK)]
    natural: np.ndarray | None = None  # embeddings of the references
    for _, part in groupby(progress(work), key=lambda item: id(item[0])):
        embeddings: np.ndarray | None = None
        clips: list[ClipScore] = []
        refused: list[str] = []
        for system, indices in part:
            files = pairs.references if system is None else system.files
            sounds = [load(files[i], system is None) for i in indices]
            vectors, reasons = (None, {}) if verifier is None else _embed(verifier, sounds, sampling_rate, device)
            if vectors is not None:
                if embeddings is None:
                    embeddings = np.full((len(every), vectors.shape[1]), np.nan, dtype=np.float32)
                embeddings[indices] = vectors
                refused += reasons.values()
            if system is None:
                continue
            chunk = [ClipScore(system, pairs.names[i], files[i], speakers[i] if speakers else None) for i in indices]
            references = [load(pairs.references[i], True) for i in indices]
            _measure(chunk, references, sounds, quality, sampling_rate, n_jobs, notes, report)
            for row, reason in reasons.items():
                chunk[row].failures["verifier"] = reason
            if natural is not None and vectors is not None:
                for clip, cosine in zip(chunk, _cosines(natural[indices], vectors), strict=True):
                    clip.cosine = float(cosine) if np.isfinite(cosine) else None
            clips += chunk
        failures = {m: Counter(clip.failures[m] for clip in clips if m in clip.failures) for m in quality}
        failures["verifier"] = Counter(refused)
        report.failures["input" if system is None else system.name] = {m: dict(c) for m, c in failures.items() if c}
        report.clips += clips
        if system is None:
            natural, make = embeddings, partial(ResultRow, "-", "input", condition)
        else:
            make = partial(ResultRow, name, system.layer, system.condition)
            report.rows += _quality_rows(make, clips, quality, speakers is not None, seed)
        if embeddings is not None and trials is not None:
            report.rows += _verification_rows(make, embeddings, trials, seed)
    report.notes = {note: len(paths) for note, paths in sorted(notes.items())}
    report.failures = {system: counts for system, counts in report.failures.items() if counts}
    return report


def _load(path: Path, is_reference: bool, rate: int, notes: dict[str, set[Path]]) -> tuple[np.ndarray | None, str]:
    """The waveform and no reason, or nothing and the reason."""
    try:
        loaded = load_audio(path, rate)
    except (AudioError, OSError) as error:
        text = str(error).replace(str(path), "")
        reason = next((reason for words, reason in REASONS.items() if words in text), "unreadable")
        return None, f"reference {reason}" if is_reference else reason
    for note in loaded.notes:
        # References are read once for each system; a set of files counts each once.
        notes["peak above full scale" if note.startswith("peak") else note].add(path)
    return loaded.waveform, ""


def _measure(chunk, references, sounds, quality, rate, n_jobs, notes, report) -> None:
    """Fill values and failures of a chunk of clips."""
    usable, clean, degraded = [], [], []
    for clip, (reference, why), (sound, reason) in zip(chunk, references, sounds, strict=True):
        clip.values = dict.fromkeys(quality)
        if reference is None or sound is None:
            clip.failures = dict.fromkeys(quality, why or reason)
            continue
        length = min(len(reference), len(sound))
        cut = abs(len(reference) - len(sound)) / rate
        if cut:
            notes["cut to the shorter of a pair"].add(clip.file)
            report.longest_cut = max(report.longest_cut, cut)
        clip.seconds = length / rate
        usable.append(clip)
        clean.append(reference[:length])
        degraded.append(sound[:length])
    scores = score_pairs(clean, degraded, quality, rate, n_jobs)
    for measure in quality:
        for clip, value, reason in zip(usable, scores[measure], scores.reasons[measure], strict=True):
            clip.values[measure] = value
            if reason is not None:
                clip.failures[measure] = reason


def _embed(verifier, sounds, rate, device) -> tuple[np.ndarray, dict[int, str]]:
    """One embedding per sound ``(sounds, dim)``, NaN with a reason where there is none."""
    reasons = {i: reason for i, (sound, reason) in enumerate(sounds) if sound is None}
    waves = [sound for sound, _ in sounds if sound is not None]
    rows = [i for i in range(len(sounds)) if i not in reasons]
    if rate != VERIFIER_RATE:
        waves = [soxr.resample(wave, rate, VERIFIER_RATE, quality="HQ") for wave in waves]
    vectors = np.full((len(sounds), verifier.dim), np.nan, dtype=np.float32)
    for batch in length_batches([len(wave) for wave in waves], EMBED_SAMPLES):
        waveforms, lengths = pad_waveforms([waves[i] for i in batch])
        vectors[[rows[i] for i in batch]] = verifier.embed(waveforms.to(device), lengths.to(device)).cpu().numpy()
        reasons.update({rows[batch[i]]: reason for i, reason in verifier.last_failures.items()})
    return vectors, reasons


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.einsum("nd,nd->n", left, right) / np.where(norms > 0, norms, np.nan)


def _quality_rows(make, clips: list[ClipScore], quality, by_speaker: bool, seed: int) -> list[ResultRow]:
    rows = []
    for measure in quality:
        there = [(clip.speaker, value) for clip in clips if (value := clip.values[measure]) is not None]
        interval: tuple[float | None, float | None, float | None] = (None, None, None)
        if there:
            groups = [speaker for speaker, _ in there] if by_speaker else None
            interval = bootstrap_mean([value for _, value in there], groups, seed=seed)
        rows.append(make(measure, *interval, len(there), len(clips) - len(there)))
    return rows


def _verification_rows(make, embeddings: np.ndarray, trials: Trials, seed: int) -> list[ResultRow]:
    scores = trials.scores(embeddings)
    usable = np.isfinite(scores)
    kept, scores, lost = trials.keep(usable), scores[usable], int((~usable).sum())
    if not 0 < kept.labels.sum() < len(kept):
        return [make(metric, None, n=len(kept), n_failed=lost) for metric in ("eer", "mindcf")]
    # Arrays do here what sequences do.
    sides = cast("tuple[Sequence[int], Sequence[int]]", (kept.left_speakers, kept.right_speakers))
    return [
        make("eer", *bootstrap_eer(scores, kept.labels, *sides, seed=seed), len(kept), lost),
        make("mindcf", *bootstrap_min_dcf(scores, kept.labels, *sides, seed=seed), len(kept), lost),
    ]
