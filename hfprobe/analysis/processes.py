"""Several processes that share the work of one command, as ``torchrun`` and ``accelerate launch`` start them.

Each process sees a share of the batches; what they accumulated is added up in the first one, which alone computes and
writes. Accumulators travel over gloo on the CPU, also where the work is done on GPUs, since they are small against it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Processes:
    """This process among others.

    Args:
        index: Its number; the first is 0.
        count: How many there are.

    Example:
        >>> Processes(1, 2).share(["a", "b", "c"])
        ['b']
    """

    def __init__(self, index: int = 0, count: int = 1):
        self.index, self.count = index, count
        self._opened = False

    @property
    def first(self) -> bool:
        """Whether this is the one that computes and writes."""
        return self.index == 0

    def device(self, device: str) -> str:
        """The GPU that is this process's own, where ``cuda`` was asked for without a number.

        Example:
            >>> Processes().device("cuda"), Processes(1, 2).device("cpu")
            ('cuda', 'cpu')
        """
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" and self.count > 1 else device

    def share(self, items: Sequence[T]) -> list[T]:
        """The items that are this process's own; disjoint, and together all."""
        return list(items[self.index :: self.count])

    def merged(self, item: Any) -> Any:
        """What all processes accumulated, in the first one; what it has of its own in the others.

        Args:
            item: Something with ``merge``, of one kind in all processes.
        """
        if self.count == 1:
            return item
        distributed = self._open()
        # One after the other, so that the first never holds more than two.
        for other in range(1, self.count):
            if self.index == other:
                distributed.send_object_list([item], dst=0)
            elif self.first:
                found = [None]
                distributed.recv_object_list(found, src=other)
                item.merge(found[0])
        return item

    def from_first(self, value: T) -> T:
        """The value that the first process has, in all of them."""
        if self.count == 1:
            return value
        found = [value]
        self._open().broadcast_object_list(found, src=0)
        return found[0]

    def _open(self):
        from torch import distributed

        if not distributed.is_initialized():
            distributed.init_process_group("gloo", rank=self.index, world_size=self.count)
            self._opened = True
        return distributed

    def close(self) -> None:
        """Leave the others, if this opened the way to them."""
        if self._opened:
            from torch import distributed

            distributed.barrier()
            distributed.destroy_process_group()
            self._opened = False
