"""Faster BLSTMs on a CPU: two padded one-directional LSTMs in place of one packed bidirectional one.

PyTorch runs a packed sequence time step by time step with a shrinking batch; its backward pass is several times
slower than that of a padded batch. Padding at the end cannot reach earlier frames of a forward LSTM, and a backward
LSTM is a forward one on the sequence flipped within its own length, so the numbers are those of the packed module.
Parameters keep their names, so checkpoints are interchangeable with ESPnet's.
"""

from __future__ import annotations

import types
from typing import cast

import torch
from espnet.nets.pytorch_backend.rnn.encoders import RNNP
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def _flip(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each row of ``(batch, frames, dim)`` within its own length; padding stays where it is."""
    position = torch.arange(x.shape[1], device=x.device)
    last = lengths.to(x.device)[:, None] - 1
    index = torch.where(position <= last, last - position, position)
    return x.gather(1, index[..., None].expand_as(x))


def _run(x: Tensor, weights: list[Tensor], hidden: int, training: bool) -> Tensor:
    zeros = x.new_zeros(1, x.shape[0], hidden)
    return torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, training, False, True)[0]


def _forward(self: nn.LSTM, packed: PackedSequence, hx=None):
    if hx is not None:
        return nn.LSTM.forward(self, packed, hx)
    padded, lengths = pad_packed_sequence(packed, batch_first=True)
    # With biases, as `unpack_lstms` wants them, no weight is None.
    weights = cast("list[Tensor]", self._flat_weights)
    forward_weights, backward_weights = weights[:4], weights[4:8]
    ahead = _run(padded, forward_weights, self.hidden_size, self.training)
    back = _flip(_run(_flip(padded, lengths), backward_weights, self.hidden_size, self.training), lengths)
    output = torch.cat([ahead, back], dim=-1)
    # A batch that was packed unsorted is given back in the caller's order, as PyTorch's own LSTM does.
    return pack_padded_sequence(output, lengths, batch_first=True, enforce_sorted=packed.sorted_indices is None), None


def unpack_lstms(model: nn.Module) -> int:
    """Replace the forward of every one-layer bidirectional LSTM with biases below ``model``.

    The final LSTM states are no longer returned (ESPnet's encoders do not use them).

    Args:
        model: Any module; changed in place, parameters untouched.

    Returns:
        How many LSTMs were replaced.
    """
    count = 0
    for module in model.modules():
        plain = isinstance(module, nn.LSTM) and module.num_layers == 1 and module.proj_size == 0 and module.bias
        if plain and module.bidirectional and module.batch_first:
            module.forward = types.MethodType(_forward, module)
            count += 1
    return count


class _QuietRNNP(RNNP):
    """`RNNP` whose ``dropout`` is the rate in training and 0 in ``eval()``."""

    @property
    def dropout(self) -> float:
        return self.__dict__["dropout"] if self.training else 0.0

    @dropout.setter
    def dropout(self, rate: float) -> None:
        self.__dict__["dropout"] = rate


def drop_in_training_only(model: nn.Module) -> None:
    """Keep ESPnet's projected recurrent layers from dropping out in ``eval()``, where they would by themselves.

    Validation would else be measured on a thinned network.
    """
    for module in model.modules():
        if type(module) is RNNP:
            module.__class__ = _QuietRNNP


def channels_last(model: nn.Module) -> None:
    """Keep 2-D convolution weights in channels-last memory order: same numbers, up to a fifth faster on a CPU."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            # The types of torch leave out this form of `to`, which its documentation has.
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
