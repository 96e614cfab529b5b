"""Conditions: the same draw for every SNR and encoder, and the SNR that was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.analysis.conditions import Condition, apply_condition, parse_conditions
from hfprobe.data import load_noise
from hfprobe.errors import ConfigError

SPEECH = (0.1 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)
NOISE = load_noise("generated", "test")


@settings(max_examples=15, deadline=None)
@given(st.floats(-20, 40), st.sampled_from(["any", "noise", "music"]), st.integers(0, 5))
def test_snr_is_achieved_with_the_same_noise_at_every_snr(snr_db, category, seed):
    added = []
    for value in (snr_db, 0.0):
        mixed = apply_condition(SPEECH, "u1", Condition(value, category), NOISE, seed).astype(np.float64)
        noise = mixed - SPEECH
        assert abs(10 * np.log10(np.mean(SPEECH.astype(np.float64) ** 2) / np.mean(noise**2)) - value) < 0.02
        added.append(noise / np.sqrt(np.mean(noise**2)))
    assert np.corrcoef(*added)[0, 1] > 0.999


def test_draws_depend_on_seed_and_utterance_alone():
    def mixed(name, seed=0):
        return apply_condition(SPEECH, name, Condition(5.0), NOISE, seed)

    assert np.array_equal(mixed("u1"), mixed("u1"))
    assert not np.array_equal(mixed("u1"), mixed("u2")) and not np.array_equal(mixed("u1"), mixed("u1", 1))
    assert apply_condition(SPEECH, "u1", Condition(), None, 0) is SPEECH
    with pytest.raises(ConfigError, match="noise@5dB needs a noise corpus"):
        apply_condition(SPEECH, "u1", Condition(5.0), None, 0)


def test_words_become_conditions():
    assert [c.name for c in parse_conditions(["clean", "20", "-2.5"], "music")] == [
        "clean",
        "music@20dB",
        "music@-2.5dB",
    ]
    for words, message in (
        (["loud"], "neither"),
        (["5", "5.0"], "twice"),
        ([], "no condition"),
        (["nan"], "between"),
        (["1e9"], "between"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_conditions(words)
    with pytest.raises(ConfigError, match="any, noise, music, speech"):
        parse_conditions(["5"], "rain")
