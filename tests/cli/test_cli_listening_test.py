"""``hfprobe listening-test``: from an encoder, or a folder of sounds, to a page and a key, and from answers to results."""

import csv
import json

import numpy as np
import pytest
import soundfile
import yaml

from hfprobe.cli import main
from hfprobe.results import ResultRow, Results


def make(*words):
    return main(["listening-test", "make", *map(str, words)])


def score(*words):
    return main(["listening-test", "score", *map(str, words)])


def answered(folder, wrong_layers=(), listener="ann"):
    """A file of answers by the key in a folder: wrong throughout at some layers."""
    key = json.loads((folder / "key.json").read_text())
    answers = []
    for name, item in key["items"].items():
        if item["role"] != "training":
            errs = item["layer"] in wrong_layers
            answers.append({"item": name, "answer": next(c for c in item["choices"] if (c == item["right"]) != errs)})
    content = {
        "format": "hfprobe-listening-answers",
        "version": 1,
        "test": key["test"],
        "listener": listener,
        "answers": answers,
    }
    path = folder / f"{listener}.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """A test of two layers under two conditions, made from an encoder."""
    folder = tmp_path_factory.mktemp("listening")
    source = ["--encoder", world.encoder, "--probes", world.bank, "--dataset", "espeak:test", "--noise", "generated"]
    size = [
        "--speakers",
        3,
        "--per-speaker",
        3,
        "--items-per-layer",
        1,
        "--catch",
        1,
        "--listeners",
        2,
        "--iterations",
        2,
    ]
    layers = sorted(
        path.name for path in folder.parent.joinpath(world.bank).iterdir() if path.is_dir() and path.name != "floor"
    )[:2]
    words = [*source, *size, "--snr", "clean", "0", "--layers", *layers, "--audio-format", "opus", "--output", folder]
    assert make(*words, "--device", "cpu", "--seed", 7) == 0
    return folder, layers


def test_from_an_encoder_to_results(made, tmp_path, capsys):
    folder, layers = made
    assert {path.name for path in folder.iterdir()} >= {"key.json", "config.yaml", "for-listeners"}
    page = (folder / "for-listeners" / "listening-test.html").read_text()
    key = json.loads((folder / "key.json").read_text())
    assert key["seed"] == 7 and key["test"] in page and key["environment"]["versions"]["hfprobe"]
    assert {(i["layer"], i["condition"]) for i in key["items"].values() if i["role"] == "test"} == {
        (layer, condition) for layer in layers for condition in ("clean", "noise@0dB")
    }
    assert not any(
        f'"{word}"' in page for word in (*layers, "noise@0dB", *(c["utterance"] for c in key["clips"].values()))
    )
    files = [answered(folder, layers[1:], "ann"), answered(folder, (), "bob"), answered(folder, ("input",), "deaf")]
    encoder = next(i["encoder"] for i in key["items"].values() if i["role"] == "test")
    machine = [
        ResultRow(encoder, layer, "clean", "eer", value) for layer, value in zip(layers, (0.1, 0.4), strict=True)
    ]
    Results(machine).to_json(tmp_path / "eer.json")
    out = tmp_path / "out"
    assert score(*files, "--key", folder / "key.json", "--output", out, "--results", tmp_path / "eer.json") == 0
    printed = capsys.readouterr().out
    assert "2 of 3 listeners count" in printed and "'deaf' is left out: 1 of 1" in printed
    results = Results.from_json(out / "results.json")
    rates = {(row.layer, row.condition): (row.value, row.n) for row in results}
    assert rates == {
        (layers[0], "clean"): (0, 2), (layers[1], "clean"): (0.5, 2), ("input", "clean"): (0, 2),
        (layers[0], "noise@0dB"): (0, 2), (layers[1], "noise@0dB"): (0.5, 2),
    }  # fmt: skip
    assert results.config["left_out"] == ["deaf"] and results.config["test_seed"] == 7
    for name in ("results.csv", "results.md", "figure2b.png", "figure2b.pdf", "listeners.csv", "separations.csv"):
        assert (out / name).stat().st_size > 100
    with (out / "separations.csv").open() as file:
        assert [row["other_layer"] for row in csv.DictReader(file)] == [layers[1]] * 2


def test_the_configuration_reads_back(made, tmp_path):
    folder, _ = made
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["items_per_layer"] == 1 and "action" not in config
    again = tmp_path / "again"
    assert make("--config", folder / "config.yaml", "--output", again) == 0
    same, other = (json.loads((place / "key.json").read_text()) for place in (folder, again))
    assert same["test"] == other["test"] and same["items"] == other["items"]


@pytest.fixture
def sounds(tmp_path):
    """Sounds of two speakers with their manifest."""
    time, rows = np.arange(8000) / 16000, ["path,speaker,layer,condition,utterance"]
    for layer in ("input", "cnn1"):
        for speaker, pitch in (("a", 120), ("b", 210)):
            for utterance in range(2):
                name = f"{layer}{speaker}{utterance}.flac"
                soundfile.write(tmp_path / name, 0.1 * np.sin(2 * np.pi * (pitch + 9 * utterance) * time), 16000)
                rows.append(f"{name},{speaker},{layer},clean,{utterance}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    return tmp_path


def test_from_a_folder_of_sounds_a_file_for_each(sounds, tmp_path, capsys):
    words = ["--sounds", sounds, "--items-per-layer", 2, "--catch", 1, "--listeners", 3, "--file-per-listener"]
    assert make(*words, "--output", tmp_path / "test") == 0
    assert len(list((tmp_path / "test" / "for-listeners").glob("listener-0[123].html"))) == 3
    assert "keep" in capsys.readouterr().out.splitlines()[-1]
    assert str(sounds) not in (tmp_path / "test" / "key.json").read_text()


def test_silent_sounds_are_said(sounds, tmp_path, capsys):
    soundfile.write(sounds / "cnn1a0.flac", np.zeros(8000), 16000)
    assert make("--sounds", sounds, "--items-per-layer", 2, "--catch", 0, "--output", tmp_path / "test") == 0
    assert "1 sounds could not be used (1 silent) and were replaced" in capsys.readouterr().out


def test_the_papers_form(tmp_path, capsys):
    kit = "".join(f"a/x-layer-3-y/A.flac a/x-layer-3-y/B.flac a/x-layer-3-y/X.flac {n % 2}\n" for n in range(60))
    (tmp_path / "key.txt").write_text(kit)
    (tmp_path / "ann.txt").write_text("".join(f"{n + 1} {n % 2 if n >= 15 else 1 - n % 2}\n" for n in range(60)))
    assert score(tmp_path / "ann.txt", "--key", tmp_path / "key.txt", "--output", tmp_path / "out") == 0
    (row,) = Results.from_json(tmp_path / "out" / "results.json")
    assert (row.value, row.n, row.layer) == (0.25, 60, "layer3")
    assert Results.from_json(tmp_path / "out" / "results.json").config["overall"]["value"] == 0.25
    assert "over all items: 25.0 % (95 % 15.8 to 37.2, n = 60)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words,message",
    [
        ([], "either --sounds, or --encoder with --dataset"),
        (["--sounds", "x.csv", "--encoder", "e"], "either --sounds, or --encoder"),
        (["--sounds", "x.csv"], "in x.csv, cannot read it"),
        (["--sounds", "x.csv", "--snr", "0"], "--snr belongs to --encoder"),
        (["--encoder", "blstm-robust"], "give --dataset"),
        (["--encoder", "blstm-robust", "--dataset", "espeak:test", "--layers", "cnn7"], "no bank has a layer 'cnn7'"),
    ],
)
def test_what_make_refuses_in_one_line(words, message, tmp_path, capsys):
    assert make(*words, "--output", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_what_score_refuses_in_one_line(made, tmp_path, capsys):
    folder, _ = made
    whole = answered(folder)
    cut = tmp_path / "cut.json"
    cut.write_text(whole.read_text()[:300])
    out = tmp_path / "out"
    assert score(whole, cut, "--key", folder / "key.json", "--output", out) == 1
    error = capsys.readouterr().err
    assert "cut.json is not valid JSON" in error and len(error.splitlines()) == 1 and not out.exists()
    assert score(whole, cut, "--key", folder / "key.json", "--output", out, "--skip-bad") == 0
    assert "left out: cut.json" in (out / "results.md").read_text()


def test_options_belong_behind_the_action(capsys):
    assert main(["listening-test", "--seed", "3", "make", "--output", "x"]) == 2
    assert main(["listening-test"]) == 2
    assert main(["listening-test", "make", "--help"]) == 0
    assert "--items-per-layer" in capsys.readouterr().out
