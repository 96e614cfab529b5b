"""Checkpoints along training: where they lie, and that an interruption changes nothing."""

from types import SimpleNamespace

import pytest
import torch

from hfprobe.asr.history import check_history, history_points, keep_along, step_file
from hfprobe.errors import ConfigError


@pytest.mark.parametrize(("total", "count"), [(1800, 10), (50000, 12), (20, 10), (1, 5), (7, 2)])
def test_points_are_evenly_spaced_on_a_logarithmic_axis(total, count):
    points = history_points(total, count)
    assert list(points) == sorted(set(points)) and points[-1] == total and points[0] >= 1
    assert len(points) <= count and (total < 1000 or len(points) == count)
    far = [b / a for a, b in zip(points, points[1:], strict=False) if a > 50]
    assert not far or max(far) / min(far) < 1.05


@pytest.mark.parametrize(("history", "iters"), [(1, 5), (-3, 5), (5, None)])
def test_history_options_are_checked(history, iters):
    with pytest.raises(ConfigError, match="hf_history"):
        check_history(SimpleNamespace(hf_history=history, num_iters_per_epoch=iters))
    check_history(SimpleNamespace(hf_history=0, num_iters_per_epoch=None))


class Wrapped(torch.nn.Module):
    """As a model in a `DistributedDataParallel`."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_weights_are_those_after_the_step(tmp_path):
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0)
    for epoch, done in ((1, 0), (2, 3)):
        for _ in keep_along([1, 2, 3], (2, 4), Wrapped(model), tmp_path, done, last=epoch == 2):
            with torch.no_grad():
                model.weight += 1
    kept = {p.name: float(torch.load(p, weights_only=True)["weight"]) for p in tmp_path.glob("*.pth")}
    assert kept == {"2step.pth": 2.0, "4step.pth": 4.0, "6step.pth": 6.0}  # the end is kept even where it is no point
    assert step_file(tmp_path, 4).is_file()


def test_an_epoch_that_is_broken_off_keeps_only_finished_steps(tmp_path):
    model = torch.nn.Linear(1, 1)
    batches = keep_along([1, 2, 3], (1, 2, 3), model, tmp_path, 0, last=True)
    next(batches), next(batches)  # the second is being learnt
    batches.close()
    assert [p.name for p in tmp_path.glob("*.pth")] == ["1step.pth"]
