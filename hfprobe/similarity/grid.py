"""Layers of different stride on one time grid, frames drawn with a seed, silence left out.

Frame i of a layer is centred on sample ``offset + i * stride``. The grid of a comparison is that of its coarsest layer
(the largest stride; among equals the first), so the coarsest layer is never interpolated. At a grid point t a layer
gives

- ``"nearest"``: the frame whose centre is nearest to t (the earlier of two as near), or
- ``"mean"``: the mean of the frames whose centres lie in [t - S/2, t + S/2) with S the stride of the grid; the nearest
  one if there is none.

A grid point counts only if every layer has a frame within half its own stride (rounded up) of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hfprobe.errors import MeasureError
from hfprobe.similarity.inputs import check_choice

RULES = ("nearest", "mean")
SILENCE_DB = 40.0


class FrameTimes(Protocol):
    """What a layer's specification says of its time axis, in samples."""

    stride: int
    offset: int


@dataclass(frozen=True)
class TimeGrid:
    """Points in time, in samples: ``offset + k * stride``.

    Example:
        >>> TimeGrid(320, 80).points(3).tolist()
        [80, 400, 720]
    """

    stride: int
    offset: int

    def points(self, count: int) -> Tensor:
        """The first points of the grid.

        Args:
            count: How many.

        Returns:
            Samples, int64 ``(count,)``.
        """
        return self.offset + self.stride * torch.arange(count)


def common_grid(layers: Sequence[FrameTimes]) -> TimeGrid:
    """The grid of the coarsest of these layers.

    Args:
        layers: Layers, as `LayerSpec` or anything else with ``stride`` and ``offset``.

    Returns:
        Stride and offset of the layer with the longest stride.

    Raises:
        MeasureError: There is no layer.

    Example:
        >>> common_grid([TimeGrid(160, 200), TimeGrid(320, 280)])
        TimeGrid(stride=320, offset=280)
    """
    if not layers:
        raise MeasureError("expected at least one layer for a time grid, got none", "option")
    coarsest = max(layers, key=lambda layer: layer.stride)
    return TimeGrid(coarsest.stride, coarsest.offset)


def shared_points(grid: TimeGrid, layers: Sequence[FrameTimes], lengths: Sequence[int]) -> Tensor:
    """Grid points of one utterance at which every layer has a frame.

    Args:
        grid: The grid.
        layers: The layers.
        lengths: Valid frames of each layer.

    Returns:
        int64 ``(points,)``, in samples.
    """
    ends = [layer.offset + (length - 1) * layer.stride for layer, length in zip(layers, lengths, strict=True)]
    last = max(ends) + grid.stride
    points = grid.points(max(0, (last - grid.offset) // grid.stride + 1))
    inside = torch.ones(len(points), dtype=torch.bool)
    for layer, length, end in zip(layers, lengths, ends, strict=True):
        reach = (layer.stride + 1) // 2
        inside &= (points >= layer.offset - reach) & (points <= end + reach) & (length > 0)
    return points[inside]


def on_grid(frames: Tensor, layer: FrameTimes, points: Tensor, grid: TimeGrid, rule: str = "mean") -> Tensor:
    """Frames of a layer at grid points.

    Args:
        frames: Valid frames of one utterance ``(length, dim)``.
        layer: Their stride and offset.
        points: Of `shared_points`.
        grid: The grid.
        rule: ``"nearest"`` or ``"mean"``.

    Returns:
        ``(points, dim)`` in float64.

    Example:
        >>> frames = torch.arange(8.0)[:, None]
        >>> on_grid(frames, TimeGrid(160, 0), torch.tensor([240, 880]), TimeGrid(640, 240)).flatten().tolist()
        [1.5, 5.5]
    """
    check_choice("rule", rule, RULES)
    frames = frames.to(torch.float64)
    # The earlier of two as near: halves are rounded down.
    nearest = torch.div(2 * (points - layer.offset) + layer.stride - 1, 2 * layer.stride, rounding_mode="floor")
    nearest = nearest.clamp(0, len(frames) - 1).to(frames.device)
    if rule == "nearest" or layer.stride >= grid.stride:
        return frames[nearest]
    # First frame at or after each end of the window, by rounding up.
    first, end = (
        -torch.div(layer.offset * 2 - 2 * points - side * grid.stride, 2 * layer.stride, rounding_mode="floor")
        for side in (-1, 1)
    )
    first, end = (edge.clamp(0, len(frames)).to(frames.device) for edge in (first, end))
    sums = torch.cat([torch.zeros_like(frames[:1]), frames.cumsum(dim=0)])
    count = end - first
    means = (sums[end] - sums[first]) / count.clamp_min(1)[:, None]
    return torch.where(count[:, None] > 0, means, frames[nearest])


def speech_frames(
    waveform: np.ndarray, points: Tensor, grid: TimeGrid, below_peak_db: float = SILENCE_DB, min_window: int = 400
) -> Tensor:
    """Grid points that are not silence.

    A point is silence if the variance of the waveform in a window of one grid stride, and of 25 ms at the least, around
    it lies more than ``below_peak_db`` under that of the loudest window of the utterance.

    Args:
        waveform: ``(samples,)`` at 16 kHz; the clean one, so that noise does not change the choice.
        points: Of `shared_points`.
        grid: The grid.
        below_peak_db: The threshold in dB.
        min_window: Samples of the shortest window.

    Returns:
        Boolean ``(points,)``.

    Example:
        >>> sound = np.r_[np.zeros(4000), np.sin(np.arange(4000))]
        >>> speech_frames(sound, torch.tensor([1000, 6000]), TimeGrid(640, 0)).tolist()
        [False, True]
    """
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.bool)
    sound = np.asarray(waveform, dtype=np.float64)
    sound = sound - sound.mean()  # for the digits; each window takes off its own mean besides
    sums, squares = (np.concatenate([[0.0], np.cumsum(values)]) for values in (sound, np.square(sound)))
    half = max(grid.stride, min_window) // 2
    starts = np.clip(points.numpy() - half, 0, len(sound) - 1)
    ends = np.clip(points.numpy() + half, starts + 1, len(sound))
    mean, square = ((total[ends] - total[starts]) / (ends - starts) for total in (sums, squares))
    power = square - np.square(mean)
    return torch.from_numpy(power > power.max() * 10 ** (-below_peak_db / 10))


def draw_frames(count: int, at_most: int | None, utterance: str, seed: int) -> Tensor:
    """Which of ``count`` frames to use: all, or ``at_most`` of them, drawn by seed and utterance alone.

    Args:
        count: Frames there are.
        at_most: Frames wanted; all where None.
        utterance: Name of the utterance.
        seed: Seed of the draw.

    Returns:
        int64 indices in ascending order.

    Example:
        >>> len(draw_frames(100, 7, "u1", 0)), draw_frames(3, None, "u1", 0).tolist()
        (7, [0, 1, 2])
    """
    if at_most is None or count <= at_most:
        return torch.arange(count)
    generator = np.random.default_rng([seed, zlib.crc32(utterance.encode()), 0x66])
    return torch.from_numpy(np.sort(generator.choice(count, at_most, replace=False)))
