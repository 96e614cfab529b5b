"""Test sets: balanced over speakers, in corpus order, with failures counted."""

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from hfprobe.analysis.test_set import length_batches, load_test_set
from hfprobe.errors import DatasetError


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for speaker, count in (("anna", 3), ("bert", 2), ("cleo", 3)):
        (tmp_path / speaker).mkdir()
        for take in range(count):
            sf.write(tmp_path / speaker / f"{take}.wav", 0.1 * rng.standard_normal(4000 * (take + 1)), 16000)
    return tmp_path


def test_chosen_utterances_are_balanced_and_failures_counted(folder):
    chosen = load_test_set(f"audiofolder:{folder}", speakers=2, per_speaker=2)
    assert chosen.ids == ["anna/0", "anna/1", "bert/0", "bert/1"] and chosen.speakers == ["anna"] * 2 + ["bert"] * 2
    assert chosen.seconds == pytest.approx(1.5) and not chosen.failures
    sf.write(folder / "anna" / "0.wav", np.zeros(4000), 16000)  # silent: the next one takes its place
    chosen = load_test_set(f"audiofolder:{folder}", per_speaker=1, max_seconds=0.3)
    assert chosen.ids == ["bert/0", "cleo/0"] and chosen.failures == {"silent": 1, "too long": 2}
    with pytest.raises(DatasetError, match="no usable utterance.*anna/0"):
        load_test_set(f"audiofolder:{folder}", max_seconds=0.1)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.integers(1, 2000))
def test_batches_hold_every_index_once_and_keep_the_limit(lengths, limit):
    batches = length_batches(lengths, limit)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= limit for b in batches)
