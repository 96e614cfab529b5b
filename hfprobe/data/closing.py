"""What is half read when the interpreter ends is closed before its modules are taken down.

A generator that is left open is closed by the interpreter itself, too late: pyarrow's readers and thread pools are half
gone by then, and complain or abort.
"""

from __future__ import annotations

import atexit
import gc
import sys
import threading
import time
import weakref
from collections.abc import Generator
from typing import TypeVar

G = TypeVar("G", bound=Generator)

_OPEN: weakref.WeakSet = weakref.WeakSet()
_HERE_BEFORE = frozenset(sys._current_frames())  # threads of whoever runs us: pytest-xdist, notebooks, debuggers


def closed_at_exit(generator: G) -> G:
    """The same generator, which will be closed when the interpreter ends, if it is still there and open.

    Example:
        >>> next(closed_at_exit(number for number in [1, 2]))
        1
    """
    _OPEN.add(generator)
    return generator


def _close_all() -> None:
    for generator in list(_OPEN):
        try:
            generator.close()
        except (RuntimeError, ValueError):  # it is running in another thread
            pass
    # A reader that lies in a cycle, even of a generator closed long ago, would else be taken down with the modules.
    gc.collect()
    _wait_for_readers()


def _wait_for_readers(most: float = 5.0, step: float = 0.02) -> None:
    """Until pyarrow's threads rest, which read ahead through Python's files.

    A thread that comes back to Python when there is no interpreter any more aborts the process, whatever it was about
    to return (datasets issues 7357 and 7467). pyarrow has no call that waits for them; threads that Python does not
    know but that run its code, and time that the CPU spends while this one sleeps, tell.
    """
    if "pyarrow.dataset" not in sys.modules:
        return
    quiet, end = 0, time.monotonic() + most
    while quiet < 2 and time.monotonic() < end:
        used = time.process_time()
        time.sleep(step)
        known = {thread.ident for thread in threading.enumerate()} | _HERE_BEFORE
        strangers = set(sys._current_frames()) - known
        quiet = 0 if strangers or time.process_time() - used > step / 4 else quiet + 1


atexit.register(_close_all)
