"""Self-attention of ESPnet's encoders over a padded batch, each utterance as if it were alone.

The weights and the formulas are those of ESPnet's modules. They are applied here because those modules keep
the attention map of every layer after the pass, may switch to half-precision kernels, and in the legacy
relative form let the padded length move every score.

Sources: Vaswani et al., "Attention Is All You Need" (2017); Dai et al., "Transformer-XL" (2019), section 3.3,
for the relative scores; https://github.com/espnet/espnet/pull/2816 for the legacy ones.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from espnet.nets.pytorch_backend.transformer.attention import (
    LegacyRelPositionMultiHeadedAttention,
    MultiHeadedAttention,
    RelPositionMultiHeadedAttention,
)
from espnet2.asr.layers.fastformer import FastSelfAttention
from torch import Tensor

from hfprobe.encoders.espnet.extent import Extent

SelfAttention: TypeAlias = MultiHeadedAttention | FastSelfAttention
RELATIVE = (LegacyRelPositionMultiHeadedAttention, RelPositionMultiHeadedAttention)


def attend(attention: SelfAttention, x: Tensor, places: Tensor | None, extent: Extent) -> Tensor:
    """Apply a self-attention module.

    Args:
        attention: ``MultiHeadedAttention`` of ESPnet, one of its relative forms, or ``FastSelfAttention``.
        x: ``(batch, frames, dim)``.
        places: Vectors of the relative positions ``(1 or batch, positions, dim)``; None without them.
        extent: Which frames are an utterance's.

    Returns:
        ``(batch, frames, dim)``; values past an utterance mean nothing.

    Example:
        >>> attention = MultiHeadedAttention(2, 4, 0.0)
        >>> x = torch.randn(1, 5, 4)
        >>> extent = Extent.of(torch.tensor([5]), 5)
        >>> torch.allclose(attend(attention, x, None, extent), attention(x, x, x, None), atol=1e-6)
        True
    """
    if isinstance(attention, FastSelfAttention):
        return attention(x, None if extent.valid is None else extent.valid[:, None, :])
    query, key, value = attention.forward_qkv(x, x, x)
    scores = _relative(attention, query, key, places, extent) if isinstance(attention, RELATIVE) else query @ key.mT
    scores = scores / math.sqrt(attention.d_k)
    if extent.valid is not None:
        # So far below every other score, a padded key gets a weight of exactly zero.
        scores = scores.masked_fill(~extent.valid[:, None, None, :], torch.finfo(scores.dtype).min)
    weights = attention.dropout(scores.softmax(dim=-1))
    return attention.linear_out((weights @ value).transpose(1, 2).flatten(2))


def _relative(
    attention: MultiHeadedAttention, query: Tensor, key: Tensor, places: Tensor | None, extent: Extent
) -> Tensor:
    """Scores ``(batch, heads, frames, frames)`` from content and relative position, not yet scaled."""
    assert places is not None, "relative attention without positions is refused when the encoder is made"
    place = attention.linear_pos(places).unflatten(-1, (attention.h, attention.d_k)).transpose(1, 2)
    content = (query + attention.pos_bias_u[:, None]) @ key.mT
    by_place = (query + attention.pos_bias_v[:, None]) @ place.mT
    if isinstance(attention, RelPositionMultiHeadedAttention) or extent.valid is None:
        return content + attention.rel_shift(by_place)
    # The legacy shift wraps around at the last frame, which has to be the utterance's own.
    size = by_place.shape[-1]
    shifted = []
    for row, frames in enumerate(extent.lengths.tolist()):
        own = attention.rel_shift(by_place[row : row + 1, :, :frames, :frames])
        shifted.append(F.pad(own, (0, size - frames, 0, size - frames)))
    return content + torch.cat(shifted)
