"""The unpacked recurrent path against torch's packed sequences."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hfprobe.encoders.espnet.recurrent import WIDE, _packed, run_recurrent_layer

LENGTHS = torch.tensor([7, 20, 1, 13])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("width", [6, 8 * WIDE + 1])
def test_layers_are_torch_s_with_equal_gradients(kind, bidirectional, width):
    torch.manual_seed(0)
    rnn = kind(width, 8, num_layers=2, batch_first=True, bidirectional=bidirectional)
    inputs = torch.randn(4, 20, width, requires_grad=True)
    mask = (torch.arange(20) < LENGTHS[:, None])[..., None]
    packed = pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(rnn(packed)[0], batch_first=True)[0]
    value = inputs
    for layer in range(2):
        value = run_recurrent_layer(rnn, layer, value, LENGTHS)
    assert torch.allclose((value * mask), expected, atol=1e-6)
    wanted = torch.autograd.grad(expected.square().sum(), [inputs, *rnn.parameters()])
    got = torch.autograd.grad((value * mask).square().sum(), [inputs, *rnn.parameters()])
    for one, other in zip(got, wanted, strict=True):
        assert float((one - other).abs().max()) < 1e-5 * float(other.abs().max()) + 1e-9


@torch.no_grad()
def test_packed_path_agrees_with_the_unpacked_one():
    # The packed path is what a GPU takes; here both run on the CPU.
    rnn = nn.LSTM(6, 8, num_layers=2, batch_first=True, bidirectional=True)
    inputs = torch.randn(4, 20, 6)
    mask = (torch.arange(20) < LENGTHS[:, None])[..., None]
    one = run_recurrent_layer(rnn, 0, inputs, LENGTHS) * mask
    assert torch.allclose(one, _packed(rnn, 0, inputs, LENGTHS), atol=1e-6)
