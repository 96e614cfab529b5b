"""Which frames of a padded batch belong to an utterance."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hfprobe.encoders.espnet.frontend import valid_frames


@dataclass(frozen=True)
class Extent:
    """Lengths of the utterances in a batch and the mask that follows from them.

    Args:
        lengths: ``(batch,)`` frames of each utterance.
        valid: ``(batch, frames)`` bool, true on valid frames; None where nothing is padded.

    Example:
        >>> import torch
        >>> extent = Extent.of(torch.tensor([1, 2]), 2)
        >>> extent.clear(torch.ones(2, 2, 1)).flatten().tolist()
        [1.0, 0.0, 1.0, 1.0]
    """

    lengths: Tensor
    valid: Tensor | None

    @classmethod
    def of(cls, lengths: Tensor, size: int) -> Extent:
        """Extent of a batch.

        Args:
            lengths: ``(batch,)`` frames of each utterance.
            size: Frames of the padded batch.

        Returns:
            The extent.
        """
        padded = int(lengths.min()) < size
        return cls(lengths, valid_frames(lengths, size) if padded else None)

    def clear(self, x: Tensor) -> Tensor:
        """Zero ``(batch, frames, dim)`` past each utterance; the tensor itself is not edited."""
        return x if self.valid is None else x.masked_fill(~self.valid[..., None], 0.0)
