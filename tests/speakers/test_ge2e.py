"""GE2E against Resemblyzer itself, on real and synthetic signals."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.errors import ConfigError, EncoderError
from hfprobe.speakers import SpeakerEncoder, load_speaker_encoder, register_speaker_encoder, speaker_encoders
from hfprobe.speakers import ge2e as module
from hfprobe.speakers.vad import raise_volume, shorten_pauses

SHARED = Path(os.environ.get("HFPROBE_SHARED", Path(__file__).resolve().parents[3] / "shared"))


@pytest.fixture(scope="module")
def encoder():
    return load_speaker_encoder("ge2e")


@pytest.fixture(scope="module")
def resemblyzer():
    package = pytest.importorskip("resemblyzer")
    return package, package.VoiceEncoder("cpu", verbose=False)


def stack(clips):
    lengths = torch.tensor([len(clip) for clip in clips])
    waveforms = torch.full((len(clips), int(lengths.max())), 0.3)  # padding that must not matter
    for row, clip in zip(waveforms, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return waveforms, lengths


def synthetic(seconds, seed, level=0.1):
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16000)) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * time + rng.uniform(0, 6)) / k for k in range(1, 30))
    return (level * voice * (1 + np.sin(2 * np.pi * 4 * time)) / 4 + 1e-3 * rng.normal(size=len(time))).astype("f")


@pytest.fixture(scope="module")
def real_clips():
    soundfile = pytest.importorskip("soundfile")
    files = sorted((SHARED / "data" / "noise" / "speech").rglob("*.flac"))[:4]
    if not files:
        pytest.skip(f"no speech clips under {SHARED}/data/noise/speech; set HFPROBE_SHARED")
    clips = []
    for index, file in enumerate(files):
        sound, rate = soundfile.read(file, dtype="float32")
        assert rate == 16000
        # Different lengths, one of them below a single partial, and a quiet one that is amplified.
        clips.append(sound[: int((1.2, 3.0, 5.3, 8.1)[index] * 16000)] * (0.01 if index == 1 else 1.0))
    return [clip.astype("f") for clip in clips]


def test_equals_resemblyzer_on_real_speech(encoder, resemblyzer, real_clips):
    package, reference = resemblyzer
    expected = np.stack([reference.embed_utterance(package.preprocess_wav(clip)) for clip in real_clips])
    found = encoder.embed(*stack(real_clips)).numpy()
    assert encoder.last_failures == {}
    assert (found * expected).sum(1).min() > 0.9999
    assert np.abs(found - expected).max() < 1e-5


def test_equals_resemblyzer_on_synthetic_sound_without_vad(resemblyzer):
    package, reference = resemblyzer
    encoder = module.load_ge2e(vad=False)
    clips = [synthetic(seconds, seed) for seed, seconds in enumerate((0.4, 1.6, 2.83, 4.0))]
    raised = [package.audio.normalize_volume(clip, -30, increase_only=True) for clip in clips]
    expected = np.stack([reference.embed_utterance(clip) for clip in raised])
    found = encoder.embed(*stack(clips)).numpy()
    assert np.abs(found - expected).max() < 1e-5


@given(st.integers(1, 300_000))
@settings(max_examples=300, deadline=None)
def test_partials_equal_resemblyzers(n_samples):
    package = pytest.importorskip("resemblyzer")
    _, expected = package.VoiceEncoder.compute_partial_slices(n_samples, 1.3, 0.75)
    assert module.partial_starts(n_samples) == [part.start for part in expected]


@pytest.mark.parametrize("seed", range(4))
def test_pauses_equal_resemblyzers(seed, resemblyzer):
    package, _ = resemblyzer
    rng = np.random.default_rng(seed)
    parts = [synthetic(rng.uniform(0.1, 0.6), seed), 1e-4 * rng.normal(size=9000).astype("f")] * 3
    clip = np.concatenate(parts)[: rng.integers(20000, 40000)]
    np.testing.assert_array_equal(shorten_pauses(clip), package.audio.trim_long_silences(clip))


def test_volume_is_raised_but_never_lowered():
    quiet, loud = np.full(100, 1e-3, "f"), np.full(100, 0.5, "f")
    assert 20 * np.log10(np.sqrt(np.mean(raise_volume(quiet) ** 2))) == pytest.approx(-30, abs=1e-4)
    assert raise_volume(loud) is loud


def test_batch_equals_single_in_any_order(encoder, monkeypatch):
    encoder = module.load_ge2e(vad=False)
    clips = [synthetic(seconds, seed) for seed, seconds in enumerate((3.1, 0.9, 6.0))]
    together = encoder.embed(*stack(clips))
    alone = torch.cat([encoder.embed(torch.from_numpy(clip)[None]) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    monkeypatch.setattr(module, "CHUNK", 1)
    torch.testing.assert_close(encoder.embed(*stack(clips[::-1])).flip(0), alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    assert (together >= 0).all()


def test_what_cannot_be_embedded_is_nan_with_a_reason(encoder, real_clips):
    noise = (1e-2 * np.sign(np.sin(np.arange(8000) * 0.9))).astype("f")
    broken = np.full(8000, np.nan, "f")
    clips = [np.zeros(8000, "f"), real_clips[2], broken, np.full(100, 0.1, "f"), noise]
    waveforms, lengths = stack(clips)
    found = encoder.embed(waveforms, torch.where(lengths == 100, torch.tensor(0), lengths))
    assert encoder.last_failures[0] == "silent"
    assert encoder.last_failures[2] == "not finite"
    assert encoder.last_failures[3] == "empty"
    assert 1 not in encoder.last_failures
    for index, row in enumerate(found):
        assert torch.isnan(row).all() if index in encoder.last_failures else torch.isfinite(row).all()
    encoder.embed(waveforms[1:2], lengths[1:2])
    assert encoder.last_failures == {}


def test_clip_without_speech_is_a_failure(encoder):
    clip = torch.zeros(1, 16000)
    clip[0, 8000] = 0.5
    assert torch.isnan(encoder.embed(clip)).all()
    assert encoder.last_failures == {0: "no speech found"}
    assert torch.isnan(encoder.embed(torch.ones(1, 300) * 0.1)).all()  # shorter than one decision of the detector


def test_input_is_left_alone(encoder):
    waveforms = torch.from_numpy(synthetic(2, 0))[None] * 0.01
    copy = waveforms.clone()
    encoder.embed(waveforms)
    torch.testing.assert_close(waveforms, copy, rtol=0, atol=0)


def test_wrong_arguments(encoder):
    with pytest.raises(ConfigError, match="batch, samples"):
        encoder.embed(torch.zeros(100))
    with pytest.raises(ConfigError, match="between 0 and 100"):
        encoder.embed(torch.zeros(1, 100), torch.tensor([101]))


def test_registry():
    assert "ge2e" in speaker_encoders()
    with pytest.raises(EncoderError, match="ge2e"):
        load_speaker_encoder("nobody")
    with pytest.raises(ConfigError, match="colon"):
        register_speaker_encoder("a:b", lambda argument: None)

    class Constant(SpeakerEncoder):
        def __init__(self, argument):
            super().__init__()
            self.argument = argument

    register_speaker_encoder("constant", Constant)
    try:
        assert load_speaker_encoder("constant:file.h5").argument == "file.h5"
    finally:
        from hfprobe.speakers import base

        del base._REGISTRY["constant"]


def test_weights_are_checked(tmp_path):
    state = torch.load(module.packaged_weights(), map_location="cpu", weights_only=True)["model_state"]
    state.pop("linear.bias")
    torch.save({"model_state": state}, tmp_path / "less.pt")
    with pytest.raises(EncoderError, match="linear.bias"):
        load_speaker_encoder(f"ge2e:{tmp_path / 'less.pt'}")
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 not weights")
    with pytest.raises(EncoderError, match="broken.pt"):
        load_speaker_encoder(f"ge2e:{tmp_path / 'broken.pt'}")
    with pytest.raises(EncoderError, match="none.pt"):
        load_speaker_encoder(f"ge2e:{tmp_path / 'none.pt'}")


def test_missing_package_is_explained(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="pip install resemblyzer"):
        module.packaged_weights()
