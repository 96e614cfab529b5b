"""Synthetic speech from espeak-ng, for machines without a corpus and for the first minutes of CTC training.

The PyPI package ``espeakng-loader`` carries the library and its voices, so nothing has to be installed on the
system. A "speaker" is an espeak-ng voice variant together with a pitch; rate and pitch range vary per utterance.
"""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hfprobe.errors import DatasetError

# Variants of the English voice that sound like people (robots, whispers and effects are left out).
VARIANTS: tuple[str, ...] = tuple(
    "Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael "
    "Mike Nguyen Reed RicishayMax RicishayMax3 adam anika antonio aunty belinda benjamin boris caleb "
    "david ed edward f1 f2 f3 f4 f5 gustave ian iven john kaukovalta klatt klatt2 klatt3 linda m1 m2 m3 "
    "m4 m5 m6 m7 m8 marcelo max michel miguel mike2 norbert pablo paul pedro quincy rob robert sandro "
    "shelby steph travis victor zac".split()
)
ACCENTS: tuple[str, ...] = ("en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-029")

PEAK = 0.5

_AUDIO_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """How an utterance is spoken: rate in words per minute, pitch and range on espeak-ng's 0 to 99 scale."""

    variant: str
    accent: str = "en-us"
    rate: int = 120
    pitch: int = 50
    pitch_range: int = 50

    @property
    def speaker(self) -> str:
        """Speaker id: all that makes the voice, but not the rate."""
        return f"{self.accent}+{self.variant}-p{self.pitch}"


class _Engine:
    """espeak-ng, one per process, for one thread at a time.

    The library keeps the phase of its oscillators and the state of its random numbers from one utterance to
    the next, and has no call to reset them: the same sentence would sound different after different sentences, and a
    resumed training would hear other speech. So it is loaded anew for each utterance (about a millisecond).
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise DatasetError(
                "synthetic speech needs the package espeakng-loader: pip install espeakng-loader"
            ) from error
        self._path, self._data = espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())
        self._system = ctypes.CDLL(None)
        self._chunks: list[np.ndarray] = []
        self._lock = threading.Lock()
        self._callback = _CALLBACK(self._collect)  # kept: the library holds only the bare pointer
        self.library: ctypes.CDLL | None = None
        self._restart()

    def _restart(self) -> ctypes.CDLL:
        if self.library is not None:
            self.library.espeak_Terminate()
            _ctypes.dlclose(self.library._handle)
        self.library = library = ctypes.CDLL(self._path)
        self.rate = library.espeak_Initialize(_AUDIO_SYNCHRONOUS, 0, str(self._data).encode(), 0)
        if self.rate <= 0:
            raise DatasetError(f"espeak-ng did not start (status {self.rate}); reinstall espeakng-loader")
        library.espeak_SetSynthCallback(self._callback)
        self._system.srand(1)
        # The library has random numbers of its own too (breath in the voices f1 to f5), seeded with the time of day.
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        return library

    def _collect(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        with self._lock:
            return self._speak(text, voice)

    def _speak(self, text: str, voice: Voice) -> np.ndarray:
        library = self._restart()
        name = f"{voice.accent}+{voice.variant}"
        # espeak-ng takes its standard voice in silence where it does not know a variant.
        known = (self._data / "voices" / "!v" / voice.variant).is_file()
        if not known or library.espeak_SetVoiceByName(name.encode()) != 0:
            raise DatasetError(f"espeak-ng has no voice {name!r}; variants: {', '.join(VARIANTS[:8])}, ...")
        for parameter, value in (
            (_RATE, voice.rate),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
            (_VOLUME, 100),
        ):
            library.espeak_SetParameter(parameter, int(value), 0)
        self._chunks.clear()
        data = text.lower().encode()
        library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
        library.espeak_Synchronize()
        sound = np.concatenate(self._chunks).astype(np.float32) / 32768 if self._chunks else np.zeros(0, np.float32)
        if not sound.any():  # a few zeros come back for a text without letters
            raise DatasetError(f"espeak-ng made no sound for {text!r}; give text with letters")
        return sound


@functools.lru_cache(maxsize=1)
def _engine() -> _Engine:
    return _Engine()


def speak(text: str, voice: Voice, sampling_rate: int = 16000) -> np.ndarray:
    """Synthesise one sentence.

    Args:
        text: English text.
        voice: Voice, rate and pitch.
        sampling_rate: Rate of the result in Hz.

    Returns:
        float32 waveform ``(samples,)`` in [-1, 1].

    Raises:
        DatasetError: espeakng-loader is missing, the voice is unknown, or the text has nothing to say.

    Example:
        >>> speak("good morning", Voice("m1")).ndim
        1
    """
    import soxr

    engine = _engine()
    waveform = engine.speak(text, voice)
    resampled = soxr.resample(waveform, engine.rate, sampling_rate).astype(np.float32)
    # Voices differ in level by 14 dB and the loudest clip; one peak for all keeps loudness from naming the speaker.
    return resampled * np.float32(PEAK / max(float(np.abs(resampled).max()), 1e-4))


def draw_voices(count: int, seed: int = 0) -> list[Voice]:
    """``count`` different speakers, drawn once per seed; every variant is used before one comes again.

    Example:
        >>> len({voice.speaker for voice in draw_voices(100)})
        100
    """
    rng = np.random.default_rng(seed)
    voices: list[Voice] = []
    seen: set[str] = set()
    while len(voices) < count:
        for variant in rng.permutation(VARIANTS):
            accent = str(rng.choice(ACCENTS))
            voice = Voice(str(variant), accent, pitch=int(rng.integers(25, 80)), pitch_range=int(rng.integers(30, 70)))
            if voice.speaker not in seen:
                seen.add(voice.speaker)
                voices.append(voice)
    return voices[:count]


def draw_voice(rng: np.random.Generator, rates: tuple[int, int] = (80, 125)) -> Voice:
    """One voice from all variants, accents, rates (words per minute) and pitches.

    The default rates are slow on purpose: at 80 ms per encoder frame, fast speech has more characters than frames,
    and CTC cannot align it.
    """
    return Voice(
        variant=str(VARIANTS[rng.integers(len(VARIANTS))]),
        accent=str(ACCENTS[rng.integers(len(ACCENTS))]),
        rate=int(rng.integers(*rates)),
        pitch=int(rng.integers(25, 85)),
        pitch_range=int(rng.integers(20, 80)),
    )


def record(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give clean synthetic speech a random microphone: a spectral tilt and a noise floor 20 to 45 dB below it.

    Without this a recogniser trained on synthetic speech takes the digital silence between words for granted.

    Args:
        waveform: float32 ``(samples,)``.
        rng: Source of the draw.

    Returns:
        float32 ``(samples,)`` with the same peak.
    """
    pole = rng.uniform(-0.6, 0.6)
    spectrum = np.fft.rfft(waveform)
    angle = np.linspace(0, np.pi, len(spectrum))
    filtered = np.fft.irfft(spectrum / np.abs(1 - pole * np.exp(-1j * angle)), len(waveform))
    floor = np.sqrt(np.mean(filtered**2)) * 10 ** (-rng.uniform(20, 45) / 20)
    filtered = filtered + floor * rng.standard_normal(len(filtered))
    return (filtered * (np.abs(waveform).max() / max(np.abs(filtered).max(), 1e-6))).astype(np.float32)
