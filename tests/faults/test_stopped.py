"""Ctrl-C and SIGTERM, and two runs into one folder."""

import json
import signal
import time

import pytest
from fault_outcome import BATCHES, SLOW, SMALL_BATCHES, leftovers, lines, table, weights

STEP = "hfprobe.probes.training:_Trainer._train_step"
MEASURE = "hfprobe.analysis.evaluate:_measure_at_once"
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "status"), SIGNALS if SLOW else SIGNALS[:1])
def test_train_stops_at_a_checkpoint_and_goes_on(hfprobe, train_words, whole_bank, tmp_path, number, status):
    out, steps = tmp_path / "bank", tmp_path / "steps"
    counted = {"kind": "count", "target": STEP, "file": str(steps)}
    stop = {"kind": "signal_at", "target": STEP, "call": 3, "number": int(number)}
    run = hfprobe.run(*train_words(out), points=[counted, stop], status=status)
    assert run.err == "hfprobe: interrupted at step 3, which is kept; the same command goes on from there\n"
    assert leftovers(out) == [] and not (out / "bank.json").exists()
    hfprobe.run(*train_words(out), points=[counted])
    assert weights(out) == weights(whole_bank) and len(lines(steps)) == 8  # no step twice
    logged = [json.loads(line)["step"] for line in (out / "train_log.jsonl").read_text().splitlines()]
    assert logged == sorted(set(logged))


@pytest.mark.parametrize(("number", "status"), SIGNALS if SLOW else SIGNALS[1:])
def test_evaluate_stops_and_goes_on(hfprobe, evaluate_words, tmp_path, number, status):
    out, batches = tmp_path / "evaluation", tmp_path / "batches"
    counted = {"kind": "count", "target": MEASURE, "file": str(batches)}
    stop = {"kind": "signal_at", "target": MEASURE, "call": 4, "number": int(number)}
    run = hfprobe.run(*evaluate_words(out), points=[SMALL_BATCHES, counted, stop], status=status)
    said = "hfprobe: interrupted; 3 batches are measured and kept, the same command goes on behind them\n"
    assert run.err == said
    assert [path.name for path in out.iterdir()] == ["measured"]
    hfprobe.run(*evaluate_words(out), points=[SMALL_BATCHES, counted])
    # The signal came as the fourth began.
    assert len(lines(batches)) == BATCHES and leftovers(out) == [] and table(out)


def test_a_second_signal_stops_at_once(hfprobe, train_words, tmp_path):
    points = [
        {"kind": "signal_at", "target": "hfprobe.probes.probe_set:pack_frames", "call": 1, "number": 2},
        {"kind": "signal_at", "target": "hfprobe.probes.probe_set:pack_frames", "call": 2, "number": 2},
    ]
    run = hfprobe.run(*train_words(tmp_path / "bank"), points=points, status=130)
    assert run.err == "hfprobe: interrupted; the same command goes on from the last checkpoint\n"
    assert leftovers(tmp_path / "bank") == []


def test_two_runs_into_one_folder(hfprobe, train_words, evaluate_words, whole_bank, tmp_path):
    out = tmp_path / "bank"
    slow = {"kind": "pause", "target": STEP, "seconds": 600}
    first = hfprobe.start(*train_words(out), points=[slow])
    while not (out / "training.json").exists():
        assert not first.ended_within(0.05), first.err
    there = sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir())
    others = [train_words(out, "--no-resume"), *([train_words(out), evaluate_words(out)] if SLOW else [])]
    for words in others:
        second = hfprobe.run(*words, status=1)
        assert second.err.startswith(f"hfprobe: error: another run (process {first.process}, since ")
        assert f"is writing into {out}; wait for it, stop it, or choose another folder" in second.err
    assert sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir()) == there
    first.kill()
    assert first.wait().status == -signal.SIGKILL and (out / ".lock").exists()
    # The lock went with the process.
    hfprobe.run(*train_words(out))
    assert weights(out) == weights(whole_bank) and leftovers(out) == []


def test_a_lock_is_taken_by_one_of_many(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from hfprobe.errors import ConfigError
    from hfprobe.files import sole_writer

    inside, most, refused = [], [], []

    def work(number):
        for _ in range(20):
            try:
                with sole_writer(tmp_path / "out"):
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.remove(number)
            except ConfigError:
                refused.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert max(most) == 1 and len(most) + len(refused) == 160
    assert not list(tmp_path.rglob(".*"))
