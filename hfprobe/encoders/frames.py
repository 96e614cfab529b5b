"""What modules return, brought into the form ``(batch, frames, dim)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from hfprobe.errors import EncoderError

# Axes that become the width of a frame, in the order in which they are flattened.
_WIDTH = "cfd"


def check_layout(layout: Any, layer: str) -> str:
    """Check a string of axes.

    Args:
        layout: ``b``, ``t``, and at least one of ``c``, ``f``, ``d``, each at most once.
        layer: Name of the layer, for the message.

    Returns:
        The layout.

    Raises:
        EncoderError: If it is anything else.
    """
    text = layout if isinstance(layout, str) else ""
    unique = len(set(text)) == len(text) and set(text) <= set("bt" + _WIDTH)
    if not unique or not {"b", "t"} < set(text):
        raise EncoderError(
            f"layer {layer}: expected a layout such as 'btd', 'tbd', 'bct', 'bctf' or 'bcft', got {layout!r}: "
            "b is the batch, t time, d, c or f the width"
        )
    return text


def first_tensor(value: Any, layer: str) -> Tensor:
    """The tensor itself, or the first one in a tuple, list, model output or packed sequence.

    Args:
        value: What a module returned.
        layer: Name of the layer, for the message.

    Returns:
        A tensor; of a packed sequence ``(batch, frames, dim)``.

    Raises:
        EncoderError: If there is none.
    """
    if isinstance(value, PackedSequence):
        return pad_packed_sequence(value, batch_first=True)[0]
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list) and value:
        return first_tensor(value[0], layer)
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise EncoderError(f"layer {layer}: expected a tensor, got {kind}: take an element with Tap(path, index=...)")
    return value


def to_frames(value: Tensor, layout: str, layer: str) -> Tensor:
    """Bring a tensor into the form ``(batch, frames, dim)``.

    Args:
        value: Tensor with one axis per letter of ``layout``.
        layout: Its axes; channels and frequency are flattened to the width in this order.
        layer: Name of the layer, for the message.

    Returns:
        ``(batch, frames, dim)``.

    Raises:
        EncoderError: If the number of axes is another.

    Example:
        >>> import torch
        >>> to_frames(torch.zeros(2, 5, 40, 7), "bcft", "conv").shape
        torch.Size([2, 7, 200])
    """
    if value.dim() != len(layout):
        raise EncoderError(
            f"layer {layer}: expected {len(layout)} axes for layout {layout!r}, got shape {tuple(value.shape)}: "
            "give the layout of what the module returns"
        )
    width = [letter for letter in _WIDTH if letter in layout]
    return value.permute([layout.index(letter) for letter in ("b", "t", *width)]).flatten(2)
