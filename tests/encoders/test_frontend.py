"""The delta frontend against ESPnet's log-mel and torchaudio's deltas."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
import torchaudio
from espnet2.asr.frontend.default import DefaultFrontend
from espnet_stock import STFT, pad, speechlike
from hypothesis import given, settings

from hfprobe.encoders.espnet.frontend import DeltaFrontend, deltas, reflect_pad
from hfprobe.encoders.espnet.normalize import PerUtteranceMVN
from hfprobe.errors import EncoderError


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(257, 6000), min_size=1, max_size=4), st.integers(0, 5))
def test_each_utterance_gets_espnet_s_log_mel_and_torchaudio_s_deltas(samples, seed):
    waveforms = speechlike(*samples, seed=seed)
    batch, lengths = pad(waveforms, value=0.3)
    features, frames = DeltaFrontend()(batch, lengths)
    assert features.shape == (len(samples), 1 + max(samples) // 160, 240)
    plain = DefaultFrontend(**STFT, n_mels=80)
    for row, waveform in enumerate(waveforms):
        static, count = plain(waveform[None], torch.tensor([len(waveform)]))
        first = torchaudio.functional.compute_deltas(static.transpose(1, 2))
        second = torchaudio.functional.compute_deltas(first)
        expected = torch.cat([static, first.transpose(1, 2), second.transpose(1, 2)], dim=-1)[0]
        assert int(frames[row]) == int(count[0]) == 1 + len(waveform) // 160
        assert torch.allclose(features[row, : len(expected)], expected, atol=1e-5)
        assert not features[row, len(expected) :].any()


@pytest.mark.parametrize("window", [3, 5, 9])
def test_delta_window_is_torchaudio_s(window):
    features = torch.randn(2, 30, 4)
    expected = torchaudio.functional.compute_deltas(features.transpose(1, 2), win_length=window).transpose(1, 2)
    assert torch.allclose(deltas(features, torch.tensor([30, 30]), window), expected, atol=1e-6)


def test_reflection_is_torch_s():
    waveforms = torch.randn(1, 400)
    expected = torch.nn.functional.pad(waveforms[None], (256, 256), mode="reflect")[0]
    assert torch.equal(reflect_pad(waveforms, torch.tensor([400]), 256), expected)


def test_frontend_refuses_what_it_cannot_do():
    frontend = DeltaFrontend()
    with pytest.raises(EncoderError, match="at least 257 samples each, got 256"):
        frontend(torch.zeros(1, 300), torch.tensor([256]))
    with pytest.raises(EncoderError, match=r"\(batch, samples\), got \(1, 800, 2\)"):
        frontend(torch.zeros(1, 800, 2), torch.tensor([800]))
    with pytest.raises(EncoderError, match="odd delta_window"):
        DeltaFrontend(delta_window=4)


@pytest.mark.parametrize(("means", "variances"), [(True, True), (True, False), (False, True)])
def test_utterance_statistics_leave_padding_out(means, variances):
    features = torch.randn(2, 9, 3) + 4.0
    normalized = PerUtteranceMVN(means, variances)(features, torch.tensor([9, 6]))
    for row, count in enumerate((9, 6)):
        own = features[row, :count]
        expected = own - own.mean(dim=0) if means else own
        if variances:
            expected = expected / own.std(dim=0, correction=0)
        assert torch.allclose(normalized[row, :count], expected, atol=1e-5)
    assert not normalized[1, 6:].any()
