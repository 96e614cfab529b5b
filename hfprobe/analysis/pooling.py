"""One vector for a span of time: the frame at its middle, or the mean of its frames."""

from __future__ import annotations

import torch

from hfprobe.encoders.base import LayerSpec

POOLS = ("frame", "mean")


def pooled(
    states: torch.Tensor,
    counts: torch.Tensor,
    spec: LayerSpec,
    places: torch.Tensor,
    starts: torch.Tensor,
    ends: torch.Tensor,
    pool: str,
) -> torch.Tensor:
    """Vectors of spans of time.

    Args:
        states: ``(batch, frames, dim)``.
        counts: Valid frames ``(batch,)``.
        spec: Time axis of the layer.
        places: Utterance of each span ``(spans,)``.
        starts: Samples ``(spans,)``.
        ends: Samples ``(spans,)``.
        pool: ``"frame"`` or ``"mean"``: the frame nearest to the middle (the earlier of two as near), or the
            mean of the frames whose centres lie in ``[start, end)`` (the nearest to the middle where there is none).

    Returns:
        ``(spans, dim)``.

    Example:
        >>> states, spec = torch.arange(4.0).reshape(1, 4, 1), LayerSpec("x", 1, 160, 0, "")
        >>> span = torch.tensor([0]), torch.tensor([100.0]), torch.tensor([500.0])  # frames 1, 2 and 3; middle 300
        >>> [pooled(states, torch.tensor([3]), spec, *span, pool).item() for pool in ("frame", "mean")]
        [2.0, 1.5]
    """
    last = counts[places] - 1
    middle = ((starts + ends) / 2 - spec.offset) / spec.stride
    nearest = torch.minimum(torch.ceil(middle - 0.5).long().clamp_min(0), last)
    if pool == "frame":
        return states[places.to(states.device), nearest.to(states.device)]
    first = torch.ceil((starts - spec.offset) / spec.stride).long().clamp_min(0)
    after = torch.minimum(torch.ceil((ends - spec.offset) / spec.stride).long(), last + 1)
    empty = after <= first
    first, after = torch.where(empty, nearest, first), torch.where(empty, nearest + 1, after)
    sizes = after - first
    # The frames of all spans, one after the other, and which span each belongs to.
    owner = torch.repeat_interleave(torch.arange(len(places)), sizes)
    frames = torch.arange(len(owner)) - (torch.cumsum(sizes, 0) - sizes)[owner] + first[owner]
    home = states.device
    taken = states[places[owner].to(home), frames.to(home)]
    sums = torch.zeros(len(places), states.shape[-1], dtype=states.dtype, device=home)
    return sums.index_add_(0, owner.to(home), taken) / sizes.to(home)[:, None]
