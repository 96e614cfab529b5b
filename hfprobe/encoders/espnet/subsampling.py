"""The convolutions in front of ESPnet's attention encoders: their maps, their lengths, their place in time.

None of them pads in time, so an output frame that reads only an utterance's own frames is the same in any
batch, and counting those frames is all there is to do. ESPnet's own mask arithmetic counts from the end of
the padded batch instead and keeps frames that have read padding. For an utterance alone both counts agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from espnet.nets.pytorch_backend.transformer.subsampling import (
    Conv1dSubsampling1,
    Conv1dSubsampling2,
    Conv1dSubsampling3,
    Conv2dSubsampling,
    Conv2dSubsampling1,
    Conv2dSubsampling2,
    Conv2dSubsampling6,
    Conv2dSubsampling8,
)
from torch import Tensor, nn

from hfprobe.encoders.base import Count, LayerSpec
from hfprobe.encoders.espnet.vgg import flatten_map
from hfprobe.errors import EncoderError

FLAT = (Conv1dSubsampling1, Conv1dSubsampling2, Conv1dSubsampling3)
DEEP = (Conv2dSubsampling, Conv2dSubsampling1, Conv2dSubsampling2, Conv2dSubsampling6, Conv2dSubsampling8)
Convolution = nn.Conv1d | nn.Conv2d
Subsampling: TypeAlias = (
    Conv1dSubsampling1
    | Conv1dSubsampling2
    | Conv1dSubsampling3
    | Conv2dSubsampling
    | Conv2dSubsampling1
    | Conv2dSubsampling2
    | Conv2dSubsampling6
    | Conv2dSubsampling8
)


def convolutions(embed: nn.Module | None) -> tuple[Convolution, ...]:
    """List the convolutions of an encoder's input layer.

    Args:
        embed: ``encoder.embed`` of ESPnet.

    Returns:
        The convolutions in order, each followed by a ReLU; none where the input layer has none.
    """
    if not isinstance(embed, (*FLAT, *DEEP)):
        return ()
    return tuple(module for module in embed.conv if isinstance(module, nn.Conv1d | nn.Conv2d))


def frames_after(stack: Sequence[Convolution], frames: Count) -> Count:
    """Frames that are left of an utterance.

    Args:
        stack: Convolutions in order.
        frames: Feature frames, a number or a tensor of them.

    Returns:
        Of the type of ``frames``.

    Example:
        >>> frames_after([nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)], 101)
        24
    """
    for convolution in stack:
        frames = (frames - convolution.kernel_size[0]) // convolution.stride[0] + 1
    return frames


def fewest_frames(stack: Sequence[Convolution]) -> int:
    """Feature frames that give exactly one frame after all convolutions.

    Args:
        stack: Convolutions in order.

    Returns:
        The limit below which ESPnet raises ``TooShortUttError``.

    Example:
        >>> fewest_frames([nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)])
        7
    """
    frames = 1
    for convolution in reversed(stack):
        frames = (frames - 1) * convolution.stride[0] + convolution.kernel_size[0]
    return frames


def convolution_specs(stack: Sequence[Convolution], input_dim: int, hop: int) -> list[LayerSpec]:
    """Describe the convolutions as layers ``cnn1``, ``cnn2``, and so on.

    Args:
        stack: Convolutions in order.
        input_dim: Width of the feature frames.
        hop: Samples from one feature frame to the next; the first is centred on sample 0.

    Returns:
        One specification per convolution.

    Raises:
        EncoderError: If the features are too narrow for the convolutions.
    """
    specs: list[LayerSpec] = []
    stride, offset, freq = hop, 0, input_dim
    for index, convolution in enumerate(stack):
        # Nothing is padded: the first window begins on the first frame, and its centre lies half a window in.
        offset += stride * (convolution.kernel_size[0] - 1) // 2
        stride *= convolution.stride[0]
        width = convolution.out_channels
        if isinstance(convolution, nn.Conv2d):
            freq = (freq - convolution.kernel_size[1]) // convolution.stride[1] + 1
            width *= freq
        if width < 1:
            raise EncoderError(
                f"expected features wide enough for {len(stack)} convolutions, got {input_dim} bands: "
                "frontend_conf and encoder_conf do not fit"
            )
        # A ReLU stands between two convolutions of the container.
        specs.append(LayerSpec(f"cnn{index + 1}", width, stride, offset, f"relu(encoder.embed.conv.{2 * index})"))
    return specs


def convolved_maps(stack: Sequence[Convolution], features: Tensor, frames: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Apply the convolutions, each with its ReLU.

    Args:
        stack: Convolutions in order.
        features: ``(batch, frames, dim)``.
        frames: ``(batch,)`` frames of each utterance.

    Yields:
        Per convolution the flattened map ``(batch, frames, channels * freq)``, whose values past an utterance
        mean nothing, and its ``(batch,)`` lengths.
    """
    deep = isinstance(stack[0], nn.Conv2d)
    x = features.unsqueeze(1) if deep else features.transpose(1, 2)
    for convolution in stack:
        x = torch.relu(convolution(x))
        frames = frames_after([convolution], frames)
        yield (flatten_map(x) if deep else x.transpose(1, 2)), frames


def project(embed: Subsampling, maps: Tensor) -> Tensor:
    """Bring flattened maps to the encoder's width, as the subsampling module does after its convolutions.

    Args:
        embed: Subsampling module of ESPnet.
        maps: ``(batch, frames, channels * freq)``.

    Returns:
        ``(batch, frames, dim)``, before the positional encoding.
    """
    return embed.out(maps) if isinstance(embed, Conv2dSubsampling8) else embed.out[0](maps)


def positional_encoding(embed: Subsampling) -> nn.Module:
    """The positional encoding that follows the projection of a subsampling module."""
    return embed.pos_enc if isinstance(embed, Conv2dSubsampling8) else embed.out[1]
