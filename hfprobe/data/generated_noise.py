"""Noise that is computed from its name, for machines without a noise corpus: colours, hums, clicks, chords, babble.

Names follow MUSAN's pattern; the number in a name seeds the generator, so a name always gives the same sound.
"""

from __future__ import annotations

import functools
import zlib

import numpy as np

from hfprobe.data.sentences import SENTENCES
from hfprobe.data.synthetic import Voice, draw_voices, speak

SAMPLING_RATE = 16000
SECONDS = 20
KINDS = ("white", "pink", "brown", "hum", "clicks", "bursts")

GENERATED: dict[str, tuple[str, ...]] = {
    "noise": tuple(f"noise/generated/noise-{kind}-{n:04d}" for kind in KINDS for n in range(6)),
    "music": tuple(f"music/generated/music-chords-{n:04d}" for n in range(12)),
    "speech": tuple(f"speech/generated/speech-espeak-{n:04d}" for n in range(30)),
}


def _coloured(rng: np.random.Generator, samples: int, exponent: float) -> np.ndarray:
    """Noise whose power falls as ``1 / f**exponent``: white noise shaped in the frequency domain."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLING_RATE)
    return np.fft.irfft(spectrum / np.maximum(frequency, 20.0) ** (exponent / 2), samples)


def _noise(kind: str, rng: np.random.Generator, samples: int) -> np.ndarray:
    time = np.arange(samples) / SAMPLING_RATE
    if kind in ("white", "pink", "brown"):
        return _coloured(rng, samples, {"white": 0.0, "pink": 1.0, "brown": 2.0}[kind])
    if kind == "hum":
        base = rng.uniform(45, 130)
        harmonics = [np.sin(2 * np.pi * base * h * time + rng.uniform(0, 6.28)) / h for h in range(1, 12)]
        return np.asarray(sum(harmonics))
    if kind == "clicks":
        impulses = (rng.random(samples) < rng.uniform(2, 12) / SAMPLING_RATE) * rng.standard_normal(samples)
        ring = np.exp(-np.arange(800) / rng.uniform(30, 200)) * np.sin(np.arange(800) * rng.uniform(0.2, 1.5))
        return np.convolve(impulses, ring)[:samples] + 1e-3 * rng.standard_normal(samples)
    envelope = 0.05 + np.clip(np.sin(2 * np.pi * rng.uniform(0.3, 2.0) * time + rng.uniform(0, 6.28)), 0, 1) ** 2
    return envelope * _coloured(rng, samples, rng.uniform(0, 1.5))


def _music(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A chord every beat, with decaying harmonics."""
    out = np.zeros(samples)
    beat = int(SAMPLING_RATE * rng.uniform(0.3, 0.8))
    root = rng.uniform(110, 220)
    time = np.arange(beat) / SAMPLING_RATE
    for start in range(0, samples - beat, beat):
        for step in rng.choice([0, 3, 4, 5, 7, 9, 12], size=3, replace=False):
            pitch = root * 2 ** (step / 12)
            for harmonic in range(1, 6):
                decay = np.exp(-time * (2 + harmonic))
                out[start : start + beat] += np.sin(2 * np.pi * pitch * harmonic * time) * decay / harmonic
    return out + 1e-4 * rng.standard_normal(samples)


@functools.lru_cache(maxsize=64)
def _whole(name: str) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    category, kind = name.split("/")[0], name.split("-")[1]
    samples = SECONDS * SAMPLING_RATE
    if category == "speech":
        voice = draw_voices(30, seed=77)[int(name.rsplit("-", 1)[1])]
        sentences = [SENTENCES[i] for i in rng.choice(len(SENTENCES), size=3, replace=False)]
        spoken = Voice(voice.variant, voice.accent, int(rng.integers(110, 170)), voice.pitch, voice.pitch_range)
        wave = np.concatenate([speak(sentence, spoken) for sentence in sentences])
    else:
        wave = _music(rng, samples) if category == "music" else _noise(kind, rng, samples)
    return (0.1 * wave / np.sqrt(np.mean(wave**2))).astype(np.float32)


def generate(name: str, start: float, samples: int) -> np.ndarray:
    """``samples`` samples of the noise called ``name`` from ``start`` (fraction), looped. float32 ``(samples,)``.

    Example:
        >>> generate("noise/generated/noise-pink-0001", 0.5, 1600).shape
        (1600,)
    """
    return np.resize(np.roll(_whole(name), -int(start * len(_whole(name)))), samples)
