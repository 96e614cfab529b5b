"""Two processes give the numbers of one, from disjoint shares of the data."""

import json
import os
import subprocess
import sys

import pytest
import torch
from fault_outcome import BATCHES, SLOW, SMALL_BATCHES, leftovers, lines, numbers, table

MEASURE = "hfprobe.analysis.evaluate:_measure_at_once"
# Stated in the README: what the order of sums in float32, and Adam behind it, make of the same steps in so few of them;
# the bank itself is in float16.
TRAIN = {"atol": 5e-4, "rtol": 2e-3}


def assert_close(bank, other):
    one, two = numbers(bank), numbers(other)
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(tensor, two[key], **TRAIN, msg=lambda text, key=key: f"{key}: {text}")


def test_train(hfprobe, train_words, whole_bank, tmp_path):
    out, rows = tmp_path / "bank", tmp_path / "rows"
    counted = {
        "kind": "count",
        "target": "hfprobe.encoders.base:SpeechEncoder.forward",
        "file": str(rows),
        "argument": 1,
    }
    ranks = hfprobe.together(*train_words(out), points=[counted])
    assert [rank.status for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    assert "are in" in ranks[0].out and ranks[1].out == ""
    assert_close(out, whole_bank)
    assert leftovers(out) == []
    # The shares are disjoint: together they are the batches of one process (of three, and 12 utterances to an epoch).
    assert sorted(set(lines(rows))) == [1, 2] and sum(lines(rows)) == 3 * 16


@pytest.mark.skipif(not SLOW, reason="with HFPROBE_SLOW=1; what is drawn is tested with `choose_frames` too")
def test_frames_are_drawn_from_the_batch_of_all(hfprobe, train_words, tmp_path):
    few = ("--frames-per-batch", "40", "--steps", "4")
    hfprobe.run(*train_words(tmp_path / "one", *few))
    assert [rank.status for rank in hfprobe.together(*train_words(tmp_path / "two", *few))] == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.skipif(not SLOW, reason="with HFPROBE_SLOW=1")
def test_a_signal_to_one_process_stops_both_at_the_same_step(hfprobe, train_words, whole_bank, tmp_path):
    stop = {"kind": "signal_at", "target": "hfprobe.probes.training:_Trainer._train_step", "call": 3, "number": 15}
    ranks = hfprobe.together(*train_words(tmp_path / "bank"), only={1: [stop]})
    assert [rank.status for rank in ranks] == [143, 143]
    assert all("interrupted at step 3" in rank.err for rank in ranks)
    assert [rank.status for rank in hfprobe.together(*train_words(tmp_path / "bank"))] == [0, 0]
    assert_close(tmp_path / "bank", whole_bank)
    assert leftovers(tmp_path / "bank") == []


def test_evaluate(hfprobe, evaluate_words, tmp_path):
    words = ("--keep-sounds", "2", "--wer")
    hfprobe.run(*evaluate_words(tmp_path / "one", *words), points=[SMALL_BATCHES])
    batches = tmp_path / "batches"
    counted = {"kind": "count", "target": MEASURE, "file": str(batches)}
    ranks = hfprobe.together(*evaluate_words(tmp_path / "two", *words), points=[SMALL_BATCHES, counted])
    assert [rank.status for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    assert len(lines(batches)) == BATCHES
    # Batches are the same wherever they are measured: no tolerance.
    assert table(tmp_path / "one") == table(tmp_path / "two")
    for name in ("results.csv", "differences.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    indices = [json.loads((tmp_path / n / "sounds" / "index.json").read_text())["utterances"] for n in ("one", "two")]
    assert indices[0] == indices[1] and len(indices[0]) == 2
    assert leftovers(tmp_path / "two") == []


def test_evaluate_killed_in_two_processes_goes_on_in_one(hfprobe, evaluate_words, tmp_path):
    point = {"kind": "kill_at", "target": "hfprobe.analysis.evaluate:gather", "call": 1}
    ranks = hfprobe.together(*evaluate_words(tmp_path / "out"), points=[SMALL_BATCHES, point])
    assert [rank.status for rank in ranks] == [-9, -9]
    batches = tmp_path / "batches"
    counted = {"kind": "count", "target": MEASURE, "file": str(batches)}
    hfprobe.run(*evaluate_words(tmp_path / "out"), points=[SMALL_BATCHES, counted])
    assert lines(batches) == [] and leftovers(tmp_path / "out") == []


def classify_words(corpus, output, *more):
    return [
        "classify", "--encoder", "blstm-robust", "--dataset", f"audiofolder:{corpus}", "--target", "speaker", "--layers",
        "blstm1", "--steps", "60", "--batch-size", "2", "--device", "cpu", "--output", output, *more,
    ]  # fmt: skip


def test_classify(hfprobe, corpus, tmp_path):
    hfprobe.run(*classify_words(corpus, tmp_path / "one"))
    ranks = hfprobe.together(*classify_words(corpus, tmp_path / "two"))
    assert [rank.status for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    one, two = table(tmp_path / "one"), table(tmp_path / "two")
    assert list(one) == list(two)
    for key, row in one.items():
        for name in ("value", "ci_low", "ci_high"):
            assert row[name] == pytest.approx(two[key][name], abs=1e-6), key
        assert (row["n"], row["n_failed"]) == (two[key]["n"], two[key]["n_failed"])


@pytest.mark.skipif(not SLOW, reason="with HFPROBE_SLOW=1: starts Python three times")
def test_torchrun_itself(train_words, whole_bank, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "hfprobe"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HFPROBE_DATA": ""}
    words = [str(word) for word in train_words(tmp_path / "bank")]
    done = subprocess.run([*command, *words], capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_close(tmp_path / "bank", whole_bank)
