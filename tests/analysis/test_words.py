"""Words of sounds: who reads, how rows are called, and pooled rates against counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.analysis.words import Reader, can_transcribe, error_counts, error_rows, plain_words, reading_name
from hfprobe.encoders.base import LayerSpec, SpeechEncoder
from hfprobe.metrics import cer, wer

TEXTS = st.lists(st.sampled_from(["A", "BE", "SEA", "I'M"]), min_size=1, max_size=6).map(" ".join)


class Deaf(SpeechEncoder):
    """An encoder without a recognition head: the base class's own `transcribe`."""

    def __init__(self):
        super().__init__("deaf", [LayerSpec("l", 1, 160, 0, "")])


class Hearing(Deaf):
    def transcribe(self, waveforms, lengths=None):
        return [f"{int(n)} SAMPLES" for n in lengths]


def test_who_can_transcribe():
    assert not can_transcribe(Deaf()) and can_transcribe(Hearing())


def test_texts_come_in_the_order_of_the_sounds():
    read = Reader(Hearing(), "hearing").read([np.zeros(n, np.float32) for n in (700, 900, 800)])
    assert read == ["700 SAMPLES", "900 SAMPLES", "800 SAMPLES"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from("xyz")), min_size=1, max_size=8))
def test_rates_are_those_of_the_metrics_and_intervals_hold_them(items):
    references, texts, speakers = zip(*items, strict=True)
    words, letters = error_rows("e", "cnn1", "clean", texts, references, speakers)
    assert words.value == pytest.approx(wer(list(references), list(texts)))
    assert letters.value == pytest.approx(cer(list(references), list(texts)))
    for row in (words, letters):
        assert (row.ci_low is None) == (len(set(speakers)) == 1)
        if row.ci_low is not None:
            # A draw of whole speakers cannot leave the range of their own rates.
            own = [wer(*pairs_of(items, s)) if row is words else cer(*pairs_of(items, s)) for s in set(speakers)]
            assert min(own) - 1e-12 <= row.ci_low <= row.ci_high <= max(own) + 1e-12


def pairs_of(items, speaker):
    chosen = [(reference, text) for reference, text, who in items if who == speaker]
    return [reference for reference, _ in chosen], [text for _, text in chosen]


def test_counts_by_hand():
    assert error_counts("IT IS  LATE", "IT LATE") == (1, 3, 3, 10)
    assert error_counts("", "A") == (1, 0, 1, 0)


def test_second_readers_are_compared_without_spelling():
    own, second = Reader(None, "vgg"), Reader(None, "vgg", second=True)
    assert own.key != second.key and reading_name("vgg", second) == "vgg > vgg"
    assert plain_words("Don't STOP—now, “Émile”!") == plain_words("DON’T STOP NOW EMILE") == "don't stop now emile"
    assert plain_words("数 42") == "数 42" and plain_words(" _ - ") == ""


def test_a_reader_keeps_no_graph():
    class Weighted(Hearing):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def transcribe(self, waveforms, lengths=None):
            assert not (waveforms.sum() * self.weight).requires_grad
            return super().transcribe(waveforms, lengths)

    assert Reader(Weighted(), "w").read([np.zeros(16, np.float32)]) == ["16 SAMPLES"]
