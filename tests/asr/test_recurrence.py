"""The recurrence of our own is PyTorch's LSTM, forward and backward."""

import pytest
import torch

from hfprobe.asr import unpacked
from hfprobe.asr.recurrence import recur


def gates_of(lstm, x):
    """The input's share of the gates of a one-directional LSTM, ``(steps, batch, 4 * units)``."""
    return torch.nn.functional.linear(x, lstm.weight_ih_l0, lstm.bias_ih_l0 + lstm.bias_hh_l0)


@pytest.mark.parametrize("steps", [1, 2, 17])
def test_outputs_and_gradients_are_those_of_pytorch(steps):
    torch.manual_seed(0)
    pair = [torch.nn.LSTM(5, 4).double() for _ in range(2)]
    x = torch.randn(steps, 3, 5, dtype=torch.float64, requires_grad=True)
    worth = torch.randn(steps, 2, 3, 4, dtype=torch.float64)
    expected = torch.stack([lstm(x)[0] for lstm in pair], dim=1)
    got = recur(torch.stack([gates_of(m, x) for m in pair], dim=1), torch.stack([m.weight_hh_l0 for m in pair]))
    assert torch.allclose(got, expected, rtol=0, atol=1e-13)
    inputs = [x, *(p for lstm in pair for p in lstm.parameters())]
    gradients = [torch.autograd.grad((y * worth).sum(), inputs, retain_graph=True) for y in (expected, got)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(1)
    gates = torch.randn(4, 2, 2, 12, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 12, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(recur, (gates, weights))


def test_under_autocast_only_products_are_short():
    torch.manual_seed(2)
    gates, weights = torch.randn(20, 2, 8, 64), torch.randn(2, 64, 16) / 4
    exact = recur(gates, weights)
    with torch.autocast("cpu", torch.bfloat16):
        short = recur(gates, weights)
    assert short.dtype == torch.float32 and torch.equal(short[0], exact[0])  # no product in the first step
    assert 0 < (short - exact).abs().max() < 0.03


def test_it_runs_where_it_is_faster(monkeypatch):
    """In training under autocast; in float32 and in evaluation the LSTM of PyTorch runs."""
    calls = []
    monkeypatch.setattr(unpacked, "recur", lambda *args: calls.append(1) or recur(*args))
    lstm = torch.nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    unpacked.unpack_lstms(lstm)
    x = torch.nn.utils.rnn.pack_padded_sequence(torch.randn(2, 7, 5), [7, 3], batch_first=True)
    for grad, half, expected in ((True, True, 1), (True, False, 1), (False, True, 1), (False, False, 1)):
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16, enabled=half):
            lstm(x)
        assert len(calls) == expected, (grad, half)
