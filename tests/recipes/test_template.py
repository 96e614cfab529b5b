"""The recipe to start one's own: copied to another place with another name, it runs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from forked_python import forked_python

from hfprobe import ProbeBank
from hfprobe.results import Results

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "recipes" / "TEMPLATE" / "probe1"
# Less of everything than the minute that it takes as it is.
SMALL = {
    "probes.yaml": {"hidden_dim": 8, "layers": ["blstm1"]},
    "evaluate.yaml": {"speakers": 2, "iterations": 1, "layers": ["blstm1"]},
}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """``elsewhere/mycorpus/mine`` beside a copy of ``utils``, as the README says, and with settings of its own."""
    place = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(ROOT / "recipes" / "utils", place / "utils")
    recipe = shutil.copytree(TEMPLATE, place / "mycorpus" / "mine", ignore=shutil.ignore_patterns("exp"))
    for name, values in SMALL.items():
        settings = yaml.safe_load((recipe / "conf" / name).read_text()) | values
        (recipe / "conf" / name).write_text(yaml.safe_dump(settings))
    return recipe


@pytest.fixture(scope="module")
def run(own, tmp_path_factory):
    with forked_python(tmp_path_factory.mktemp("python")) as python:

        def command(*words: str):
            environment = {**os.environ, "PYTHON": str(python), "PYTHONPATH": str(ROOT), "HFPROBE_DATA": "",
                           "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}  # fmt: skip
            return subprocess.run(
                ["bash", str(own / "run.sh"), *words], env=environment, capture_output=True, text=True, timeout=900
            )

        yield command


def test_a_copy_runs(own, run):
    early = run("--stage", "3")
    assert early.returncode == 1 and "run stage 2 first" in early.stderr
    done = run("--steps", "4")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.findall(r"^Stage (\d): ", done.stdout, re.M) == ["1", "2", "3"]
    bank = ProbeBank.from_pretrained(own / "exp" / "bank")
    assert list(bank) == ["blstm1"] and bank["blstm1"].config.hidden_dim == 8  # the copy's own settings
    rows = {
        (row.condition, row.layer, row.metric): row.value
        for row in Results.from_json(own / "exp/evaluation/results.json").rows
    }
    # What is printed is what was measured.
    clean = done.stdout.split("\nclean:")[1].split("\nnoise@10dB:")[0]
    printed = dict(re.findall(r"^\| (\S+) \| \S+ \| (\S+) \|$", clean, re.M))
    assert float(printed["blstm1"]) == pytest.approx(rows["clean", "blstm1", "stoi"], abs=5e-4)
    assert printed["input"] == "1.000" and {"ceiling", "floor"} <= set(printed)
    assert not (TEMPLATE / "exp").exists() or os.stat(TEMPLATE / "exp").st_mtime < os.stat(own / "exp").st_mtime


def test_a_part_runs_alone(run):
    last = run("--stage", "3", "--stop-stage", "3")
    assert last.returncode == 0 and "| blstm1 |" in last.stdout and "Stage 2" not in last.stdout


def test_ten_lines_are_enough():
    commands = re.search(r"\n\n((?:    \S.*\n)+)", (TEMPLATE / "README.md").read_text())[1].splitlines()
    assert len(commands) <= 10
    named = set(re.findall(r"(?:run\.sh|conf/\w+\.yaml)", "\n".join(commands)))
    assert named == {"run.sh", "conf/probes.yaml", "conf/evaluate.yaml"}
    assert all((TEMPLATE / name).is_file() for name in named)
