"""Checks of the numbers: what is declared, shapes, the reference, batches, determinism, lengths."""

from __future__ import annotations

import torch

from hfprobe.encoders import LayerSpec, SpeechEncoder, SpeechEncoderOutput
from hfprobe.errors import EncoderError
from hfprobe.testing.contract import CheckSkipped, Settings, expect, leaves_no_trace, names, states_of
from hfprobe.testing.signals import batch_of, peak_error, sounds

SHORTEST = 0.05  # seconds


@leaves_no_trace
def check_declaration(encoder: SpeechEncoder, settings: Settings) -> None:
    """The layers are declared completely: a tuple of specs with unique names and possible numbers.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_declaration(encoder, Settings())
    """
    specs = encoder.layers
    expect(isinstance(specs, tuple) and len(specs) > 0, f"expected layers as a tuple, got {type(specs).__name__}")
    expect(all(isinstance(spec, LayerSpec) for spec in specs), "expected every entry of layers to be a LayerSpec")
    expect(len(set(names(encoder))) == len(specs), f"expected unique layer names, got {', '.join(names(encoder))}")
    for spec in specs:
        for key, least in (("dim", 1), ("stride", 1), ("offset", 0)):
            value = getattr(spec, key)
            whole = isinstance(value, int) and value >= least
            expect(whole, f"layer {spec.name}: expected {key} as a whole number of at least {least}, got {value!r}")
        expect(bool(spec.tap), f"layer {spec.name}: expected the tap in words, got none")
        expect(encoder.layer(spec.name) == spec, f"encoder.layer({spec.name!r}) gives another layer")
    expect(encoder.sampling_rate == 16000, f"expected a sampling rate of 16000 Hz, got {encoder.sampling_rate}")
    expect(encoder.min_samples >= 1, f"expected min_samples of at least 1, got {encoder.min_samples}")


@leaves_no_trace
@torch.no_grad()
def check_shapes(encoder: SpeechEncoder, settings: Settings) -> None:
    """Every layer gives finite float32 ``(batch, frames, dim)``, zero past each utterance; lengths fit.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_shapes(encoder, Settings())
    """
    batch, lengths = batch_of(sounds(encoder, settings.lengths, settings.seed))
    output = encoder(batch, lengths)
    kind = type(output).__name__
    expect(isinstance(output, SpeechEncoderOutput), f"expected a SpeechEncoderOutput, got {kind}")
    expect(output.hidden_states is not None, "expected hidden states, got None")
    counts = (len(output.hidden_states), len(output.hidden_lengths))
    expect(counts == (len(encoder.layers),) * 2, f"expected {len(encoder.layers)} states and lengths, got {counts}")
    for spec, state, frames in zip(encoder.layers, output.hidden_states, output.hidden_lengths, strict=True):
        shape = (len(batch), int(frames.max()), spec.dim)
        expect(state.shape == shape, f"layer {spec.name}: expected shape {shape}, got {tuple(state.shape)}")
        expect(state.dtype == torch.float32, f"layer {spec.name}: expected float32, got {state.dtype}")
        expect(bool(torch.isfinite(state).all()), f"layer {spec.name}: holds NaN or infinity")
        expect(frames.dtype == torch.int64, f"layer {spec.name}: expected int64 lengths, got {frames.dtype}")
        expect(bool((frames >= 1).all()), f"layer {spec.name}: an utterance has no frame")
        for row, size in enumerate(frames.tolist()):
            expect(
                not bool(state[row, size:].any()), f"layer {spec.name}: utterance {row} is not zero past frame {size}"
            )
    error = peak_error(output.last_hidden_state, output.hidden_states[-1])
    expect(error <= settings.tolerance, f"last_hidden_state is not the last layer: off by {error:.1e} of its peak")
    if output.logits is not None:
        frames = output.last_hidden_state.shape[:2]
        expect(
            output.logits.shape[:2] == frames, f"logits have shape {tuple(output.logits.shape)}, frames {tuple(frames)}"
        )
    without = encoder(batch, lengths, output_hidden_states=False)
    expect(without.hidden_states is None, "output_hidden_states=False still gives hidden states")
    error = peak_error(without.last_hidden_state, output.last_hidden_state)
    expect(error <= settings.tolerance, f"output_hidden_states=False changes the last layer by {error:.1e}")


@leaves_no_trace
@torch.no_grad()
def check_reference(encoder: SpeechEncoder, settings: Settings) -> None:
    """Every layer is what the model's own forward gives for one utterance.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.
        CheckSkipped: It cannot be tried here; the message says why.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_reference(encoder, Settings())
        Traceback (most recent call last):
        ...
        hfprobe.testing.contract.CheckSkipped: no reference given: pass reference=, the model's own forward
    """
    if settings.reference is None:
        raise CheckSkipped("no reference given: pass reference=, the model's own forward")
    for waveform in sounds(encoder, settings.lengths, settings.seed):
        states = states_of(encoder, waveform[None])
        own = list(settings.reference(waveform.clone()))
        expect(len(own) == len(states), f"the reference gives {len(own)} layers, the encoder {len(states)}")
        for spec, state, value in zip(encoder.layers, states, own, strict=True):
            got, wanted = tuple(state[0].shape), tuple(value.shape)
            where = f"layer {spec.name}, {len(waveform)} samples"
            expect(got == wanted, f"{where}: expected the reference's shape {wanted}, got {got}")
            error = peak_error(state[0], value.to(state.device))
            expect(error <= settings.tolerance, f"{where}: off by {error:.1e} of the reference's peak")


@leaves_no_trace
@torch.no_grad()
def check_batch(encoder: SpeechEncoder, settings: Settings) -> None:
    """An utterance gives the same frames alone, in a batch, and in a shuffled one, whatever the padding holds.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_batch(encoder, Settings())
    """
    waveforms = sounds(encoder, settings.lengths, settings.seed)
    alone = [states_of(encoder, waveform[None]) for waveform in waveforms]
    orders = torch.Generator().manual_seed(settings.seed)
    shuffled = torch.randperm(len(waveforms), generator=orders).tolist()
    same = list(range(len(waveforms)))
    for what, order, padding, extra in (
        ("in a batch", same, 0.0, 0),
        ("in a batch with ones as padding", same, 1.0, 0),
        ("in a batch with NaN as padding", same, float("nan"), 4000),
        ("in a shuffled batch", shuffled, 0.0, 0),
        ("in a shuffled batch with infinity as padding", shuffled[::-1], float("inf"), 1),
    ):
        batch, lengths = batch_of([waveforms[i] for i in order], padding, extra)
        output = encoder(batch, lengths)
        for row, index in enumerate(order):
            for layer, spec in enumerate(encoder.layers):
                wanted = alone[index][layer][0]
                where = f"layer {spec.name}, {len(waveforms[index])} samples"
                valid = int(output.hidden_lengths[layer][row])
                expect(valid == len(wanted), f"{where}: {len(wanted)} frames alone, {valid} {what}")
                error = peak_error(output.hidden_states[layer][row, :valid], wanted)
                expect(error <= settings.tolerance, f"{where}: alone and {what} differ by {error:.1e} of the peak")


@leaves_no_trace
@torch.no_grad()
def check_determinism(encoder: SpeechEncoder, settings: Settings) -> None:
    """In ``eval()`` the same input gives the same bits, whatever the random state.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_determinism(encoder, Settings())
    """
    batch, lengths = batch_of(sounds(encoder, settings.lengths[:3], settings.seed))
    torch.manual_seed(1)
    first = states_of(encoder, batch, lengths)
    torch.manual_seed(2)
    second = states_of(encoder, batch, lengths)
    for spec, one, other in zip(encoder.layers, first, second, strict=True):
        expect(torch.equal(one, other), f"layer {spec.name}: differs by {peak_error(other, one):.1e} on a second run")


@leaves_no_trace
@torch.no_grad()
def check_train_mode(encoder: SpeechEncoder, settings: Settings) -> None:
    """The number of layers and their shapes are the same in ``train()``, run after run.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_train_mode(encoder, Settings())
    """
    batch, lengths = batch_of(sounds(encoder, settings.lengths[:2], settings.seed))
    shapes = [state.shape for state in states_of(encoder, batch, lengths)]
    encoder.train()
    for run in range(8):
        torch.manual_seed(run)
        got = encoder(batch, lengths).hidden_states
        count = 0 if got is None else len(got)
        expect(count == len(shapes), f"{len(shapes)} layers in eval(), {count} in train() (layer drop?)")
        for spec, state, shape in zip(encoder.layers, got, shapes, strict=True):
            expect(state is not None and state.shape == shape, f"layer {spec.name}: another shape in train()")


@leaves_no_trace
@torch.no_grad()
def check_lengths(encoder: SpeechEncoder, settings: Settings) -> None:
    """Each layer has the frames that ``hidden_lengths_for`` says: at ``min_samples`` and from 50 ms to 30 s.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_lengths(encoder, Settings())
    """
    rate = encoder.sampling_rate
    low, high = max(int(SHORTEST * rate), encoder.min_samples), int(settings.longest * rate)
    generator = torch.Generator().manual_seed(settings.seed)
    odd = torch.randint(low, low + rate, (12,), generator=generator).tolist()
    counts = [encoder.min_samples, low, low + 1, *odd, high]
    for samples in counts:
        [waveform] = sounds(encoder, [samples], settings.seed)
        output = encoder(waveform[None])
        expected = encoder.hidden_lengths_for(samples)
        expect(len(expected) == len(encoder.layers), f"hidden_lengths_for gives {len(expected)} entries")
        for spec, state, frames in zip(encoder.layers, output.hidden_states, expected, strict=True):
            where = f"layer {spec.name}, {samples} samples"
            expect(isinstance(frames, int), f"{where}: expected hidden_lengths_for(int) as int, got {frames!r}")
            expect(bool(frames >= 1), f"{where}: expected at least one frame, got {frames}")
            expect(state.shape[1] == frames, f"{where}: {state.shape[1]} frames, hidden_lengths_for says {frames}")
            expect(bool(torch.isfinite(state).all()), f"{where}: holds NaN or infinity")
    many = encoder.hidden_lengths_for(torch.tensor(counts))
    for layer, spec in enumerate(encoder.layers):
        single = [encoder.hidden_lengths_for(samples)[layer] for samples in counts]
        expect(
            torch.as_tensor(many[layer]).tolist() == single,
            f"layer {spec.name}: hidden_lengths_for differs for a tensor of lengths",
        )


@leaves_no_trace
@torch.no_grad()
def check_refusals(encoder: SpeechEncoder, settings: Settings) -> None:
    """Bad input is refused with a one-line `EncoderError`: too short, NaN, wrong type, shape or lengths.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_refusals(encoder, Settings())
    """
    [good] = sounds(encoder, [4000], settings.seed)
    broken = good.clone()
    broken[7] = float("nan")
    cases = {
        "float64 waveforms": (good[None].double(), None),
        "a waveform without batch axis": (good, None),
        "NaN inside an utterance": (broken[None], None),
        "a length beyond the waveform": (good[None], [len(good) + 1]),
    }
    if encoder.min_samples > 1:
        cases["an utterance of one sample less than min_samples"] = (good[None, : encoder.min_samples - 1], None)
    for what, (waveforms, lengths) in cases.items():
        try:
            encoder(waveforms, lengths)
        except EncoderError as error:
            expect("\n" not in str(error), f"the error for {what} is longer than one line")
        else:
            expect(False, f"{what}: expected an EncoderError, got none")
