"""Floors: what no implementation can leave out, in operations and bytes, and the seconds that follow from a machine.

Operations are those of products (matrices, convolutions, recurrences, attention), counted as torch runs them; element
by element work and Fourier transforms come on top. Bytes are the least that must move: weights and input read once,
what is asked for written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from hfprobe.bench.machine import Machine


@dataclass(frozen=True)
class Floor:
    """The least that has to be done.

    Args:
        operations: Floating point operations; an addition and a multiplication are two.
        bytes: Bytes read and written.
    """

    operations: float
    bytes: float

    def __add__(self, other: Floor) -> Floor:
        return Floor(self.operations + other.operations, self.bytes + other.bytes)

    def seconds(self, machine: Machine, share: float = 1.0) -> float:
        """The least time on a machine: of the products or of the bytes, whichever takes longer.

        Args:
            machine: The machine.
            share: Part of the peak of matrix products that is reached.

        Returns:
            Seconds on the machine's clock.
        """
        return max(self.operations / (share * machine.matmul), self.bytes / machine.bandwidth)

    def row(self, machine: Machine) -> dict:
        """Operations, bytes and seconds, for tables."""
        return {"operations": self.operations, "bytes": self.bytes, "floor_s": self.seconds(machine)}


def count_operations(run: Callable[[], object]) -> int:
    """Floating point operations of all products in a call, backward passes included.

    Args:
        run: What is called, once.

    Returns:
        Operations.

    Example:
        >>> count_operations(lambda: torch.rand(2, 3) @ torch.rand(3, 5))
        60
    """
    from torch.utils.flop_counter import FlopCounterMode

    fused = {torch.ops.aten.mkldnn_rnn_layer: _fused_layer, torch.ops.aten._cudnn_rnn: _fused_stack}
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        run()
    return counter.get_total_flops()


def _fused_layer(inputs, *weights, out_shape=None, **_) -> int:
    """One direction of one recurrent layer on a CPU: every weight matrix once for each frame."""
    matrices = [shape for shape in weights[:2] if shape is not None]
    return 2 * prod(inputs[:2]) * sum(prod(shape) for shape in matrices)


def _fused_stack(inputs, weights, *_, out_shape=None, **__) -> int:
    """A recurrent network on a GPU; packed input has one axis of frames."""
    return 2 * prod(inputs[:-1]) * sum(prod(shape) for shape in weights if len(shape) == 2)


@torch.no_grad()
def encoder_floor(encoder: Any, clips: Sequence[Tensor]) -> Floor:
    """Of encoding clips, each alone and so without padding, and keeping every layer.

    Args:
        encoder: A `SpeechEncoder`.
        clips: Waveforms ``(samples,)``, on the encoder's device.

    Returns:
        The floor.
    """
    written = 0

    def run() -> None:
        nonlocal written
        for clip in clips:
            written += sum(state.nbytes for state in encoder(clip[None]).hidden_states)

    operations = count_operations(run)
    read = sum(value.nbytes for value in encoder.state_dict().values()) + sum(clip.nbytes for clip in clips)
    return Floor(operations, read + written)
