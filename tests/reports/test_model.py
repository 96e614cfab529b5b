"""What a page shows: checks of sounds and result rows."""

from types import SimpleNamespace

import numpy as np
import pytest

from hfprobe.errors import HfprobeError
from hfprobe.reports import Clip, ConditionView, Measurement, ReportError, UtteranceView, measurements
from hfprobe.reports.model import merge_orders


def clip(samples=800, **kwargs):
    return Clip(np.zeros(samples), np.zeros((6, 4)), **kwargs)


@pytest.mark.parametrize(
    ("waveform", "mel", "word"),
    [
        (np.zeros((1, 800)), np.zeros((6, 4)), "waveform"),
        (np.zeros(0), np.zeros((6, 4)), "waveform"),
        (np.zeros(800), np.zeros(6), "mel"),
        (np.full(800, np.nan), np.zeros((6, 4)), "finite"),
        (np.zeros(800), np.full((6, 4), np.inf), "finite"),
    ],
)
def test_a_broken_clip_is_refused_in_one_line(waveform, mel, word):
    with pytest.raises(ReportError, match=word) as caught:
        Clip(waveform, mel)
    assert isinstance(caught.value, HfprobeError)
    assert "\n" not in str(caught.value)


def test_nan_means_missing_and_a_word_is_no_number():
    assert clip(stoi=float("nan")).stoi is None
    assert clip(similarity=np.float32(0.5)).similarity == 0.5
    with pytest.raises(ReportError, match="stoi must be a number"):
        clip(stoi="high")


def test_sounds_of_an_utterance_have_one_length():
    odd = ConditionView("noise@0dB", clip(), None, {"e": {"blstm3": clip(801)}})
    with pytest.raises(ReportError, match="u / noise@0dB / e / blstm3 has 801"):
        UtteranceView("u", "u", conditions=(ConditionView("clean", clip()), odd))
    with pytest.raises(ReportError, match="at least one condition"):
        UtteranceView("u", "u")
    with pytest.raises(ReportError, match="different names"):
        UtteranceView("u", "u", conditions=(ConditionView("clean", clip()), ConditionView("clean", clip())))


def test_rows_are_read_from_mappings_and_objects():
    row = dict(encoder="e", layer="cnn1", condition="clean", metric="eer", value=0.1, ci_low=None, n=7, n_failed=1)
    from_mapping = Measurement.of(row)
    assert from_mapping == Measurement.of(SimpleNamespace(**row)) == Measurement.of(from_mapping)
    assert (from_mapping.n, from_mapping.n_failed, from_mapping.ci_high) == (7, 1, None)
    assert Measurement.of({**row, "value": float("nan")}).value is None
    with pytest.raises(ReportError, match="lacks metric"):
        Measurement.of({key: value for key, value in row.items() if key != "metric"})
    with pytest.raises(ReportError, match="two for e / cnn1 / clean / eer"):
        measurements([row, row])
    assert measurements(None) == ()


def test_layers_of_two_architectures_keep_both_orders():
    vgg = ["cnn1", "cnn2", "blstm1", "blstm2"]
    assert merge_orders([["blstm1", "blstm2"], vgg]) == tuple(vgg)
    assert merge_orders([["a", "c"], ["a", "b"]]) == ("a", "b", "c")
    assert merge_orders([]) == ()
