"""Any ``torch.nn.Module`` as an encoder: name the modules to read, say the stride, and the contract is kept.

Whether a network lets padding into its frames cannot be seen from outside. So by default utterances of equal length
are encoded together and others on their own: there is no padding then, and each gets what the network gives for it
alone. The price is one run per length in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hfprobe.encoders.base import Count, LayerSpec, SpeechEncoder, SpeechEncoderOutput, kept_states
from hfprobe.encoders.capture import Tap, capture
from hfprobe.encoders.frames import check_layout, first_tensor, to_frames
from hfprobe.encoders.measure import FrameRule, measure_rules, shortest_input
from hfprobe.errors import EncoderError, LayerError

Lengths = Callable[[int], "int | Mapping[str, int]"]
Preprocess = Callable[[Tensor, Tensor], Any]


class ModuleEncoder(SpeechEncoder):
    """A network read at some of its modules; made by `encoder_from_module`.

    Args:
        name: Short name for results.
        module: The network.
        specs: The layers, from the input to the last.
        taps: Where to read each layer.
        layouts: Axes of what is read there.
        rules: Frames of each layer for a number of samples.
        preprocess: Makes the network's input of waveforms and lengths, or None.
        exact: Whether utterances of different lengths are kept apart.
        crop: Whether frames beyond those that the rules give are dropped instead of refused.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        specs: tuple[LayerSpec, ...],
        taps: Mapping[str, Tap],
        layouts: Mapping[str, str],
        rules: Mapping[str, Callable[[int], int]],
        preprocess: Preprocess | None,
        exact: bool,
        crop: bool,
    ):
        super().__init__(name, specs)
        self.module = module
        self.preprocess = preprocess
        self.padding_sensitive = exact
        self._taps, self._layouts, self._rules = dict(taps), dict(layouts), dict(rules)
        self._crop = crop

    def hidden_lengths_for(self, samples: Count) -> tuple[Count, ...]:
        """Frames of each layer, by the rule measured at loading or given as ``lengths``."""
        if isinstance(samples, Tensor):
            rows = [self.hidden_lengths_for(int(count)) for count in samples.flatten().tolist()]
            made = torch.tensor(rows, dtype=torch.int64, device=samples.device).reshape(
                *samples.shape, len(self.layers)
            )
            return tuple(made.unbind(-1))
        return tuple(self._rules[spec.name](samples) for spec in self.layers)

    def _encode(self, waveforms: Tensor, lengths: Tensor, keep: frozenset[str]) -> SpeechEncoderOutput:
        last = self.layers[-1].name
        wanted = [spec for spec in self.layers if spec.name in keep or spec.name == last]
        counts = dict(zip(self._rules, self.hidden_lengths_for(lengths), strict=True))
        made: dict[str, Tensor] = {}
        for rows in self._groups(lengths):
            size = int(lengths[rows].max())
            seen = self.run(waveforms[rows, :size], lengths[rows], [spec.name for spec in wanted])
            for spec in wanted:
                state = self._fit(spec, seen.pop(spec.name), counts[spec.name][rows])
                if len(rows) == len(lengths):
                    made[spec.name] = state
                    continue
                if spec.name not in made:
                    shape = (len(lengths), int(counts[spec.name].max()), spec.dim)
                    made[spec.name] = state.new_zeros(shape)
                made[spec.name][rows, : state.shape[1]] = state
        states = kept_states(made[spec.name] if spec.name in keep else None for spec in self.layers)
        return SpeechEncoderOutput(last_hidden_state=made[last], hidden_states=states)

    def run(self, waveforms: Tensor, lengths: Tensor, names: list[str]) -> dict[str, Tensor]:
        """Run the network once and read some layers.

        Args:
            waveforms: ``(batch, samples)``.
            lengths: ``(batch,)`` samples.
            names: Layers to read.

        Returns:
            ``(batch, frames, dim)`` by name, as the network gives them.

        Raises:
            EncoderError: If a tap was never reached, or what is there is not as its layout says.
        """
        inputs = waveforms if self.preprocess is None else self.preprocess(waveforms, lengths)
        with capture(self.module, {name: self._taps[name] for name in names}) as seen:
            if isinstance(inputs, Mapping):
                self.module(**inputs)
            elif isinstance(inputs, tuple | list):
                self.module(*inputs)
            else:
                self.module(inputs)
        missing = [name for name in names if name not in seen]
        if missing:
            where = ", ".join(f"{name} at {self._taps[name].path!r}" for name in missing)
            raise EncoderError(f"layer(s) {where} never ran in {self.name}: tap a module that its forward calls")
        return {name: to_frames(first_tensor(seen.pop(name), name), self._layouts[name], name) for name in names}

    def _groups(self, lengths: Tensor) -> list[Tensor]:
        """Rows of the batch to run together."""
        if not self.padding_sensitive:
            return [torch.arange(len(lengths), device=lengths.device)]
        return [(lengths == size).nonzero().flatten() for size in lengths.unique()]

    def _fit(self, spec: LayerSpec, state: Tensor, frames: Tensor) -> Tensor:
        """Check a layer's frames against its rule and clear those past each utterance."""
        longest = int(frames.max())
        if state.shape[0] != len(frames) or state.shape[2] != spec.dim:
            raise EncoderError(
                f"layer {spec.name}: expected ({len(frames)}, frames, {spec.dim}), got {tuple(state.shape)}: "
                f"its layout is {self._layouts[spec.name]!r}, is that right?"
            )
        if state.shape[1] < longest or (state.shape[1] > longest and not self._crop):
            raise EncoderError(
                f"layer {spec.name}: expected {longest} frames, got {state.shape[1]}: give lengths=, a function from "
                "samples to frames"
            )
        state = state[:, :longest]
        if int(frames.min()) == longest:
            return state
        valid = torch.arange(longest, device=state.device) < frames[:, None]
        return state.masked_fill(~valid[..., None], 0.0)


def encoder_from_module(
    module: nn.Module,
    layers: Mapping[str, str | Tap],
    stride: int | Mapping[str, int],
    offset: int | Mapping[str, int] = 0,
    *,
    dims: int | Mapping[str, int] | None = None,
    lengths: Lengths | Literal["ratio"] | None = None,
    preprocess: Preprocess | None = None,
    layout: str | Mapping[str, str] = "btd",
    batch: Literal["exact", "padded"] = "exact",
    min_samples: int | None = None,
    name: str | None = None,
) -> ModuleEncoder:
    """Make an encoder of any network.

    The network is put into ``eval()`` mode, and run on short noise to see what its layers give.

    Args:
        module: The network.
        layers: Name of each layer and where to read it, from the input to the last layer: the dotted path of a
            module whose output is taken (its first tensor where there are several), or a `Tap`.
        stride: Samples (16 kHz) from one frame to the next, of all layers or by name.
        offset: Sample on which the first frame is centred, of all layers or by name.
        dims: Width of the layers; found by the trial run where None.
        lengths: Function from samples to frames, one number for all layers or a mapping by name; frames that the
            network gives beyond that are dropped. ``"ratio"``: samples divided by the stride, rounded up. Where
            None the rule ``1 + (samples - first) // stride`` is found by trial runs, and checked in every forward.
        preprocess: Function of ``(batch, samples)`` waveforms and ``(batch,)`` lengths that gives the network's
            input: a tensor, a tuple of arguments or a dictionary of keywords. The waveforms themselves where None.
        layout: Axes of what is read, for all layers or by name: ``b`` batch, ``t`` time, and ``d``, ``c`` (channels)
            or ``f`` (frequency) for what becomes the width; e.g. ``"btd"``, ``"tbd"``, ``"bct"``, ``"bcft"``.
            Maps are flattened to channels x frequency.
        batch: ``"exact"`` keeps utterances of different lengths apart. ``"padded"`` runs the batch as it is: you
            vouch that the network, with ``preprocess``, keeps padding out of valid frames
            (`hfprobe.testing.check_batch` tests it).
        min_samples: Shortest utterance; found by trial runs where None.
        name: Name of the encoder; that of the network's class where None.

    Returns:
        The encoder, in ``eval()`` mode.

    Raises:
        LayerError: If a path names no module; the message offers the nearest.
        EncoderError: If a tap is never reached, or the frames do not fit layout, stride or ``lengths``.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = encoder_from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> encoder.hidden_lengths_for(16000), encoder.layers[0].dim, encoder.min_samples
        ((98,), 8, 400)
    """
    if not isinstance(module, nn.Module):
        raise EncoderError(f"expected a torch.nn.Module, got {type(module).__name__}: give the network itself")
    if not layers:
        raise LayerError("expected at least one layer, got none: give layers={'name': 'dotted.path'}")
    if batch not in ("exact", "padded"):
        raise EncoderError(f"expected batch='exact' or 'padded', got {batch!r}: exact is always right")
    taps = {key: tap if isinstance(tap, Tap) else Tap(tap) for key, tap in layers.items()}
    with capture(module, taps):
        pass  # refuses paths that name no module
    strides, offsets = _by_name("stride", stride, taps, 1), _by_name("offset", offset, taps, 0)
    layouts = {key: check_layout(_pick("layout", layout, key), key) for key in taps}
    widths = None if dims is None else _by_name("dims", dims, taps, 1)
    # A first encoder with placeholders runs the trials that the real one is made from.
    specs = tuple(LayerSpec(key, 1, strides[key], offsets[key], describe(tap)) for key, tap in taps.items())
    name = name or type(module).__name__.lower()
    trial = ModuleEncoder(name, module.eval(), specs, taps, layouts, {}, preprocess, batch == "exact", False)

    def shapes(samples: int) -> dict[str, tuple[int, int]]:
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        noise = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(samples)).to(device)
        with torch.no_grad():
            seen = trial.run(noise, torch.tensor([samples], device=device), list(taps))
        return {key: (value.shape[1], value.shape[2]) for key, value in seen.items()}

    found = {key: width for key, (_, width) in shapes(_trial_samples(strides)).items()}
    for key in taps:
        if widths is not None and widths[key] != found[key]:
            raise EncoderError(f"layer {key}: expected frames of width {widths[key]}, got {found[key]}: see layout")
    rules: Mapping[str, Callable[[int], int]]
    if lengths is None:
        rules = measure_rules(lambda samples: _frames(shapes(samples)), strides, _trial_samples(strides))
    elif lengths == "ratio":
        rules = {key: FrameRule(strides[key], 1) for key in taps}
    else:
        rules = {key: _given_rule(lengths, key) for key in taps}
    specs = tuple(LayerSpec(key, found[key], strides[key], offsets[key], describe(tap)) for key, tap in taps.items())
    crop = lengths is not None
    encoder = ModuleEncoder(name, module, specs, taps, layouts, rules, preprocess, batch == "exact", crop)
    encoder.min_samples = (
        min_samples
        if min_samples is not None
        else shortest_input(lambda samples: _frames(shapes(samples)), rules, _trial_samples(strides))
    )
    return encoder.eval()


def describe(tap: Tap) -> str:
    """A tap in words."""
    place = f"module {tap.path!r}" if tap.path else "the network"
    part = "" if tap.index is None else f" {tap.index}"
    return f"{tap.side}{part} of {place}"


def _trial_samples(strides: Mapping[str, int]) -> int:
    """Samples of a trial: a second, or ten frames of the slowest layer."""
    return max(16000, 10 * max(strides.values()))


def _frames(shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    return {key: frames for key, (frames, _) in shapes.items()}


def _given_rule(lengths: Lengths, key: str) -> Callable[[int], int]:
    def rule(samples: int) -> int:
        frames = lengths(samples)
        return int(frames[key] if isinstance(frames, Mapping) else frames)

    return rule


def _pick(what: str, value: Any, key: str) -> Any:
    """An option for one layer."""
    if not isinstance(value, Mapping):
        return value
    if key not in value:
        raise EncoderError(f"{what} has no entry for layer {key}: it has {', '.join(value) or 'none'}")
    return value[key]


def _by_name(what: str, value: int | Mapping[str, int], taps: Mapping[str, Tap], least: int) -> dict[str, int]:
    """A whole number per layer."""
    unknown = sorted(set(value) - set(taps)) if isinstance(value, Mapping) else []
    if unknown:
        raise LayerError(f"{what} names no layer: {', '.join(unknown)}; the layers are {', '.join(taps)}")
    chosen = {key: _pick(what, value, key) for key in taps}
    for key, number in chosen.items():
        if not isinstance(number, int) or number < least:
            raise EncoderError(f"layer {key}: expected {what} as a whole number of at least {least}, got {number!r}")
    return chosen
