"""Layers of different stride meet where their frames are; draws repeat; silence goes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hfprobe.errors import MeasureError
from hfprobe.similarity import TimeGrid, common_grid, draw_frames, on_grid, speech_frames
from hfprobe.similarity.grid import shared_points


def layer(stride, offset, length):
    """A layer whose frames say their own time in samples."""
    times = offset + stride * torch.arange(length, dtype=torch.float64)
    return SimpleNamespace(stride=stride, offset=offset), times[:, None]


FINE, COARSE, HUB = layer(160, 0, 100), layer(1280, 560, 13), layer(320, 200, 49)


def test_the_grid_is_the_coarsest_layer():
    grid = common_grid([FINE[0], COARSE[0], HUB[0]])
    assert (grid.stride, grid.offset) == (1280, 560)
    with pytest.raises(MeasureError, match="at least one layer"):
        common_grid([])


@pytest.mark.parametrize("rule", ["nearest", "mean"])
@pytest.mark.parametrize("pair", [FINE, COARSE, HUB], ids=["10ms", "80ms", "20ms"])
def test_frames_at_grid_points_are_about_those_times(rule, pair):
    spec, frames = pair
    grid = common_grid([COARSE[0]])
    points = shared_points(grid, [FINE[0], COARSE[0], HUB[0]], [100, 13, 49])
    assert points.tolist() == grid.points(12).tolist()  # of the 13th point the fine layers have no frame any more
    values = on_grid(frames, spec, points, grid, rule).flatten()
    assert float((values - points).abs().max()) <= (spec.stride + 1) // 2
    if spec is COARSE[0]:
        assert torch.equal(values, points.double())


def test_mean_takes_all_frames_of_the_window_and_nearest_the_earlier_of_two():
    spec, frames = layer(160, 0, 100)
    grid, points = TimeGrid(640, 320), torch.tensor([320, 400])
    # [0, 640): 0, 160, 320, 480; [80, 720): 160, 320, 480, 640
    assert on_grid(frames, spec, points, grid).flatten().tolist() == [240, 400]
    assert on_grid(frames, spec, points, grid, "nearest").flatten().tolist() == [320, 320]


def test_mean_equals_a_plain_loop():
    random = np.random.default_rng(0)
    spec, grid = SimpleNamespace(stride=160, offset=37), TimeGrid(700, 111)
    frames = torch.from_numpy(random.standard_normal((60, 3)))
    points = shared_points(grid, [spec], [60])
    centres = spec.offset + spec.stride * np.arange(60)
    want = [
        frames.numpy()[(centres >= t - grid.stride / 2) & (centres < t + grid.stride / 2)].mean(0)
        for t in points.tolist()
    ]
    np.testing.assert_allclose(on_grid(frames, spec, points, grid).numpy(), want, atol=1e-12)


def test_nothing_in_common_is_nothing():
    early, late = SimpleNamespace(stride=160, offset=0), SimpleNamespace(stride=160, offset=100_000)
    assert len(shared_points(TimeGrid(160, 0), [early, late], [5, 5])) == 0
    assert len(shared_points(TimeGrid(160, 0), [early], [0])) == 0
    with pytest.raises(MeasureError, match="nearest, mean"):
        on_grid(torch.ones(3, 1), early, torch.tensor([0]), TimeGrid(160, 0), "cubic")


def test_draws_depend_on_seed_and_utterance_alone():
    first = draw_frames(200, 50, "u1", 0)
    assert torch.equal(first, draw_frames(200, 50, "u1", 0)) and len(first.unique()) == 50
    assert not torch.equal(first, draw_frames(200, 50, "u2", 0))
    assert not torch.equal(first, draw_frames(200, 50, "u1", 1))
    assert torch.equal(first, first.sort().values) and len(draw_frames(20, 50, "u1", 0)) == 20


def test_silence_is_what_lies_40_db_under_the_loudest_window():
    random = np.random.default_rng(0)
    sound = random.standard_normal(16000)
    sound[4000:8000] *= 10 ** (-35 / 20)
    sound[8000:12000] *= 10 ** (-46 / 20)
    points = torch.tensor([2000, 6000, 10000, 14000])
    assert speech_frames(sound, points, TimeGrid(640, 0)).tolist() == [True, True, False, True]
    assert speech_frames(sound, points[:0], TimeGrid(640, 0)).tolist() == []
    assert speech_frames(sound + 100, points, TimeGrid(640, 0)).tolist() == [True, True, False, True]
