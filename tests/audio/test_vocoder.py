"""Mel inversion and Griffin-Lim: fit, determinism, independence of the batch, and quality on real speech."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hfprobe.audio import MelConfig, griffin_lim, invert_mel, mel_filters, mel_spectrogram, vocode
from hfprobe.errors import AudioError

CONFIG = MelConfig()
FLOOR = float(np.log(CONFIG.log_floor))


def _vowels(seed: int = 0, samples: int = 24000) -> torch.Tensor:
    """A harmonic sound with a gliding pitch, pulsing loudness and a little noise: something like speech."""
    generator = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 1.3 * time + seed)) / 16000
    harmonics = sum(np.sin(k * phase) / k * np.exp(-(((k * 120 - 700) / 900) ** 2)) for k in range(1, 30))
    loudness = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * time)
    sound = 0.2 * harmonics * loudness + 0.002 * generator.standard_normal(samples)
    return torch.from_numpy(sound.astype(np.float32))


def _convergence(waveform: torch.Tensor, magnitude: torch.Tensor) -> float:
    window = torch.hann_window(400)
    spectrum = torch.stft(waveform, 512, 160, 400, window, return_complex=True).abs().T
    return float((spectrum - magnitude).norm() / magnitude.norm())


def _magnitude(waveform: torch.Tensor) -> torch.Tensor:
    return torch.stft(waveform, 512, 160, 400, torch.hann_window(400), return_complex=True).abs().T


def test_inversion_fits_the_mel_and_beats_the_pseudo_inverse():
    mel = mel_spectrogram(_vowels())

    def error(method, n_iter=10):
        rebuilt = (invert_mel(mel, method=method, n_iter=n_iter).square() @ mel_filters()).clamp(min=1e-10).log()
        return float((rebuilt - mel).abs().mean())

    assert error("nnls") < 0.02 and error("nnls") < error("pinv") / 3
    assert error("nnls", 100) < error("nnls") / 3


def test_inversion_is_per_frame_and_zero_for_silence():
    mel = mel_spectrogram(_vowels())
    mel[3] = FLOOR
    whole = invert_mel(mel)
    assert whole.min() >= 0 and not whole[3].any()
    torch.testing.assert_close(invert_mel(mel[10:11]), whole[10:11], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(invert_mel(mel.reshape(1, 1, *mel.shape))[0, 0], whole)


def test_griffin_lim_converges_like_librosa_or_better():
    librosa = pytest.importorskip("librosa", reason="librosa is not installed")
    magnitude = _magnitude(_vowels())
    ours = griffin_lim(magnitude, length=24000)
    theirs = librosa.griffinlim(
        magnitude.T.numpy(), n_iter=32, hop_length=160, win_length=400, n_fft=512, length=24000, random_state=0
    )
    assert _convergence(ours, magnitude) <= 1.02 * _convergence(torch.from_numpy(theirs), magnitude)
    random = griffin_lim(magnitude, length=24000, init="random")
    assert _convergence(random, magnitude) <= 1.2 * _convergence(torch.from_numpy(theirs), magnitude)
    fast = griffin_lim(magnitude, length=24000, init="random", algorithm="fgla")
    slow = griffin_lim(magnitude, length=24000, init="random", algorithm="fgla", momentum=0.0)
    assert _convergence(random, magnitude) < _convergence(fast, magnitude) < _convergence(slow, magnitude)


def test_the_first_iteration_of_reflections_is_what_the_formula_says():
    """x <- b / 2 (R_c R_m x + x) + (1 - b) P_m x with b = 1, on torch.stft and torch.istft, far from the ends."""
    torch.manual_seed(0)
    magnitude = _magnitude(_vowels())
    phases = importlib.import_module("hfprobe.audio.griffin_lim")._first_phases(magnitude[None], CONFIG, 0, "random")[0]
    window = torch.hann_window(400)

    def inverse(spectrum):
        return torch.istft(spectrum.T, 512, 160, 400, window, length=24000)

    def nearest(spectrum):
        return torch.stft(inverse(spectrum), 512, 160, 400, window, return_complex=True).T

    def with_magnitude(spectrum):
        return spectrum / spectrum.abs().clamp(min=1e-10) * magnitude

    # torch.stft puts the 400-sample window into the middle of 512 samples, hfprobe at their beginning.
    x = torch.polar(magnitude, phases - 2 * torch.pi * 56 / 512 * torch.arange(257))
    mirrored = 2 * with_magnitude(x) - x
    x = (2 * nearest(mirrored) - mirrored + x) / 2
    expected = inverse(with_magnitude(x))[2000:-2000]
    ours = griffin_lim(magnitude, n_iter=1, length=24000, init="random")[2000:-2000]
    assert float((ours - expected).norm() / expected.norm()) < 1e-3


def test_a_steady_tone_comes_back():
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    rebuilt = griffin_lim(_magnitude(tone), length=16000)[2000:-2000]
    spectrum = torch.fft.rfft(rebuilt * torch.hann_window(len(rebuilt)))
    assert int(spectrum.abs().argmax()) * 16000 / len(rebuilt) == pytest.approx(1000, abs=3)
    assert float(rebuilt.square().mean().sqrt()) == pytest.approx(0.5 / 2**0.5, rel=0.05)


def test_batch_equals_single_in_any_order_and_seed_decides():
    lengths = [24000, 9000, 161, 100]
    mels = [mel_spectrogram(_vowels(seed, n)) for seed, n in enumerate(lengths)]
    padded = torch.nn.utils.rnn.pad_sequence(mels, batch_first=True, padding_value=1.0)  # padding must not matter
    batch = vocode(padded, lengths=lengths, n_iter=8)
    assert batch.shape == (4, 24000)
    backwards = vocode(padded.flip(0), lengths=lengths[::-1], n_iter=8).flip(0)
    torch.testing.assert_close(batch, backwards, rtol=0, atol=1e-5)
    for item, (mel, length) in enumerate(zip(mels, lengths, strict=True)):
        alone = vocode(mel, lengths=length, n_iter=8)
        # Two frames determine next to nothing, so rounding shows there.
        torch.testing.assert_close(batch[item, :length], alone, rtol=0, atol=1e-4 if length > 1000 else 2e-3)
        assert not batch[item, length:].any()
    assert torch.equal(vocode(mels[1], n_iter=4), vocode(mels[1], n_iter=4))
    assert not torch.equal(vocode(mels[1], n_iter=4), vocode(mels[1], n_iter=4, seed=1))


@pytest.mark.parametrize("frames", [1, 2, 50])
@pytest.mark.parametrize("level", [FLOOR, -30.0, 0.0])
def test_silent_and_constant_mels_of_any_length(frames, level):
    sound = vocode(torch.full((frames, 80), level), n_iter=4)
    assert sound.shape == (max(1, frames - 1) * 160,) and torch.isfinite(sound).all()
    assert bool(sound.any()) == (level > FLOOR)


def test_missing_frames_become_zeros_and_an_empty_batch_is_one():
    assert not griffin_lim(torch.ones(5, 257), length=4000, n_iter=1)[2000:].any()
    assert griffin_lim(torch.ones(0, 5, 257)).shape[0] == 0


@pytest.mark.parametrize("config", [MelConfig(hop_length=128), MelConfig(n_fft=1024, win_length=1024, hop_length=256)])
def test_other_settings(config):
    waveform = _vowels(samples=16000)
    rebuilt = vocode(mel_spectrogram(waveform, config), config, lengths=16000)
    error = mel_spectrogram(rebuilt, config) - mel_spectrogram(waveform, config)
    assert float(error.abs().mean()) < 0.35


@pytest.mark.parametrize(
    "call",
    [
        lambda: invert_mel(torch.zeros(5, 40)),
        lambda: invert_mel(torch.full((5, 80), float("nan"))),
        lambda: invert_mel(torch.full((5, 80), 1000.0)),
        lambda: invert_mel(torch.zeros(5, 80), method="magic"),
        lambda: griffin_lim(torch.ones(5, 80)),
        lambda: griffin_lim(torch.ones(0, 257)),
        lambda: griffin_lim(-torch.ones(5, 257)),
        lambda: griffin_lim(torch.full((5, 257), float("nan"))),
        lambda: griffin_lim(torch.ones(5, 257), n_iter=-1),
        lambda: griffin_lim(torch.ones(5, 257), momentum=3.0),
        lambda: griffin_lim(torch.ones(5, 257), length=0),
        lambda: griffin_lim(torch.ones(2, 5, 257), length=[1, 2, 3]),
        lambda: griffin_lim(torch.ones(5, 257), length=10.5),
        lambda: griffin_lim(torch.ones(5, 257), init="zero"),
        lambda: griffin_lim(torch.ones(5, 257), algorithm="magic"),
    ],
)
def test_errors(call):
    with pytest.raises(AudioError):
        call()


def test_synthetic_speech_survives():
    pytest.importorskip("pystoi", reason="pystoi is not installed")
    from hfprobe.metrics import stoi

    waveform = _vowels()
    assert stoi(waveform, vocode(mel_spectrogram(waveform), lengths=len(waveform))) > 0.93


def _shared_speech() -> list[Path]:
    folder = os.environ.get("HFPROBE_SHARED") or Path(__file__).resolve().parents[3] / "shared"
    return sorted(Path(folder).glob("data/noise/speech/**/*.flac"))


def test_real_speech_survives():
    """Six clips of at most 5 s, for the time; the targets are those of 24 clips (STOI .976, PESQ 3.5), less a margin."""
    files = _shared_speech()[::10][:6]
    if not files:
        pytest.skip("no LibriSpeech clips: set HFPROBE_SHARED to the shared folder")
    pytest.importorskip("pesq", reason="pesq is not installed")
    from hfprobe.metrics import pesq, stoi

    clips = [torch.from_numpy(soundfile.read(path, dtype="float32")[0][:80000]) for path in files]
    rebuilt = [vocode(mel_spectrogram(clip), lengths=len(clip)) for clip in clips]
    pairs = list(zip(clips, rebuilt, strict=True))
    assert np.mean([stoi(*pair) for pair in pairs]) >= 0.966
    assert np.mean([pesq(*pair) for pair in pairs]) >= 3.3
