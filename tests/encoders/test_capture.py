"""Hooks that clone what they see and always go away."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from hfprobe.encoders.capture import Tap, capture
from hfprobe.errors import LayerError


@pytest.fixture
def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.LSTM(3, 4))


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())


def test_values_are_kept_although_the_network_edits_in_place(net):
    x = torch.randn(5, 1, 2)
    with capture(net, {"linear": Tap("0"), "into": Tap("1", "input", 0), "rectified": Tap("1")}) as seen:
        net(x)
    expected = nn.functional.linear(x, net[0].weight, net[0].bias)
    assert torch.allclose(seen["linear"], expected) and torch.allclose(seen["into"], expected)
    assert torch.allclose(seen["rectified"], expected.relu())
    assert bool((seen["linear"] < 0).any())


def test_nested_and_packed_values(net):
    with capture(net, {"all": Tap("2"), "state": Tap("2", index=1), "in": Tap("2", "input")}, detach=True) as seen:
        net(torch.randn(5, 1, 2))
    output, (hidden, cell) = seen["all"]
    assert output.shape == (5, 1, 4) and hidden.shape == cell.shape == (1, 1, 4)
    assert torch.equal(seen["state"][0], hidden) and isinstance(seen["in"], tuple)
    assert not output.requires_grad
    packed = pack_sequence([torch.randn(3, 3), torch.randn(2, 3)])
    with capture(net, {"packed": Tap("2", "input", 0)}) as seen:
        net[2](packed)
    assert isinstance(seen["packed"], PackedSequence)
    assert torch.equal(seen["packed"].data, packed.data)
    assert seen["packed"].data.data_ptr() != packed.data.data_ptr()


def test_gradients_flow_through_what_was_captured(net):
    with capture(net, {"linear": Tap("0")}) as seen:
        net(torch.randn(5, 1, 2))
    seen["linear"].sum().backward()
    assert bool(net[0].weight.grad.abs().sum() > 0)


def test_hooks_go_away_after_an_error(net):
    with pytest.raises(RuntimeError, match="stop"), capture(net, {"linear": Tap("0")}):
        assert hooks(net) == 1
        raise RuntimeError("stop")
    assert hooks(net) == 0


def test_an_unknown_module_is_named_before_any_hook_is_set(net):
    with pytest.raises(LayerError, match="no module '22' to read in Sequential: the nearest are 2"):
        with capture(net, {"linear": Tap("0"), "lost": Tap("22")}):
            pass
    assert hooks(net) == 0
