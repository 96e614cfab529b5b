"""Sound and pictures as files: nothing is lost, one scale for all, files whole or not there."""

import io
import math

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hfprobe.files import write_whole
from hfprobe.reports import ReportError
from hfprobe.reports.encode import data_uri, encode_audio, mel_png, mel_scale


@given(st.integers(1, 5000), st.floats(0.01, 8), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_flac_keeps_every_sample_up_to_a_known_gain(samples, peak, seed):
    wave = np.random.default_rng(seed).uniform(-1, 1, samples)
    wave *= peak / np.abs(wave).max()
    encoded = encode_audio(wave, 16000)
    back, rate = soundfile.read(io.BytesIO(encoded.data))
    assert rate == 16000 and len(back) == samples
    assert encoded.gain_db <= 0 and (encoded.gain_db == 0 or peak > 1)
    np.testing.assert_allclose(back, wave * 10 ** (encoded.gain_db / 20), atol=1 / 32768)


def test_silence_and_full_scale_are_not_scaled():
    assert encode_audio(np.zeros(100), 16000).gain_db == 0
    assert encode_audio(np.array([1.0, -1.0]), 16000).gain_db == 0


def test_formats():
    tone = 0.3 * np.sin(np.arange(16000) / 9)
    sizes = {name: len(encode_audio(tone, 16000, name).data) for name in ("flac", "wav")}
    assert sizes["flac"] < sizes["wav"]
    with pytest.raises(ReportError, match="flac, wav, opus"):
        encode_audio(tone, 16000, "mp3")


def shades(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_picture_has_low_tones_below_and_time_to_the_right():
    mel = np.zeros((10, 4))
    mel[7, 0] = 5  # lowest band, late
    png, width, height = mel_png(mel, (0, 5))
    assert (width, height) == (10, 4)
    picture = shades(png)
    assert np.argwhere(picture == picture.max()).tolist() == [[3, 7]]


def test_pictures_of_an_utterance_share_one_scale_and_one_width():
    loud, quiet = np.full((20, 4), 2.0), np.full((15, 4), -1.0)
    scale = mel_scale([loud])
    assert scale[1] == 2.0 and (scale[1] - scale[0]) * 10 / math.log(10) == pytest.approx(60)
    first, second = (shades(mel_png(mel, scale, frames=20)[0]) for mel in (loud, quiet))
    assert first.shape == second.shape == (4, 20)
    assert (first == 63).all() and (second[:, :15] < 63).all() and (second[:, 15:] == 0).all()


def test_a_long_picture_is_averaged_not_thinned():
    mel = np.zeros((2000, 4))
    mel[1001] = 4.0
    png, width, _ = mel_png(mel, (0, 1), max_width=500)
    assert width == 500 and shades(png).max() == 63
    assert shades(mel_png(mel, (0, 4), max_width=500)[0]).max() == 16  # a quarter of 63, rounded


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "sub" / "a.txt", "old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("hfprobe.files.os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_data_uri():
    assert data_uri(b"\x00\xff", "image/png") == "data:image/png;base64,AP8="
