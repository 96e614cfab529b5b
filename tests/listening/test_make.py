"""Sounds of a test: loudness, replacement of those that cannot be used, and that the page gives nothing away."""

import json

import numpy as np
import pytest
import soundfile
from listening_fakes import RATE, Tones, tone

from hfprobe.errors import AudioError, ConfigError
from hfprobe.listening.design import NATURAL, Cell, Sound
from hfprobe.listening.make import make_triplets
from hfprobe.listening.sounds import FileSounds, equalise, loudness, unusable


def test_all_sounds_are_equally_loud_and_none_clips():
    test = make_triplets(Tones(), per_cell=2, catch=1, listeners=2)
    levels = [loudness(clip) for clip in test.clips.values()]
    assert max(levels) - min(levels) < 0.1 and levels[0] == pytest.approx(test.loudness, abs=0.1)
    assert test.loudness == pytest.approx(-23, abs=0.1)
    assert max(np.abs(clip).max() for clip in test.clips.values()) <= 0.981


def test_a_click_lowers_all_sounds_together():
    quiet = tone(Sound(NATURAL, "s", "u"))
    click = quiet.copy() * 0.01
    click[100] = 0.9
    made, target = equalise({"a": quiet, "b": click})
    assert target < -23 and max(np.abs(wave).max() for wave in made.values()) == pytest.approx(0.98, abs=1e-3)
    assert loudness(made["a"]) == pytest.approx(loudness(made["b"]), abs=0.1)


def test_loudness_follows_gain_and_refuses_what_it_cannot_measure():
    wave = tone(Sound(NATURAL, "s", "u"))
    assert loudness(10 * wave) - loudness(wave) == pytest.approx(20, abs=0.01)
    assert loudness(np.zeros(RATE)) == -float("inf")
    with pytest.raises(AudioError, match="0.10 s is too short"):
        loudness(wave[:1600])
    with pytest.raises(AudioError, match="NaN"):
        loudness(wave * np.nan)
    found = [unusable(each) for each in (wave, wave * 0, wave * 1e-5, wave * np.nan, wave[:100])]
    assert found == [None, "silent", "silent", "not finite", "too short"]


def test_sounds_that_cannot_be_used_are_counted_and_replaced():
    def broken(sound):
        if sound.utterance == "u0" and sound.cell.layer == "one":
            return np.zeros(RATE, np.float32)
        return "EncoderError" if (sound.speaker, sound.utterance) == ("s1", "u1") else None

    source = Tones(speakers=4, utterances=5, broken=broken)
    test = make_triplets(source, per_cell=6, catch=2, listeners=2)
    assert test.left_out["silent"] and test.left_out["EncoderError"]
    assert not any(broken(sound) is not None for sound in test.sounds.values())
    assert len(test.items) == 2 * 6 + 2 + 1
    assert len(source.made) == len(set(source.made))  # nothing is made twice


def test_when_all_sounds_are_bad_it_says_so():
    with pytest.raises(ConfigError, match="cannot make an item of toy / one / clean"):
        make_triplets(Tones(("one",), broken=lambda sound: "silent" if sound.cell.layer == "one" else None))


def test_the_page_knows_no_layer_speaker_or_answer():
    test = make_triplets(Tones(), per_cell=4, catch=2, listeners=3)
    page, key = test.page(), test.key({})
    text = json.dumps({name: page[name] for name in ("items", "sessions")})
    for word in ("toy", "one", "two", "input", "s0", "s1", "u0", "clean", "catch", "right"):
        assert f'"{word}' not in text and word not in text
    # Where the right voice stands among the choices says nothing, nor does the order of items.
    at = [item.choices.index(item.truth["right"]) for item in test.items]
    assert 0 < sum(at) < len(at) and all(list(item.choices) == sorted(item.choices) for item in test.items)
    assert [item["id"] for item in page["items"]] == sorted(item["id"] for item in page["items"])
    # The key has it all, and fits the page.
    assert {item["id"] for item in page["items"]} | {page["training"][0]["id"]} == set(key["items"])
    for item in page["items"]:
        truth = key["items"][item["id"]]
        assert truth["right"] in item["choices"] and truth["x"] == item["reference"]
        assert key["clips"][truth["right"]]["speaker"] == key["clips"][truth["x"]]["speaker"] == truth["speaker"]
        assert truth["role"] in ("test", "catch") and key["clips"][truth["x"]]["layer"] == truth["layer"]
    assert key["test"] == page["test"] == test.id and key["seed"] == 0 and len(key["sessions"]) == 3


def test_the_same_seed_makes_the_same_test():
    made = [make_triplets(Tones(), 2, 1, 2, seed=seed) for seed in (5, 5, 6)]
    assert made[0].page() == made[1].page() and made[0].id == made[1].id != made[2].id


def manifest(folder, rows, header="path,speaker,layer,condition,utterance"):
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    rows = []
    for layer in ("input", "blstm1"):
        for speaker in ("ann", "böb"):
            for utterance in ("1", "2"):
                name = f"{layer}-{speaker}-{utterance}.wav"
                wave = tone(Sound(Cell("", layer, ""), speaker, utterance))
                soundfile.write(tmp_path / name, wave, RATE)
                rows.append(f"{name},{speaker},{layer},clean,{utterance}")
    return tmp_path, rows


def test_a_folder_with_a_manifest(folder):
    path, rows = folder
    source = FileSounds(manifest(path, rows))
    assert source.cells == (Cell("sounds", "blstm1", "clean"),)
    test = make_triplets(source, per_cell=2, catch=1, listeners=1)
    assert {sound.speaker for sound in test.sounds.values()} == {"ann", "böb"}
    soundfile.write(path / "blstm1-ann-1.wav", np.zeros(RATE), RATE)
    (path / "blstm1-ann-2.wav").write_bytes(b"no sound")
    made = source.make([Sound(source.cells[0], "ann", name) for name in "12"])
    assert list(made.values()) == ["silent", "unreadable"]


@pytest.mark.parametrize(
    "row,message",
    [
        ("../secret.wav,ann,l,clean,1", "outside the manifest's folder"),
        ("a.wav,,l,clean,1", "column 'speaker' is empty"),
        ("a.wav,ann,l,very clean,1", "like clean or noise@10dB"),
        ("input-ann-1.wav,ann,input,clean,1", "is there twice"),
    ],
)
def test_manifests_that_are_refused(folder, row, message):
    path, rows = folder
    with pytest.raises(ConfigError, match=message):
        FileSounds(manifest(path, [*rows, row]))


def test_more_manifests_that_are_refused(folder):
    path, rows = folder
    with pytest.raises(ConfigError, match="lacks the columns speaker"):
        FileSounds(manifest(path, rows, "path,who,layer,condition,utterance"))
    with pytest.raises(ConfigError, match="no layer 'cnn9'; it has input, blstm1"):
        FileSounds(manifest(path, rows), layers=["cnn9"])
    with pytest.raises(ConfigError, match="none.csv, cannot read it"):
        FileSounds(path / "none.csv")
    only = FileSounds(manifest(path, [row for row in rows if "blstm1" in row]))
    with pytest.raises(ConfigError, match="no natural speech .* --catch 0"):
        make_triplets(only)
    assert make_triplets(only, 2, catch=0, listeners=1).page()["training"] == []
