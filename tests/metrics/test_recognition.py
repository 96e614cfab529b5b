"""WER and CER against torchaudio's edit distance and planted edits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.errors import MeasureError
from hfprobe.metrics import cer, wer
from hfprobe.metrics.recognition import edit_distance

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@settings(max_examples=200, deadline=None)
@given(WORDS, WORDS, WORDS)
def test_edit_distance_is_a_metric_and_equals_torchaudio(a, b, c):
    functional = pytest.importorskip("torchaudio.functional", reason="torchaudio is not installed")
    assert edit_distance(a, b) == functional.edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert (edit_distance(a, b) == 0) == (a == b)


def test_rates_are_of_the_corpus_not_means_of_utterances():
    references = ["the cat sat on the mat", "hello"]
    hypotheses = ["the cat sat on mat", "hullo"]
    assert wer(references, hypotheses) == pytest.approx(2 / 7)
    assert cer(references, hypotheses) == pytest.approx(5 / 27)
    assert wer(["a"], ["a b c"]) == 2.0
    assert wer(["a b", ""], ["a b", "c"]) == 0.5
    assert cer(["a  b "], [" a b"]) == 0.0
    assert wer("a b", "a b") == 0.0


@pytest.mark.parametrize("measure", [wer, cer])
def test_errors(measure):
    with pytest.raises(MeasureError) as error:
        measure(["a"], [])
    assert error.value.reason == "length"
    with pytest.raises(MeasureError) as error:
        measure(["", " "], ["a", "b"])
    assert error.value.reason == "empty"
