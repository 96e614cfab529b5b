"""`hfprobe score` from files to tables, and what it refuses."""

import csv
import json

import numpy as np
import pytest
import soundfile
import yaml

from hfprobe.cli import main
from hfprobe.data.synthetic import Voice, speak
from hfprobe.results import Results

RATE = 16000
WORDS = ("the quick brown fox", "jumps over the lazy dog")
VOICES = {"84": Voice("m1"), "174": Voice("f2", pitch=70)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """LibriSpeech-shaped names, two speakers with two clips; themselves, and with noise in two steps."""
    root = tmp_path_factory.mktemp("cli_score")
    generator = np.random.default_rng(0)
    for speaker, voice in VOICES.items():
        for index, words in enumerate(WORDS):
            clean = speak(words, voice)
            noise = generator.standard_normal(len(clean)) * np.sqrt(np.mean(clean**2))
            sounds = {
                f"ref/{speaker}/7": (clean, "flac"),
                "deg/clean/same": (clean, "flac"),
                "deg/white@20dB/l1": (0.5 * (clean + 0.1 * noise), "wav"),
                "deg/white@0dB/l1": (0.3 * (clean + noise)[: -160 * (index + 1)], "wav"),
            }
            for folder, (sound, suffix) in sounds.items():
                (root / folder).mkdir(parents=True, exist_ok=True)
                soundfile.write(root / folder / f"{speaker}-7-{index:04d}.{suffix}", sound, RATE)
    return root


def score(folders, out, *more):
    argv = ["score", "--reference", folders / "ref", "--degraded", folders / "deg", "--output", out, *more]
    return main([str(word) for word in [*argv, "--device", "cpu"]])


@pytest.fixture(scope="module")
def scored(folders, tmp_path_factory):
    """One run with the defaults, and everything it wrote."""
    out = tmp_path_factory.mktemp("scored") / "new" / "scores"
    assert score(folders, out) == 0
    return out


def test_rows_of_what_was_planted(scored):
    results = Results.from_json(scored.with_suffix(".json"))
    value = {(row.layer, row.condition, row.metric): row.value for row in results}
    assert value["same", "clean", "stoi"] == pytest.approx(1) and value["same", "clean", "pesq"] > 4.6
    for metric in ("stoi", "pesq"):
        assert value["same", "clean", metric] > value["l1", "white@20dB", metric] > value["l1", "white@0dB", metric]
    assert value["input", "clean", "eer"] == value["same", "clean", "eer"]
    assert {row.encoder for row in results} == {"-", "deg"}
    assert {row.metric for row in results if row.layer == "input"} == {"eer", "mindcf"}
    assert all(row.ci_low - 1e-9 <= row.value <= row.ci_high + 1e-9 for row in results if row.metric == "stoi")
    assert results.config["verifier"] == "ge2e" and results.config["reference_speakers"] == 2
    assert any("cut to the shorter of a pair: 4 files" in notice for notice in results.config["notices"])


def test_files_beside_the_results(scored, folders):
    names = {"scores.json", "scores.csv", "scores.clips.csv", "scores.config.yaml"}
    assert {path.name for path in scored.parent.iterdir()} == names
    with open(scored.with_suffix(".csv"), newline="") as file:
        assert len(list(csv.DictReader(file))) == len(Results.from_json(scored.with_suffix(".json")))
    with open(scored.with_suffix(".clips.csv"), newline="") as file:
        clips = list(csv.DictReader(file))
    assert len(clips) == 12 and {clip["speaker"] for clip in clips} == {"84", "174"}
    assert all((folders / "deg" / clip["file"]).is_file() and not clip["failures"] for clip in clips)
    same = [clip for clip in clips if clip["layer"] == "same"]
    assert [float(clip["speaker_cosine"]) for clip in same] == pytest.approx([1] * 4, abs=1e-5)
    mean = np.mean([float(clip["stoi"]) for clip in clips if clip["condition"] == "white@0dB"])
    rows = Results.from_json(scored.with_suffix(".json")).select(condition="white@0dB", metric="stoi").rows
    assert mean == pytest.approx(rows[0].value)
    assert str(folders) not in scored.with_suffix(".json").read_text()


def test_the_written_options_give_the_same_again(scored, tmp_path, capsys):
    again = tmp_path / "again.json"
    assert main(["score", "--config", str(scored.with_suffix(".config.yaml")), "--output", str(again)]) == 0
    out = capsys.readouterr().out
    assert "| white@20dB | deg     |" in out and "notes" not in out and "note: " in out
    assert out.splitlines()[-1].startswith("results are in ")
    assert Results.from_json(again).rows == Results.from_json(scored.with_suffix(".json")).rows
    first, second = (yaml.safe_load(path.with_suffix(".config.yaml").read_text()) for path in (scored, again))
    assert first.pop("output") != second.pop("output") and first == second
    assert not again.with_suffix(".csv").exists()


def test_without_speakers_and_with_leftovers(folders, tmp_path, capsys):
    for name in ("x", "y"):
        sound, _ = soundfile.read(folders / "ref/84/7/84-7-0000.flac")
        for folder in ("ref", "deg"):
            (tmp_path / folder).mkdir(exist_ok=True)
            soundfile.write(tmp_path / folder / f"{name}.wav", sound[::2], 8000)
    (tmp_path / "deg" / "y.wav").rename(tmp_path / "deg" / "z.wav")
    (tmp_path / "deg" / "bad-x.mp3").write_text("no sound")
    assert score(tmp_path, tmp_path / "o.json", "--condition", "music@5dB", "--name", "mine") == 0
    out = capsys.readouterr().out
    for words in ("EER is left out", "1 reference has no degraded file: y", "2 degraded files match no reference", "z.wav",
                  "pesq at 8000 Hz is narrowband", "no speaker is known"):  # fmt: skip
        assert words in out, words
    rows = Results.from_json(tmp_path / "o.json").rows
    assert [(r.encoder, r.layer, r.condition, r.metric, r.n) for r in rows] == [
        ("mine", "deg", "music@5dB", "stoi", 1), ("mine", "deg", "music@5dB", "pesq_nb", 1)
    ]  # fmt: skip
    assert rows[1].value == pytest.approx(4.55, abs=0.01)


def test_broken_files_are_said_and_counted(folders, tmp_path, capsys):
    for kind in ("ref", "deg"):
        (tmp_path / kind).mkdir()
        for path in (folders / "deg/clean/same").iterdir():
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
    (tmp_path / "deg" / "84-7-0000.flac").write_bytes(b"")
    assert score(tmp_path, tmp_path / "o.csv", "--quality", "stoi", "log_mel") == 0
    out = capsys.readouterr().out
    assert "clean/deg: stoi failed on 1 files (1 empty)" in out and "verifier failed on 1 files (1 empty)" in out
    with open(tmp_path / "o.csv", newline="") as file:
        rows = {(row["layer"], row["metric"]): row for row in csv.DictReader(file)}
    assert (rows["deg", "stoi"]["n"], rows["deg", "stoi"]["n_failed"]) == ("3", "1")
    assert float(rows["deg", "stoi"]["value"]) == pytest.approx(1) and float(rows["deg", "log_mel"]["value"]) == 0
    assert int(rows["deg", "eer"]["n_failed"]) > 0 == int(rows["input", "eer"]["n_failed"])


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        (["--quality", "beauty"], 1, "choose from stoi"),
        (["--verifier", "nobody"], 1, "choose from"),
        (["--speaker-pattern", "("], 1, "regular expression"),
        (["--speaker-pattern", "x(y)"], 1, "finds no speaker in 4 of 4"),
        (["--utt2spk", "nowhere"], 1, "not a file"),
        (["--match-pattern", "(.*)"], 1, "(?P<name>"),
        (["--match-pattern", "^(?P<name>never)$"], 1, "no degraded file matches"),
        (["--condition", "very noisy"], 1, "clean or noise@10dB"),
        (["--sampling-rate", "44100"], 1, "8000 or 16000"),
        (["--sampling-rate", "0"], 2, "above 0"),
        (["--reference", "nowhere"], 1, "not a folder"),
        (["--device", "abacus"], 1, "abacus"),
        (["--output", "results.xlsx"], 1, ".json or .csv"),
    ],
)
def test_wrong_options_are_refused_in_one_line(folders, tmp_path, capsys, monkeypatch, options, status, word):
    monkeypatch.chdir(tmp_path)
    argv = ["score", "--reference", str(folders / "ref"), "--degraded", str(folders / "deg"), "--output", "out/o"]
    assert main([*argv, *options]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and word in lines[0] and "Traceback" not in lines[0], lines
    assert list(tmp_path.iterdir()) == []


def test_a_verifier_that_is_asked_for_needs_speakers(folders, tmp_path, capsys):
    (tmp_path / "ref").mkdir()
    (tmp_path / "deg").mkdir()
    sound, _ = soundfile.read(folders / "ref/84/7/84-7-0000.flac")
    for folder in ("ref", "deg"):
        soundfile.write(tmp_path / folder / "a.wav", sound, RATE)
    assert score(tmp_path, tmp_path / "o", "--verifier", "ge2e") == 1
    assert "--speaker-pattern or --utt2spk" in capsys.readouterr().err
    assert not list(tmp_path.glob("o*"))
    assert score(tmp_path, tmp_path / "o", "--verifier", "none", "--quality", "si_sdr") == 0
    row = json.loads((tmp_path / "o.json").read_text())["rows"][0]
    assert (row["value"], row["ci_low"], row["n"]) == (100.0, None, 1)


def test_a_folder_as_output_is_refused(folders, tmp_path, capsys):
    assert score(folders, tmp_path) == 1
    assert "scores.json" in capsys.readouterr().err
