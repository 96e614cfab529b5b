"""Checks that a forward leaves nothing behind: no hooks, no edited input, no edited weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hfprobe.encoders import SpeechEncoder
from hfprobe.testing.contract import Settings, expect, leaves_no_trace
from hfprobe.testing.signals import batch_of, sounds

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class _PlannedFailure(Exception):
    """Raised inside a forward on purpose."""


def hooks_of(encoder: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Hooks on the modules of a network and the global ones, by place.

    Args:
        encoder: Network to look at.

    Returns:
        The hooks under ``module.kind``; places without hooks are left out.
    """
    found = {}
    for name, module in encoder.named_modules():
        for kind in _HOOKS:
            hooks = tuple(getattr(module, kind, {}).values())
            if hooks:
                found[f"{name or type(encoder).__name__}.{kind}"] = hooks
    for kind in ("_global_forward_hooks", "_global_forward_pre_hooks"):
        hooks = tuple(getattr(nn.modules.module, kind).values())
        if hooks:
            found[kind] = hooks
    return found


@leaves_no_trace
@torch.no_grad()
def check_hooks(encoder: SpeechEncoder, settings: Settings) -> None:
    """No hook is left on any module, after a forward and after one that fails half-way.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_hooks(encoder, Settings())
    """
    [waveform] = sounds(encoder, [6000], settings.seed)
    before = hooks_of(encoder)
    for options in ({}, {"output_hidden_states": False}, {"layers": [encoder.layers[0].name]}):
        encoder(waveform[None], **options)
        _compare(before, hooks_of(encoder), "a forward")
    last = _last_to_run(encoder, waveform)
    if last is None:
        return

    def fail(*_: Any) -> None:
        raise _PlannedFailure

    handle = last.register_forward_pre_hook(fail)
    try:
        encoder(waveform[None])
    except _PlannedFailure:
        pass
    finally:
        handle.remove()
    _compare(before, hooks_of(encoder), "a forward that failed")


@leaves_no_trace
@torch.no_grad()
def check_nothing_edited(encoder: SpeechEncoder, settings: Settings) -> None:
    """Input, lengths and weights are the same after a forward, and outputs share no memory with them.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_nothing_edited(encoder, Settings())
    """
    padded = batch_of(sounds(encoder, settings.lengths[:3], settings.seed), padding=3.0, extra=50)
    # Without padding the encoder may get the very tensor that the caller holds.
    full = batch_of(sounds(encoder, (6000, 6000), settings.seed))
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    for batch, lengths in (padded, full):
        kept = batch.clone(), lengths.clone()
        states = encoder(batch, lengths).hidden_states
        expect(torch.equal(batch, kept[0]), "the waveforms were edited in place")
        expect(torch.equal(lengths, kept[1]), "the lengths were edited in place")
        first = [value.clone() for value in states]
        for value in states:
            value.fill_(7.0)
        expect(torch.equal(batch, kept[0]), "a hidden state shares memory with the waveforms")
        for key, value in encoder.state_dict().items():
            expect(torch.equal(value, state[key]), f"{key} was edited in place (by a forward, or through its output)")
        second = encoder(batch, lengths).hidden_states
        for spec, one, other in zip(encoder.layers, first, second, strict=True):
            expect(torch.equal(one, other), f"layer {spec.name}: editing the output changes the next forward")


def _compare(before: dict[str, tuple], after: dict[str, tuple], event: str) -> None:
    left = sorted(place for place, hooks in after.items() if hooks != before.get(place))
    expect(not left, f"hooks are left after {event}: {', '.join(left[:5])}")
    lost = sorted(before.keys() - after.keys())
    expect(not lost, f"hooks of others were removed by {event}: {', '.join(lost[:5])}")


def _last_to_run(encoder: SpeechEncoder, waveform: torch.Tensor) -> nn.Module | None:
    """The module below the encoder whose forward is called last, if any is."""
    ran: list[nn.Module] = []
    below = [module for module in encoder.modules() if module is not encoder]
    handles = [module.register_forward_pre_hook(lambda module, _: ran.append(module)) for module in below]
    try:
        encoder(waveform[None])
    finally:
        for handle in handles:
            handle.remove()
    return ran[-1] if ran else None
