"""Ctrl-C while all cores score, and a pool that has lost its own thread."""

import os
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from hfprobe.errors import MeasureError
from hfprobe.metrics import quality

SCRIPT = """
import numpy as np
from hfprobe.metrics.quality import score_pairs
if __name__ == "__main__":
    noise = [np.random.default_rng(i).standard_normal(80000) for i in range(16)]
    score_pairs(noise, noise, n_jobs=2)  # the workers are up
    print("ready", flush=True)
    score_pairs(noise * 100, noise * 100, n_jobs=2)
    print("finished", flush=True)
"""


def test_an_interrupt_ends_it_soon_and_leaves_no_process(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
        # Jobs in the background of a script inherit an ignored SIGINT; this one must hear it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process at once
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "finished" not in out
    assert err.count("KeyboardInterrupt") == 1, err  # the workers stay silent
    for _ in range(100):  # Python's own resource tracker is the last to leave
        left = subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True).stdout
        if not left:
            break
        time.sleep(0.1)
    assert left == b""


def test_nobody_waits_for_a_pool_whose_thread_has_ended(monkeypatch):
    """Short of memory, the thread that hands out work ends by itself; its futures are never done."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    pool = types.SimpleNamespace(submit=lambda *_: Future(), _executor_manager_thread=thread)
    cleared = []
    make = lambda n_jobs: pool  # noqa: E731
    make.cache_clear = lambda: cleared.append(True)
    monkeypatch.setattr(quality, "PATIENCE", 0.01)
    monkeypatch.setattr(quality, "_pool", make)
    noise = np.random.default_rng(0).standard_normal((8, 4000))
    with pytest.raises(MeasureError, match="a scoring process died"):
        quality.score_pairs(noise, noise, ("si_sdr",), n_jobs=2)
    assert cleared == [True]
