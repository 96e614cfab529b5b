"""``hfprobe invariance``: a run with and without probes, its files, and one-line errors."""

import pytest

from hfprobe.cli import main
from hfprobe.results import Results


def test_with_probes(world, tmp_path, capsys):
    line = ["invariance", "--encoder", world.encoder, "--probes", world.bank, "--dataset", "espeak:test"]
    line += ["--noise", "generated", "--snr", "20", "0", "--speakers", "3", "--per-speaker", "1", "--device", "cpu"]
    assert main([*line, "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(tmp_path))
    results = Results.from_json(tmp_path / "results.json")
    assert {row.condition for row in results} == {"noise@20dB", "noise@0dB"}
    layer = {(row.condition, row.metric): row for row in results.select(layer="blstm1")}
    for condition in ("noise@20dB", "noise@0dB"):
        assert layer[condition, "invariance"].n == 3
        assert {metric for where, metric in layer if where == condition} == {
            "invariance", "cosine", "cosine_other", "distance", "distance_other", "linear_cka", "si_sdr_clean",
            "si_sdr_noisy",
        }  # fmt: skip
    assert layer["noise@20dB", "distance"].value < layer["noise@0dB", "distance"].value
    assert layer["noise@20dB", "linear_cka"].value > layer["noise@0dB", "linear_cka"].value
    for name in ("results.csv", "results.md", "config.yaml", "invariance.png", "linear_cka.pdf", "spectrograms.png"):
        assert (tmp_path / name).stat().st_size > 100


def test_without_probes(world, tmp_path):
    line = ["invariance", "--encoder", world.encoder, "--encoder", world.other, "--dataset", "espeak:test"]
    line += ["--noise", "generated", "--snr", "5", "--speakers", "2", "--per-speaker", "1", "--device", "cpu"]
    assert main([*line, "--no-cka", "--layers", "blstm1", "--output", str(tmp_path)]) == 0
    results = Results.from_json(tmp_path / "results.json")
    assert {(row.encoder, row.layer) for row in results} == {("-", "input"), ("enc", "blstm1"), ("other", "blstm1")}
    assert {row.metric for row in results} == {"invariance", "cosine", "cosine_other", "distance", "distance_other"}
    assert not (tmp_path / "spectrograms.png").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--snr", "clean", "10"], "SNRs in dB only"),
        (["--noise", "none"], "needs noise"),
        (["--layers", "blstm9"], "no encoder has a layer 'blstm9'"),
        (["--speakers", "1"], "two speakers are needed"),
    ],
)
def test_errors_in_one_line(world, tmp_path, capsys, change, message):
    line = ["invariance", "--encoder", world.encoder, "--dataset", "espeak:test", "--noise", "generated"]
    assert main([*line, "--device", "cpu", "--output", str(tmp_path / "out"), *change]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
