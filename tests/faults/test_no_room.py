"""Disks that are full, files that may not grow, folders that cannot be written, memory that is not enough."""

import argparse
import errno
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from fault_outcome import SLOW, SMALL_BATCHES, leftovers, numbers, table, weights

from hfprobe.cli.common import _advice

ENCODE = "hfprobe.encoders.base:SpeechEncoder.forward"
ROOM = "the disk is full: make room and give the same command again"


@contextmanager
def small_disk(folder: Path, options: str):
    """A file system of its own, where this may be had."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def refused(run, *words):
    """One line that says why."""
    lines = [line for line in run.err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("hfprobe: error: "), run.err
    for word in words:
        assert word in lines[0]


def test_a_full_disk_stops_training_which_goes_on_when_there_is_room(hfprobe, train_words, whole_bank, tmp_path):
    out = tmp_path / "bank"
    # The second checkpoint's optimiser does not fit any more.
    run = hfprobe.run(*train_words(out), points=[{"kind": "full_disk", "call": 4, "ending": ".pt"}], status=1)
    refused(run, "No space left on device", ROOM)
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-00000002"] and leftovers(out) == []
    hfprobe.run(*train_words(out))
    assert weights(out) == weights(whole_bank) and leftovers(out) == []


def test_a_disk_that_is_really_full(hfprobe, train_words, evaluate_words, whole_bank, tmp_path):
    with small_disk(tmp_path / "disk", "size=400k") as disk:
        out = disk / "bank"
        refused(hfprobe.run(*train_words(out), status=1), "No space left on device", ROOM)
        assert leftovers(out) == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        hfprobe.run(*train_words(out))
        assert weights(out) == weights(whole_bank) and leftovers(out) == []
    with small_disk(tmp_path / "other", "size=16k") as disk:
        refused(hfprobe.run(*evaluate_words(disk / "out"), points=[SMALL_BATCHES], status=1), "No space left", ROOM)
        assert set(leftovers(disk / "out")) == {"measured"}


def test_files_that_may_not_grow(hfprobe, train_words, evaluate_words, tmp_path):
    run = hfprobe.run(*train_words(tmp_path / "bank"), points=[{"kind": "file_limit", "size": 20_000}], status=1)
    refused(run, "File too large", "ulimit -f")
    assert leftovers(tmp_path / "bank") == []
    run = hfprobe.run(*evaluate_words(tmp_path / "out"), points=[{"kind": "file_limit", "size": 2_000}], status=1)
    refused(run, "File too large", "ulimit -f")
    assert not [path for path in tmp_path.rglob("*.part*")]


def test_how_safetensors_says_that_there_is_no_room(tmp_path):
    # What `write_probe` makes an OSError of, which the command line knows what to say of.
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    from hfprobe.probes import HighwayProbe, HighwayProbeConfig
    from hfprobe.probes.bank_files import write_probe

    probe = HighwayProbe(HighwayProbeConfig(input_dim=64, layer="blstm1", stride=160, hidden_dim=64))
    with small_disk(tmp_path / "disk", "size=8k") as disk, pytest.raises(OSError, match="No space left"):
        write_probe(probe, disk, "float32")


def test_folders_that_cannot_be_written(hfprobe, train_words, evaluate_words, tmp_path):
    with small_disk(tmp_path / "disk", "ro,size=1m") as disk:
        for words in (train_words(disk / "bank"), evaluate_words(disk / "out")):
            refused(hfprobe.run(*words, status=1), "Read-only file system", "choose another --output")


@pytest.mark.parametrize("how", ["cuda", "cpu"] if SLOW else ["cpu"])
def test_a_batch_that_does_not_fit_is_trained_on_in_halves(hfprobe, train_words, whole_bank, tmp_path, how):
    points = [
        {"kind": "out_of_memory", "target": ENCODE, "argument": 1, "most": 1 if SLOW else 2, "how": how},
        {"kind": "out_of_memory", "target": "hfprobe.probes.modeling:HighwayProbe.frames_to_mel", "argument": 1,
         "most": 70 if SLOW else 120, "how": how},
    ]  # fmt: skip
    run = hfprobe.run(*train_words(tmp_path / "bank"), points=points)
    assert "out of memory with 3 utterances at once; going on with halves" in run.err
    assert "frames at once; going on with halves" in run.err
    halved, whole = numbers(tmp_path / "bank"), numbers(whole_bank)
    assert halved.keys() == whole.keys()
    for key, tensor in halved.items():
        # The bank is in float16; Adam makes the rounding of a sum in another order a little larger in eight steps.
        torch.testing.assert_close(tensor, whole[key], atol=5e-4, rtol=2e-3, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("how", ["cuda", "cpu"] if SLOW else ["cuda"])
def test_a_batch_that_does_not_fit_is_evaluated_in_halves(hfprobe, evaluate_words, whole_table, tmp_path, how):
    point = {"kind": "out_of_memory", "target": ENCODE, "argument": 1, "most": 2, "how": how}
    run = hfprobe.run(*evaluate_words(tmp_path / "out"), points=[point])
    assert "out of memory with 6 utterances at once; going on with halves" in run.err
    halved = table(tmp_path / "out")
    assert list(halved) == list(whole_table)
    for key, row in halved.items():
        for name in ("value", "ci_low", "ci_high"):
            assert row[name] == pytest.approx(whole_table[key][name], abs=1e-3), key
        assert (row["n"], row["n_failed"]) == (whole_table[key]["n"], whole_table[key]["n_failed"])


@pytest.fixture(scope="module")
def whole_table(hfprobe, evaluate_words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    hfprobe.run(*evaluate_words(folder))
    return table(folder)


def test_one_utterance_that_does_not_fit_is_said(hfprobe, train_words, tmp_path):
    point = {"kind": "out_of_memory", "target": ENCODE, "argument": 1, "most": 0, "how": "cuda"}
    run = hfprobe.run(*train_words(tmp_path / "bank"), points=[point], status=1)
    last = run.err.splitlines()[-1]
    assert last.startswith("hfprobe: error: out of memory: CUDA out of memory") and "--max-seconds" in last
    assert leftovers(tmp_path / "bank") == []


def test_a_full_disk_is_found_where_the_system_does_not_name_it():
    args = argparse.Namespace(output="runs/a")
    assert _advice(OSError(errno.ENOSPC, "No space left on device"), args) == f" (writing into runs/a); {ROOM}"
    assert _advice(OSError(errno.ENOSPC, "No space left on device", "b/c"), args) == f"; {ROOM}"
    assert _advice(OSError(errno.ENOSPC, "No space left on device"), argparse.Namespace()) == f"; {ROOM}"
    assert _advice(OSError(errno.EIO, "Input/output error"), args) == ""
