"""One padded batch of speech: what every loop of hfprobe passes around."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class SpeechBatch:
    """A padded batch of utterances.

    Attributes:
        ids: Utterance ids, ``B`` of them.
        waveforms: What goes into the encoder, float32 ``(B, samples)``, zero-padded at the end.
        lengths: Valid samples of each row, int64 ``(B,)``.
        clean: The same speech without noise, ``(B, samples)``; equals ``waveforms`` for clean rows.
        texts: Transcripts (empty where unknown).
        speakers: Speaker ids (empty where unknown).
        conditions: What was done to each row, e.g. ``"clean"`` or ``"music@7.3dB"``.
        genders: ``"m"`` or ``"f"`` (empty where unknown); no entries where a batch was made without them.
        words: For each row its words with their phones, where the corpus says; else an empty list for each row.
    """

    ids: list[str]
    waveforms: torch.Tensor
    lengths: torch.Tensor
    clean: torch.Tensor
    texts: list[str]
    speakers: list[str]
    conditions: list[str]
    genders: list[str] = field(default_factory=list)
    words: list[list[tuple[str, tuple[str, ...]]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        """Seconds of valid audio at 16 kHz."""
        return float(self.lengths.sum()) / 16000


def pad_waveforms(waveforms: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack waveforms of different lengths.

    Args:
        waveforms: ``B`` float32 arrays ``(samples_b,)``.

    Returns:
        Zero-padded float32 ``(B, max samples)`` and int64 lengths ``(B,)``.

    Example:
        >>> padded, lengths = pad_waveforms([np.ones(3, np.float32), np.ones(5, np.float32)])
        >>> padded.shape, lengths.tolist()
        (torch.Size([2, 5]), [3, 5])
    """
    lengths = torch.tensor([len(w) for w in waveforms], dtype=torch.int64)
    padded = torch.zeros(len(waveforms), int(lengths.max()), dtype=torch.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    return padded, lengths


def empty_batch() -> SpeechBatch:
    """A batch without utterances: the share of a process in a batch that is smaller than their number.

    Example:
        >>> len(empty_batch()), empty_batch().waveforms.shape
        (0, torch.Size([0, 0]))
    """
    nothing = torch.zeros(0, 0)
    return SpeechBatch([], nothing, torch.zeros(0, dtype=torch.int64), nothing, [], [], [])
