"""What all checks share: how they fail, how they are skipped, what can be set, and how the encoder is left."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hfprobe.encoders import SpeechEncoder

Reference = Callable[[Tensor], Sequence[Tensor]]


class ContractError(AssertionError):
    """An encoder breaks its contract; the message says how, where and by how much."""


class CheckSkipped(Exception):
    """A check cannot say anything about this encoder or on this machine; the message says why."""


@dataclass(frozen=True)
class Settings:
    """What the checks use.

    Args:
        reference: The model's own forward: called with one ``(samples,)`` float32 waveform, gives one
            ``(frames, dim)`` tensor per layer in the order of ``encoder.layers``. Without it `check_reference`
            is skipped.
        seed: Of the test sounds.
        lengths: Samples of the utterances of a batch; those below ``encoder.min_samples`` are raised to it.
        tolerance: Largest difference between two computations of a layer, relative to the layer's peak.
        longest: Seconds of the longest utterance.
    """

    reference: Reference | None = None
    seed: int = 0
    lengths: tuple[int, ...] = (16000, 800, 30001, 5123, 12345)
    tolerance: float = 1e-5
    longest: float = 30.0


DEFAULT = Settings()
Check = Callable[[SpeechEncoder, Settings], None]


def expect(condition: bool, message: str) -> None:
    """Fail with a message unless a condition holds.

    Raises:
        ContractError: If it does not.
    """
    if not condition:
        raise ContractError(message)


def leaves_no_trace(check: Callable[..., None]) -> Callable[..., None]:
    """Run a check in ``eval()`` mode and put the encoder and the random numbers back as they were."""

    @functools.wraps(check)
    def wrapped(encoder: SpeechEncoder, settings: Settings = DEFAULT) -> None:
        with restored(encoder):
            check(encoder.eval(), settings)

    return wrapped


@contextmanager
def restored(encoder: SpeechEncoder) -> Iterator[None]:
    """Restore modes, buffers, gradients, ``requires_grad`` and PyTorch's random state after a block."""
    modes = [(module, module.training) for module in encoder.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in encoder.buffers()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in encoder.parameters()]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                # Only where it changed: some buffers are views that cannot be written to.
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for parameter, wanted, gradient in parameters:
            parameter.requires_grad_(wanted)
            parameter.grad = gradient


def names(encoder: SpeechEncoder) -> list[str]:
    """Names of the layers."""
    return [spec.name for spec in encoder.layers]


def states_of(encoder: SpeechEncoder, waveforms: Tensor, lengths: Any = None, **options: Any) -> tuple[Tensor, ...]:
    """Hidden states of a forward, which must have one entry per layer asked for.

    Raises:
        ContractError: If there are none, or a different number.
    """
    output = encoder(waveforms, lengths, **options)
    wanted = len(options.get("layers") or encoder.layers)
    states = output.hidden_states
    got = "None" if states is None else str(len(states))
    expect(states is not None and len(states) == wanted, f"expected {wanted} hidden states, got {got}")
    return states
