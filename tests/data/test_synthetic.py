"""Synthetic speech: all voices speak, and differ."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.data.synthetic import ACCENTS, PEAK, VARIANTS, Voice, draw_voices, record, speak
from hfprobe.errors import DatasetError


def test_every_voice_speaks_and_differs():
    sounds = {}
    for voice in [*(Voice(v) for v in VARIANTS), *(Voice("m3", accent) for accent in ACCENTS[1:])]:
        sound = speak("go home after the party", voice)
        assert sound.dtype == np.float32 and 8000 < len(sound) < 80000
        assert np.abs(sound).max() == pytest.approx(PEAK, rel=1e-3)
        sounds[voice.speaker] = sound.tobytes()
    assert len(sounds) == len(VARIANTS) + len(ACCENTS) - 1
    assert len(set(sounds.values())) == len(sounds)


def test_a_sentence_sounds_the_same_whatever_was_said_before():
    for variant in ("m1", "klatt", "Alex", "Reed", "caleb"):
        takes = []
        for other in ("f2", "klatt3"):
            speak("something else entirely", Voice(other, rate=180))
            takes.append(speak("hello my good friend", Voice(variant)))
        assert np.array_equal(*takes), variant


def test_a_sentence_sounds_the_same_at_any_time_of_day():
    voices = [Voice("f2", pitch=82), Voice("f3", "en-gb-scotland", 97, 82, 22)]  # with breath, which is random
    first, second = [speak("the engine coughed twice", voice) for voice in voices], int(time.time())
    while int(time.time()) == second:  # the library counts in seconds
        time.sleep(0.02)
    for sound, voice in zip(first, voices, strict=True):
        assert np.array_equal(sound, speak("the engine coughed twice", voice))


def test_voices_are_drawn_once_per_seed():
    assert draw_voices(50, seed=4) == draw_voices(50, seed=4) != draw_voices(50, seed=5)
    assert draw_voices(50, seed=4)[:20] == draw_voices(20, seed=4)


def test_bad_voices_and_texts_are_refused():
    with pytest.raises(DatasetError, match="no voice 'en-us\\+nobody'"):
        speak("hello", Voice("nobody"))
    with pytest.raises(DatasetError, match="no sound for ''"):
        speak("", Voice("m1"))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 0.9))
def test_a_microphone_keeps_length_and_peak(seed, peak):
    sound = (peak * np.sin(np.arange(4000) / 7)).astype(np.float32)
    heard = record(sound, np.random.default_rng(seed))
    assert heard.shape == sound.shape and heard.dtype == np.float32
    assert np.abs(heard).max() == pytest.approx(np.abs(sound).max(), rel=1e-5)
    assert np.abs(heard - sound).max() > 0
