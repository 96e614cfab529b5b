"""kill -9 of `train` and `evaluate`: what is given again goes on, and ends as if nothing had been."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from fault_outcome import BATCHES, SLOW, SMALL_BATCHES, leftovers, lines, table, weights

STEPS, EVERY = 8, 2  # of the trainings, and between checkpoints
STEP = "hfprobe.probes.training:_Trainer._train_step"
MEASURE = "hfprobe.analysis.evaluate:_measure_at_once"


def kill(target, call, **more):
    return {"kind": "kill_at", "target": target, "call": call, **more}


# In the middle of a file, between files, in a step; the seed draws which.
DRAWN = np.random.default_rng(762)
TRAIN_POINTS = {
    "half of a checkpoint's file": {"kind": "kill_in_write", "call": int(DRAWN.integers(3, 7))},
    "a bank's third probe": kill("hfprobe.probes.bank_files:write_probe", 3),
    "a step": kill(STEP, int(DRAWN.integers(3, STEPS))),
    "a checkpoint that gets its name": kill("os:rename", int(DRAWN.integers(1, 4))),
    "a checkpoint just named": kill("os:rename", 2, after=True),
    "a checkpoint that is removed": kill("shutil:rmtree", int(DRAWN.integers(4, 8))),
    "the index of a bank": kill("hfprobe.probes.bank_files:sha256", 3, after=True),
    "the settings": kill("hfprobe.cli.train:write_settings", 1),
    "a step before the first checkpoint": kill(STEP, 1),
    "the statistics": kill("hfprobe.probes.training:ProbeStatistics.apply", 1),
}
EVALUATE_POINTS = {
    "the third batch": kill(MEASURE, 3),
    "half of a piece": {"kind": "kill_in_write", "call": int(DRAWN.integers(2, BATCHES)), "ending": ".safetensors"},
    "half of the results": {"kind": "kill_in_write", "call": 2, "ending": ".json"},
    "the first batch": kill(MEASURE, 1),
    "a later batch": kill(MEASURE, int(DRAWN.integers(4, BATCHES + 1)), after=True),
    "a piece that gets its name": kill("os:replace", int(DRAWN.integers(1, BATCHES))),
    "quality": kill("hfprobe.analysis.evaluate:score_pairs", int(DRAWN.integers(1, BATCHES + 1))),
    "the figures": kill("hfprobe.reports.figures:save_figure", int(DRAWN.integers(1, 4))),
    "the end": kill("hfprobe.analysis.pieces:Pieces.clear", 1),
    "an interval": kill("hfprobe.analysis.systems:bootstrap_eer", 2),
}


def some(points):
    """All of the ten with HFPROBE_SLOW=1, two otherwise."""
    return [pytest.param(point, id=name) for name, point in list(points.items())[: None if SLOW else 2]]


@pytest.mark.parametrize("point", some(TRAIN_POINTS))
def test_train_goes_on_and_gives_the_same_probes(hfprobe, train_words, whole_bank, tmp_path, point):
    out, steps = tmp_path / "bank", tmp_path / "steps"
    counted = {"kind": "count", "target": STEP, "file": str(steps)}
    hfprobe.run(*train_words(out), points=[counted, point], status=-signal.SIGKILL)
    before = len(lines(steps))
    hfprobe.run(*train_words(out), points=[counted])
    assert weights(out) == weights(whole_bank)
    assert leftovers(out) == []
    # Twice are only the steps behind the last checkpoint, one of which may have been under way.
    assert before <= STEPS and len(lines(steps)) <= STEPS + EVERY
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["step-00000006", "step-00000008"]


@pytest.fixture(scope="module")
def whole_evaluation(hfprobe, evaluate_words, tmp_path_factory):
    """An evaluation that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "evaluation"
    hfprobe.run(*evaluate_words(folder, "--keep-sounds", "2"), points=[SMALL_BATCHES])
    assert len(table(folder)) == 2 * (2 + 2) * 3
    return folder


@pytest.mark.parametrize("point", some(EVALUATE_POINTS))
def test_evaluate_goes_on_and_gives_the_same_table(hfprobe, evaluate_words, whole_evaluation, tmp_path, point):
    out, batches = tmp_path / "evaluation", tmp_path / "batches"
    words = evaluate_words(out, "--keep-sounds", "2")
    counted = {"kind": "count", "target": MEASURE, "file": str(batches)}
    hfprobe.run(*words, points=[SMALL_BATCHES, counted, point], status=-signal.SIGKILL)
    assert not (out / "results.json").exists() or (out / "measured").exists()
    hfprobe.run(*words, points=[SMALL_BATCHES, counted])
    assert table(out) == table(whole_evaluation)
    for name in ("results.csv", "results.md", "differences.csv", "table2.md"):
        assert (out / name).read_bytes() == (whole_evaluation / name).read_bytes()
    sounds = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*.flac")} for f in (out, whole_evaluation)]
    assert sounds[0] == sounds[1] and len(sounds[0]) == 2 * 2 * 3
    assert leftovers(out) == []
    assert BATCHES <= len(lines(batches)) <= BATCHES + 1  # twice is only the batch that was under way
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole_evaluation.iterdir())


def killed_by_time(hfprobe, words, times, **options):
    """Start, kill and start again, after drawn times; how often it was killed before it ended by itself."""
    kills = 0
    for seconds in times:
        run = hfprobe.start(*words, **options)
        if run.ended_within(seconds):
            assert run.status == 0, run.err
            return kills
        run.kill()
        if run.wait().status == 0:  # it ended by itself just before the signal came
            return kills
        assert run.status == -signal.SIGKILL, run.err
        kills += 1
    hfprobe.run(*words, **options)
    return kills


def test_killed_again_and_again_at_any_time(
    hfprobe, train_words, evaluate_words, whole_bank, whole_evaluation, tmp_path
):
    # One run that is killed at all these moments: it goes on from one to the next. Slower machines get less far in
    # each, and as each step is a checkpoint they still get on.
    rng = np.random.default_rng(10)
    begun = time.monotonic()
    hfprobe.run(*train_words(tmp_path / "timed"))
    whole = time.monotonic() - begun
    times = whole * rng.uniform(0.2, 1.0, 10 if SLOW else 2)
    killed_by_time(hfprobe, train_words(tmp_path / "bank", "--checkpoint-steps", "1"), times)
    assert weights(tmp_path / "bank") == weights(whole_bank) and leftovers(tmp_path / "bank") == []
    if SLOW:
        words = evaluate_words(tmp_path / "evaluation", "--keep-sounds", "2")
        killed_by_time(hfprobe, words, whole * rng.uniform(0.2, 2.0, 10), points=[SMALL_BATCHES])
        assert table(tmp_path / "evaluation") == table(whole_evaluation)
        assert leftovers(tmp_path / "evaluation") == []


def test_workers_of_a_killed_evaluation_end_too(hfprobe, evaluate_words, tmp_path):
    point = kill("hfprobe.analysis.pieces:Pieces.write", 1)
    run = hfprobe.start(*evaluate_words(tmp_path / "out"), points=[point], pool=True)
    run.wait()
    assert run.status == -signal.SIGKILL
    for _ in range(600):  # each command has a session of its own
        left = subprocess.run(["pgrep", "-s", str(run.process)], capture_output=True).stdout
        if not left:
            break
        time.sleep(0.1)
    assert left == b""


@pytest.mark.skipif(not SLOW, reason="with HFPROBE_SLOW=1")
def test_a_damaged_piece_is_measured_again(hfprobe, evaluate_words, whole_evaluation, tmp_path):
    out = tmp_path / "evaluation"
    words = evaluate_words(out, "--keep-sounds", "2")
    hfprobe.run(*words, points=[SMALL_BATCHES, kill("hfprobe.cli.evaluate:write_results", 1)], status=-9)
    pieces = sorted((out / "measured").iterdir())
    assert len(pieces) == BATCHES
    pieces[0].write_bytes(pieces[0].read_bytes()[:100])
    pieces[1].write_bytes(os.urandom(300))
    shutil.rmtree(out / "sounds")
    batches = tmp_path / "batches"
    counted = {"kind": "count", "target": MEASURE, "file": str(batches)}
    hfprobe.run(*words, points=[SMALL_BATCHES, counted])
    assert table(out) == table(whole_evaluation)
    assert 2 <= len(lines(batches)) <= BATCHES  # and those whose sounds are gone
    assert len(list(out.rglob("*.flac"))) == len(list(whole_evaluation.rglob("*.flac")))


@pytest.mark.skipif(not SLOW, reason="with HFPROBE_SLOW=1: starts Python five times")
def test_the_command_as_a_user_starts_it(train_words, evaluate_words, whole_bank, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HFPROBE_DATA": ""}
    words = [str(word) for word in evaluate_words(tmp_path / "whole")]
    subprocess.run([sys.executable, "-m", "hfprobe", *words], env=environment, stdout=subprocess.DEVNULL, check=True)
    bank, out = tmp_path / "bank", tmp_path / "out"
    for words, sign in (
        (train_words(bank), "checkpoints/step-*/trainer.json"),
        (evaluate_words(out), "measured/*.safet*"),
    ):
        command = [sys.executable, "-m", "hfprobe", *map(str, words)]
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not list((bank if words[0] == "train" else out).glob(sign)):
            assert run.poll() is None
            time.sleep(0.01)
        run.kill()
        assert run.wait() == -signal.SIGKILL
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert weights(bank) == weights(whole_bank) and leftovers(bank) == []
    assert table(out) == table(tmp_path / "whole") and leftovers(out) == []
