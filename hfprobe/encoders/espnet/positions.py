"""Positional encodings of ESPnet's attention encoders, each utterance as if it were alone.

Absolute and (new) relative encodings do not depend on the padded length and are ESPnet's own modules. Two do:
the legacy relative encoding counts from the longest input that the module has ever seen, and the
convolutional one reads its neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from espnet.nets.pytorch_backend.transformer.embedding import (
    ConvolutionalPositionalEmbedding,
    LegacyRelPositionalEncoding,
    PositionalEncoding,
    RelPositionalEncoding,
)
from torch import Tensor, nn

from hfprobe.encoders.espnet.extent import Extent

# ScaledPositionalEncoding and the legacy relative one are kinds of PositionalEncoding.
ENCODINGS = (PositionalEncoding, RelPositionalEncoding, ConvolutionalPositionalEmbedding)


def embed_positions(encoding: nn.Module, x: Tensor, extent: Extent) -> tuple[Tensor, Tensor | None]:
    """Apply a positional encoding.

    Args:
        encoding: ESPnet's module.
        x: ``(batch, frames, dim)``.
        extent: Which frames are an utterance's.

    Returns:
        ``(batch, frames, dim)``, and for the relative encodings the vectors of the positions ``(1 or batch,
        positions, dim)``, else None.
    """
    if isinstance(encoding, ConvolutionalPositionalEmbedding):
        return _convolutional(encoding, x, extent), None
    if isinstance(encoding, LegacyRelPositionalEncoding):
        places = _legacy_places(encoding, extent, x.shape[1]).to(x)
        return encoding.dropout(x * encoding.xscale), encoding.dropout(places)
    result = encoding(x)
    return result if isinstance(result, tuple) else (result, None)


def _legacy_places(encoding: LegacyRelPositionalEncoding, extent: Extent, size: int) -> Tensor:
    """Rows of the legacy table that each utterance alone would read from a module fresh from its constructor.

    The table runs backwards from its last position, so its length sets every row. ESPnet lengthens it for a
    long input and keeps it so for all that come after; here the table of the module is never touched.
    """
    room = encoding.pe.shape[1]
    if size <= room:
        return encoding.pe[:, :size]
    rows = []
    for frames in extent.lengths.tolist():
        table = LegacyRelPositionalEncoding(encoding.d_model, 0.0, max(room, frames)).pe[0, :size]
        rows.append(F.pad(table, (0, 0, 0, size - len(table))))
    return torch.stack(rows)


def _convolutional(encoding: ConvolutionalPositionalEmbedding, x: Tensor, extent: Extent) -> Tensor:
    """The encoding's own forward, with zeros past each utterance before every convolution.

    The encoders of ESPnet build it with a single convolution under weight normalisation and no residual path.
    """
    for convolution in encoding.convs:
        x = convolution(extent.clear(x).transpose(1, 2))
        x = F.gelu(x[..., : x.shape[-1] - encoding.num_remove]).transpose(1, 2)
    return x
