"""A batch that does not fit into memory is done in halves."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from hfprobe.memory import release

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)

# How PyTorch says it where there is no class of its own: the CPU's allocator, cuBLAS, cuDNN.
_PHRASES = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed", "failed to allocate",
)  # fmt: skip
# oneDNN's words, in LSTMs and convolutions of a CPU. (A primitive's descriptor is another matter: not supported.)
_ONEDNN = re.compile(r"could not (create|initialize|execute) a (primitive(?! desc)|memory)", re.IGNORECASE)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the GPU or of the machine, was not enough.

    Example:
        >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
        True
        >>> out_of_memory(RuntimeError("could not create a primitive"))
        True
        >>> out_of_memory(RuntimeError("shapes do not fit"))
        False
    """
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    known = any(phrase in said.lower() for phrase in _PHRASES) or _ONEDNN.search(said) is not None
    return isinstance(error, RuntimeError) and known


def attempt(work: Callable[[], R], size: int, what: str = "utterance") -> list[R]:
    """What ``work`` gives, in a list; an empty list where memory was not enough and halves may do.

    Args:
        work: Done once.
        size: How many things it works on.
        what: What they are, for the log.

    Raises:
        Exception: As ``work``; also out of memory where ``size`` is 1 and nothing is left to halve.
    """
    try:
        return [work()]
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or size < 2:
            raise
    # Here and not above: as long as the error is held, so is all that the failed attempt had allocated.
    gc.collect()
    release()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    logger.warning("out of memory with %d %ss at once; going on with halves", size, what)
    return []


def in_halves(work: Callable[[Sequence[T]], R], items: Sequence[T], what: str = "utterance") -> list[R]:
    """Work on all items at once or, where memory is not enough, on halves, quarters and so on, in order.

    Args:
        work: Gets a part of the items; must give the same however they are parted.
        items: Things that can be sliced.
        what: What they are, for the log.

    Returns:
        What ``work`` gave for each part.

    Raises:
        Exception: As ``work``; also out of memory for a single item.

    Example:
        >>> def narrow(part):
        ...     if len(part) > 2:
        ...         raise MemoryError
        ...     return sum(part)
        >>> in_halves(narrow, [1, 2, 3, 4, 5])
        [3, 3, 9]
    """
    done = attempt(lambda: work(items), len(items), what)
    if done or not len(items):
        return done
    middle = len(items) // 2
    return in_halves(work, items[:middle], what) + in_halves(work, items[middle:], what)
