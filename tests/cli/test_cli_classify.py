"""``hfprobe classify``: a run on synthetic speech with given alignments, its files, and one-line errors."""

import json

import numpy as np
import pytest
import torch

from hfprobe.cli import main
from hfprobe.data import SpeechStream
from hfprobe.probes.classifier import ClassifierProbe
from hfprobe.probes.classifier_bank import ClassifierBank
from hfprobe.results import Results


@pytest.fixture(scope="module")
def alignments(tmp_path_factory):
    """A phones.ctm that cuts the first utterances of espeak:test into pieces of 100 ms by turns of three phones."""
    path = tmp_path_factory.mktemp("align") / "phones.ctm"
    lines = []
    for batch in SpeechStream("espeak:test", 8, shuffle=False, limit=12).one_epoch(0):
        for name, length in zip(batch.ids[1:], batch.lengths[1:].tolist(), strict=True):  # the first has none
            for k in range(length // 1600):
                lines.append(f"{name} 1 {k / 10:.2f} 0.10 {('AH0', 'S', 'T')[k % 3]}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_phones(world, alignments, tmp_path, capsys):
    output = tmp_path / "out"
    line = ["classify", "--encoder", world.encoder, "--dataset", "espeak:test", "--limit", "12", "--target", "phone"]
    line += ["--alignments", alignments, "--steps", "20", "--output", str(output), "--device", "cpu", "--mdl"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].endswith(str(output)) and "phone: 3 classes, linear classifiers" in printed
    results = Results.from_json(output / "results.json")
    assert {row.metric for row in results} == {"accuracy", "control_accuracy", "selectivity", "mdl", "compression"}
    layers = {row.layer for row in results.select(metric="accuracy")}
    assert {"input", "floor", "blstm1"} <= layers
    accuracy = results.select(metric="accuracy", layer="blstm1").rows[0]
    assert accuracy.n == results.config["test_points"] and accuracy.ci_low <= accuracy.value <= accuracy.ci_high
    assert results.config["left_out"]["no alignment given"] == accuracy.n_failed == 2
    for name in ("results.csv", "results.md", "accuracy.png", "accuracy.pdf", "config.yaml"):
        assert (output / name).stat().st_size > 100
    folders = {path.name for path in (output / "classifiers").iterdir()}
    assert folders == {"enc", "input"}
    bank = ClassifierBank.from_pretrained(output / "classifiers" / "enc")
    assert bank.labels == ("AH", "S", "T") and bank.target == "phone" and "floor" not in bank
    probe = ClassifierProbe.from_pretrained(output / "classifiers" / "enc", subfolder="blstm1")
    assert probe(torch.zeros(1, 4, probe.config.input_dim)).logits.shape == (1, 4, 3)
    # The same seed gives the same numbers, but for a point or two: rounding in the encoder depends on where memory lies.
    assert main([*line[:-1], "--output", str(tmp_path / "again")]) == 0
    again = {(r.layer, r.metric): r.value for r in Results.from_json(tmp_path / "again" / "results.json")}
    for row in results:
        if row.metric in ("accuracy", "control_accuracy"):
            assert again[row.layer, row.metric] == pytest.approx(row.value, abs=2.5 / row.n)


@pytest.mark.parametrize("target", ["speaker", "noise"])
def test_utterances(world, tmp_path, target):
    line = ["classify", "--encoder", world.encoder, "--dataset", "espeak:test", "--limit", "60", "--target", target]
    line += ["--steps", "5", "--probe", "mlp", "--layers", "blstm1", "--noise", "generated"]
    assert main([*line, "--output", str(tmp_path), "--device", "cpu"]) == 0
    results = Results.from_json(tmp_path / "results.json")
    assert {row.condition for row in results} == {"mixed" if target == "noise" else "clean"}
    row = results.select(metric="accuracy", layer="blstm1").rows[0]
    assert 0 <= row.value <= 1 and row.n == results.config["test_points"]
    bank = ClassifierBank.from_pretrained(tmp_path / "classifiers" / "enc")
    assert bank.pooling == "utterance" and bank["blstm1"].config.hidden_dim == 500
    assert np.isfinite(bank["blstm1"].output.weight.detach().numpy()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--target", "age"], "unknown target 'age'; choose from phone, speaker, gender, noise, snr"),
        (["--target", "gender"], "no gender in the corpus"),
        (["--target", "phone", "--alignments", "/no/such"], "no alignment in"),
        (["--target", "phone", "--aligner", "nobody"], "nobody"),
        (["--target", "speaker", "--limit", "3"], "have only one"),
        (["--target", "phone", "--limit", "4"], "4 no phones in the corpus); give their times with --alignments"),
        (["--target", "speaker", "--layers", "blstm9"], "no encoder has a layer 'blstm9'"),
        (["--target", "speaker", "--probe", "deep"], "choose from linear, mlp"),
        (["--target", "snr", "--noise", "none"], "needs noise"),
        (["--target", "speaker", "--memory", "0.0000001"], "--memory"),
    ],
)
def test_errors_in_one_line(world, tmp_path, capsys, change, message):
    line = ["classify", "--encoder", world.encoder, "--dataset", "espeak:test", "--output", str(tmp_path / "out")]
    assert main([*line, "--device", "cpu", *change]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "out").exists()
    assert json.dumps(error)


def test_an_encoder_twice(world, tmp_path, capsys):
    line = ["classify", "--encoder", world.encoder, "--encoder", world.encoder, "--dataset", "espeak:test"]
    assert main([*line, "--target", "speaker", "--output", str(tmp_path / "out")]) == 1
    assert "given twice" in capsys.readouterr().err
