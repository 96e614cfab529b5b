"""What happens during one pass through a model: states that are kept, masks that are laid, hooks that go again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Hook = Callable[[nn.Module, tuple, Any], Any]


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Mask of the frames inside each utterance.

    Args:
        lengths: ``(batch,)`` frames of each utterance.
        frames: Width of the mask.

    Returns:
        ``(batch, frames)`` bool, True inside.

    Example:
        >>> valid_frames(torch.tensor([1, 2]), 2).tolist()
        [[True, False], [True, True]]
    """
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def zero_padding(values: Tensor, lengths: Tensor, axis: int = 1) -> Tensor:
    """Zero the frames past each utterance.

    Args:
        values: Batch first, with frames along ``axis``.
        lengths: ``(batch,)`` frames of each utterance.
        axis: Axis of time.

    Returns:
        A copy, or ``values`` itself where nothing is padded.
    """
    if int(lengths.min()) >= values.shape[axis]:
        return values
    shape = [1] * values.dim()
    shape[0], shape[axis] = values.shape[0], values.shape[axis]
    return values.masked_fill(~valid_frames(lengths, values.shape[axis]).view(shape), 0.0)


def zero_padding_(values: Tensor, lengths: Tensor) -> Tensor:
    """As `zero_padding` along axis 1, in place under ``no_grad``: a copy can cost as much as a layer.

    Elsewhere a module above may have kept the values for its backward pass.

    Args:
        values: ``(batch, frames, ...)``, made by the pass; a view is fine.
        lengths: ``(batch,)`` frames of each utterance.

    Returns:
        ``values``, or a copy.
    """
    if torch.is_grad_enabled():
        return zero_padding(values, lengths)
    if values.device.type != "cpu":  # one call, whatever the batch
        return values.masked_fill_(~valid_frames(lengths, values.shape[1])[..., None], 0.0)
    frames = values.shape[1]
    for row, size in enumerate(lengths.tolist()):
        if size < frames:
            values[row, size:].zero_()
    return values


class Recorder:
    """Keeps the wanted states of one pass and lets go of the others.

    Args:
        keep: Names of the layers that are wanted; the last layer is always kept.
        last: Name of the last layer.
        in_place: Zero the padding of what the modules hand on, rather than of a copy: only for models in which no
            frame of an utterance reads its padding.
    """

    def __init__(self, keep: frozenset[str], last: str, in_place: bool = False):
        self.keep = keep | {last}
        self.in_place = in_place
        self.states: dict[str, Tensor] = {}

    def put(self, name: str, values: Tensor, lengths: Tensor) -> None:
        """Take a state.

        Args:
            name: Of the layer.
            values: ``(batch, frames, dim)``, with at least as many frames as the longest utterance.
            lengths: ``(batch,)`` frames of each utterance.
        """
        if name not in self.keep:
            return
        longest = max(lengths.tolist())
        if longest < values.shape[1]:
            # A slice alone would keep the whole tensor in memory.
            values = values[:, :longest].clone()
        self.states[name] = (zero_padding_ if self.in_place else zero_padding)(values, lengths)

    def output_of(self, name: str, lengths: Tensor) -> Hook:
        """Hook that takes a module's output, or the first of several.

        Args:
            name: Of the layer.
            lengths: ``(batch,)`` frames of each utterance.

        Returns:
            A forward hook.
        """

        def hook(module: nn.Module, arguments: tuple, output: Any) -> None:
            self.put(name, output[0] if isinstance(output, tuple) else output, lengths)

        return hook

    def input_of(self, name: str, lengths: Tensor) -> Hook:
        """Hook that takes a module's first argument; registered as a forward hook like the others.

        Args:
            name: Of the layer.
            lengths: ``(batch,)`` frames of each utterance.

        Returns:
            A forward hook.
        """

        def hook(module: nn.Module, arguments: tuple, output: Any) -> None:
            self.put(name, arguments[0], lengths)

        return hook


def masking(lengths: Tensor, axis: int) -> Hook:
    """Hook that zeroes a module's output past each utterance, before the next module reads it.

    Args:
        lengths: ``(batch,)`` frames of each utterance.
        axis: Axis of time.

    Returns:
        A forward hook.
    """

    def hook(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        return zero_padding(output, lengths, axis)

    return hook


@contextmanager
def hooked(hooks: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Lay forward hooks for as long as a ``with`` block lasts, however it ends.

    Args:
        hooks: Modules and what to call after each has run.
    """
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep a GPU from rounding convolutions to TF32, whose result depends on the batch.

    Args:
        device: Where the model runs.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
        yield
