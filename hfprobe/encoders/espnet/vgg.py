"""The VGG front of ESPnet's recurrent encoders, each utterance as if it were alone.

ESPnet's ``VGG2L`` does not mask between its convolutions: the bias and the filters' reach turn zero padding
into values that come back over the edge. So on a CPU each utterance goes through them by itself, which also spares
computing the padding and keeps maps small: eight utterances in one batch take longer than eight batches of one. On a
GPU, which wants much at once, the padded frames are zeroed after each of the four convolutions, which is what the
convolution's own zero padding gives an utterance alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from espnet.nets.pytorch_backend.rnn.encoders import VGG2L
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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


def vgg_states(vgg: VGG2L, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Apply the four convolutions and two poolings.

    Args:
        vgg: ESPnet's module, which owns the weights.
        features: ``(batch, frames, channels * freq)``, channel-major, zero past each utterance.
        lengths: ``(batch,)`` frames of each utterance; the longest has all.

    Yields:
        Four pairs of states ``(batch, frames, channels * freq)`` and their ``(batch,)`` lengths: relu(conv1_1),
        pool 1 (after relu(conv1_2)), relu(conv2_1), pool 2 (after relu(conv2_2)); zero past each utterance.
    """
    if features.device.type != "cpu":
        for values, frames in vgg_maps(vgg, features, lengths):
            yield flatten_map(values), frames
        return
    rows = [(features[i : i + 1, :size], lengths[i : i + 1]) for i, size in enumerate(lengths.tolist())]
    # Layer by layer, so that a state that nobody keeps is gone before the next one is made.
    for layer in zip(*(vgg_maps(vgg, row, size) for row, size in rows), strict=True):
        frames = torch.cat([size for _, size in layer])
        # Copied once, out of the order of axes of the convolutions: time first, then channels.
        padded = pad_sequence([values[0].transpose(0, 1) for values, _ in layer], batch_first=True)
        yield padded.flatten(2), frames


def vgg_maps(vgg: VGG2L, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Maps ``(batch, channels, frames, freq)`` of a padded batch, and their ``(batch,)`` lengths."""
    x = features.reshape(*features.shape[:2], vgg.in_channel, -1).transpose(1, 2)
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
    """Convolve, zero the padded frames of a batch, rectify."""
    x = convolution(x)
    # In place on this function's own tensor: maps are the largest things here.
    if len(x) > 1:
        x = x.masked_fill_(~valid_frames(lengths, x.shape[2])[:, None, :, None], 0.0)
    return x.relu_()
