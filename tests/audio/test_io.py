"""Reading and writing: round trips, notes, and every way a file can be bad."""

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hfprobe.audio import load_audio, save_audio
from hfprobe.errors import AudioError

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".FLAC"])
@pytest.mark.parametrize("kind", ["path", "str", "bytes", "file"])
def test_round_trip(tmp_path, suffix, kind):
    path = tmp_path / "deep" / f"a{suffix}"
    assert save_audio(path, torch.from_numpy(TONE)) == ()
    source = {"path": path, "str": str(path), "bytes": path.read_bytes(), "file": io.BytesIO(path.read_bytes())}
    loaded = load_audio(source[kind])
    assert loaded.waveform.dtype == np.float32 and loaded.sampling_rate == 16000 and loaded.notes == ()
    assert np.abs(loaded.waveform - TONE).max() < 1 / 30000
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


def test_resampling_and_mixing_are_noted_and_right(tmp_path):
    time = np.arange(8000) / 8000
    left = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", np.stack([left, 0 * left], 1), 8000)
    loaded = load_audio(tmp_path / "a.wav")
    assert loaded.notes == ("mixed 2 channels to 1", "resampled from 8000 Hz to 16000 Hz")
    assert len(loaded.waveform) == 16000
    assert np.abs(loaded.waveform - TONE / 2)[500:-500].max() < 1e-3


def test_peak_above_full_scale_is_noted(tmp_path):
    soundfile.write(tmp_path / "a.wav", 4 * TONE, 16000, subtype="FLOAT")
    assert load_audio(tmp_path / "a.wav").notes == ("peak 2.00 is above full scale",)


def _file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is not audio " * 50)
    elif kind == "no samples":
        soundfile.write(path, TONE[:0], 16000)
    elif kind == "silent":
        soundfile.write(path, 0 * TONE, 16000)
    elif kind == "constant":
        soundfile.write(path, 0 * TONE + 0.25, 16000)
    elif kind == "cancelling":
        soundfile.write(path, np.stack([TONE, -TONE], 1), 16000)
    elif kind == "short":
        soundfile.write(path, TONE[:700], 16000)
    elif kind == "nan":
        soundfile.write(path, np.where(np.arange(16000) == 5, np.nan, TONE), 16000, subtype="FLOAT")
    elif kind == "folder":
        path.mkdir()
    elif kind.startswith("cut"):
        path = path.with_suffix(".flac" if "flac" in kind else ".wav")
        soundfile.write(path, TONE, 16000)
        data = path.read_bytes()
        path.write_bytes(data[: 20 if kind == "cut header" else len(data) // 2])
    return path


@pytest.mark.parametrize(
    "kind,word",
    [
        ("missing", "does not exist"), ("empty", "empty"), ("text", "not readable"), ("no samples", "no samples"),
        ("silent", "silent"), ("constant", "silent"), ("cancelling", "2 channels were mixed"), ("short", "44 ms"),
        ("nan", "NaN"), ("folder", "folder"), ("cut wav", "cut off"), ("cut flac", "cut off|not readable"), ("cut header", "cut off"),
    ],
)  # fmt: skip
def test_bad_files_say_why_in_one_line(tmp_path, kind, word):
    with pytest.raises(AudioError, match=word) as error:
        load_audio(_file(tmp_path, kind))
    assert "\n" not in str(error.value)


def test_wav_written_to_a_pipe_is_fine(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, 16000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    position = data.index(b"data") + 4
    data[position : position + 4] = b"\xff\xff\xff\xff"
    assert len(load_audio(bytes(data)).waveform) == 16000


@pytest.mark.parametrize(
    "name,waveform",
    [
        ("a.mp5", TONE), ("a", TONE), ("a.wav", TONE[:0]), ("a.wav", TONE[None]), ("a.wav", TONE * np.nan),
        ("a.wav", (TONE * 100).astype(np.int16)),
    ],
)  # fmt: skip
def test_bad_saves_leave_nothing(tmp_path, name, waveform):
    with pytest.raises(AudioError):
        save_audio(tmp_path / name, waveform)
    assert os.listdir(tmp_path) == []


def test_clipping_is_said(tmp_path):
    notes = save_audio(tmp_path / "a.flac", 3 * TONE)
    assert len(notes) == 1 and "clipped" in notes[0]
    assert np.abs(load_audio(tmp_path / "a.flac").waveform).max() <= 1
