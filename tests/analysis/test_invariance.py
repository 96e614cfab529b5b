"""Invariance on planted layers: a copy, a constant, one that ignores the noise, one that is all noise; brute force."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hfprobe.analysis.conditions import Condition, parse_conditions
from hfprobe.analysis.invariance import GroupSums, measure_invariance
from hfprobe.analysis.test_set import TestSet
from hfprobe.audio import MelConfig, mel_spectrogram
from hfprobe.data import load_noise
from hfprobe.encoders.base import LayerSpec
from hfprobe.errors import ConfigError, DatasetError


class Planted(nn.Module):
    """Layers that react to noise in a known way; the clean speech is told by its length."""

    name, sampling_rate, min_samples, fingerprint = "planted", 16000, 400, "f"

    def __init__(self, test):
        super().__init__()
        names = ("copy", "constant", "shifted", "deaf", "random")
        self.layers = tuple(LayerSpec(name, 160, 160, 80, name) for name in names)
        self.clean = {len(w): torch.from_numpy(w) for w in test.waveforms}
        self.generator = torch.Generator().manual_seed(0)

    def hidden_lengths_for(self, samples):
        return (samples // 160,) * 5

    def forward(self, waveforms, lengths, output_hidden_states=True, layers=None):
        def frames(sound):
            return sound[:, : sound.shape[1] // 160 * 160].unflatten(1, (-1, 160))

        copy = frames(waveforms)
        known = torch.zeros_like(waveforms)
        for row, n in zip(known, lengths.tolist(), strict=True):
            row[:n] = self.clean[n]
        states = {
            "copy": copy,
            "constant": torch.full_like(copy, 0.3),
            "shifted": copy + 1000.0,
            "deaf": frames(known),
            "random": torch.randn(copy.shape, generator=self.generator),
        }
        names = layers or list(states)
        return SimpleNamespace(
            hidden_states=tuple(states[n] for n in names), hidden_lengths=tuple(lengths // 160 for _ in names)
        )


class Bank(dict):
    """Rebuilds the noisy mel from ``copy``, the clean one from ``deaf``."""

    mel_config = MelConfig()

    def to(self, device):
        return self

    def mels(self, encoder, waveforms, lengths, layers):
        output = encoder(waveforms, lengths, layers=["copy", "deaf"])
        whole = {n: s.flatten(1) for n, s in zip(["copy", "deaf"], output.hidden_states, strict=True)}
        found = {}
        for name in layers:
            sound = nn.functional.pad(whole[name], (0, waveforms.shape[1] - whole[name].shape[1]))
            found[name] = mel_spectrogram(sound, self.mel_config, lengths=lengths)
        return found


@pytest.fixture(scope="module")
def test_set():
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(160 * (50 + i))).astype(np.float32) for i in range(12)]
    return TestSet([f"u{i}" for i in range(12)], sounds, [""] * 12, [f"s{i % 4}" for i in range(12)], Counter())


@pytest.fixture(scope="module")
def rows(test_set):
    encoder = Planted(test_set)
    bank = Bank(copy=1, deaf=1)
    conditions = parse_conditions(["20", "10", "0"])
    found = measure_invariance([(encoder, bank)], test_set, conditions, load_noise("generated", "test"))
    return {(row.layer, row.condition, row.metric): row for row in found}


CONDITIONS = ("noise@20dB", "noise@10dB", "noise@0dB")


def test_a_copy_changes_as_much_as_the_noise_says(rows):
    values = [rows["copy", condition, "invariance"].value for condition in CONDITIONS]
    # White speech of power P: E|x - x'|^2 = 2 P, E|x - y|^2 = P / SNR.
    assert values == pytest.approx([1 - 0.01 / 2, 1 - 0.1 / 2, 0.5], abs=0.01)
    for condition, ratio in zip(CONDITIONS, (0.01, 0.1, 1.0), strict=True):
        assert rows["copy", condition, "distance"].value == pytest.approx(ratio**0.5, rel=0.05)
        assert rows["copy", condition, "distance_other"].value == pytest.approx(2**0.5, rel=0.02)
        assert rows["copy", condition, "cosine"].value > 5 * abs(rows["copy", condition, "cosine_other"].value)
        row = rows["copy", condition, "invariance"]
        assert row.ci_low <= row.value <= row.ci_high and (row.n, row.n_failed) == (12, 0)


def test_a_collapsed_layer_does_not_look_invariant(rows):
    row = rows["constant", "noise@0dB", "invariance"]
    assert row.value is None and (row.n, row.n_failed) == (0, 12)
    assert rows["constant", "noise@0dB", "cosine"].value == pytest.approx(1.0)
    assert rows["constant", "noise@0dB", "cosine_other"].value == pytest.approx(1.0)  # which says that it means nothing
    assert rows["constant", "noise@0dB", "distance_other"].value == 0


def test_a_large_mean_hides_nothing(rows):
    for condition in CONDITIONS:
        shifted, copy = (rows[layer, condition, "invariance"].value for layer in ("shifted", "copy"))
        assert shifted == pytest.approx(copy, abs=2e-3)  # float32 at 1000
    assert rows["shifted", "noise@0dB", "cosine"].value > 0.999  # plain cosine is fooled


def test_a_layer_that_ignores_the_noise_and_one_that_is_noise(rows):
    assert rows["deaf", "noise@0dB", "invariance"].value == 1.0
    assert abs(rows["random", "noise@0dB", "invariance"].value) < 0.02
    low, high = (getattr(rows["random", "noise@0dB", "invariance"], name) for name in ("ci_low", "ci_high"))
    assert low < 0.01 and high > -0.01


def test_what_the_reconstruction_holds(rows):
    for condition in CONDITIONS:
        copy, deaf = (
            [rows[layer, condition, metric].value for metric in ("si_sdr_clean", "si_sdr_noisy")]
            for layer in ("copy", "deaf")
        )
        assert copy[1] > 40 and deaf[0] > 40  # one is the noisy mel, the other the clean one
        assert copy[0] == pytest.approx(rows["input", condition, "si_sdr_clean"].value, abs=0.3)
        assert deaf[1] < 30
    assert rows["input", "noise@0dB", "si_sdr_clean"].value < rows["input", "noise@20dB", "si_sdr_clean"].value


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_sums_against_all_pairs(seed, sizes):
    rng = np.random.default_rng(seed)
    clean = [rng.standard_normal((n, 3)) + 2 for n in sizes]
    noisy = [x + 0.3 * rng.standard_normal(x.shape) for x in clean]
    sums = GroupSums(len(sizes), 3)
    for group, (x, y) in enumerate(zip(clean, noisy, strict=True)):
        for k in range(len(x)):  # utterances of one frame each
            sums.add(group, torch.from_numpy(x[k : k + 1]), torch.from_numpy(y[k : k + 1]))
    weights = rng.integers(0, 3, size=(3, len(sizes)))
    weights[0] = 1
    found = sums.measures(weights.astype(float))

    def cos(a, b):
        return (a @ b) / np.linalg.norm(a) / np.linalg.norm(b)

    for draw, drawn in enumerate(weights):
        pairs = [
            (a, b, drawn[i] * drawn[j])
            for i in range(len(sizes)) for j in range(len(sizes)) if i != j for a in clean[i] for b in clean[j]
        ]  # fmt: skip
        total = sum(w for _, _, w in pairs)
        if not total:
            assert np.isnan(found["invariance"][draw])
            continue
        same = [(x, y, drawn[i]) for i in range(len(sizes)) for x, y in zip(clean[i], noisy[i], strict=True)]
        count = sum(w for _, _, w in same)
        apart = sum(w * ((a - b) ** 2).sum() for a, b, w in pairs) / total
        moved = sum(w * ((x - y) ** 2).sum() for x, y, w in same) / count
        scale = sum(w * (x**2).sum() for x, _, w in same) / count
        assert found["invariance"][draw] == pytest.approx(1 - moved / apart)
        assert found["distance_other"][draw] == pytest.approx((apart / scale) ** 0.5)
        assert found["distance"][draw] == pytest.approx((moved / scale) ** 0.5)
        assert found["cosine"][draw] == pytest.approx(sum(w * cos(x, y) for x, y, w in same) / count)
        assert found["cosine_other"][draw] == pytest.approx(sum(w * cos(a, b) for a, b, w in pairs) / total)


def test_what_is_refused(test_set):
    noise, encoder = load_noise("generated", "test"), Planted(test_set)
    with pytest.raises(ConfigError, match="without 'clean'"):
        measure_invariance([(encoder, None)], test_set, [Condition()], noise)
    alone = TestSet(test_set.ids, test_set.waveforms, test_set.texts, ["one"] * 12, Counter())
    with pytest.raises(DatasetError, match="two speakers"):
        measure_invariance([(encoder, None)], alone, [Condition(10.0)], noise)
