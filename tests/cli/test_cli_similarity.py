"""``hfprobe similarity`` on tiny recognisers: within, between, against noise, along checkpoints; and what it refuses."""

import csv
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from hfprobe.cli import main
from hfprobe.cli.similarity import checkpoints_of
from hfprobe.errors import ConfigError

QUICK = ["--dataset", "espeak:test", "--speakers", "5", "--per-speaker", "1", "--device", "cpu", "--replicates", "3"]
LAYERS = [f"blstm{n}" for n in range(1, 6)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """Two encoders, and a folder whose three checkpoints move from the one to the other."""
    from espnet_stock import build_stock

    root = tmp_path_factory.mktemp("similarity")
    for name, seed in (("one", 0), ("two", 1), ("run", 2)):
        (root / name).mkdir()
        build_stock(root / name, "rnn-delta", seed)
    states = [torch.load(next((root / name).glob("*.pth")), weights_only=True) for name in ("one", "run")]
    for file in (root / "run").glob("*.pth"):
        file.unlink()
    for epoch, share in ((1, 0.0), (2, 0.97), (10, 1.0)):
        mixed = {
            k: (1 - share) * v + share * states[1][k] if v.is_floating_point() else v for k, v in states[0].items()
        }
        torch.save(mixed, root / "run" / f"{epoch}epoch.pth")
    return SimpleNamespace(one=str(root / "one"), two=str(root / "two"), run=str(root / "run"))


def rows_of(folder):
    with open(folder / "similarity.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_two_encoders_clean_and_noisy(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["similarity", "--encoder", tiny.one, "--encoder", tiny.two, "--layers", "blstm1", "blstm5", *QUICK]
    argv += [
        "--snr",
        "clean",
        "5",
        "--noise",
        "generated",
        "--measures",
        "linear_cka",
        "linear_cka_debiased",
        "mean_cca",
    ]
    assert main([*argv, "--output", str(out)]) == 0
    assert "similarity.csv are in" in capsys.readouterr().out.splitlines()[-1]
    content = json.loads((out / "results.json").read_text())
    assert content["config"]["frame_ms"] == 80 and content["config"]["compared_frames"] > 50
    keys = {(row["encoder"], row["layer"], row["condition"]) for row in content["rows"]}
    within = {(name, "blstm1~blstm5", "clean") for name in ("one", "two")}
    between = {("one~two", f"{a}~{b}", "clean") for a in ("blstm1", "blstm5") for b in ("blstm1", "blstm5")}
    noisy = {(name, f"{a}~{a}", "noise@5dB") for name in ("one", "two") for a in ("blstm1", "blstm5")}
    assert keys == within | between | noisy
    assert all(0 <= row["value"] <= 1 and row["ci_low"] is not None for row in content["rows"])
    lines = rows_of(out)
    assert {line["measure"] for line in lines} == {"linear_cka", "linear_cka_debiased", "mean_cca"}
    assert all(line["null"] and line["samples_per_dimension"] for line in lines)
    names = {path.name for path in out.iterdir()}
    assert {"map_linear-cka_one~two_clean.png", "noise_mean-cca_one.pdf", "results.md", "config.yaml"} <= names


MEASURES = ["linear_cka", "linear_cka_debiased", "svcca", "rbf_cka", "rsa", "minibatch_cka"]


def test_all_measures_of_all_layers_with_intervals(tiny, tmp_path):
    out = tmp_path / "out"
    argv = ["similarity", "--encoder", tiny.one, *QUICK, "--per-speaker", "2", "--measures", *MEASURES]
    assert main([*argv, "--sample", "40", "--minibatch", "16", "--replicates", "20", "--output", str(out)]) == 0
    lines = rows_of(out)
    assert {line["measure"] for line in lines} == set(MEASURES) and len(lines) == 10 * len(MEASURES)
    for line in lines:
        assert float(line["ci_low"]) <= float(line["value"]) <= float(line["ci_high"]) and line["null"]
        if line["measure"] in ("rbf_cka", "rsa"):
            assert line["n"] == "40"
        if line["measure"] == "minibatch_cka":
            assert int(line["n"]) % 16 == 0 < int(line["n"])
    config = json.loads((out / "results.json").read_text())["config"]
    assert (config["sample"], config["minibatch"]) == (40, 16)
    assert (out / "map_minibatch-cka_one_clean.png").is_file()


def test_two_processes_equal_one(tiny, tmp_path):
    """Really two, over gloo: disjoint shares of the batches, accumulators added up, the same numbers."""
    argv = ["similarity", "--encoder", tiny.one, "--layers", "blstm1", "blstm3", "blstm5", "--dataset", "espeak:test"]
    argv += ["--speakers", "12", "--per-speaker", "3", "--device", "cpu", "--measures", *MEASURES, "--sample", "60"]
    argv += ["--minibatch", "32", "--replicates", "20", "--output"]
    assert main([*argv, str(tmp_path / "one")]) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "hfprobe"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *argv, str(tmp_path / "two")], capture_output=True, text=True, env=env, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("similarity.csv are in") == 1
    one, two = (rows_of(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 3 * len(MEASURES)
    for a, b in zip(one, two, strict=True):
        assert [a[key] for key in ("layer_a", "layer_b", "measure", "n")] == [
            b[key] for key in ("layer_a", "layer_b", "measure", "n")
        ]
        for key in ("value", "ci_low", "ci_high", "null"):
            assert float(b[key]) == pytest.approx(float(a[key]), rel=1e-9, abs=1e-12), (a["measure"], key)
    frames = json.loads((tmp_path / "two" / "results.json").read_text())["config"]["compared_frames"]
    assert frames == max(int(line["n"]) for line in one)


def test_checkpoints_come_nearer_to_the_last(tiny, tmp_path):
    out = tmp_path / "out"
    argv = ["similarity", "--encoder", tiny.run, "--checkpoints", *QUICK, "--measures", "linear_cka"]
    assert main([*argv, "--output", str(out)]) == 0
    values = {
        (line["encoder_a"], line["layer_a"]): float(line["value"])
        for line in rows_of(out)
        if line["encoder_b"] == "run@10" != line["encoder_a"]
    }
    assert set(values) == {(f"run@{step}", layer) for step in (1, 2) for layer in LAYERS}
    assert all(values["run@2", layer] > values["run@1", layer] for layer in LAYERS)
    assert (out / "training_linear-cka_run.png").is_file() and (out / "map_linear-cka_run@1_clean.pdf").is_file()
    # The configuration that was written reads back.
    again = tmp_path / "again"
    assert main(["similarity", "--config", str(out / "config.yaml"), "--output", str(again)]) == 0
    assert (again / "similarity.csv").read_text() == (out / "similarity.csv").read_text()


def test_checkpoints_are_found_in_the_order_of_training(tiny):
    folder, files = checkpoints_of([tiny.run], [])
    assert [file.name for file in files] == ["1epoch.pth", "2epoch.pth", "10epoch.pth"]
    assert checkpoints_of([], [tiny.run]) == (folder, files)
    _, files = checkpoints_of([tiny.run], ["10epoch.pth", "1epoch.pth"])
    assert [file.name for file in files] == ["1epoch.pth", "10epoch.pth"]
    assert [file.name for file in checkpoints_of([], [f"{tiny.run}/2epoch.pth", tiny.run, "1*.pth"])[1]] == [
        "1epoch.pth", "2epoch.pth", "10epoch.pth",
    ]  # fmt: skip
    for encoders, words, message in (
        ([], [], "one experiment folder"),
        ([tiny.run, tiny.one], [], "one experiment folder"),
        ([tiny.one], [], "two checkpoints or more"),
        ([tiny.run], ["3epoch.pth"], "no checkpoint '3epoch.pth'"),
        ([tiny.run], ["1epoch.pth"], "found 1"),
        (["blstm-robust"], [], "one experiment folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            checkpoints_of(encoders, words)


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        (["--measures", "beauty"], 1, "choose from mean_cca"),
        (["--layers", "blstm9"], 1, "choose from blstm1"),
        (["--layers", "blstm1"], 1, "no pair of layers"),
        (["--snr", "loud"], 1, "neither 'clean' nor"),
        (["--checkpoints"], 1, "two checkpoints or more"),
        (["--memory", "0.000001"], 1, "the limit is"),
        (["--memory", "0"], 2, "above 0"),
        (["--grid", "cubic"], 2, "invalid choice"),
        (["--replicates", "-1"], 1, "0 or more"),
        (["--dataset", "nothing"], 1, "unknown dataset"),
        (["--noise", "nowhere", "--snr", "clean", "0"], 1, "nowhere"),
    ],
)
def test_wrong_values_leave_nothing_behind(tiny, tmp_path, capsys, options, status, word):
    out = tmp_path / "out"
    capsys.readouterr()
    assert main(["similarity", "--encoder", tiny.one, *QUICK, "--output", str(out), *options]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and word in lines[0]
    assert not out.exists()


def test_an_encoder_is_needed(tmp_path, capsys):
    assert main(["similarity", *QUICK, "--output", str(tmp_path / "out")]) == 1
    assert "no encoder is given" in capsys.readouterr().err
