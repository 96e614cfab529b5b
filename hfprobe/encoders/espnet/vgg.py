"""The VGG front of ESPnet's recurrent encoders, each utterance as if it were alone.

ESPnet's ``VGG2L`` does not mask between its convolutions: the bias and the filters' reach turn zero padding
into values that come back over the edge. Here the padded frames are zeroed after each of the four
convolutions, which is what the convolution's own zero padding gives an utterance alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from espnet.nets.pytorch_backend.rnn.encoders import VGG2L
from torch import Tensor

from hfprobe.encoders.espnet.frontend import valid_frames


def halve(lengths: Tensor) -> Tensor:
    """Frames after pooling by two, rounded up."""
    return (lengths + 1) // 2


def flatten_map(values: Tensor) -> Tensor:
    """Lay a map out as frames.

    Args:
        values: ``(batch, channels, frames, freq)``.

    Returns:
        ``(batch, frames, channels * freq)``, a copy.
    """
    batch, channels, frames, freq = values.shape
    return values.transpose(1, 2).reshape(batch, frames, channels * freq)


def vgg_maps(vgg: VGG2L, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Apply the four convolutions and two poolings.

    Args:
        vgg: ESPnet's module, which owns the weights.
        features: ``(batch, frames, channels * freq)``, channel-major, zero past each utterance.
        lengths: ``(batch,)`` frames of each utterance.

    Yields:
        Four pairs of a map ``(batch, channels, frames, freq)`` and its ``(batch,)`` lengths: relu(conv1_1),
        pool 1 (after relu(conv1_2)), relu(conv2_1), pool 2 (after relu(conv2_2)); zero past each utterance.
    """
    batch, frames, dim = features.shape
    x = features.reshape(batch, frames, vgg.in_channel, dim // vgg.in_channel).transpose(1, 2)
    if x.device.type == "cpu":
        # A third faster than ESPnet's order of axes in memory; the values are the same to rounding.
        x = x.contiguous(memory_format=torch.channels_last)
    for early, late in ((vgg.conv1_1, vgg.conv1_2), (vgg.conv2_1, vgg.conv2_2)):
        x = _convolve(early, x, lengths)
        yield x, lengths
        # A window that hangs over the end takes its maximum with zero, the same as alone: values are not
        # negative.
        x = F.max_pool2d(_convolve(late, x, lengths), 2, stride=2, ceil_mode=True)
        lengths = halve(lengths)
        yield x, lengths


def _convolve(convolution, x: Tensor, lengths: Tensor) -> Tensor:
    """Convolve, zero the padded frames, rectify."""
    x = convolution(x)
    # In place on this function's own tensor: maps are the largest things here.
    x = x.masked_fill_(~valid_frames(lengths, x.shape[2])[:, None, :, None], 0.0)
    return x.relu_()
