"""The commands on a tiny recogniser, from sound to page and from corpus to tables."""

import csv
import json
import re

import pytest
import yaml

from hfprobe.cli import main
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.reports.kept import read_sounds

LAYERS = [f"blstm{n}" for n in range(1, 6)]
ROW = {"encoder", "layer", "condition", "metric", "value", "ci_low", "ci_high", "n", "n_failed"}


def test_listen_writes_a_self_contained_page_and_its_config_reads_back(world, tmp_path, capsys):
    out = tmp_path / "page"
    argv = [
        "listen",
        world.wav,
        "--encoder",
        world.encoder,
        "--probes",
        world.bank,
        "--output",
        str(out),
        "--snr",
        "clean",
    ]
    assert main([*argv, "--noise", "generated", "--iterations", "1", "--save-sounds", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("open ")
    page = (out / "index.html").read_text()
    assert all(layer in page for layer in LAYERS)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|url\(\s*["']?https?:|@import""", page)
    assert len(list((out / "sounds").rglob("*.flac"))) == len(LAYERS) + 2
    again = tmp_path / "again"
    assert main(["listen", "--config", str(out / "config.yaml"), "--output", str(again)]) == 0
    first, second = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (out, again))
    assert first.pop("output") != second.pop("output") and first == second
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


def test_the_sounds_of_listen_are_there_before_they_are_measured(world, tmp_path, monkeypatch):
    import hfprobe.analysis.hear as hear

    out, seen = tmp_path / "page", []
    measure = hear._similarities

    def measured(*given):
        seen.append(
            (len(list(out.rglob("*.flac"))), len(list(out.rglob("*.png"))), (out / "sounds/index.json").exists())
        )
        return measure(*given)

    monkeypatch.setattr(hear, "_similarities", measured)
    argv = ["listen", world.wav, "--encoder", world.encoder, "--probes", world.bank, "--output", str(out)]
    assert main([*argv, "--snr", "clean", "5", "--noise", "generated", "--iterations", "1", "--device", "cpu"]) == 0
    each = len(LAYERS) + 2
    assert seen == [(each, each, False), (2 * each, 2 * each, False)]
    for condition in read_sounds(out)[0].conditions:
        clips = list(condition.clips())
        assert [clip[1] for clip in clips] == ["input", "ceiling", *LAYERS]
        assert all(clip.text is not None and (clip.stoi is not None or clip.note) for _, _, clip in clips)


def test_evaluate_what_was_trained(world, tmp_path, capsys):
    out = tmp_path / "results"
    argv = ["evaluate", "--encoder", world.encoder, "--probes", world.bank, "--dataset", "espeak:test", "--noise"]
    argv += ["generated", "--snr", "clean", "10", "--speakers", "2", "--per-speaker", "2", "--iterations", "1"]
    argv += ["--layers", "blstm1", "blstm5", "--wer", "--device", "cpu", "--output", str(out), "--keep-sounds", "2"]
    assert main(argv) == 0
    heard = read_sounds(out)
    assert len(heard) == 2 and len({view.title.partition("speaker")[2] for view in heard}) == 2  # one of each speaker
    for view in heard:
        assert [condition.name for condition in view.conditions] == ["clean", "noise@10dB"] and view.transcript
        for condition in view.conditions:
            clips = list(condition.clips())
            assert [clip[1] for clip in clips] == ["input", "ceiling", "blstm1", "blstm5"]
            assert all(clip.text is not None and clip.mel.shape[1] == 80 for _, _, clip in clips)
            assert all(clip.stoi is not None or clip.note for _, _, clip in clips)
    first = heard[0].conditions[0].input
    assert first.stoi > 0.999 and first.similarity > 0.999
    assert (out / "figure3.png").stat().st_size > 5000 and (out / "figure3.pdf").is_file()
    content = json.loads((out / "results.json").read_text())
    assert set(content) == {"rows", "environment", "config"}
    for row in content["rows"]:
        assert set(row) == ROW and row["condition"] in ("clean", "noise@10dB")
        assert row["metric"] in ("eer", "mindcf", "stoi", "wer", "cer")
    measured = {row["layer"] for row in content["rows"] if row["metric"] == "stoi"}
    assert measured == {"input", "ceiling", "floor", "blstm1", "blstm5"}
    assert {row["layer"] for row in content["rows"] if row["metric"] == "wer"} == measured
    assert capsys.readouterr().out.startswith("note: no random-weight floor; `hfprobe train --random-floor`")
    with open(out / "results.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(content["rows"])
    assert {"results.md", "eer.png", "stoi.png", "config.yaml"} <= {p.name for p in out.iterdir()}
    assert yaml.safe_load((out / "config.yaml").read_text())["wer"] is True


def test_random_floor_and_linear_probes_from_training_to_tables(world, tmp_path, capsys):
    bank, out = tmp_path / "bank", tmp_path / "out"
    train = ["train", "--encoder", world.encoder, "--dataset", "espeak:train", "--noise", "generated", "--steps", "2"]
    train += ["--batch-size", "2", "--probe", "linear", "--layers", "blstm4", "blstm5", "--device", "cpu"]
    assert main([*train, "--random-floor", "--seed", "3", "--output", str(bank)]) == 0
    assert capsys.readouterr().out.startswith("linear probes of 2 layers of enc are in")
    argv = ["evaluate", "--encoder", world.encoder, "--probes", str(bank), "--dataset", "espeak:test", "--snr", "0"]
    argv += ["--noise", "generated", "--speakers", "2", "--per-speaker", "2", "--max-seconds", "4", "--iterations", "1"]
    argv += ["--against", "both", "--trials", "all", "--recogniser", world.other, "--device", "cpu"]
    assert main([*argv, "--output", str(out)]) == 0
    assert "note:" not in capsys.readouterr().out
    content = json.loads((out / "results.json").read_text())
    rows = {(row["encoder"], row["layer"], row["metric"]): row for row in content["rows"]}
    for layer in ("blstm4", "blstm5"):
        for name in ("enc", "random:enc@3"):
            assert rows[name, layer, "eer"]["n"] == 6 and (name, layer, "stoi_input") in rows
            assert (f"{name} > other", layer, "wer") in rows and (name, layer, "wer") not in rows
    assert content["config"]["probe_capacity"] == {"enc": "linear", "random:enc@3": "linear"}
    assert (out / "results.md").read_text().startswith("Probes: enc: linear, random:enc@3: linear.")
    found = json.loads((out / "differences.json").read_text())
    assert set(found) == {"differences", "environment", "config"}
    assert {row["other_encoder"] for row in found["differences"]} == {"enc", "-", "random:enc@3"}
    with open(out / "differences.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found["differences"])
    written = {"table2.md", "differences.md", "figure2.png", "figure2.pdf", "figure4.png", "figure4.pdf", "wer.png"}
    assert written <= {path.name for path in out.iterdir()}
    wrong = tmp_path / "wrong"
    assert main([*argv, "--random-probes", str(bank), "--output", str(wrong)]) == 1
    assert "with random weights, got those of 'enc'" in capsys.readouterr().err and not wrong.exists()


@pytest.mark.parametrize(
    ("command", "options", "status", "word"),
    [
        ("evaluate", ["--recogniser", "nobody"], 1, "encoder 'nobody'"),
        ("evaluate", ["--random-probes", "nowhere"], 1, "'nowhere' does not exist"),
        ("evaluate", ["--random-probes", "a/b", "--random-probes", "c/d"], 1, "1 --encoder but 2 --random-probes"),
        ("evaluate", ["--trials", "some"], 2, "balanced"),
        ("evaluate", ["--eer-convention", "none"], 2, "speechbrain"),
        ("evaluate", ["--against", "noise"], 2, "input"),
        ("train", ["--probe", "cubic"], 2, "linear"),
    ],
)
def test_wrong_options_leave_nothing_behind(world, tmp_path, capsys, command, options, status, word):
    out = tmp_path / "out"
    argv = [command, "--encoder", world.encoder, "--dataset", "espeak:test", "--output", str(out)]
    argv += ["--probes", world.bank, "--snr", "clean"] if command == "evaluate" else ["--steps", "1"]
    assert main([*argv, *options]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and word in lines[0] and not out.exists()


def test_encoders_lists_families_and_shipped_layers(capsys):
    assert main(["encoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    text = " ".join(" ".join(lines).split())
    for word in ("espnet", "speechbrain", "huggingface", "vgg_rnn", "conformer", "wav2vec2", "whisper", "CRDNN"):
        assert word in text
    for name in AutoSpeechEncoder.shipped():
        assert f"{name} {' '.join(spec.name for spec in AutoSpeechEncoder.from_pretrained(name).layers)}" in text
    assert max(map(len, lines)) <= 100 and lines[-1].startswith("show one with")


@pytest.mark.parametrize("words", [["{}"], ["--encoder", "{}"]])
def test_encoders_shows_the_layers_of_one(world, capsys, words):
    assert main(["encoders", *(word.format(world.encoder) for word in words)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("blstm")}
    assert list(rows) == LAYERS and max(map(len, lines)) <= 100
    assert [rows[layer][2] for layer in LAYERS] == ["10", "20", "40", "80", "80"]  # ms
    assert all(rows[layer][5] == "all" for layer in LAYERS)
    assert lines[-1].startswith("5 layers")


def test_encoders_reports_fields_and_parameters():
    import torch
    from torch import nn

    from hfprobe.cli.encoders import layer_table
    from hfprobe.encoders.reach import measure_reach

    torch.manual_seed(0)
    net = nn.Sequential(nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 4, 400, 160), nn.Conv1d(4, 4, 3, 2), nn.ReLU())
    nn.init.zeros_(net[2].bias)
    encoder = AutoSpeechEncoder.from_module(
        net,
        {"a": "1", "a_rather_long_name": "3"},
        stride={"a": 160, "a_rather_long_name": 320},
        offset={"a": 200, "a_rather_long_name": 360},
        layout="bct",
        name="convolutions",
    )
    one, two = measure_reach(encoder, seconds=1.0)
    assert (one.samples, two.samples) == (400, 720) and (one.before, one.after) == (200, 199)
    assert (one.parameters, two.parameters) == (4 * 400 + 4, 4 * 400 + 4 + 4 * 4 * 3 + 4)
    lines = layer_table(encoder)
    assert lines[0] == "convolutions" and lines[2].split()[-1] == "read"
    assert lines[5].split()[:6] == ["a_rather_long_name", "4", "20", "22.5", "1.66k", "45"]


def test_two_encoders_are_refused(capsys):
    assert main(["encoders", "blstm-robust", "--encoder", "blstm-baseline"]) == 1
    assert "two encoders are given" in capsys.readouterr().err


SHIPPED = ("blstm-baseline", "blstm-robust", "vgg-blstm-baseline", "vgg-blstm-robust")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_encoder_loads_fits_its_bank_and_transcribes(name, spoken):
    import torch

    from hfprobe.cli.banks import load_encoders
    from hfprobe.probes.bank_source import shipped_banks

    if name not in AutoSpeechEncoder.shipped():
        pytest.skip(f"encoder {name} does not ship in this checkout")
    if name not in shipped_banks():
        pytest.skip(f"the bank of {name} does not ship in this checkout")
    [(encoder, bank)] = load_encoders([name], [])
    expected = [f"cnn{n}" for n in range(1, 5)] * name.startswith("vgg") + LAYERS
    assert [spec.name for spec in encoder.layers] == expected == list(bank)
    bank.check(encoder)
    [text] = encoder.transcribe(torch.from_numpy(spoken)[None], torch.tensor([len(spoken)]))
    assert re.fullmatch(r"[A-Z' ]+", text)
