"""Ten times the data in the memory of one: every command that goes through a corpus, in a process of its own.

The peak of the resident set is compared, and more than that: what the larger corpus adds is set against what its
hidden states, or its sound, would take if they were held. ``HFPROBE_SLOW=1`` takes a corpus of half an hour.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from forked_python import forked_python

SLOW = os.environ.get("HFPROBE_SLOW") == "1"
MEASURED = Path(__file__).resolve().parent / "measured.py"
SECONDS, UTTERANCES = (4.0, 42) if SLOW else (1.0, 12)  # of an utterance; utterances of the smaller corpus
FACTOR, ALLOWED = 10, 1.1
SPEAKERS = 3
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")


def write_corpus(folder: Path, utterances: int) -> Path:
    """Speakers with a pitch each: an audio folder, with a table of texts."""
    draw = np.random.default_rng(0)
    for number in range(utterances):
        speaker = f"speaker{number % SPEAKERS}"
        time = np.arange(int(SECONDS * 16000)) / 16000
        pitch = 100 + 40 * (number % SPEAKERS) + draw.normal()
        wave = sum(np.sin(2 * np.pi * k * pitch * time + draw.uniform(0, 6)) / k for k in range(1, 20))
        wave = 0.1 * wave * (1.2 + np.sin(2 * np.pi * draw.uniform(2, 5) * time)) + 0.003 * draw.normal(size=len(time))
        (folder / speaker).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / speaker / f"{number:05d}.wav", wave, 16000)
    return folder


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """The smaller and the larger one."""
    root = tmp_path_factory.mktemp("corpora")
    return [write_corpus(root / str(count), count) for count in (UTTERANCES, FACTOR * UTTERANCES)]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    with forked_python(tmp_path_factory.mktemp("python")) as command:
        yield command


@pytest.fixture(scope="module")
def measure(python, tmp_path_factory):
    """Run a command on a corpus; its peak and what it had before, in bytes."""

    def run(words: list[str], corpus: Path, output: Path) -> dict[str, int]:
        told = tmp_path_factory.mktemp("told") / "memory.json"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HFPROBE_DATA": "", "MPLBACKEND": "Agg",
                       "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
        command = [str(python), str(MEASURED), str(told), *words, "--dataset", f"audiofolder:{corpus}",
                   "--output", str(output), "--device", "cpu"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=3000, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(told.read_text())

    return run


@pytest.fixture(scope="module")
def bank(measure, corpora, tmp_path_factory):
    """Probes for the evaluation."""
    folder = tmp_path_factory.mktemp("bank") / "bank"
    measure(words_of("train", UTTERANCES), corpora[0], folder)
    return folder


def words_of(command: str, utterances: int, bank: Path | None = None) -> list[str]:
    """The command without corpus and output, over so many utterances."""
    own = {
        # As many steps as the utterances make, twice over.
        "train": ["--layers", "blstm1", "blstm5", "--hidden-dim", "8", "--batch-size", "2", "--noise", "none",
                  "--steps", str(utterances)],
        "evaluate": ["--probes", str(bank), "--speakers", str(SPEAKERS), "--per-speaker", str(utterances // SPEAKERS),
                     "--layers", "blstm5", "--iterations", "1", "--snr", "clean"],
        "similarity": ["--measures", "svcca", "linear_cka", "--replicates", "10"],
        "classify": ["--target", "speaker", "--layers", "blstm5", "--batch-size", "2", "--steps", "10"],
    }  # fmt: skip
    return [command, "--encoder", "blstm-robust", *own[command]]


def report(command: str, small: dict[str, int], large: dict[str, int]) -> str:
    """For people: MB before, and at the peak with either corpus."""
    megabytes = [value / 1e6 for value in (small["before"], small["peak"], large["peak"])]
    return "{}: {:.0f} MB before, {:.0f} MB at most, {:.0f} MB with ten times the data".format(command, *megabytes)


@pytest.mark.parametrize("command", ["train", "evaluate", "similarity", "classify"])
def test_ten_times_the_data_in_the_same_memory(command, corpora, measure, request, tmp_path, capsys):
    bank = request.getfixturevalue("bank") if command == "evaluate" else None
    sizes = (UTTERANCES, FACTOR * UTTERANCES)
    small, large = (
        measure(words_of(command, count, bank), corpus, tmp_path / str(count))
        for count, corpus in zip(sizes, corpora, strict=True)
    )
    with capsys.disabled():
        print(f"\n{report(command, small, large)}", end=" ", file=sys.stderr)
    assert large["peak"] <= ALLOWED * small["peak"], report(command, small, large)
    # All five layers of 320 values, 100 frames a second, float32.
    added = (sizes[1] - sizes[0]) * SECONDS * 100 * 5 * 320 * 4
    assert large["peak"] - small["peak"] < added, f"as much as all hidden states: {report(command, small, large)}"


def test_what_is_held_is_seen(python, tmp_path):
    """The measure itself: a command that held 300 MB would be found."""
    code = (
        f"import sys; sys.path.insert(0, {str(MEASURED.parent)!r}); import measured, hfprobe.cli; import numpy as np\n"
    )
    code += "hfprobe.cli.main = lambda words: int(np.ones(37_500_000).sum() < 0)\nmeasured.main({!r}, 'x')"
    done = subprocess.run(
        [str(python), "-c", code.format(str(tmp_path / "told"))], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads((tmp_path / "told").read_text())
    assert 290e6 < told["peak"] - told["before"] < 400e6
