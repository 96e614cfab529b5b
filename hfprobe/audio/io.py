"""Reading and writing sound files; whatever was done to the samples on the way is said in notes.

Decoding is libsndfile's (wav, flac, ogg, mp3), resampling is soxr's at its high-quality setting.
"""

from __future__ import annotations

import io
import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile
import soxr

from hfprobe.errors import AudioError
from hfprobe.files import write_whole
from hfprobe.plain import check_file

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MIN_SECONDS = 0.05
MIN_RATE = 1000  # a header with less is broken, and resampling would make gigabytes of it
BLOCK = 1 << 22  # samples read at a time: what a header announces need not be there, or fit into memory
SILENCE = 1e-4  # peak to peak; three steps of 16-bit audio
FORMATS = {".wav": "WAV", ".flac": "FLAC"}


@dataclass(frozen=True)
class LoadedAudio:
    """One sound, ready for an encoder.

    Attributes:
        waveform: Mono samples ``(samples,)``, float32, full scale is [-1, 1].
        sampling_rate: Samples per second, in Hz.
        notes: What was done to the file's samples, e.g. ``"resampled from 8000 Hz to 16000 Hz"``.
    """

    waveform: np.ndarray
    sampling_rate: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.sampling_rate


def load_audio(source: str | Path | bytes | BinaryIO, sampling_rate: int = 16000) -> LoadedAudio:
    """Read a sound as mono float32 at a sampling rate.

    Args:
        source: Path, bytes of an encoded file, or a binary file object.
        sampling_rate: Wanted samples per second, in Hz.

    Returns:
        The waveform, its rate, and notes on resampling, down-mixing and samples above full scale.

    Raises:
        AudioError: The file is missing, empty, cut off, not audio, silent, shorter than 50 ms, or holds NaN.

    Example:
        >>> tone = np.sin(np.arange(8000) * 0.1).astype(np.float32)
        >>> buffer = io.BytesIO()
        >>> soundfile.write(buffer, np.stack([tone, tone], 1), 8000, format="WAV")
        >>> loaded = load_audio(buffer.getvalue())
        >>> loaded.waveform.shape, loaded.notes
        ((16000,), ('mixed 2 channels to 1', 'resampled from 8000 Hz to 16000 Hz'))
    """
    name, data = _read_bytes(source)
    _check_riff(name, data)
    _check_ogg(name, data)
    opened = False
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            opened = True
            announced, rate = file.frames, file.samplerate
            samples = _read_samples(file)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        if opened:  # the header is fine and what follows is not: FLAC says so, the other formats just end
            raise AudioError(f"{name} is cut off or damaged ({reason}); copy it again", "cut off") from error
        raise AudioError(f"{name} is not readable as audio ({reason}); use wav, flac, ogg or mp3") from error
    if rate < MIN_RATE:
        raise AudioError(f"{name} says it has {rate} samples per second, at least {MIN_RATE} are needed; leave it out")
    if len(samples) == 0:
        raise AudioError(f"{name} holds no samples; leave it out or record it again", "empty")
    if 0 < announced - len(samples) and announced < 2**62:
        there = f"{announced} samples announced, {len(samples)} there"
        raise AudioError(f"{name} is cut off: {there}; copy it again", "cut off")
    if not np.isfinite(samples).all():
        raise AudioError(f"{name} holds NaN or infinite samples; repair or leave out the file", "nan")
    notes = []
    waveform = samples[:, 0]
    if samples.shape[1] > 1:
        waveform = samples.mean(axis=1)
        notes.append(f"mixed {samples.shape[1]} channels to 1")
    if len(waveform) < MIN_SECONDS * rate:
        raise AudioError(
            f"{name} lasts {1000 * len(waveform) / rate:.0f} ms, at least {1000 * MIN_SECONDS:.0f} ms "
            "are needed; leave it out",
            "too short",
        )
    if np.ptp(waveform) < SILENCE:
        after = f" after its {samples.shape[1]} channels were mixed" if samples.shape[1] > 1 else ""
        raise AudioError(f"{name} is silent{after}; leave it out or record it again", "silent")
    # Looked at before resampling, whose filter overshoots a little at full scale.
    peak = float(np.abs(waveform).max())
    if peak > 1.0:
        notes.append(f"peak {peak:.2f} is above full scale")
    if rate != sampling_rate:
        waveform = soxr.resample(waveform, rate, sampling_rate, quality="HQ")
        notes.append(f"resampled from {rate} Hz to {sampling_rate} Hz")
    return LoadedAudio(np.ascontiguousarray(waveform, dtype=np.float32), sampling_rate, tuple(notes))


def save_audio(path: str | Path, waveform: np.ndarray | torch.Tensor, sampling_rate: int = 16000) -> tuple[str, ...]:
    """Write mono 16-bit sound; the suffix gives the format. The file appears whole or not at all.

    Args:
        path: File to write, ending in ``.wav`` or ``.flac``; its folder is made if needed.
        waveform: Samples ``(samples,)``, float, numpy array or tensor.
        sampling_rate: Samples per second, in Hz.

    Returns:
        Notes: empty, or one that says how many samples were clipped to [-1, 1] (also logged as a warning).

    Raises:
        AudioError: Another suffix, another shape, no samples, or NaN.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_audio(Path(folder) / "a.wav", np.array([0.0, 0.5, 1.5]))
        ('clipped 1 of 3 samples (peak 1.50)',)
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise AudioError(
            f"{path.name}: the suffix must be one of {', '.join(FORMATS)}, got {path.suffix or 'none'}; rename it"
        )
    if hasattr(waveform, "detach"):
        waveform = waveform.detach().cpu().numpy()
    samples = np.asarray(waveform)
    if samples.ndim != 1 or len(samples) == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"{path.name}: expected float samples (samples,), got {samples.dtype} of shape {samples.shape}; "
            "save one channel at a time"
        )
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise AudioError(f"{path.name}: cannot save NaN or infinite samples; check what made them")
    notes: tuple[str, ...] = ()
    outside = int((np.abs(samples) > 1.0).sum())
    if outside:
        notes = (f"clipped {outside} of {len(samples)} samples (peak {np.abs(samples).max():.2f})",)
        logger.warning("%s: %s", path.name, notes[0])
    # Made in memory: libsndfile does not say in a usable way that a disk is full.
    encoded, kind = io.BytesIO(), FORMATS[path.suffix.lower()]
    soundfile.write(encoded, samples.clip(-1, 1), sampling_rate, format=kind, subtype="PCM_16")
    write_whole(path, encoded.getvalue())
    return notes


def _read_bytes(source) -> tuple[str, bytes]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, data = "audio bytes", bytes(source)
    elif hasattr(source, "read"):
        name, data = os.path.basename(str(getattr(source, "name", "audio stream"))), source.read()
        if not isinstance(data, bytes):
            raise AudioError(f"{name} is a text file object; open it in binary mode ('rb')")
    elif isinstance(source, (str, os.PathLike)):
        name = str(source)
        if not os.path.exists(source):
            raise AudioError(f"{name} does not exist; check the path", "missing")
        if os.path.isdir(source):
            raise AudioError(f"{name} is a folder; give one audio file")
        check_file(Path(source), "a sound", AudioError)
        data = Path(source).read_bytes()
    else:
        raise AudioError(f"audio must be a path, bytes or a binary file object, got {type(source).__name__}")
    if not data:
        raise AudioError(f"{name} is empty (0 bytes); copy or record it again", "empty")
    return name, data


def _read_samples(file: soundfile.SoundFile) -> np.ndarray:
    """All samples ``(samples, channels)``."""
    blocks = [file.read(BLOCK // file.channels, dtype="float32", always_2d=True)]
    while len(blocks[-1]) == BLOCK // file.channels:
        blocks.append(file.read(BLOCK // file.channels, dtype="float32", always_2d=True))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _check_ogg(name: str, data: bytes) -> None:
    """libsndfile takes a cut-off ogg file for a shorter one, so the last page's announced size is compared here."""
    if data[:4] != b"OggS":
        return
    page = data.rfind(b"OggS")
    count = data[page + 26] if page + 27 <= len(data) else 0  # of segments, whose sizes follow
    sizes = data[page + 27 : page + 27 + count]
    if page + 27 + count + sum(sizes) > len(data) or len(sizes) < count:
        raise AudioError(f"{name} is cut off: its last page is not complete; copy it again", "cut off")


def _check_riff(name: str, data: bytes) -> None:
    """libsndfile silently shortens a cut-off wav file, so its announced size is compared here."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    position = 12
    while position + 8 <= len(data):
        chunk, size = data[position : position + 4], struct.unpack("<I", data[position + 4 : position + 8])[0]
        position += 8
        if chunk == b"data":
            # 0 and 0xFFFFFFFF are written by programs that stream to a pipe: the end of the file is the end.
            if size not in (0, 0xFFFFFFFF, 0x7FFFFFFF) and position + size > len(data):
                there = f"{size} bytes announced, {len(data) - position} there"
                raise AudioError(f"{name} is cut off: {there}; copy it again", "cut off")
            return
        position += size + size % 2
    raise AudioError(f"{name} is cut off: a wav file without samples; copy it again", "cut off")
