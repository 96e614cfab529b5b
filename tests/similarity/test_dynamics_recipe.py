"""The recipe dynamics1 from training to verdicts, on synthetic speech; with ``HFPROBE_SLOW=1`` only (several minutes)."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "speechocean762" / "dynamics1"


def recipe(*words, timeout=60):
    environment = {
        **os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "HFPROBE_DATA": "", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    return subprocess.run(
        ["bash", str(RECIPE / "run.sh"), *words], env=environment, capture_output=True, text=True, timeout=timeout
    )  # fmt: skip


def test_a_missing_stage_is_named_and_help_is_there(tmp_path):
    done = recipe("--exp", str(tmp_path), "--stage", "4")
    assert done.returncode == 1 and "run stage 3 first" in done.stderr
    done = recipe("--help")
    assert done.returncode == 0 and "--transformer DIR" in done.stdout
    assert recipe("--epoch", "3").returncode == 2


@pytest.mark.skipif(os.environ.get("HFPROBE_SLOW") != "1", reason="trains three recognisers; set HFPROBE_SLOW=1")
def test_from_training_to_verdicts(tmp_path):
    words = ["--exp", str(tmp_path), "--train-set", "espeak:train", "--test-set", "espeak:test", "--epochs", "1"]
    words += [
        "--also",
        "blstm-robust",
        "--iters",
        "3",
        "--history",
        "3",
        "--batches",
        "3",
        "--speakers",
        "8",
        "--per-speaker",
        "2",
    ]
    done = recipe(*words, "--replicates", "20", timeout=3000)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    for arch, layers in (("vgg_blstm", 9), ("blstm", 5), ("transformer", 8)):
        with open(tmp_path / "similarity" / arch / "similarity.csv", newline="") as file:
            lines = list(csv.DictReader(file))
        steps = dict.fromkeys(line["encoder_a"] for line in lines)
        assert len(steps) == 3 and len({line["layer_a"] for line in lines}) == layers
        # All layers with all layers of each checkpoint, each layer with its end, by two measures.
        assert len(lines) == 2 * (3 * layers * (layers - 1) // 2 + 2 * layers)
        assert all(line["value"] and line["ci_low"] for line in lines)
    found = json.loads((tmp_path / "claims" / "claims.json").read_text())["verdicts"]
    assert set(found) == {"svcca", "linear_cka_debiased"}
    for verdicts in found.values():
        assert [item["claim"].split(":")[0] for item in verdicts] == ["CNN", "LSTM", "Transformer"]
        assert all(item["holds"] in ("yes", "no", "undecided") and item["from"] for item in verdicts)
    assert "- Transformer: layers are irregular" in (tmp_path / "claims" / "claims.md").read_text()
