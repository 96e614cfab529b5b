"""Rates by width: which parameters get which share."""

from types import SimpleNamespace

import pytest
import torch
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from torch import nn

from hfprobe.asr.optim import by_width
from hfprobe.asr.task import StreamASRTask


def test_every_parameter_is_in_one_group_and_wide_ones_learn_slower():
    model = VGGRNNEncoder(input_size=240, in_channel=3, num_layers=1, hidden_size=8, output_size=8)
    groups = by_width(model, 0.01)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rate) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    named = {name: rate[id(p)] for name, p in model.named_parameters()}
    assert named["enc.1.birnn0.weight_ih_l0"] == pytest.approx(0.01 * 256 / 2560)
    assert named["enc.0.conv1_1.weight"] == 0.01 and named["enc.0.conv2_2.weight"] == pytest.approx(0.01 * 256 / 1152)
    assert named["enc.1.birnn0.bias_ih_l0"] == named["enc.1.birnn0.weight_hh_l0"] == 0.01


def test_frozen_parameters_are_left_out():
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    assert [len(group["params"]) for group in by_width(layer, 0.1)] == [1]


def test_one_adam_step_moves_wide_and_narrow_layers_alike():
    moved = []
    for width in (256, 4096):
        torch.manual_seed(0)
        layer, x = nn.Linear(width, 16, bias=False), torch.randn(64, width).abs()
        before = layer(x).detach()
        optimizer = torch.optim.Adam(by_width(layer, 1e-3))
        layer(x).sum().backward()
        optimizer.step()
        moved.append(float((layer(x) - before).detach().abs().mean()))
    assert moved[1] == pytest.approx(moved[0], rel=0.05)


@pytest.mark.parametrize("by", [True, False])
def test_a_one_cycle_schedule_keeps_the_shares(by):
    model = nn.Sequential(nn.Linear(1024, 4), nn.Linear(4, 4))
    args = SimpleNamespace(
        optim="adamw", optim_conf={"lr": 1e-4}, sharded_ddp=False, exclude_weight_decay=False, lr_by_width=by,
        scheduler_conf={"max_lr": 1e-3, "total_steps": 10},
    )  # fmt: skip
    [optimizer] = StreamASRTask.build_optimizers(args, model)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, **args.scheduler_conf)
    peaks = [0.0] * len(optimizer.param_groups)
    for _ in range(9):
        optimizer.step()
        scheduler.step()
        peaks = [max(peak, group["lr"]) for peak, group in zip(peaks, optimizer.param_groups, strict=True)]
    assert peaks == pytest.approx([1e-3, 2.5e-4] if by else [1e-3], rel=0.01)
