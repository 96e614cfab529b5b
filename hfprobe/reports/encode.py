"""Sound and mel-spectrograms as bytes a browser reads: FLAC (or Opus, WAV) and palette PNG, and atomic files.

One colour scale serves all pictures of an utterance, so that a darker picture means less energy and nothing
else.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from hfprobe.reports.model import ReportError

# Natural-log power to decibels: 10 log10(x) = DECIBELS * ln(x).
DECIBELS = 10 / math.log(10)
# From the darkest to the brightest colour; wider, and noise and speech come out in the same middle shades.
SPAN_DB = 60
# 64 shades look continuous and compress to about two thirds of 256.
_SHADES = 64
_FORMATS = {
    "flac": ("FLAC", "PCM_16", "audio/flac", ".flac"),
    "wav": ("WAV", "PCM_16", "audio/wav", ".wav"),
    "opus": ("OGG", "OPUS", "audio/ogg", ".opus"),
}


@dataclass(frozen=True)
class EncodedAudio:
    """A sound file in memory.

    Attributes:
        data: The bytes of the file.
        mime: Media type, e.g. ``"audio/flac"``.
        suffix: File name suffix with its dot.
        gain_db: Gain that was applied so that nothing clips: 0 or negative, in dB.
    """

    data: bytes
    mime: str
    suffix: str
    gain_db: float


def audio_format_info(audio_format: str) -> tuple[str, str, str, str]:
    """Container and coding as soundfile names them, media type, and suffix of a format.

    Raises:
        ReportError: If the format is unknown.

    Example:
        >>> audio_format_info("flac")
        ('FLAC', 'PCM_16', 'audio/flac', '.flac')
    """
    if audio_format not in _FORMATS:
        raise ReportError(f"audio format must be one of {', '.join(_FORMATS)}, got {audio_format!r}")
    return _FORMATS[audio_format]


def encode_audio(waveform: np.ndarray, sampling_rate: int, audio_format: str = "flac") -> EncodedAudio:
    """Compress a waveform, scaled down if its peak is above full scale.

    Clipping would be heard, and taken for the layer's doing.

    Args:
        waveform: Float waveform `(samples,)`.
        sampling_rate: In Hz.
        audio_format: ``"flac"`` (lossless, default), ``"wav"``, or ``"opus"`` (smallest, lossy).

    Returns:
        The file; 16 bits per sample for FLAC and WAV, with exactly as many samples as given.

    Raises:
        ReportError: If the format is unknown.

    Example:
        >>> tone = np.sin(np.arange(1600) / 5).astype(np.float32)
        >>> encode_audio(tone, 16000).data[:4]
        b'fLaC'
    """
    import soundfile

    container, subtype, mime, suffix = audio_format_info(audio_format)
    waveform = np.asarray(waveform, dtype=np.float64)
    full = 32767 / 32768
    peak = float(np.abs(waveform).max(initial=0.0))
    gain = full / peak if peak > 1 else 1.0
    samples = np.clip(waveform * gain, -1, full)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sampling_rate, format=container, subtype=subtype)
    return EncodedAudio(buffer.getvalue(), mime, suffix, 20 * math.log10(gain))


def mel_scale(mels: Iterable[np.ndarray], span_db: float = SPAN_DB) -> tuple[float, float]:
    """Limits of one colour scale for several mel-spectrograms.

    Args:
        mels: Natural-log power mel-spectrograms `(frames, n_mels)`; use the inputs, which bound what comes
            back.
        span_db: Distance from the darkest to the brightest colour, in dB.

    Returns:
        `(low, high)` in natural-log power; high is the 99.9th percentile of all values, so that a click does
        not darken the rest.

    Example:
        >>> low, high = mel_scale([np.zeros((3, 2))])
        >>> high, round((high - low) * DECIBELS)
        (0.0, 60)
    """
    high = float(np.percentile(np.concatenate([np.ravel(mel) for mel in mels]), 99.9))
    return high - span_db / DECIBELS, high


@cache
def _palette(shades: int = _SHADES) -> np.ndarray:
    """Matplotlib's magma as uint8 `(shades, 3)`: even in lightness, so right in grey and for all eyes."""
    from matplotlib import colormaps

    return np.round(255 * colormaps["magma"](np.linspace(0, 1, shades))[:, :3]).astype(np.uint8)


def colour_bar(stops: int = 12) -> str:
    """The colours of `mel_png` from quiet to loud, as a CSS gradient.

    Example:
        >>> colour_bar(2)
        'linear-gradient(to right, #000004, #fcfdbf)'
    """
    colours = _palette()[np.linspace(0, _SHADES - 1, stops).round().astype(int)]
    return f"linear-gradient(to right, {', '.join('#' + bytes(colour).hex() for colour in colours)})"


def mel_png(
    mel: np.ndarray, scale: tuple[float, float], frames: int | None = None, max_width: int = 640
) -> tuple[bytes, int, int]:
    """A mel-spectrogram as a small PNG: time to the right, frequency upwards, one pixel per value.

    Args:
        mel: Natural-log power `(frames, n_mels)`.
        scale: `(low, high)` from `mel_scale`.
        frames: Frames that the full width stands for; a shorter mel is filled with silence, a longer one cut,
            so that the cursor is right in every picture of an utterance. Default: as many as there are.
        max_width: Neighbouring frames are averaged until the picture is at most this wide, in pixels.

    Returns:
        `(png, width, height)`, sizes in pixels.
    """
    from PIL import Image

    low, high = scale
    mel = np.asarray(mel, dtype=np.float32)
    frames = frames or len(mel)
    picture: np.ndarray = np.full((frames, mel.shape[1]), low, dtype=np.float32)
    picture[: len(mel)] = mel[:frames]
    group = math.ceil(frames / max_width)
    if group > 1:
        starts = np.arange(0, frames, group)
        counts = np.diff(np.append(starts, frames))
        picture = np.add.reduceat(picture, starts, axis=0) / counts[:, None]
    shade = np.clip((picture - low) / max(high - low, 1e-9), 0, 1) * (_SHADES - 1)
    image = Image.fromarray(np.ascontiguousarray(np.round(shade).astype(np.uint8).T[::-1]))
    image.putpalette(_palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue(), image.width, image.height


def data_uri(data: bytes, mime: str) -> str:
    """Bytes as a `data:` address.

    Example:
        >>> data_uri(b"hi", "text/plain")
        'data:text/plain;base64,aGk='
    """
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
