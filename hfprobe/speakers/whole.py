"""Speaker encoders that read whole clips: what they share.

Padding is kept out by never padding: clips of equal length go through the network together, others apart. Networks
with statistics over time, or with convolutions that look beyond the end, give the same vector in no other way.
"""

from __future__ import annotations

import torch

from hfprobe.speakers.base import SpeakerEncoder

# Of a pass through the network, all clips together, unless one is longer: 20 s of sound at 16,000 Hz.
BATCH_SAMPLES = 320_000


class WholeClipEncoder(SpeakerEncoder):
    """Base class of encoders whose `forward` takes clips of one length, without padding.

    Args:
        min_samples: Shortest clip that the network can take.

    Example:
        >>> class Loudness(WholeClipEncoder):
        ...     dim = 2
        ...     def forward(self, waveforms):
        ...         return waveforms.abs().mean(dim=1, keepdim=True) * torch.tensor([3.0, 4.0])
        >>> encoder = Loudness(min_samples=10)
        >>> encoder.embed(torch.stack([torch.ones(20), torch.zeros(20)]))
        tensor([[0.6000, 0.8000],
                [   nan,    nan]])
        >>> encoder.last_failures
        {1: 'silent'}
    """

    _place: torch.Tensor

    def __init__(self, min_samples: int):
        super().__init__()
        self.min_samples = min_samples
        # Knows the device even where a network has no parameters.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Embed clips of one length.

        Args:
            waveforms: Clips `(B, S)` without padding, none of them silent, at least `min_samples` long.

        Returns:
            Embeddings `(B, dim)` of any length.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def embed(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Embed clips; see `SpeakerEncoder.embed`.

        Args:
            waveforms: Clips `(B, S)` in [-1, 1] at 16,000 Hz, padded at the end.
            lengths: Valid samples `(B,)`; all if None.

        Returns:
            Embeddings `(B, dim)` of length 1, float32, on the encoder's device; NaN where `last_failures` gives a
            reason.

        Raises:
            ConfigError: If shapes or lengths do not fit.
        """
        n_samples = self.check_clips(waveforms, lengths)
        waveforms = waveforms.detach().to(self._place.device, torch.float32)
        self.last_failures = {}
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(n_samples):
            reason = self._reason(waveforms[row, :length])
            if reason:
                self.last_failures[row] = reason
            else:
                groups.setdefault(length, []).append(row)
        embeddings = torch.full((len(waveforms), self.dim), torch.nan, device=waveforms.device)
        with torch.inference_mode():
            for length, rows in groups.items():
                step = max(1, BATCH_SAMPLES // length)
                for start in range(0, len(rows), step):
                    some = torch.tensor(rows[start : start + step], device=waveforms.device)
                    raw = self(waveforms[some, :length]).float()
                    # 0 / 0 is NaN: a vector without a direction is a failure, not a zero.
                    embeddings[some] = raw / raw.norm(dim=1, keepdim=True)
        for row in set(range(len(waveforms))) - self.last_failures.keys():
            if not torch.isfinite(embeddings[row]).all():
                embeddings[row] = torch.nan
                self.last_failures[row] = "the network gave no direction"
        return embeddings

    def _reason(self, clip: torch.Tensor) -> str:
        """Why there is nothing to embed, or an empty text."""
        if len(clip) == 0:
            return "empty"
        if not torch.isfinite(clip).all():
            return "not finite"
        if not clip.any():
            return "silent"
        return "too short" if len(clip) < self.min_samples else ""
