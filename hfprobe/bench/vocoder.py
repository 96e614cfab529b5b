"""From mel to sound: hfprobe's vocoder against librosa's Griffin-Lim of 32 iterations.

librosa's own inversion of the mel filters takes many minutes, so that it gets hfprobe's, and its time is that of the
phases alone, while hfprobe's counts the inversion too. Quality is STOI and wideband PESQ against the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from hfprobe.audio import MelConfig, invert_mel, mel_spectrogram, vocode
from hfprobe.bench.floors import Floor
from hfprobe.bench.machine import Machine
from hfprobe.bench.measure import interleave, ratio
from hfprobe.bench.report import Goal, Section
from hfprobe.bench.speech import clips
from hfprobe.errors import ConfigError
from hfprobe.metrics import score_pairs

LIBROSA = "librosa, 32 iterations"


def bench_vocoder(
    machine: Machine, seconds: Sequence[float], repeats: int, iterations: Sequence[int] = (12, 16, 32), seed: int = 0
) -> Section:
    """Compare vocoders.

    Args:
        machine: Machine.
        seconds: Lengths of the clips.
        repeats: Rounds.
        iterations: hfprobe's numbers of iterations.
        seed: Of the phases.

    Returns:
        The section.

    Raises:
        ConfigError: librosa is not there.
    """
    config, speech = MelConfig(), clips(seconds)
    mels = [mel_spectrogram(clip, config) for clip in speech]
    runs: dict[str, Callable[[], list[np.ndarray]]] = {LIBROSA: lambda: [_librosa(*pair, seed) for pair in pairs]}
    # librosa's start: magnitudes that hfprobe has already inverted.
    pairs = [(invert_mel(mel, config), len(clip)) for mel, clip in zip(mels, speech, strict=True)]
    on_device = [mel.to(machine.device) for mel in mels]
    for n_iter in iterations:
        runs[f"hfprobe, {n_iter} iterations"] = _own(on_device, speech, config, n_iter, seed)
    sounds = {name: run() for name, run in runs.items()}
    times = interleave(runs, repeats, machine.device, warm_up=0, others=(LIBROSA,))
    section = Section("vocoder", "Vocoder: from mel-spectrograms to sound")
    found = {}
    for name, timing in times.items():
        scores = score_pairs(speech, sounds[name], ("stoi", "pesq"), n_jobs=1)
        found[name] = {measure: _mean(scores[measure]) for measure in ("stoi", "pesq")}
        count = 32 if name == LIBROSA else int(name.split()[1])
        floor = _floor([mel.shape[0] for mel in mels], config, count)
        times_as_long = ratio(timing, times[LIBROSA], machine.clock).row()
        section.add(name, timing, floor, machine, times=times_as_long, **found[name])
    own = list(times)[1:]
    gains = {name: {m: found[name][m] - found[LIBROSA][m] for m in ("stoi", "pesq")} for name in own}
    as_good = [name for name in own if min(gains[name].values()) >= 0]
    best = min(as_good or own[-1:], key=lambda name: times[name].median(machine.clock))
    faster = ratio(times[LIBROSA], times[best], machine.clock).median
    section.goals = [
        Goal(f"{best}: times less time than {LIBROSA}", faster, "at least", 3.0),
        *(
            Goal(f"{best}: {m.upper()} above that of {LIBROSA}", gain, "at least", 0.0)
            for m, gain in gains[best].items()
        ),
    ]
    section.notes = [
        f"{len(seconds)} clips, {sum(seconds):.1f} s. The floor counts the two Fourier transforms of each iteration "
        "(2.5 n log2 n operations) and one read and one write of the spectrogram. "
        f"The goals are those of the fastest that is as good as {LIBROSA}."
    ]
    return section


def _librosa(magnitude: Tensor, length: int, seed: int) -> np.ndarray:
    """librosa's fast Griffin-Lim with its defaults, from random phases."""
    try:
        import librosa
    except ImportError as error:
        raise ConfigError("the vocoder benchmark needs librosa: pip install librosa") from error
    config = MelConfig()
    return librosa.griffinlim(
        magnitude.numpy().T, n_iter=32, hop_length=config.hop_length, win_length=config.win_length,
        n_fft=config.n_fft, length=length, random_state=seed,
    )  # fmt: skip


def _own(mels: Sequence[Tensor], speech: Sequence[Tensor], config: MelConfig, n_iter: int, seed: int):
    def run() -> list[np.ndarray]:
        made = zip(mels, speech, strict=True)
        return [vocode(mel, config, n_iter, lengths=len(clip), seed=seed).cpu().numpy() for mel, clip in made]

    return run


def _mean(values: Sequence[float | None]) -> float:
    """Mean of those that could be computed."""
    known = [value for value in values if value is not None]
    if not known:
        raise ConfigError("no clip could be scored; give longer ones")
    return mean(known)


def _floor(frames: Sequence[int], config: MelConfig, iterations: int) -> Floor:
    """A real transform forth and one back for each frame and iteration."""
    transform = 2.5 * config.n_fft * float(torch.tensor(config.n_fft).log2())
    steps = sum(frames) * iterations
    return Floor(2 * transform * steps, 2 * 8 * config.n_freqs * steps)
