"""Kept sounds: what is written is what is read, and no path or number of a file is trusted."""

import json

import numpy as np
import pytest
from made_up import HOSTILE, clip, tone, view

from hfprobe.reports import ConditionView, ReportError, UtteranceView
from hfprobe.reports.kept import FOLDER, INDEX, Keeper, keep_views, mels_by_layer, read_sounds, safe_name


def test_sounds_and_pictures_come_back(tmp_path):
    made = view(seconds=0.3, notes=("resampled",))
    keep_views([made], tmp_path, {"seed": 3}, {"snr": [10]})
    (read,) = read_sounds(tmp_path)
    assert (read.id, read.title, read.transcript, read.notes) == ("u1", "Utterance u1", "THE WORDS", ("resampled",))
    assert json.loads((tmp_path / FOLDER / INDEX).read_text())["environment"] == {"seed": 3}
    for before, after in zip(made.conditions, read.conditions, strict=True):
        pairs = list(zip(before.clips(), after.clips(), strict=True))
        assert len(pairs) == 8
        for (*place, one), (*same, two) in pairs:
            assert place == same and two.text == one.text and two.stoi == one.stoi
            np.testing.assert_allclose(two.waveform, one.waveform, atol=2 / 32768)
            np.testing.assert_allclose(two.mel, one.mel, atol=0.08)
    names = {path.relative_to(tmp_path / FOLDER).as_posix() for path in tmp_path.rglob("*.flac")}
    assert "u1/noise@10dB/vgg-robust-cnn1.flac" in names and "u1/clean/reference-input.flac" in names


def test_names_that_are_one_on_disk_stay_two_sounds(tmp_path):
    layers = {"a/b": clip(300, 0.3), "a b": clip(500, 0.3), "A-B": clip(700, 0.3)}
    keep_views(
        [UtteranceView("u", "u", conditions=(ConditionView("clean", clip(200, 0.3), None, {"e": layers}),))], tmp_path
    )
    (read,) = read_sounds(tmp_path)
    for name, one in layers.items():
        np.testing.assert_allclose(read.conditions[0].encoders["e"][name].waveform, one.waveform, atol=2 / 32768)


def test_hostile_names_stay_below_the_folder(tmp_path):
    evil = UtteranceView("../../" + HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), (ConditionView(HOSTILE, clip(300, 0.3), None, {"/etc": {"..": clip(300, 0.3)}}),))  # fmt: skip
    keep_views([evil], tmp_path / "run")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    (read,) = read_sounds(tmp_path / "run")
    assert read.title == HOSTILE and read.conditions[0].name == HOSTILE
    assert safe_name("..") == "sound" and "/" not in safe_name(HOSTILE)


def broken(content, change):
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c["utterances"][0]["conditions"][0]["clips"][0].update(file="../../secret"), "no plain name"),
        (lambda c: c["utterances"][0]["conditions"][0]["clips"][0].update(file="/etc/passwd"), "no plain name"),
        (lambda c: c["utterances"][0]["conditions"][0]["clips"][0].update(file="u1/clean/other"), "is missing"),
        (
            lambda c: c["utterances"][0]["conditions"][0]["clips"][0].update(stoi="high"),
            "stoi in sounds/index.json must be a number",
        ),
        (
            lambda c: c["utterances"][0]["conditions"][0]["clips"][0].update(gain_db="soft"),
            "gain_db in sounds/index.json must be a number",
        ),
        (
            lambda c: c["utterances"][0]["conditions"][0]["clips"][0].update(gain_db=None),
            "gain_db of .* a finite number",
        ),
        (lambda c: c["utterances"][0]["conditions"][0]["clips"].pop(0), "no input"),
        (lambda c: c["utterances"][0].pop("title"), "KeyError: 'title'"),
        (lambda c: c.update(utterances=[3]), "TypeError"),
        (lambda c: c.pop("sampling_rate"), "must hold sampling_rate"),
    ],
)
def test_a_changed_index_is_refused_in_one_line(tmp_path, change, word):
    path = keep_views([view(seconds=0.3)], tmp_path)
    path.write_text(json.dumps(broken(json.loads(path.read_text()), change)))
    with pytest.raises(ReportError, match=word) as caught:
        read_sounds(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_link_out_of_the_folder_and_a_sound_that_is_none_are_refused(tmp_path):
    keep_views([view(seconds=0.3)], tmp_path / "run")
    secret = tmp_path / "secret.flac"
    sound = tmp_path / "run" / FOLDER / "u1" / "clean" / "reference-input.flac"
    sound.rename(secret)
    sound.symlink_to(secret)
    with pytest.raises(ReportError, match="is missing"):
        read_sounds(tmp_path / "run")
    sound.unlink()
    sound.write_bytes(b"fLaC, or not")
    with pytest.raises(ReportError, match="cannot be read"):
        read_sounds(tmp_path / "run")
    (tmp_path / "run" / FOLDER / INDEX).write_text("{")
    with pytest.raises(ReportError, match="not valid JSON"):
        read_sounds(tmp_path / "run")


def test_without_sounds_there_are_none_and_a_new_run_takes_the_old_index_away(tmp_path):
    assert read_sounds(tmp_path) == ()
    keep_views([view(seconds=0.3)], tmp_path)
    keeper = Keeper(tmp_path)
    assert read_sounds(tmp_path)
    keeper.add("u2", "clean", None, "input", tone(300, 0.3), np.zeros((31, 4)))
    assert read_sounds(tmp_path) == ()  # stopped here, no index speaks for half a run


def test_figure_3_is_of_the_middle_noise(tmp_path):
    panels, name = mels_by_layer(view(conditions=("clean", "noise@10dB"), seconds=0.3))
    assert name == "noise@10dB" and list(panels["vgg-robust"]) == ["clean", "noisy", "cnn1", "blstm1", "blstm2"]
    assert mels_by_layer(view(conditions=("clean",), seconds=0.3)) is None
