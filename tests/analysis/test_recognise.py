"""Error rates with their intervals, against counting by hand."""

import numpy as np
import pytest
import torch

from hfprobe.analysis.conditions import Condition
from hfprobe.analysis.recognise import recognise
from hfprobe.analysis.test_set import TestSet
from hfprobe.data import load_noise


class Reader(torch.nn.Module):
    """Reads the text that belongs to a waveform's length; noise makes it forget the first word."""

    name = "reader"

    def __init__(self, texts):
        super().__init__()
        self.texts = texts

    def transcribe(self, waveforms, lengths):
        noisy = [float(w[:n].std()) > 0.12 for w, n in zip(waveforms, lengths, strict=True)]
        return [" ".join(self.texts[int(n)].split()[int(bad) :]) for n, bad in zip(lengths, noisy, strict=True)]


def make(references, hypotheses, speakers):
    rng = np.random.default_rng(0)
    waves = [(0.1 * rng.standard_normal(8000 + i)).astype(np.float32) for i in range(len(references))]
    test = TestSet([f"u{i}" for i in range(len(waves))], waves, references, speakers)
    return test, Reader({8000 + i: text for i, text in enumerate(hypotheses)})


def test_rates_and_intervals():
    references = ["A B  C D", "E F", "G H I J", "K L"] * 3
    hypotheses = ["A B C D", "E X", "G H J", "K L M"] * 3
    test, reader = make(references, hypotheses, [f"s{i}" for i in range(12)])
    rows, texts = recognise(reader, test, [Condition(), Condition(0.0)], load_noise("generated", "test"))
    assert texts["clean"] == hypotheses
    by = {(row.condition, row.metric): row for row in rows}
    assert set(by) == {(c, m) for c in ("clean", "noise@0dB") for m in ("wer", "cer")}
    assert by["clean", "wer"].value == pytest.approx(3 / 12)
    assert by["clean", "cer"].value == pytest.approx(5 / 20)  # runs of spaces count once
    for row in rows:
        assert row.ci_low < row.value < row.ci_high and row.n == 12 and row.n_failed == 0
        assert (row.encoder, row.layer) == ("reader", "input")
    assert by["noise@0dB", "wer"].value > by["clean", "wer"].value
    again, _ = recognise(reader, test, [Condition(), Condition(0.0)], load_noise("generated", "test"))
    assert again == rows


def test_utterances_without_a_transcript_are_failures():
    test, reader = make(["A B", "", "C D", " "], ["A B", "Z", "C X", "Z"], ["s0", "s0", "s1", "s1"])
    rows, _ = recognise(reader, test, [Condition()])
    assert [(row.metric, row.value, row.n, row.n_failed) for row in rows] == [
        ("wer", 0.25, 2, 2),
        ("cer", pytest.approx(1 / 6), 2, 2),
    ]
    test.texts = [""] * 4
    assert [(row.value, row.ci_low, row.n, row.n_failed) for row in recognise(reader, test, [Condition()])[0]] == [
        (None, None, 0, 4)
    ] * 2


def test_one_speaker_has_no_interval():
    test, reader = make(["A B", "C D"], ["A B", "C"], ["s0", "s0"])
    assert all(row.ci_low is None and row.ci_high is None for row in recognise(reader, test, [Condition()])[0])
