"""Small sounds for the tests of faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def utterance(number: int, speaker: int, seconds: float = 0.7) -> np.ndarray:
    """Something like speech: syllables of a harmonic voice of the speaker's pitch, float32 ``(samples,)``."""
    rng = np.random.default_rng([number, speaker])
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 90 + 35 * speaker + 10 * np.sin(2 * np.pi * (2 + rng.random()) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = rng.uniform(300, 3000, 3)
    voice = np.zeros_like(time)
    for harmonic in range(1, 25):
        gain = sum(np.exp(-(((harmonic * pitch.mean() - f) / 200) ** 2)) for f in formants)
        voice += (gain + 0.02) * np.sin(harmonic * phase)
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * (4 + speaker) * time + rng.uniform(0, 6))
    sound = voice * syllables + 0.01 * rng.standard_normal(len(time))
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def write_corpus(folder: Path, per_speaker: int, speakers: int = 3) -> Path:
    """Sounds ``speaker/number.flac`` of different lengths."""
    for speaker in range(speakers):
        (folder / f"s{speaker}").mkdir(parents=True)
        for number in range(per_speaker):
            sound = utterance(number, speaker, 0.6 + 0.05 * ((number + speaker) % 5))
            soundfile.write(folder / f"s{speaker}" / f"{number:02d}.flac", sound, RATE)
    return folder


def write_noise(folder: Path) -> Path:
    """Noise in MUSAN's layout, three files of each category: two to train with, one to test."""
    for place, category in enumerate(("noise", "music", "speech")):
        (folder / category / "x").mkdir(parents=True)
        for number in range(3):
            sound = np.random.default_rng([place, number]).standard_normal(2 * RATE)
            soundfile.write(folder / category / "x" / f"{number}.wav", 0.1 * sound, RATE)
    return folder
