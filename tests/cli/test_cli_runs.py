"""The commands on a tiny recogniser, from sound to page and from corpus to tables."""

import csv
import json
import re

import pytest
import yaml

from hfprobe.cli import main
from hfprobe.encoders import AutoSpeechEncoder

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


def test_evaluate_what_was_trained(world, tmp_path):
    out = tmp_path / "results"
    argv = ["evaluate", "--encoder", world.encoder, "--probes", world.bank, "--dataset", "espeak:test", "--noise"]
    argv += ["generated", "--snr", "clean", "10", "--speakers", "2", "--per-speaker", "2", "--iterations", "1"]
    argv += ["--layers", "blstm1", "blstm5", "--wer", "--device", "cpu", "--output", str(out)]
    assert main(argv) == 0
    content = json.loads((out / "results.json").read_text())
    assert set(content) == {"rows", "environment", "config"}
    for row in content["rows"]:
        assert set(row) == ROW and row["condition"] in ("clean", "noise@10dB")
        assert row["metric"] in ("eer", "mindcf", "stoi", "wer", "cer")
    measured = {row["layer"] for row in content["rows"] if row["metric"] == "stoi"}
    assert measured == {"input", "ceiling", "floor", "blstm1", "blstm5"}
    with open(out / "results.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(content["rows"])
    assert {"results.md", "eer.png", "stoi.png", "config.yaml"} <= {p.name for p in out.iterdir()}
    assert yaml.safe_load((out / "config.yaml").read_text())["wer"] is True


def test_encoders_lists_layers(world, capsys):
    assert main(["encoders", "--encoder", world.encoder]) == 0
    out = capsys.readouterr().out
    assert all(layer in out for layer in LAYERS)


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
