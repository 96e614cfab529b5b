"""What is half read when the interpreter ends is closed before its modules are taken down.

A generator that is left open is closed by the interpreter itself, too late: pyarrow's readers and thread pools are half
gone by then, and complain or abort.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Generator
from typing import TypeVar

G = TypeVar("G", bound=Generator)

_OPEN: weakref.WeakSet = weakref.WeakSet()


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


atexit.register(_close_all)
