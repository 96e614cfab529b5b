"""Read what flows through named modules of a network, for as long as a ``with`` block lasts.

Hooks are removed however the block ends. What they see is cloned, because many networks edit tensors in
place after the hook has run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from hfprobe.errors import LayerError


@dataclass(frozen=True)
class Tap:
    """A place to read.

    Args:
        path: Dotted name of a module as in ``model.named_modules()``; ``""`` is the model itself.
        side: ``"output"`` of the module, or its positional arguments as ``"input"``.
        index: Element to take where there are several (of the output tuple or the arguments); None takes all.
    """

    path: str
    side: Literal["output", "input"] = "output"
    index: int | None = None


@contextmanager
def capture(model: nn.Module, taps: Mapping[str, Tap], detach: bool = False) -> Iterator[dict[str, Any]]:
    """Record the value at each tap during every forward pass inside the block.

    Args:
        model: Network to watch.
        taps: Name to give the value, and where to read it.
        detach: Whether to cut the values from the graph.

    Yields:
        Dictionary filled as the network runs, clones under the names in ``taps``; a module that runs more
        than once leaves its last value.

    Raises:
        LayerError: If a path names no module; the message offers the nearest ones.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
        >>> with capture(net, {"before": Tap("0"), "into": Tap("1", "input", 0)}) as seen:
        ...     _ = net(torch.ones(1, 2))
        >>> torch.equal(seen["before"], seen["into"]), len(net[0]._forward_hooks)
        (True, 0)
    """
    modules = dict(model.named_modules())
    for tap in taps.values():
        if tap.path not in modules:
            near = difflib.get_close_matches(tap.path, modules, n=5, cutoff=0.3) or list(modules)[1:6]
            kind = type(model).__name__
            raise LayerError(f"no module {tap.path!r} to read in {kind}: the nearest are {', '.join(near)}")
    seen: dict[str, Any] = {}
    handles = []
    try:
        for name, tap in taps.items():
            module = modules[tap.path]
            if tap.side == "output":
                handles.append(module.register_forward_hook(_output_hook(name, tap.index, seen, detach)))
            else:
                handles.append(module.register_forward_pre_hook(_input_hook(name, tap.index, seen, detach)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _output_hook(name: str, index: int | None, seen: dict[str, Any], detach: bool):
    def hook(module: nn.Module, arguments: tuple, output: Any) -> None:
        seen[name] = _clone(output if index is None else output[index], detach)

    return hook


def _input_hook(name: str, index: int | None, seen: dict[str, Any], detach: bool):
    def hook(module: nn.Module, arguments: tuple) -> None:
        seen[name] = _clone(arguments if index is None else arguments[index], detach)

    return hook


def _clone(value: Any, detach: bool) -> Any:
    """Copy of a value with every tensor inside cloned."""
    if isinstance(value, Tensor):
        return (value.detach() if detach else value).clone()
    if isinstance(value, PackedSequence):
        # Its other fields are bookkeeping that no module edits.
        return value._replace(data=_clone(value.data, detach))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_clone(item, detach) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_clone(item, detach) for item in value)
    if isinstance(value, Mapping):
        return {key: _clone(item, detach) for key, item in value.items()}
    return value
