"""The recurrence of a bidirectional LSTM layer, both directions at once, with gradients of its own.

In bfloat16 oneDNN's backward pass of an LSTM takes most of a training step on a CPU: it also computes the gradient of
the layer's input where nobody asks for it, and gains little from the shorter numbers. Here the input's share of the
gates is one large product outside (`hfprobe.asr.unpacked`), all that does not depend on the step before is done for all
steps together, and what is left in the loop is one product and some element-wise operations for both directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Recurrence(torch.autograd.Function):
    """Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997, in PyTorch's form."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weights: Tensor, kind: torch.dtype) -> Tensor:
        steps, directions, batch, width = gates.shape
        units = width // 4
        turned = weights.transpose(1, 2).contiguous().to(kind)
        # Gates in the order of PyTorch: input, forget, cell, output.
        active = torch.empty_like(gates)
        hidden, cells = gates.new_empty(2, steps, directions, batch, units)
        squashed = torch.empty_like(cells)
        before, cell = gates.new_zeros(2, directions, batch, units)
        for step in range(steps):
            now = torch.add(gates[step], torch.bmm(before.to(kind), turned), out=active[step])
            # tanh(x) = 2 sigmoid(2x) - 1 would save a call and lose digits near 0.
            opened, kept, fresh, shown = now.split(units, dim=-1)
            fresh.tanh_()
            now[..., : 2 * units].sigmoid_()
            shown.sigmoid_()
            torch.mul(kept, cell, out=cells[step])
            cell = cells[step].addcmul_(opened, fresh)
            torch.tanh(cell, out=squashed[step])
            before = torch.mul(shown, squashed[step], out=hidden[step])
        ctx.save_for_backward(weights.to(kind), active, hidden, cells, squashed)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, None]:
        weights, active, hidden, cells, squashed = ctx.saved_tensors
        steps, directions, batch, units = hidden.shape
        opened, kept, fresh, shown = active.split(units, dim=-1)
        earlier = torch.cat([torch.zeros_like(cells[:1]), cells[:-1]])
        # What a gradient of the cell is worth to each gate's input, and one of the output to the cell.
        slopes = torch.stack(
            [
                fresh * opened * (1 - opened),
                earlier * kept * (1 - kept),
                opened * (1 - fresh * fresh),
                squashed * shown * (1 - shown),
            ],
            dim=-2,
        )
        through = shown * (1 - squashed * squashed)
        kept = kept.contiguous()
        gradient = torch.empty_like(active).unflatten(-1, (4, units))
        cell = torch.zeros_like(hidden[0])
        at = outer[-1]
        for step in range(steps - 1, -1, -1):
            if step < steps - 1:
                at = outer[step] + torch.bmm(gradient[step + 1].flatten(-2).to(weights.dtype), weights)
            cell.addcmul_(at, through[step])
            torch.mul(slopes[step, :, :, :3], cell[:, :, None], out=gradient[step, :, :, :3])
            torch.mul(slopes[step, :, :, 3], at, out=gradient[step, :, :, 3])
            cell.mul_(kept[step])
        flat = gradient.flatten(-2)
        # Summed over steps and utterances; the first step has no state before it.
        after, state = (x.to(weights.dtype).transpose(0, 1).flatten(1, 2) for x in (flat[1:], hidden[:-1]))
        return flat, torch.bmm(after.transpose(1, 2), state).to(outer.dtype), None


def recur(gates: Tensor, weights: Tensor) -> Tensor:
    """Run LSTMs side by side, from states of zero.

    Under autocast the products are of its type; gates, cells, states and gradients stay float32.

    Args:
        gates: The input's share of the gates, biases included, ``(steps, directions, batch, 4 * units)`` in the order
            input, forget, cell, output (PyTorch's), float32.
        weights: The states' share, ``(directions, 4 * units, units)``: ``weight_hh`` of each.

    Returns:
        Outputs ``(steps, directions, batch, units)``.

    Example:
        >>> recur(torch.zeros(3, 2, 1, 8), torch.ones(2, 8, 2)).shape
        torch.Size([3, 2, 1, 2])
    """
    device = gates.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else gates.dtype
    with torch.autocast(device, enabled=False):
        return _Recurrence.apply(gates, weights, kind)
