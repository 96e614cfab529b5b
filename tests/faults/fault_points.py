"""Faults for the process that arms them: killed at, raising at, or slowed at the n-th call of a function."""

import errno
import functools
import importlib
import os
import resource
import signal
import time


def arm(wanted: list[dict]) -> None:
    """Set the faults of a list of ``{"kind": ..., ...}``."""
    for one in wanted:
        KINDS[one.pop("kind")](**one)


def _replace(target: str, make) -> None:
    """Put ``make(original)`` in the place of ``package.module:Class.name``."""
    module, _, path = target.partition(":")
    home = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        home = getattr(home, parent)
    setattr(home, name, functools.wraps(getattr(home, name))(make(getattr(home, name))))


def kill_at(target: str, call: int, after: bool = False) -> None:
    """SIGKILL before, or right after, the n-th call (from 1)."""
    signal_at(target, call, signal.SIGKILL, after)


def signal_at(target: str, call: int, number: int, after: bool = False) -> None:
    """Send this process a signal at the n-th call (from 1)."""
    count = 0

    def make(original):
        def wrapped(*args, **kwargs):
            nonlocal count
            count += 1
            if count == call and not after:
                os.kill(os.getpid(), number)
            value = original(*args, **kwargs)
            if count == call and after:
                os.kill(os.getpid(), number)
            return value

        return wrapped

    _replace(target, make)


def kill_in_write(call: int, ending: str = "") -> None:
    """SIGKILL in the middle of the n-th file with an ending that is written whole: half of its bytes are there."""
    count = 0

    def make(original):
        def wrapped(self, data, *rest):
            nonlocal count
            count += self.name.endswith(ending)
            if count == call and self.name.endswith(ending):
                original(self, data[: len(data) // 2], *rest)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, data, *rest)

        return wrapped

    _replace("pathlib:Path.write_bytes", make)


def full_disk(call: int, ending: str = "") -> None:
    """From the n-th file with an ending that is written whole on, the disk is full."""
    count = 0

    def make(original):
        def wrapped(self, data, *rest):
            nonlocal count
            count += self.name.endswith(ending)
            if count >= call:
                original(self, data[: len(data) // 2], *rest)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
            return original(self, data, *rest)

        return wrapped

    _replace("pathlib:Path.write_bytes", make)


def file_limit(size: int) -> None:
    """No file may grow beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def out_of_memory(target: str, argument: int, most: int, how: str) -> None:
    """Calls with more than so many rows in an argument run out of memory."""

    def make(original):
        def wrapped(*args, **kwargs):
            if len(args[argument]) > most:
                if how == "cuda":
                    import torch

                    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
                raise RuntimeError(
                    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                    "tried to allocate 99999999999 bytes. Error code 12 (Cannot allocate memory)"
                )
            return original(*args, **kwargs)

        return wrapped

    _replace(target, make)


def count(target: str, file: str, argument: int | None = None) -> None:
    """Append a line to a file at each call: the rows of an argument, or 1."""

    def make(original):
        def wrapped(*args, **kwargs):
            with open(file, "a") as stream:
                stream.write(f"{1 if argument is None else len(args[argument])}\n")
            return original(*args, **kwargs)

        return wrapped

    _replace(target, make)


def pause(target: str, seconds: float) -> None:
    """Every call takes so much longer."""

    def make(original):
        def wrapped(*args, **kwargs):
            time.sleep(seconds)
            return original(*args, **kwargs)

        return wrapped

    _replace(target, make)


def quick_figures() -> None:
    """Figures are a few bytes each."""
    _replace(
        "hfprobe.reports.figures:figure_bytes",
        lambda _: lambda figure, formats=("png", "pdf"): {f: b"-" for f in formats},
    )


def put(target: str, value) -> None:
    """Give a module's constant another value."""
    module, _, name = target.partition(":")
    assert hasattr(importlib.import_module(module), name)
    setattr(importlib.import_module(module), name, value)


def one_process() -> None:
    """Measures are computed in this process: others take seconds to start."""
    module = importlib.import_module("hfprobe.metrics.quality")
    module.POOL_FROM = 10**9


KINDS = {
    made.__name__: made
    for made in (
        quick_figures, one_process, put, kill_at, signal_at, kill_in_write, full_disk, file_limit, out_of_memory, count,
        pause,
    )
}  # fmt: skip
