"""Masks, losses and targets of probe training.

Shape letters as in `modeling`: B clips, S samples, T hidden frames, D hidden width, M mel frames, C mel
bands, U mel frames per hidden frame, N packed hidden frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hfprobe.audio import MelConfig, mel_spectrogram


def frame_mask(lengths: torch.Tensor | None, mel: torch.Tensor, scale: int = 1) -> torch.Tensor:
    """Which frames of a padded batch are real.

    Args:
        lengths: Valid frames per clip `(B,)`; None for "all".
        mel: The padded batch `(B, M, C)`; for its shape and device.
        scale: Mel frames per unit of `lengths` (U for hidden frames).

    Returns:
        Boolean `(B, M)`.

    Example:
        >>> frame_mask(torch.tensor([1]), torch.zeros(1, 3, 2), scale=2).tolist()
        [[True, True, False]]
    """
    if lengths is None:
        return torch.ones(mel.shape[:2], dtype=torch.bool, device=mel.device)
    positions = torch.arange(mel.shape[1], device=mel.device)
    return positions < lengths.to(mel.device).unsqueeze(1) * scale


def masked_l1(
    mel: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, count: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean absolute error over the frames that count, all bands (the loss of arXiv 1911.01102).

    Args:
        mel: Predicted natural-log mel `(..., C)`.
        target: True natural-log mel `(..., C)`.
        mask: Boolean `(...)`, frames that count. With none, the loss is 0.
        count: Frames to divide by where these are a part of a batch only; those of the mask if None.

    Returns:
        Scalar, in natural-log units.

    Example:
        >>> masked_l1(torch.zeros(1, 2, 3), torch.ones(1, 2, 3), torch.tensor([[True, False]])).item()
        1.0
    """
    # `where`, not a product: a NaN in a padded frame must not reach the loss.
    error = torch.where(mask.unsqueeze(-1), (mel - target).abs(), 0.0)
    count = mask.sum().clamp(min=1) if count is None else count
    return error.sum(dtype=torch.float32) / (count * mel.shape[-1])


def mel_targets(waveforms: torch.Tensor, lengths: torch.Tensor, config: MelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Mel-spectrograms of a padded batch, equal to those of each clip alone.

    Args:
        waveforms: Padded clips `(B, S)`.
        lengths: Valid samples `(B,)`.
        config: Mel settings.

    Returns:
        Natural-log mel `(B, M, C)` with `M = 1 + S // hop`, and the valid mel frames `(B,)`.

    Example:
        >>> mel, n = mel_targets(torch.randn(2, 3200), torch.tensor([3200, 1600]), MelConfig())
        >>> tuple(mel.shape), n.tolist()
        ((2, 21, 80), [21, 11])
    """
    lengths = lengths.to(waveforms.device)
    return mel_spectrogram(waveforms, config, lengths=lengths), config.frames(lengths)


@dataclass(frozen=True)
class PackedFrames:
    """Hidden frames of many clips without their padding, and what each should become.

    Attributes:
        frames: Hidden frames `(N, D)`.
        target: Natural-log mel `(N, U, C)`.
        mask: Boolean `(N, U)`; false for mel frames behind the end of a clip.
    """

    frames: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor

    def take(self, index: torch.Tensor | slice) -> PackedFrames:
        """Some of the frames."""
        return PackedFrames(self.frames[index], self.target[index], self.mask[index])


def join_frames(parts: Sequence[PackedFrames]) -> PackedFrames:
    """The frames of several parts of a batch, in order."""
    columns = ([getattr(part, name) for part in parts] for name in ("frames", "target", "mask"))
    return PackedFrames(*map(torch.cat, columns))


def choose_frames(
    packed: PackedFrames, mel_frames: int, generator: torch.Generator, before: int = 0, total: int | None = None
) -> PackedFrames:
    """What `pack_frames` would have chosen, from all frames of a batch or of a part of it.

    Args:
        packed: All valid frames, as `pack_frames` gives them without a choice.
        mel_frames: As for `pack_frames`, for the whole batch.
        generator: Source of the choice.
        before: Hidden frames of the batch before these: those of the processes before this one.
        total: Hidden frames of the whole batch; these alone if None.

    Returns:
        Those of the chosen frames that are among these.

    Example:
        >>> hidden, mel, n = torch.arange(6.0).view(1, 6, 1), torch.zeros(1, 6, 4), torch.tensor([6])
        >>> draw = lambda: torch.Generator().manual_seed(0)
        >>> whole, every = pack_frames(hidden, n, mel, n, 1, 3, draw()), pack_frames(hidden, n, mel, n, 1)
        >>> parts = [choose_frames(every.take(slice(i, i + 3)), 3, draw(), i, 6).frames for i in (0, 3)]
        >>> torch.equal(torch.cat(parts), whole.frames)
        True
    """
    total = len(packed.frames) if total is None else total
    n_chosen = max(1, mel_frames // packed.target.shape[1])
    if n_chosen >= total:
        return packed
    order = torch.randperm(total, generator=generator)[:n_chosen].sort().values - before
    return packed.take(order[(order >= 0) & (order < len(packed.frames))].to(packed.frames.device))


def pack_frames(
    hidden: torch.Tensor,
    hidden_lengths: torch.Tensor,
    mel: torch.Tensor,
    mel_lengths: torch.Tensor,
    upsampling: int,
    mel_frames: int | None = None,
    generator: torch.Generator | None = None,
) -> PackedFrames:
    """Gather valid hidden frames and their mel frames, all of them or a random choice.

    A probe sees one frame at a time, so nothing is lost by taking frames out of their clips; padded frames
    are never computed, and a random choice mixes more speakers into a step of the same cost.

    Args:
        hidden: Hidden frames `(B, T, D)`.
        hidden_lengths: Valid hidden frames `(B,)`.
        mel: Natural-log mel `(B, M, C)`.
        mel_lengths: Valid mel frames `(B,)`.
        upsampling: Mel frames per hidden frame, U.
        mel_frames: Take hidden frames worth so many mel frames, `N = mel_frames // U`, without replacement;
            all valid ones if None or if there are not so many.
        generator: Source of the choice (on the CPU).

    Returns:
        The packed frames.

    Example:
        >>> hidden, mel = torch.zeros(1, 3, 2), torch.zeros(1, 9, 4)
        >>> packed = pack_frames(hidden, torch.tensor([2]), mel, torch.tensor([5]), 4)
        >>> tuple(packed.frames.shape), packed.mask.sum().item()
        ((2, 2), 5)
    """
    device = hidden.device
    n_hidden = hidden.shape[1]
    hidden_lengths, mel_lengths = hidden_lengths.to(device), mel_lengths.to(device)
    # A hidden frame whose first mel frame lies behind the end of the clip has nothing to learn from.
    valid = torch.minimum(hidden_lengths, (mel_lengths + upsampling - 1) // upsampling)
    chosen = (torch.arange(n_hidden, device=device) < valid.unsqueeze(1)).flatten().nonzero().squeeze(1)
    if mel_frames is not None:
        n_chosen = max(1, mel_frames // upsampling)
        if n_chosen < len(chosen):
            order = torch.randperm(len(chosen), generator=generator)[:n_chosen]
            # In order of memory, the gather below runs through the states once.
            chosen = chosen[order.sort().values.to(device)]
    clip, frame = chosen // n_hidden, chosen % n_hidden
    first = frame.unsqueeze(1) * upsampling + torch.arange(upsampling, device=device)
    mask = first < mel_lengths[clip].unsqueeze(1)
    target = mel[clip.unsqueeze(1), first.clamp(max=mel.shape[1] - 1)]
    frames = hidden.reshape(-1, hidden.shape[-1]).index_select(0, chosen)
    return PackedFrames(frames, target, mask)


def complete_frames(
    mel: torch.Tensor, known: torch.Tensor, valid: torch.Tensor, n_frames: int, silence: float
) -> torch.Tensor:
    """Bring a layer's mel frames to the length of its clips.

    A layer may end before its clip does (its stride does not divide the clip): its last frame is repeated.

    Args:
        mel: Natural-log mel `(B, M', C)`.
        known: Frames `(B,)` that the layer gave.
        valid: Mel frames `(B,)` of the clips.
        n_frames: Frames to return, M.
        silence: Value behind a clip's end.

    Returns:
        Natural-log mel `(B, M, C)`.

    Example:
        >>> mel = torch.tensor([[[1.0], [2.0], [9.0]]])
        >>> complete_frames(mel, torch.tensor([2]), torch.tensor([3]), 4, -23.0).flatten().tolist()
        [1.0, 2.0, 2.0, -23.0]
    """
    positions = torch.arange(n_frames, device=mel.device).expand(len(mel), -1)
    last = (torch.minimum(known, valid) - 1).clamp(0, mel.shape[1] - 1)
    source = torch.minimum(positions, last.unsqueeze(1)).unsqueeze(-1).expand(-1, -1, mel.shape[2])
    return mel.gather(1, source).masked_fill((positions >= valid.unsqueeze(1)).unsqueeze(-1), silence)
