"""Processes that stop reading in the middle of a corpus end as if nothing had been."""

import _thread
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hfprobe.data import closing

# pyarrow reads ahead in threads that come back to Python; the file is slow so that they do when the interpreter ends.
SCRIPT = """
import sys, time, io
import pyarrow.dataset as dataset
from hfprobe.data.closing import closed_at_exit

class Slow(io.FileIO):
    def read(self, *size):
        time.sleep(0.05)
        return super().read(*size)
    def readinto(self, buffer):
        time.sleep(0.05)
        return super().readinto(buffer)

def rows():
    fragment = dataset.ParquetFileFormat().make_fragment(Slow(sys.argv[1]))
    yield from fragment.to_batches(batch_size=2)

reader = closed_at_exit(rows())
next(reader)
print("read")
"""


def test_a_process_that_stops_reading_early_ends_well(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": np.arange(4000.0)}), path, row_group_size=100)
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")


def test_threads_that_python_does_not_know_are_waited_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.dataset", pa)
    begun = time.monotonic()
    _thread.start_new_thread(time.sleep, (0.4,))  # has no entry among those of `threading`
    _thread.start_new_thread(lambda: time.sleep(0.4), ())
    time.sleep(0.05)
    closing._wait_for_readers()
    assert time.monotonic() - begun > 0.35
    begun = time.monotonic()
    closing._wait_for_readers()
    assert time.monotonic() - begun < 2


def test_the_wait_has_an_end(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.dataset", pa)
    free = []
    _thread.start_new_thread(lambda: [time.sleep(0.01) for _ in iter(lambda: bool(free), True)], ())
    time.sleep(0.05)
    begun = time.monotonic()
    closing._wait_for_readers(most=0.3)
    assert 0.25 < time.monotonic() - begun < 2
    free.append(True)
