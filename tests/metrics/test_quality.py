"""Quality measures: planted ratios, order by noise level, reasons of failure, and the process pool."""

import pickle

import numpy as np
import pytest
import torch

from hfprobe.errors import MeasureError
from hfprobe.metrics import estoi, log_mel, pesq, pesq_nb, score_pairs, si_sdr, stoi

RATE = 16000


def _speechlike(seconds=1.5, seed=0):
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    carrier = sum(np.sin(2 * np.pi * 130 * k * time + seed) / k for k in range(1, 25))
    return (0.1 * carrier * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time))) + 0.001 * generator.standard_normal(len(time))


def _noisy(signal, snr, seed=1):
    noise = np.random.default_rng(seed).standard_normal(len(signal))
    return signal + noise * np.sqrt(np.mean(signal**2) / np.mean(noise**2)) * 10 ** (-snr / 20)


@pytest.mark.parametrize("measure", [stoi, estoi, pesq, pesq_nb, si_sdr, lambda *pair: -log_mel(*pair)])
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
@pytest.mark.parametrize("measure", [stoi, estoi, pesq, pesq_nb])
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


@pytest.mark.parametrize("rate,mode", [(16000, "wb"), (16000, "nb"), (8000, "nb")])
def test_pesq_is_the_packages(rate, mode):
    from pesq import pesq as reference

    noisy = _noisy(SIGNAL, 10)
    expected = reference(rate, SIGNAL, noisy, mode)
    assert pesq(SIGNAL, noisy, rate, mode) == pytest.approx(expected, abs=1e-9)
    assert pesq(SIGNAL, SIGNAL, rate, mode) == pytest.approx(4.64 if mode == "wb" else 4.55, abs=0.01)


def test_pesq_takes_the_band_of_the_rate():
    noisy = _noisy(SIGNAL, 10)
    assert pesq(SIGNAL, noisy, 8000) == pesq(SIGNAL, noisy, 8000, "nb") == pesq_nb(SIGNAL, noisy, 8000)
    assert pesq(SIGNAL, noisy) == pesq(SIGNAL, noisy, 16000, "wb") != pesq_nb(SIGNAL, noisy)


def test_estoi_is_the_same_every_time_and_leaves_numpys_generator_alone():
    signal = _speechlike()
    gated = np.where(np.arange(len(signal)) % 8000 < 6000, signal, 0.0)
    np.random.seed(5)
    expected = np.random.standard_normal(3)
    np.random.seed(5)
    values = {estoi(gated, _noisy(gated, snr)) for snr in (5, 5, 5)}
    assert len(values) == 1 and np.array_equal(np.random.standard_normal(3), expected)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_log_mel_planted(rate):
    noise = np.random.default_rng(3).standard_normal(2 * rate)
    for gain in (0.01, 0.5, 1.0, 3.0):  # all cells of white noise lie within the 80 dB
        assert log_mel(noise, gain * noise, rate) == pytest.approx(abs(20 * np.log10(gain)), abs=1e-6)
        assert log_mel(gain * noise, noise, rate) == pytest.approx(abs(20 * np.log10(gain)), abs=1e-6)
    # 100 dB quieter: every cell ends at the floor, 80 dB below the loudest one of the reference, wherever that lies
    floored = log_mel(noise, 1e-5 * noise, rate)
    assert 40 < floored < 80 and log_mel(1e-3 * noise, 1e-8 * noise, rate) == pytest.approx(floored, abs=1e-6)


def test_log_mel_against_librosas_definition():
    librosa = pytest.importorskip("librosa")
    signal, noisy = _speechlike(), _noisy(_speechlike(), 5)
    levels = [
        librosa.power_to_db(
            librosa.feature.melspectrogram(
                y=x, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=80, pad_mode="reflect"
            ),
            amin=1e-30,
            top_db=None,
        )
        for x in (signal, noisy)
    ]
    levels = [np.maximum(level, levels[0].max() - 80) for level in levels]
    expected = np.sqrt(((levels[0] - levels[1]) ** 2).mean(axis=0)).mean()
    assert log_mel(signal, noisy) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "reference,degraded,reason",
    [row for row in BAD if row[2] != "too short"] + [(SIGNAL[:300], SIGNAL[:300], "too short")],
)
def test_log_mel_failures(reference, degraded, reason):
    with pytest.raises(MeasureError) as error:
        log_mel(reference, degraded)
    assert error.value.reason == reason


def test_score_pairs_in_processes_equals_alone():
    references = [_speechlike(0.6, seed) for seed in range(10)] + [SIGNAL]
    degraded = [_noisy(signal, 3 * i) for i, signal in enumerate(references[:-1])] + [0 * SIGNAL]
    degraded[4] = degraded[4][:-5]
    measures = ("stoi", "si_sdr", "log_mel")
    alone = score_pairs(references, degraded, measures, n_jobs=1)
    pooled = score_pairs([torch.from_numpy(r) for r in references], degraded, measures, n_jobs=2)
    assert alone == pooled and alone.failures == pooled.failures
    assert list(alone) == list(measures) and len(alone["stoi"]) == 11
    assert [i for i, value in enumerate(alone["stoi"]) if value is None] == [4, 10]
    assert alone.failures == dict.fromkeys(measures, {"length": 1, "silent": 1})
    assert alone["si_sdr"][9] == pytest.approx(27, abs=0.5)


def test_score_pairs_errors():
    with pytest.raises(MeasureError, match="known: stoi"):
        score_pairs([SIGNAL], [SIGNAL], ("mos",))
    with pytest.raises(MeasureError):
        score_pairs([SIGNAL], [])
    assert score_pairs([], []) == {"stoi": []}


def test_cores_are_shared_with_processes_that_were_started_beside(monkeypatch):
    from hfprobe.metrics import quality

    monkeypatch.setattr(quality.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for beside, expected in (("1", 6), ("2", 3), ("4", 1), ("16", 1), ("many", 6)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", beside)
        assert quality._cores() == expected
