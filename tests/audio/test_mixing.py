"""Noise at an SNR: measured afterwards, on random signals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.audio import mix_at_snr
from hfprobe.errors import AudioError


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 500), st.integers(2, 700), st.floats(-20, 40), st.integers(-1000, 1000))
def test_snr_comes_out(samples, noise_samples, snr, offset):
    generator = np.random.default_rng(samples)
    speech, noise = generator.standard_normal(samples), generator.standard_normal(noise_samples)
    before = speech.copy(), noise.copy()
    added = mix_at_snr(speech, noise, snr, offset) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(snr, abs=1e-6)
    looped = noise[(offset + np.arange(samples)) % noise_samples]
    assert np.corrcoef(added, looped)[0, 1] == pytest.approx(1) or samples == 2
    assert np.array_equal(speech, before[0]) and np.array_equal(noise, before[1])


def test_batch_with_padding_equals_single():
    generator = torch.Generator().manual_seed(0)
    speech, noise = torch.randn(2, 800, generator=generator), torch.randn(300, generator=generator)
    mixture = mix_at_snr(speech, noise, 5.0, lengths=torch.tensor([800, 500]))
    assert mixture.dtype == torch.float32
    torch.testing.assert_close(mixture[0], mix_at_snr(speech[0], noise, 5.0))
    torch.testing.assert_close(mixture[1, :500], mix_at_snr(speech[1, :500], noise, 5.0))
    assert not mixture[1, 500:].any()


@pytest.mark.parametrize(
    "speech,noise,snr",
    [
        (np.zeros(5), np.ones(5), 0),
        (np.ones(5), np.zeros(5), 0),
        (np.ones(5), np.concatenate([np.zeros(5), np.ones(5)]), 0),
        (np.ones(0), np.ones(5), 0),
        (np.ones(5), np.array([1.0, np.nan]), 0),
        (np.ones(5, np.int16), np.ones(5), 0),
        (np.ones(5), np.ones(5), float("inf")),
        (np.ones(5), np.ones(5), float("nan")),
    ],
)
def test_errors(speech, noise, snr):
    with pytest.raises(AudioError):
        mix_at_snr(speech, noise, snr)
