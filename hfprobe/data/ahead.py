"""Work done ahead in threads, in order, while something else is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    items: Iterable[T], work: Callable[[T], R], workers: int, depth: int | None = None
) -> Generator[tuple[T, R], None, None]:
    """Items with what ``work`` makes of them, in the order of the items, whatever the number of workers.

    With workers, one thread reads items and ``workers`` threads work on them while the consumer computes (decoding and
    resampling leave Python's lock). Nothing is read before the first item is asked for, and nothing runs on when the
    iterator is closed.

    Args:
        items: Read by one thread only.
        work: Called by several threads at once.
        workers: Threads; 0 does everything when it is asked for.
        depth: Most items that are read ahead (two per worker where None).

    Example:
        >>> list(ahead([1, 2, 3], lambda x: x * x, workers=2))
        [(1, 1), (2, 4), (3, 9)]
    """
    if workers == 0:
        for item in items:
            yield item, work(item)
        return
    iterator = iter(items)
    reader = ThreadPoolExecutor(1, thread_name_prefix="hfprobe-read")
    pool = ThreadPoolExecutor(workers, thread_name_prefix="hfprobe-work")

    def read() -> tuple[T, Future] | None:
        for item in iterator:
            return item, pool.submit(work, item)
        return None

    try:
        waiting = deque(reader.submit(read) for _ in range(depth or 2 * workers))
        while (pair := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(read))
            item, made = pair
            yield item, made.result()
    finally:
        reader.shutdown(wait=True, cancel_futures=True)
        pool.shutdown(wait=True, cancel_futures=True)
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
