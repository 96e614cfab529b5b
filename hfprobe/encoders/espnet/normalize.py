"""ESPnet's feature normalisers, rebuilt so that padding does not count and nothing is edited in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hfprobe.encoders.espnet.frontend import valid_frames


class StoredMVN(nn.Module):
    """``global_mvn``: mean and variance of the training features, kept as buffers of the checkpoint.

    Unlike ESPnet's class it needs no statistics file.

    Args:
        dim: Width of a feature frame.
        norm_means: Whether to subtract the mean.
        norm_vars: Whether to divide by the standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, norm_means: bool = True, norm_vars: bool = True):
        super().__init__()
        self.norm_means = norm_means
        self.norm_vars = norm_vars
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalise ``(batch, frames, dim)``; frames past each of the ``(batch,)`` lengths become zero."""
        if self.norm_means:
            features = features - self.mean
        if self.norm_vars:
            features = features / self.std
        return features.masked_fill(~valid_frames(lengths, features.shape[1])[..., None], 0.0)


class PerUtteranceMVN(nn.Module):
    """``utterance_mvn``: mean and variance of each utterance's own valid frames.

    ESPnet counts the padded frames of a batch in the variance; here they never count.

    Args:
        norm_means: Whether to subtract the mean.
        norm_vars: Whether to divide by the standard deviation.
        eps: Smallest standard deviation.
    """

    def __init__(self, norm_means: bool = True, norm_vars: bool = False, eps: float = 1e-20):
        super().__init__()
        self.norm_means = norm_means
        self.norm_vars = norm_vars
        self.eps = eps

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalise ``(batch, frames, dim)``; frames past each of the ``(batch,)`` lengths become zero."""
        padding = ~valid_frames(lengths, features.shape[1])[..., None]
        frames = lengths[:, None, None].to(features.dtype)
        mean = features.masked_fill(padding, 0.0).sum(dim=1, keepdim=True) / frames
        centred = (features - mean).masked_fill(padding, 0.0)
        result = centred if self.norm_means else features.masked_fill(padding, 0.0)
        if self.norm_vars:
            deviation = (centred.square().sum(dim=1, keepdim=True) / frames).sqrt().clamp_min(self.eps)
            result = result / deviation
        return result
