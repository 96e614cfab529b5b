"""Check that a loss on any layer can be traced back to the input and to the weights."""

from __future__ import annotations

import torch

from hfprobe.encoders import SpeechEncoder
from hfprobe.testing.contract import Settings, expect, leaves_no_trace, states_of
from hfprobe.testing.signals import batch_of, sounds


@leaves_no_trace
def check_backward(encoder: SpeechEncoder, settings: Settings) -> None:
    """Every layer's gradient reaches each utterance and the weights, is finite, and is zero in the padding.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_backward(encoder, Settings())
    """
    weights = {name: weight for name, weight in encoder.named_parameters() if weight.is_floating_point()}
    for weight in weights.values():
        weight.requires_grad_()
    batch, lengths = batch_of(sounds(encoder, (4000, 2400), settings.seed), extra=100)
    batch.requires_grad_()
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.enable_grad():
        states = states_of(encoder, batch, lengths)
        for spec, state in zip(encoder.layers, states, strict=True):
            where = f"layer {spec.name}"
            expect(state.requires_grad, f"{where}: is cut from the graph")
            # A random direction: the energy of a normalised layer does not depend on the input.
            direction = torch.randn(state.shape, generator=generator).to(state.device)
            gradient, *reached = torch.autograd.grad(
                (state * direction).sum(), [batch, *weights.values()], retain_graph=True, allow_unused=True
            )
            expect(gradient is not None, f"{where}: the gradient does not reach the input")
            expect(bool(torch.isfinite(gradient).all()), f"{where}: the input's gradient holds NaN or infinity")
            for row, size in enumerate(lengths.tolist()):
                inside, outside = gradient[row, :size], gradient[row, size:]
                expect(bool(inside.any()), f"{where}: the gradient does not reach utterance {row}")
                expect(not bool(outside.any()), f"{where}: the padding of utterance {row} has a gradient")
            for name, value in zip(weights, reached, strict=True):
                finite = value is None or bool(torch.isfinite(value).all())
                expect(finite, f"{where}: the gradient of {name} holds NaN or infinity")
            last = spec is encoder.layers[-1]
            touched = any(value is not None and bool(value.any()) for value in reached)
            # The first layers may lie before any weight, e.g. features of a frontend.
            expect(touched or not weights or not last, f"{where}: no weight has a gradient")
