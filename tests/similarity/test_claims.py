"""The statistics of the recipe dynamics1 on scores in which the answer is planted."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "speechocean762" / "dynamics1" / "local" / "claims.py"
spec = importlib.util.spec_from_file_location("claims", SCRIPT)
claims = importlib.util.module_from_spec(spec)
spec.loader.exec_module(claims)


def write_run(folder, layers, alike, near_end, steps=4, noise=0.003, measure="svcca"):
    """Scores in which ``alike(i, j)`` and ``near_end(layer, share of training)`` are planted."""
    random, lines, draws = np.random.default_rng(0), [], []

    def add(a, x, b, y, value):
        lines.append({"encoder_a": a, "layer_a": x, "encoder_b": b, "layer_b": y, "measure": measure, "value": value})
        draws.append(value + noise * random.standard_normal(60))

    names = [f"r@{step}" for step in range(1, steps + 1)]
    for name in names:
        for i, x in enumerate(layers):
            for j in range(i + 1, len(layers)):
                add(name, x, name, layers[j], alike(i, j))
    for place, name in enumerate(names[:-1]):
        for i, x in enumerate(layers):
            add(name, x, names[-1], x, near_end(i, place / steps))
    folder.mkdir()
    with open(folder / "similarity.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    np.savez_compressed(folder / "replicates.npz", replicates=draws)
    return folder


def nearer(i, j):
    return 1 - 0.1 * (j - i) - 0.01 * i


def bottom_up(i, share):
    return 0.9 - 0.1 * i + 0.05 * share


@pytest.fixture
def runs(tmp_path):
    blstm, cnn = [f"blstm{n}" for n in range(1, 6)], [f"cnn{n}" for n in range(1, 5)]
    blocks = [f"transformer{n}" for n in range(1, 7)]
    mixed = np.random.default_rng(1).permutation(36).reshape(6, 6) / 40
    folders = {
        "blstm": write_run(tmp_path / "a", blstm, nearer, bottom_up),
        "vgg": write_run(tmp_path / "b", [*cnn, *blstm], nearer, lambda i, t: bottom_up(-i, t)),
        "transformer": write_run(tmp_path / "c", blocks, lambda i, j: mixed[i, j], bottom_up),
    }
    return folders


def found(lines, name, part):
    return next(line for line in lines if line["architecture"] == name and part in line["claim"])


def test_planted_answers_come_out(runs):
    lines = claims.check({name: claims.Run(folder, "svcca") for name, folder in runs.items()})
    assert found(lines, "vgg", "cnn layers: nearer")["value"] > 0.9
    assert found(lines, "vgg", "cnn layers: nearer")["holds"] == "yes"
    assert found(lines, "vgg", "alike half")["holds"] in ("yes", "undecided", "not tested")
    assert found(lines, "blstm", "bottom-up")["value"] == pytest.approx(1)
    assert found(lines, "blstm", "bottom-up")["holds"] == "yes"
    assert found(lines, "blstm", "bottom-up")["p"] == pytest.approx(1 / 120)
    assert found(lines, "transformer", "transformer layers: nearer")["holds"] == "undecided"  # any order does as well
    assert found(lines, "vgg", "bottom-up")["holds"] == "no"  # planted top-down
    assert found(lines, "transformer", "less in order than the lstm layers of blstm")["holds"] == "yes"
    for line in lines:
        assert line["holds"] == "not tested" or line["low"] <= line["high"]


def test_few_layers_are_not_tested_and_noise_is_not_decided(tmp_path):
    run = claims.Run(write_run(tmp_path / "a", ["blstm1", "blstm2"], nearer, bottom_up), "svcca")
    assert claims.check({"a": run}) == []
    noisy = write_run(tmp_path / "b", [f"blstm{n}" for n in range(1, 5)], nearer, lambda i, t: 0.5, noise=0.3)
    line = found(claims.check({"b": claims.Run(noisy, "svcca")}), "b", "bottom-up")
    assert line["holds"] in ("undecided", "not tested")


def test_the_script_writes_a_table(runs, tmp_path):
    words = [f"{name}={folder}" for name, folder in runs.items()]
    command = [sys.executable, str(SCRIPT), *words, "--measures", "svcca", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| blstm | lstm layers converge bottom-up | 1.00 |" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"claims.json", "claims.md"}
    # Each of the three claims in plain words, with the numbers behind it.
    said = {line.split(" – ")[0]: line.split(" – ")[1] for line in done.stdout.splitlines() if line.startswith("- ")}
    assert said["- CNN: layers are in a hierarchy with depth"].startswith("holds here: vgg 0.")
    assert said["- LSTM: layers converge bottom-up"].startswith("undecided here: blstm 1.00")  # vgg is planted top-down
    assert said["- Transformer: layers are irregular"].startswith("holds here: transformer ")
    verdicts = json.loads((tmp_path / "out" / "claims.json").read_text())["verdicts"]["svcca"]
    assert [item["holds"] for item in verdicts] == ["yes", "undecided", "yes"]


def test_claims_without_an_architecture_are_not_tested(runs):
    lines = claims.check({"blstm": claims.Run(runs["blstm"], "svcca")})
    assert [item["holds"] for item in claims.plain_verdicts(lines)] == ["not tested", "yes", "not tested"]


def test_an_encoder_without_a_history_is_put_in_order_and_no_more(tmp_path):
    folder = write_run(tmp_path / "a", [f"blstm{n}" for n in range(1, 6)], nearer, bottom_up, steps=1)
    lines = claims.check({"trained": claims.Run(folder, "svcca")})
    assert found(lines, "trained", "nearer in depth")["holds"] == "yes"
    assert found(lines, "trained", "bottom-up")["holds"] == "not tested"
