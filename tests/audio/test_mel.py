"""The mel-spectrogram against ESPnet's own layers, and its invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.audio import MelConfig, mel_filters, mel_spectrogram
from hfprobe.errors import AudioError, ConfigError


@pytest.mark.parametrize("n_fft,win,hop,n_mels", [(512, 400, 160, 80), (512, 512, 128, 40)])
def test_equal_to_espnet(n_fft, win, hop, n_mels):
    espnet_stft = pytest.importorskip("espnet2.layers.stft", reason="espnet is not installed")
    espnet_mel = pytest.importorskip("espnet2.layers.log_mel", reason="espnet is not installed")
    waveforms = torch.randn(3, 16123, generator=torch.Generator().manual_seed(0)) * 0.1
    waveforms[1, 4000:9000] = 0
    spectrum, _ = espnet_stft.Stft(n_fft, win, hop)(waveforms)
    expected, _ = espnet_mel.LogMel(16000, n_fft, n_mels)(spectrum.square().sum(-1))
    config = MelConfig(n_fft=n_fft, win_length=win, hop_length=hop, n_mels=n_mels)
    assert torch.allclose(mel_spectrogram(waveforms, config), expected, atol=1e-5)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_filters_equal_librosa(scale):
    librosa = pytest.importorskip("librosa", reason="librosa is not installed")
    expected = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=20, fmax=7600, htk=scale == "htk")
    ours = mel_filters(MelConfig(f_min=20.0, f_max=7600.0, mel_scale=scale)).T.numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_padded_batch_equals_single(first, second):
    waveforms = torch.randn(2, max(first, second), generator=torch.Generator().manual_seed(first))
    lengths = torch.tensor([first, second])
    batch = mel_spectrogram(waveforms, lengths=lengths)
    for item, length in zip(range(2), (first, second), strict=True):
        alone = mel_spectrogram(waveforms[item, :length])
        assert alone.shape[0] == MelConfig().frames(length) == 1 + length // 160
        torch.testing.assert_close(batch[item, : len(alone)], alone, atol=1e-4, rtol=0)
        assert torch.all(batch[item, len(alone) :] == np.float32(np.log(1e-10)))


def test_a_tone_lights_its_band_and_scales_by_its_power():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    mel = mel_spectrogram(tone)[50]
    centres = (mel_filters().argmax(0) * 31.25).tolist()
    assert abs(centres[int(mel.argmax())] - 1000) < 40
    louder = mel_spectrogram(10 * tone)[50]
    assert torch.allclose(louder.max() - mel.max(), torch.tensor(np.log(100.0), dtype=torch.float32), atol=1e-4)


def test_gradient_flows_also_after_inference_mode():
    config = MelConfig(n_mels=33)
    with torch.inference_mode():
        mel_spectrogram(torch.randn(1600), config)
    waveform = torch.randn(1600, requires_grad=True)
    mel_spectrogram(waveform, config).sum().backward()
    assert torch.isfinite(waveform.grad).all() and waveform.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "bad,lengths",
    [
        (torch.zeros(0), None),
        (torch.zeros(2, 0), None),
        (torch.zeros(10, dtype=torch.int16), None),
        (np.zeros(10), None),
        (torch.zeros(2, 10), [10, 11]),
        (torch.zeros(2, 10), [10, 0]),
        (torch.zeros(10), [10]),
    ],
)
def test_bad_waveforms(bad, lengths):
    with pytest.raises(AudioError):
        mel_spectrogram(bad, lengths=lengths)


@pytest.mark.parametrize(
    "change",
    [
        {"n_mels": 0}, {"win_length": 600}, {"hop_length": 300}, {"f_max": 9000.0}, {"mel_scale": "bark"},
        {"n_fft": 511, "win_length": 400}, {"log_floor": 0.0}, {"n_mel": 80},
    ],
)  # fmt: skip
def test_bad_config(change):
    with pytest.raises(ConfigError):
        MelConfig.from_dict({**MelConfig().to_dict(), **change})
