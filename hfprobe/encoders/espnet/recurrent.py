"""One recurrent layer over a padded batch, each utterance as if it were alone.

Packed sequences are slow on a CPU, above all backwards: the fused kernels refuse them. There, each direction
runs as a plain LSTM over the padded batch; the backward one sees every utterance reversed within its own
length, so padding follows the valid frames in both directions and never reaches them. Elsewhere, and where
the input is much wider than the hidden state, the packed kernels are used.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from hfprobe.encoders.espnet.frontend import valid_frames

# The fused CPU kernels lose to packed sequences where the input is this many times wider than the hidden
# state, as after VGG2L (measured: 2560 to 320, 180 ms against 86 ms; 320 to 320, 38 ms against 46 ms).
WIDE = 4


def run_recurrent_layer(rnn: nn.LSTM | nn.GRU, layer: int, inputs: Tensor, lengths: Tensor) -> Tensor:
    """Apply one layer of a (possibly stacked, possibly bidirectional) LSTM or GRU.

    Args:
        rnn: Recurrent module that owns the weights (batch first, without its own projection).
        layer: Which of its layers to apply, from 0.
        inputs: ``(batch, frames, dim)``.
        lengths: ``(batch,)`` valid frames.

    Returns:
        ``(batch, frames, directions * hidden)``; values past an utterance's length mean nothing.

    Example:
        >>> rnn = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        >>> x = torch.randn(1, 5, 3)
        >>> torch.allclose(run_recurrent_layer(rnn, 0, x, torch.tensor([5])), rnn(x)[0], atol=1e-6)
        True
    """
    if inputs.device.type != "cpu" or inputs.shape[2] > WIDE * rnn.hidden_size:
        return _packed(rnn, layer, inputs, lengths)
    forward = _scan(rnn, layer, "", inputs)
    if not rnn.bidirectional:
        return forward
    backward = _reverse(_scan(rnn, layer, "_reverse", _reverse(inputs, lengths)), lengths)
    return torch.cat([forward, backward], dim=-1)


def _reverse(values: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each utterance of ``(batch, frames, dim)`` within its own length; padding stays where it is."""
    position = torch.arange(values.shape[1], device=values.device).expand(len(lengths), -1)
    index = torch.where(valid_frames(lengths, values.shape[1]), lengths[:, None] - 1 - position, position)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def _weights(rnn: nn.LSTM | nn.GRU, layer: int, suffix: str) -> list[Tensor]:
    """Weights of one direction of one layer, in the order that torch's functions take."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(rnn, f"{kind}_l{layer}{suffix}") for kind in kinds]


def _initial_state(rnn: nn.LSTM | nn.GRU, inputs: Tensor, batch: int, directions: int) -> Tensor | tuple:
    """Zero state, a pair of them for an LSTM."""
    zeros = inputs.new_zeros(directions, batch, rnn.hidden_size)
    return (zeros, zeros) if isinstance(rnn, nn.LSTM) else zeros


def _function(rnn: nn.LSTM | nn.GRU) -> Callable[..., tuple[Tensor, ...]]:
    """What torch runs the module with; the two functions differ in the type of their state."""
    return torch.lstm if isinstance(rnn, nn.LSTM) else torch.gru


def _scan(rnn: nn.LSTM | nn.GRU, layer: int, suffix: str, inputs: Tensor) -> Tensor:
    """One direction over a padded batch, unpacked."""
    function = _function(rnn)
    state = _initial_state(rnn, inputs, len(inputs), 1)
    # The flag `train` makes the kernels keep what a backward pass needs; there is no dropout here.
    train = torch.is_grad_enabled()
    weights = _weights(rnn, layer, suffix)
    return function(inputs, state, weights, True, 1, 0.0, train, False, True)[0]


def _packed(rnn: nn.LSTM | nn.GRU, layer: int, inputs: Tensor, lengths: Tensor) -> Tensor:
    """All directions over packed sequences, in any order of lengths."""
    packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
    function = _function(rnn)
    directions = 2 if rnn.bidirectional else 1
    weights = _weights(rnn, layer, "")
    if rnn.bidirectional:
        weights += _weights(rnn, layer, "_reverse")
    state = _initial_state(rnn, inputs, len(inputs), directions)
    train = torch.is_grad_enabled()
    sizes = packed.batch_sizes
    data = function(packed.data, sizes, state, weights, True, 1, 0.0, train, rnn.bidirectional)[0]
    output = PackedSequence(data, sizes, packed.sorted_indices, packed.unsorted_indices)
    return pad_packed_sequence(output, batch_first=True, total_length=inputs.shape[1])[0]
