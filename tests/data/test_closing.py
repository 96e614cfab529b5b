"""Processes that stop reading in the middle of a corpus end as if nothing had been."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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


WAITS = """
import _thread, sys, time
start = lambda seconds: _thread.start_new_thread(lambda: time.sleep(seconds), ())  # `threading` knows nothing of it
start(60)  # was there before
time.sleep(0.1)
from hfprobe.data import closing
import pyarrow.dataset

def seconds(most):
    begun = time.monotonic()
    closing._wait_for_readers(most)
    print(time.monotonic() - begun)

seconds(20)
start(0.5)
time.sleep(0.1)
seconds(20)
start(60)
time.sleep(0.1)
seconds(0.7)
sys.stdout.flush()
import os
os._exit(0)
"""


def test_threads_that_python_does_not_know_are_waited_for_but_not_for_ever():
    done = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, timeout=120, check=True)
    at_rest, reading, for_ever = map(float, done.stdout.split())
    # Upper bounds are loose: the machine may be busy.
    assert at_rest < 10 and 0.3 < reading < 10 and 0.65 < for_ever < 10
