"""Ctrl-C and SIGTERM: what runs stops cleanly, says how to go on, and ends with the status that shells expect."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Somebody stopped the run.

    Args:
        message: How to go on; empty where that is not known yet.
        number: Of the signal: SIGINT or SIGTERM.
    """

    def __init__(self, message: str = "", number: int = signal.SIGINT):
        super().__init__(message)
        self.number = int(number)

    @property
    def status(self) -> int:
        """Exit status: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


def as_interrupted(stop: KeyboardInterrupt, message: str) -> Interrupted:
    """The same interruption with a message that says how to go on, if it has none yet.

    Example:
        >>> as_interrupted(Interrupted(number=15), "stopped").status
        143
    """
    return Interrupted(str(stop) or message, getattr(stop, "number", signal.SIGINT))


@contextmanager
def terminable() -> Iterator[None]:
    """Have SIGTERM raise `Interrupted`, so that what is open is closed; otherwise it would end the process at once."""

    def stop(number, frame):
        raise Interrupted(number=number)

    with _handlers({signal.SIGTERM: stop}):
        yield


class Wish:
    """Whether somebody wants the run to stop.

    Attributes:
        number: Of the signal that came; 0 for none.
    """

    def __init__(self) -> None:
        self.number = 0


@contextmanager
def stop_wishes() -> Iterator[Wish]:
    """Note SIGINT and SIGTERM instead of breaking off; the second one breaks off.

    Yields:
        A `Wish` that a loop looks at where it can stop cleanly.

    Example:
        >>> with stop_wishes() as wish:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     wish.number == signal.SIGTERM
        True
    """
    wish = Wish()

    def note(number, frame):
        if wish.number:
            raise Interrupted(number=number)
        wish.number = int(number)
        if os.isatty(2):
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nhfprobe: stopping after this step; once more stops at once\n")

    with _handlers(dict.fromkeys(NUMBERS, note)):
        yield wish


@contextmanager
def _handlers(wanted: dict) -> Iterator[None]:
    """Signal handlers for the time of a block; none in threads, which cannot have any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A signal that is ignored (nohup, a job in the background) stays ignored.
    before = {number: signal.getsignal(number) for number in wanted}
    changed = {n: handler for n, handler in wanted.items() if before[n] not in (signal.SIG_IGN, None)}
    try:
        for number, handler in changed.items():
            signal.signal(number, handler)
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])
