"""Freed memory stays with the process, to be used again.

glibc takes blocks of more than 32 MB from the system and gives each back when it is freed, and so does it with what
lies free at the end of its heap. The next batch gets its pages one by one, each zeroed by the kernel, which can take
longer than what is computed in them: the states of an encoder and the maps between them are such blocks.
`keep_freed_memory` makes glibc take everything from its heap and give nothing back; a process stays as large as it once
was, which it would become again with the next batch. What that saves is in ``recipes/BENCHMARKS.md``.

Source: ``mallopt(3)``, and sysmalloc() in glibc's ``malloc/malloc.c`` for what happens where the heap cannot grow.
"""

from __future__ import annotations

import copy
import ctypes
import os
from types import ModuleType
from typing import TypeVar

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

T = TypeVar("T")

# From glibc's <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_LARGEST_INT = 2**31 - 1
_MB = 2**20

OURS = "HFPROBE_MALLOC"
# Whoever sets one of these has chosen.
CHOSEN = (
    "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES",
)  # fmt: skip


def keep_freed_memory() -> bool:
    """Let the allocator of this process keep what is freed, for commands that run networks batch after batch.

    Nothing happens where the allocator is not glibc's, ``HFPROBE_MALLOC=system`` is set, or one of glibc's own
    variables (``MALLOC_MMAP_MAX_``, ``GLIBC_TUNABLES`` and so on) is; nor under a limit of the address space (``ulimit
    -v``), of which what is kept might be missing elsewhere.

    Returns:
        Whether it does now.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if _decided():
        return False
    return _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST_INT, _TOP_PAD: 64 * _MB})


def release() -> bool:
    """Give the system back what is free now, e.g. after a batch that did not fit; later freed memory stays again.

    Returns:
        Whether anything could be given back.
    """
    library = _glibc()
    return library is not None and library.malloc_trim(0) == 1


def return_freed_memory() -> bool:
    """Let the allocator behave as it does in a process that has never asked: for comparisons with other libraries.

    Returns:
        Whether it does now; False where `keep_freed_memory` would change nothing.
    """
    if _decided():
        return False
    # What glibc's thresholds become by themselves once a block of 32 MB was freed (they cannot move any more after the
    # first call of mallopt).
    thresholds = {_MMAP_THRESHOLD: 32 * _MB, _TRIM_THRESHOLD: 64 * _MB}
    return _set({_MMAP_MAX: 65536, _TOP_PAD: 128 * 1024, **thresholds})


def moved(value: T) -> T:
    """A copy in memory that is free by now, for small results that outlive the large arrays they were made among.

    Each would otherwise stay behind what was freed around it, and cut the heap into pieces that the next batch does not
    fit into: an evaluation of 420 utterances grew by 150 MB for 1 MB of results.

    Args:
        value: Anything that can be copied; let go of it afterwards.

    Returns:
        Its equal.

    Example:
        >>> moved({"stoi": [0.5]})
        {'stoi': [0.5]}
    """
    return copy.deepcopy(value)


def _decided() -> bool:
    """Whether the user, or a limit, has decided how memory is to be handled."""
    chosen = os.environ.get(OURS) == "system" or any(os.environ.get(name) for name in CHOSEN)
    return chosen or (resource is not None and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY)


def _set(options: dict[int, int]) -> bool:
    library = _glibc()
    return library is not None and all([library.mallopt(option, value) == 1 for option, value in options.items()])


def _glibc() -> ctypes.CDLL | None:
    """glibc; None where the C library is another one, whose mallopt may mean other things by the same numbers."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - looks it up
        return library
    except (AttributeError, OSError, TypeError):
        return None
