"""Messages of errors: one line that a terminal can print, whatever came."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from hfprobe.errors import MOST, AudioError, HfprobeError, LayerError


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_text_becomes_one_printable_line(text):
    said = str(HfprobeError(f"expected a layer, got {text}"))
    assert said.isprintable()
    said.encode()  # a lone surrogate could not be
    assert str(HfprobeError(said)) == said


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_what_can_be_printed_stays(text):
    assert str(LayerError(text)) == text


def test_a_long_message_keeps_both_ends():
    said = str(HfprobeError("expected a list, got " + "x" * 10 * MOST + ": cut it"))
    assert len(said) <= MOST
    assert said.startswith("expected a list, got x") and said.endswith("x: cut it")


def test_escapes_are_those_of_python():
    assert str(HfprobeError("a\x1b[2J\u202eb\x00\udc80\n  c")) == "a\\x1b[2J\\u202eb\\x00\\udc80 c"


def test_the_same_after_crossing_a_process():
    error = pickle.loads(pickle.dumps(AudioError("no\x07 sound", reason="nan")))
    assert (str(error), error.reason) == ("no\\x07 sound", "nan")
