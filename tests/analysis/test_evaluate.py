"""Evaluation: all systems, on the same trials, with failures counted, and the same rows for the same seed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hfprobe.analysis import session
from hfprobe.analysis.conditions import parse_conditions
from hfprobe.analysis.evaluate import evaluate
from hfprobe.analysis.test_set import load_test_set
from hfprobe.audio import MelConfig, mel_spectrogram
from hfprobe.data import load_noise
from hfprobe.errors import BankError, ConfigError
from hfprobe.metrics import Trials
from hfprobe.speakers import load_speaker_encoder


class Encoder(torch.nn.Module):
    def __init__(self, name="toy"):
        super().__init__()
        self.name, self.layers = name, (SimpleNamespace(name="shallow"), SimpleNamespace(name="deep"))


class Bank(dict):
    """`shallow` rebuilds the mel, `deep` a smeared one, the floor its mean: what a bank promises, without training."""

    def __init__(self, mel_config=None):
        super().__init__(shallow=None, deep=None, floor=None)
        self.mel_config = mel_config or MelConfig()

    def check(self, encoder):
        pass

    def to(self, device):
        return self

    def mels(self, encoder, waveforms, lengths, layers):
        mel = mel_spectrogram(waveforms, self.mel_config, lengths=lengths)
        smeared = torch.nn.functional.avg_pool1d(mel.transpose(1, 2), 31, 1, 15).transpose(1, 2)
        made = {"shallow": mel, "deep": smeared, "floor": mel.mean((0, 1)).expand_as(mel)}
        return {name: made[name] for name in layers}


@pytest.fixture(scope="module")
def test_set():
    return load_test_set("espeak:test", speakers=3, per_speaker=2)


@pytest.fixture(scope="module")
def verifier():
    return load_speaker_encoder("ge2e")


def run(test_set, verifier, **options):
    options = {"n_iter": 4, "seed": 1, **options}
    conditions = parse_conditions(options.pop("snr", ["clean", "5"]))
    pairs = options.pop("pairs", [(Encoder(), Bank())])
    return evaluate(pairs, test_set, conditions, verifier, load_noise("generated", "test"), **options)


def test_rows(test_set, verifier, monkeypatch):
    used = []
    scores = Trials.scores
    monkeypatch.setattr(Trials, "scores", lambda self, *a: used.append(self) or scores(self, *a))
    rows = run(test_set, verifier)
    assert len({id(trials) for trials in used}) == 1 and len(used) == 10  # one draw for every system and condition
    by = {(row.encoder, row.layer, row.condition, row.metric): row for row in rows}
    systems = [("-", "input"), ("-", "ceiling"), ("toy", "shallow"), ("toy", "deep"), ("toy", "floor")]
    expected = {(*s, c, m) for s in systems for c in ("clean", "noise@5dB") for m in ("eer", "mindcf", "stoi")}
    assert set(by) == expected and len(rows) == len(expected)
    for condition in ("clean", "noise@5dB"):
        stoi = {layer: by[encoder, layer, condition, "stoi"].value for encoder, layer in systems}
        assert stoi["ceiling"] > stoi["deep"] > stoi["floor"] - 0.05 and stoi["ceiling"] > stoi["floor"] + 0.2
        assert stoi["shallow"] == pytest.approx(stoi["ceiling"], abs=1e-6)  # the same mel gives the same sound
    assert by["-", "input", "clean", "stoi"].value == pytest.approx(1, abs=1e-6)
    assert by["-", "input", "noise@5dB", "stoi"].value < 0.99
    for row in rows:
        assert row.n_failed == 0 and row.n == (6 if row.metric == "stoi" else len(used[0]))
    # Batches of one utterance, and fewer layers, change nothing about a row.
    monkeypatch.setattr(session, "VOCODE_SAMPLES", 1)
    again = run(test_set, verifier, layers=["deep"], snr=["5"])
    kept = {k for k in expected if k[1] != "shallow" and k[2] == "noise@5dB"}
    assert {(r.encoder, r.layer, r.condition, r.metric) for r in again} == kept
    for row in again:
        same = by[row.encoder, row.layer, row.condition, row.metric]
        assert row.value == pytest.approx(same.value, abs=1e-3) and (row.n, row.n_failed) == (same.n, same.n_failed)


def test_a_silent_clip_is_a_failure_and_seeds_repeat(test_set, verifier):
    whole = load_test_set("espeak:test", speakers=3, per_speaker=2)
    broken = replace(whole, waveforms=[np.zeros_like(whole.waveforms[0]), *whole.waveforms[1:]])
    rows = run(broken, verifier, snr=["clean"], layers=["shallow"])
    assert run(broken, verifier, snr=["clean"], layers=["shallow"]) == rows
    by = {(row.layer, row.metric): row for row in rows}
    assert all(
        by[layer, "stoi"].n == 5 and by[layer, "stoi"].n_failed == 1 for layer in ("input", "ceiling", "shallow")
    )
    eer = by["input", "eer"]
    assert eer.n_failed > 0 and eer.n + eer.n_failed == by["input", "mindcf"].n + by["input", "mindcf"].n_failed == 6


def test_pairs_that_cannot_be_compared_are_refused(test_set, verifier):
    with pytest.raises(ConfigError, match="at least one pair"):
        run(test_set, verifier, pairs=[])
    with pytest.raises(ConfigError, match="same name"):
        run(test_set, verifier, pairs=[(Encoder(), Bank()), (Encoder(), Bank())])
    with pytest.raises(BankError, match="differ in their mel settings"):
        run(test_set, verifier, pairs=[(Encoder(), Bank()), (Encoder("b"), Bank(MelConfig(n_mels=40)))])
