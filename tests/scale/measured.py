"""``measured.py FILE COMMAND...``: runs an hfprobe command, and writes to FILE by how much it lifted the memory's peak.

A process of its own, so that the peak is this command's: what was held before (packages) is told apart.
"""

import json
import os
import sys
from pathlib import Path


def size(key: str) -> int:
    """Of this process in bytes: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def main(file: str, *words: str) -> int:
    """Status of the command."""
    import torch

    from hfprobe.analysis import evaluate, spooled
    from hfprobe.cli import main as hfprobe
    from hfprobe.metrics import resample

    torch.set_num_threads(1)
    # Draws of speakers share a workspace of 2,000,000 numbers an array, which small corpora do not fill. Here they do.
    resample.CHUNK_CELLS = 20_000
    # So do batches of 40 seconds, and waveforms of which 32 MB are held.
    evaluate.BATCH_SAMPLES = 16000 * 8
    spooled.SpooledWaveforms.__init__.__defaults__ = (400_000,)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = size("VmRSS")
    status = hfprobe(list(words))
    Path(file).write_text(json.dumps({"before": before, "peak": size("VmHWM"), "process": os.getpid()}))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
