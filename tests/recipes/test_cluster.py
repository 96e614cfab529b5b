"""The Slurm examples: their command lines, the order of the jobs, and when one is put back into the queue.

Slurm's own commands are stand-ins. ``HFPROBE_SLOW=1`` runs the jobs for real: two "nodes" on this machine with a process
each, over gloo.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from hfprobe.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "recipes" / "cluster"
SLOW = os.environ.get("HFPROBE_SLOW") == "1"
JOBS = sorted(CLUSTER.glob("*.sbatch"))
NODES = 2

# As on a cluster, the command runs once per node at the same time, and each is told its number.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
for node in $(seq 0 $((SLURM_NNODES - 1))); do SLURM_NODEID=$node "$@" & started+=($!); done
status=0
for one in "${started[@]}"; do wait "$one" || status=$?; done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then for node in $(seq "$SLURM_NNODES"); do echo localhost; done; else echo "$@" >> "$CALLS/scontrol"; fi
"""
SBATCH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS/sbatch"
env | grep '^train_options=' >> "$CALLS/environment"
number=$(wc -l < "$CALLS/sbatch")
[[ " $* " == *" --parsable "* ]] && echo "$number;here" || echo "Submitted batch job $number"
"""
PYTHON = f"""#!{sys.executable} -IS
import json, os, sys
with open(os.environ["CALLS"] + "/python", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if "checkpoint" in os.environ.get("DO", ""):
    folder = sys.argv[sys.argv.index("--output") + 1] + "/checkpoints/step-00000005"
    os.makedirs(folder)
sys.exit(1 if "fail" in os.environ.get("DO", "") else 0)
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs a script of the folder as Slurm would; gives the finished process and what the stand-ins were asked."""
    bin_, calls = tmp_path / "bin", tmp_path / "calls"
    bin_.mkdir()
    calls.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH, "python": PYTHON}.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)

    def run(script: str, *words: str, timeout: float = 60, **settings: str):
        environment = {
            **os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "CALLS": str(calls), "SLURM_NNODES": str(NODES),
            "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "41", "SLURM_SUBMIT_DIR": str(CLUSTER),
            "exp": str(tmp_path / "exp"), "python": "python", **settings,
        }  # fmt: skip
        done = subprocess.run(
            ["bash", str(CLUSTER / script), *words], env=environment, capture_output=True, text=True, timeout=timeout
        )
        asked = {file.name: file.read_text().splitlines() for file in calls.iterdir()}
        return done, asked

    return run


def hfprobe_options(words: list[str]):
    """What hfprobe's own parser makes of them; it refuses what it does not know."""
    return build_parser(words[0]).parse_args(words)


def torchrun_options(words: list[str]):
    """Of torchrun and of the command behind it."""
    assert words[:2] == ["-m", "torch.distributed.run"]
    options = get_args_parser().parse_args(words[2:])
    assert options.module and options.training_script == "hfprobe"
    return options, hfprobe_options(options.training_script_args)


@pytest.mark.parametrize("path", [*JOBS, *sorted(CLUSTER.glob("*.sh"))], ids=lambda path: path.name)
def test_shell(path):
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "-x", path.name], cwd=CLUSTER, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[:2000]


def test_every_job_is_described():
    readme = (CLUSTER / "README.md").read_text()
    assert "## Environments" in readme
    for path in (*JOBS, CLUSTER / "settings.sh", CLUSTER / "submit.sh"):
        assert f"`{path.name}`" in readme, path.name


@pytest.mark.parametrize("path", [path for path in JOBS if path.name != "report.sbatch"], ids=lambda path: path.name)
def test_a_process_per_gpu_and_time_for_a_checkpoint(path):
    text = path.read_text()
    processes = re.search(r"^processes=\$\{processes:-(\d+)\}", (CLUSTER / "settings.sh").read_text(), re.M)[1]
    assert re.search(r"^#SBATCH --gpus-per-node=(\d+)$", text, re.M)[1] == processes
    assert "#SBATCH --ntasks-per-node=1" in text  # torchrun starts the others
    if "train" in path.name:
        assert int(re.search(r"^#SBATCH --signal=TERM@(\d+)$", text, re.M)[1]) >= 60


@pytest.mark.parametrize(
    "script, command", [("train", "train"), ("evaluate", "evaluate"), ("similarity", "similarity")]
)
def test_command_lines(slurm, script, command):
    done, asked = slurm(f"{script}.sbatch", SLURM_ARRAY_TASK_ID="1")
    assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in asked["python"]]
    assert len(calls) == NODES and calls[0] == calls[1]
    torchrun, hfprobe = torchrun_options(calls[0])
    assert (torchrun.nnodes, torchrun.nproc_per_node, torchrun.rdzv_id) == (str(NODES), "4", "41")
    assert torchrun.rdzv_backend == "c10d" and torchrun.rdzv_endpoint.startswith("localhost:")
    assert torchrun.training_script_args[0] == command
    # The array's second task has the second encoder.
    assert hfprobe.encoder in ("blstm-baseline", ["blstm-baseline"], ["blstm-robust", "blstm-baseline"])


def test_accelerate_line(slurm):
    done, asked = slurm("train_accelerate.sbatch")
    assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in asked["python"]]
    parsed = []
    for words in calls:
        assert words[:2] == ["-m", "accelerate.commands.launch"]
        parsed.append(launch_command_parser().parse_args(words[2:]))
    assert sorted(options.machine_rank for options in parsed) == [0, 1]
    for options in parsed:
        assert (options.num_machines, options.num_processes, options.module) == (NODES, 4 * NODES, True)
        assert hfprobe_options(options.training_script_args).encoder == "blstm-robust"


def test_report_line(slurm):
    done, asked = slurm("report.sbatch")
    assert done.returncode == 0, done.stderr
    words = json.loads(asked["python"][0])
    assert words[:3] == ["-m", "hfprobe", "report"] and len(hfprobe_options(words[2:]).runs) == 2


def test_a_job_with_a_new_checkpoint_goes_back_into_the_queue(slurm):
    done, asked = slurm("train.sbatch", SLURM_ARRAY_TASK_ID="1", SLURM_ARRAY_JOB_ID="40", DO="checkpoint, fail",
                        SLURM_NNODES="1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert asked["scontrol"] == ["requeue 40_1"]


def test_a_job_without_one_does_not(slurm, tmp_path):
    old = tmp_path / "exp" / "banks" / "blstm-robust" / "checkpoints" / "step-00000001"
    old.mkdir(parents=True)
    for path in (old, old.parent):
        os.utime(path, (1, 1))
    done, asked = slurm("train.sbatch", DO="fail")
    assert done.returncode == 1 and "without a new checkpoint" in done.stderr and "scontrol" not in asked


def test_jobs_wait_for_what_they_need(slurm):
    done, asked = slurm("submit.sh", "--account", "me", encoders="a b/c d", train_options="--steps 7")
    assert done.returncode == 0, done.stderr
    trained, tables, page, similarity = (line.split() for line in asked["sbatch"])
    assert trained[-1] == "train.sbatch" and "--array=0-2" in trained
    assert tables[-1] == "evaluate.sbatch" and "--dependency=aftercorr:1" in tables and "--array=0-2" in tables
    assert page[-1] == "report.sbatch" and "--dependency=afterok:2" in page
    assert similarity[-1] == "similarity.sbatch"
    assert all(line[line.index("--account") + 1] == "me" for line in (trained, tables, page, similarity))
    assert set(asked["environment"]) == {"train_options=--steps 7"}  # the jobs see what was given


@pytest.mark.skipif(not SLOW, reason="with HFPROBE_SLOW=1: starts Python fourteen times")
def test_two_nodes_for_real(slurm, tmp_path):
    settings = {
        "python": sys.executable, "device": "cpu", "processes": "1", "train_set": "espeak:train", "noise": "generated",
        "test_set": "espeak:test", "encoders": "blstm-robust blstm-baseline", "OMP_NUM_THREADS": "1",
        "train_options": "--steps 4 --batch-size 4 --hidden-dim 8 --layers blstm1 --max-seconds 6",
        "evaluate_options": "--snr clean --speakers 2 --per-speaker 2 --iterations 1 --layers blstm1 --max-seconds 6",
        "similarity_options": "--speakers 4 --per-speaker 2 --replicates 5 --layers blstm1 blstm5",
        "PYTHONPATH": str(ROOT), "HFPROBE_DATA": "", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true",
        "port": str(29000 + os.getpid() % 500),
    }  # fmt: skip
    for script in ("train", "evaluate", "similarity"):
        done, _ = slurm(f"{script}.sbatch", timeout=1500, SLURM_ARRAY_TASK_ID="0", **settings)
        assert done.returncode == 0, done.stderr[-3000:]
    from hfprobe import ProbeBank
    from hfprobe.results import Results

    exp = tmp_path / "exp"
    assert list(ProbeBank.from_pretrained(exp / "banks" / "blstm-robust")) == ["blstm1"]
    for name in ("evaluation/blstm-robust", "similarity"):
        assert Results.from_json(exp / name / "results.json").rows
