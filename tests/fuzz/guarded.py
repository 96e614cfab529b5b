"""Reading a file that may be hostile: what is allowed is a value or an HfprobeError, in time, in little memory.

Watched are: other exceptions; the time (an alarm, also for a read that waits); the memory (an address limit, under
which a huge allocation fails, and the peak of the resident set); commands, connections and files outside that a
payload would start, open or make (audit events of the interpreter, PEP 578); and what the message says.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hfprobe.errors import HfprobeError
from hfprobe.speakers import hdf5_child

SECONDS = 20  # of processor time; whole reads take less than one
WAITING = 180  # seconds altogether, on a machine that does other things too
ADDRESSES = 3 << 30  # bytes of address space beyond what is in use
RESIDENT = 400 << 20  # bytes
MESSAGE = 2500  # characters
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.fork")
HDF5 = [sys.executable, "-P", str(Path(hdf5_child.__file__).resolve())]
_watch: dict[str, Any] = {"on": False, "seen": [], "secrets": ()}


class Hang(BaseException):
    """The read did not end; not an Exception, so that no `except Exception` takes it for its own."""


def _audit(event: str, arguments: tuple) -> None:
    if not _watch["on"]:
        return
    if event == "subprocess.Popen" and list(arguments[1]) == HDF5:
        return  # hfprobe's own choice, with nothing of the file's in it
    if event in _FORBIDDEN:
        _watch["seen"].append(f"{event} {str(arguments)[:200]}")
    elif event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(_watch["secrets"] or ("\0",)):
        _watch["seen"].append(f"open {arguments[0]}")


sys.addaudithook(_audit)  # it cannot be taken out again, but does nothing outside of a `watched` block


def _status(key: str) -> int:
    """A size of this process in bytes, e.g. ``VmHWM``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def watched(secrets: tuple[str, ...] = ()) -> Iterator[None]:
    """Limits for a block, and what it must not do."""

    def ring(number: int, _: Any) -> None:
        raise Hang("still waiting" if number == signal.SIGALRM else f"still reading after {SECONDS} s")

    linux = Path("/proc/self/status").is_file()
    before = {number: signal.signal(number, ring) for number in (signal.SIGALRM, signal.SIGPROF)}
    old = resource.getrlimit(resource.RLIMIT_AS)
    if linux:
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ADDRESSES, old[1]))
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        except OSError:
            linux = False
    start = _status("VmHWM") if linux else 0
    _watch.update(on=True, seen=[], secrets=secrets)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        _watch["on"] = False
        resource.setrlimit(resource.RLIMIT_AS, old)
    assert not _watch["seen"], f"the file made hfprobe do this: {_watch['seen'][:3]}"
    if linux:
        grown = _status("VmHWM") - start
        assert grown < RESIDENT, f"reading took {grown / 1e6:.0f} MB"


def outcome(read: Callable[[], Any], names: tuple[str, ...], canary: Path, secrets: tuple[str, ...] = ()) -> str:
    """Read; ``read`` or ``refused``, anything else fails.

    Args:
        read: Reads the file.
        names: One of these is in every message.
        canary: A file that only a payload would make.
        secrets: Beginnings of paths that nobody may open.
    """
    said = None
    with watched(secrets):
        try:
            read()
        except HfprobeError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {str(error)[:500]}") from error
    assert not canary.exists(), "code from the file was run"
    if said is None:
        return "read"
    assert len(said) <= MESSAGE, f"a message of {len(said)} characters: {said[:300]}"
    assert said.isprintable(), f"control characters in a message: {said[:300]!r}"
    assert any(name in said for name in names), f"the message names none of {names}: {said}"
    assert len(said.split()) > 4, f"the message does not say what to do: {said}"
    return "refused"


def is_root() -> bool:
    """Root reads what its mode forbids."""
    return os.geteuid() == 0
