"""How many bytes of tensors are alive while a network runs, on any device."""

from __future__ import annotations

import difflib
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made inside a ``with`` block that are still alive.

    Every operation's results are followed by weak references to their storages, so views count once and the count
    falls when the last tensor on a storage dies. Scratch memory inside an operation is not seen.

    Attributes:
        peak: Largest count.
        history: Count after each operation.
        operations: Their names.

    Example:
        >>> import torch
        >>> with LiveBytes() as live:
        ...     a = torch.zeros(250)
        ...     b = a + 1
        ...     del a
        ...     c = b[:10] * 1
        >>> live.peak, live.history[-1]
        (2000, 1040)
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.history: list[int] = []
        self.operations: list[str] = []
        self._alive = 0
        self._known: dict[int, weakref.ref] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # PyTorch would otherwise import its compiler here, for ten seconds, only to keep it away from this class.
        return False

    def __torch_dispatch__(self, function: Any, types: Any, arguments: tuple = (), options: dict | None = None) -> Any:
        # An operation may return its argument: what was alive before is not new.
        before = {_key(leaf) for leaf in tree_leaves((arguments, options)) if isinstance(leaf, torch.Tensor)}
        result = function(*arguments, **(options or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _key(leaf) not in before:
                self._follow(leaf.untyped_storage())
        self.peak = max(self.peak, self._alive)
        self.history.append(self._alive)
        self.operations.append(str(function))
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def died(_: weakref.ref) -> None:
            self._alive -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, died)
        self._alive += size


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def saved_bytes(more: LiveBytes, less: LiveBytes) -> list[int]:
    """Compare two runs of a network at the operations that they share.

    Args:
        more: The run that keeps more.
        less: The run that keeps less, with nearly the same operations.

    Returns:
        Bytes alive in the first beyond those in the second, after each shared operation.
    """
    matcher = difflib.SequenceMatcher(None, more.operations, less.operations, autojunk=False)
    return [
        more.history[block.a + i] - less.history[block.b + i]
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    ]
