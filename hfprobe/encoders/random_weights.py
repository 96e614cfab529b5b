"""The floor of every curve: an encoder of the same shape whose weights were drawn anew.

What a probe brings back from such an encoder is there because sound went in and a network of this shape passes much of
it on; only what a trained layer keeps or drops beyond that is the training's doing. Frontend and normalisation stay
the trained encoder's own: they are the input, not what was learnt.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import torch

from hfprobe.encoders.base import SpeechEncoder
from hfprobe.errors import EncoderError

PREFIX = "random:"
_SPELLED = re.compile(rf"{PREFIX}(?P<name>.+?)(@(?P<seed>\d+))?", re.DOTALL)


def random_name(name: str, seed: int = 0) -> str:
    """Name of the random twin of an encoder.

    Args:
        name: Of the trained encoder.
        seed: Of the weights; 0 is left out.

    Returns:
        The name, which `split_random` takes apart.

    Example:
        >>> random_name("vgg"), random_name("vgg", 3)
        ('random:vgg', 'random:vgg@3')
    """
    return f"{PREFIX}{name}" + (f"@{seed}" if seed else "")


def split_random(name: str | Path) -> tuple[str, int] | None:
    """The trained encoder's name and the seed in the name of a random one.

    Args:
        name: As it was given, e.g. ``"random:blstm-robust@3"``.

    Returns:
        Name (or path) and seed; None for the name of a trained encoder.

    Example:
        >>> split_random("random:vgg"), split_random("random:vgg@3"), split_random("vgg")
        (('vgg', 0), ('vgg', 3), None)
    """
    found = _SPELLED.fullmatch(str(name))
    return (found["name"], int(found["seed"] or 0)) if found else None


def randomised(encoder: SpeechEncoder, seed: int = 0) -> SpeechEncoder:
    """The random twin of an encoder that was not loaded from files (`AutoSpeechEncoder.from_module`).

    Every module with parameters draws them anew by its own ``reset_parameters``, as it did when it was made. Encoders
    from files are better loaded once more by ``AutoSpeechEncoder.from_pretrained("random:NAME")``, which goes through
    the library's own initialisation.

    Args:
        encoder: The trained encoder; it is not changed.
        seed: Of the weights.

    Returns:
        A copy, in ``eval()`` mode, called `random_name`.

    Raises:
        EncoderError: If a module does not know how to draw its parameters.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 4, 400, 160))
        >>> trained = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, layout="bct", name="net")
        >>> twin = randomised(trained)
        >>> twin.name, twin.layers == trained.layers, twin.fingerprint == trained.fingerprint
        ('random:net', True, False)
    """
    twin = copy.deepcopy(encoder)
    before = {name: value.detach().clone() for name, value in twin.named_parameters()}
    # The forked generator makes the weights repeatable and leaves the caller's own numbers alone.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in twin.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset) and any(True for _ in module.parameters()):
                reset()
    # A weight that did not move was not drawn, unless its fresh value is a constant (biases, scales of norms).
    kept = [
        name
        for name, value in twin.named_parameters()
        if value.is_floating_point() and torch.equal(value, before[name]) and value.unique().numel() > 1
    ]
    if kept:
        listed = ", ".join(kept[:3]) + (", ..." if len(kept) > 3 else "")
        raise EncoderError(
            f"expected modules with reset_parameters() in encoder {encoder.name}, but {listed} cannot be drawn anew: "
            "give these modules the method, or make the random network yourself and pass it to from_module"
        )
    twin.name = random_name(encoder.name, seed)
    return twin.eval()
