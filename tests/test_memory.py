"""Freed memory that stays: pages are taken from the system once, not with every batch."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"
# Forty megabytes, written to and let go again, ten times; the pages (4 KiB) that the system had to find for it.
CODE = """
import ctypes, resource
from hfprobe import memory
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def touch():
    block = libc.malloc({size})
    ctypes.memset(block, 1, {size})
    libc.free(block)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
SIZE = 40 * 2**20
PAGES = SIZE // os.sysconf("SC_PAGE_SIZE")


def faults(call: str, **variables: str) -> int:
    code = CODE.format(call=call, size=SIZE)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_", "HFPROBE_MA"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not GLIBC, reason="needs glibc's allocator")
def test_pages_are_taken_once():
    assert faults("assert memory.keep_freed_memory()") < PAGES


@pytest.mark.skipif(not GLIBC, reason="needs glibc's allocator")
@pytest.mark.parametrize(
    ("call", "variables"),
    [
        ("", {}),
        ("assert not memory.keep_freed_memory()", {"HFPROBE_MALLOC": "system"}),
        ("assert not memory.keep_freed_memory()", {"MALLOC_MMAP_THRESHOLD_": "1000000"}),
        ("assert memory.keep_freed_memory() and memory.return_freed_memory()", {}),
        ("resource.setrlimit(resource.RLIMIT_AS, (2**40, -1)); assert not memory.keep_freed_memory()", {}),
    ],
    ids=["nobody asked", "a user does not want it", "a user chose otherwise", "and back", "a limit"],
)
def test_as_the_system_does_it(call, variables):
    assert faults(call, **variables) >= 9 * PAGES


@pytest.mark.skipif(not GLIBC, reason="needs glibc's allocator")
def test_what_is_kept_can_be_given_back():
    # A block that stays above what is freed, so that the heap cannot simply shrink.
    call = "assert memory.keep_freed_memory(); blocks = [bytes([1]) * 2**20 for _ in range(50)]; last = bytearray(100)"
    code = CODE.split("def touch")[0].format(call=call, size=SIZE) + (
        "size = lambda: int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "del blocks\nbefore = size()\nassert memory.release()\nprint(before - size())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40 * 2**20


def test_other_allocators_are_left_alone(monkeypatch):
    from hfprobe import memory

    class Library:  # musl's has neither function
        pass

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library())
    assert memory.keep_freed_memory() is False
    assert memory.return_freed_memory() is False
    assert memory.release() is False


def test_commands_ask_for_it(monkeypatch, capsys):
    from hfprobe import cli, memory

    asked = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: asked.append(True))
    assert cli.main(["encoders"]) == 0
    assert asked == [True]
    assert cli.main(["--help"]) == 0
    assert asked == [True]
