"""Quality measures: planted ratios, order by noise level, reasons of failure, and the process pool."""

import pickle

import numpy as np
import pytest
import torch

from hfprobe.errors import MeasureError
from hfprobe.metrics import estoi, pesq, score_pairs, si_sdr, stoi

RATE = 16000


def _speechlike(seconds=1.5, seed=0):
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    carrier = sum(np.sin(2 * np.pi * 130 * k * time + seed) / k for k in range(1, 25))
    return (0.1 * carrier * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time))) + 0.001 * generator.standard_normal(len(time))


def _noisy(signal, snr, seed=1):
    noise = np.random.default_rng(seed).standard_normal(len(signal))
    return signal + noise * np.sqrt(np.mean(signal**2) / np.mean(noise**2)) * 10 ** (-snr / 20)


@pytest.mark.parametrize("measure", [stoi, estoi, pesq, si_sdr])
def test_more_noise_is_worse(measure):
    signal = _speechlike()
    values = [measure(signal, _noisy(signal, snr)) for snr in (30, 15, 0, -15)]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]
    assert measure(signal, signal) >= values[0]


def test_stoi_is_pystoi():
    from pystoi import stoi as reference

    signal = _speechlike()
    noisy = _noisy(signal, 5)
    assert stoi(signal, torch.from_numpy(noisy)) == pytest.approx(reference(signal, noisy, RATE))
    assert estoi(signal, noisy) == pytest.approx(reference(signal, noisy, RATE, extended=True), abs=1e-6)


def test_si_sdr_planted():
    generator = np.random.default_rng(0)
    signal = generator.standard_normal(1000)
    signal -= signal.mean()
    noise = generator.standard_normal(1000)
    noise -= noise.mean()
    noise -= signal * (noise @ signal) / (signal @ signal)
    noise *= np.linalg.norm(signal) / np.linalg.norm(noise)
    assert si_sdr(signal, 3 * (signal + 0.1 * noise) + 0.5) == pytest.approx(20)
    assert si_sdr(signal, noise) == -100 and si_sdr(signal, -signal) == 100


SIGNAL = _speechlike()
BAD = [
    (SIGNAL, SIGNAL[:-1], "length"),
    (SIGNAL, np.where(np.arange(len(SIGNAL)) == 9, np.nan, SIGNAL), "nan"),
    (SIGNAL, 0 * SIGNAL, "silent"),
    (SIGNAL, 0 * SIGNAL + 0.3, "silent"),
    (0 * SIGNAL, SIGNAL, "silent"),
    (SIGNAL[:1600], SIGNAL[:1600], "too short"),
    (SIGNAL[:0], SIGNAL[:0], "too short"),
]


@pytest.mark.parametrize("reference,degraded,reason", BAD)
@pytest.mark.parametrize("measure", [stoi, estoi, pesq])
def test_failures_have_a_reason(measure, reference, degraded, reason):
    with pytest.raises(MeasureError) as error:
        measure(reference, degraded)
    assert error.value.reason == reason
    assert pickle.loads(pickle.dumps(error.value)).reason == reason


def test_mostly_silence_is_too_short_for_stoi_not_a_score():
    signal = np.zeros(RATE)
    signal[:3000] = SIGNAL[:3000]
    with pytest.raises(MeasureError) as error:
        stoi(signal, signal)
    assert error.value.reason == "too short"


@pytest.mark.parametrize("where,reason", [(slice(4000, 4200), "no utterance"), (slice(7997, 8000), "nan")])
def test_pesq_of_a_blip_fails_and_is_not_scored(where, reason):
    blip = np.zeros(8000)
    blip[where] = np.sin(1 + np.arange(8000))[where]
    with pytest.raises(MeasureError) as error:
        pesq(blip, blip)
    assert error.value.reason == reason


@pytest.mark.parametrize("rate,mode", [(8000, "wb"), (44100, "nb"), (16000, "swb")])
def test_pesq_settings(rate, mode):
    with pytest.raises(MeasureError):
        pesq(SIGNAL, SIGNAL, rate, mode)


def test_pesq_narrowband():
    assert pesq(SIGNAL, SIGNAL, 8000, "nb") > 4


def test_score_pairs_in_processes_equals_alone():
    references = [_speechlike(0.6, seed) for seed in range(10)] + [SIGNAL]
    degraded = [_noisy(signal, 3 * i) for i, signal in enumerate(references[:-1])] + [0 * SIGNAL]
    degraded[4] = degraded[4][:-5]
    measures = ("stoi", "si_sdr")
    alone = score_pairs(references, degraded, measures, n_jobs=1)
    pooled = score_pairs([torch.from_numpy(r) for r in references], degraded, measures, n_jobs=2)
    assert alone == pooled and alone.failures == pooled.failures
    assert list(alone) == list(measures) and len(alone["stoi"]) == 11
    assert [i for i, value in enumerate(alone["stoi"]) if value is None] == [4, 10]
    assert alone.failures == {"stoi": {"length": 1, "silent": 1}, "si_sdr": {"length": 1, "silent": 1}}
    assert alone["si_sdr"][9] == pytest.approx(27, abs=0.5)


def test_score_pairs_errors():
    with pytest.raises(MeasureError, match="known: stoi"):
        score_pairs([SIGNAL], [SIGNAL], ("mos",))
    with pytest.raises(MeasureError):
        score_pairs([SIGNAL], [])
    assert score_pairs([], []) == {"stoi": []}
