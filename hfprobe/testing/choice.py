"""Checks of ``layers=``: the right values in the right order, and memory for them only."""

from __future__ import annotations

import torch

from hfprobe.encoders import SpeechEncoder
from hfprobe.errors import LayerError
from hfprobe.testing.contract import CheckSkipped, Settings, expect, leaves_no_trace, names, states_of
from hfprobe.testing.memory import LiveBytes, saved_bytes
from hfprobe.testing.signals import batch_of, peak_error, sounds


@leaves_no_trace
@torch.no_grad()
def check_layer_choice(encoder: SpeechEncoder, settings: Settings) -> None:
    """``layers=`` gives the values of a full forward in the order asked for, and refuses wrong names.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_layer_choice(encoder, Settings())
    """
    batch, lengths = batch_of(sounds(encoder, settings.lengths[:3], settings.seed))
    full, known = encoder(batch, lengths), names(encoder)
    choices = [[name] for name in known] + [known[::-1], known[::2], known[-1:] + known[:-1]]
    for wanted in choices:
        output = encoder(batch, lengths, layers=wanted)
        got = 0 if output.hidden_states is None else len(output.hidden_states)
        expect(got == len(wanted), f"layers={wanted}: expected {len(wanted)} states, got {got}")
        for name, state, frames in zip(wanted, output.hidden_states, output.hidden_lengths, strict=True):
            index = known.index(name)
            expect(state is not None, f"layers={wanted}: {name} is None")
            error = peak_error(state, full.hidden_states[index])
            expect(error <= settings.tolerance, f"layers={wanted}: {name} differs from a full forward by {error:.1e}")
            same = torch.equal(frames, full.hidden_lengths[index])
            expect(same, f"layers={wanted}: the lengths of {name} differ from those of a full forward")
        error = peak_error(output.last_hidden_state, full.last_hidden_state)
        expect(error <= settings.tolerance, f"layers={wanted}: last_hidden_state differs by {error:.1e}")
    for what, wrong in (
        ("an unknown name", [known[0], "no such layer"]),
        ("a name given twice", [known[0], known[0]]),
        ("an empty list", []),
    ):
        try:
            encoder(batch, lengths, layers=wrong)
        except LayerError as error:
            listed = "unknown" not in what or all(name in str(error) for name in known)
            expect(listed, f"the error for {what} in layers= does not list the layers: {error}")
        else:
            expect(False, f"{what} in layers=: expected a LayerError, got none")


@leaves_no_trace
@torch.no_grad()
def check_memory(encoder: SpeechEncoder, settings: Settings) -> None:
    """Memory follows ``layers=``: near the end of a forward, layers that nobody asked for are gone.

    Runs once for all layers and once for the last one only, and compares the bytes alive at the operations that the
    two runs share, in the last tenth of them. At least half of the layers but the last two (which the network itself
    may still hold) must make the difference.

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
        >>> check_memory(encoder, Settings())
        Traceback (most recent call last):
        ...
        hfprobe.testing.contract.CheckSkipped: needs at least three layers to see the difference
    """
    if len(encoder.layers) < 3:
        raise CheckSkipped("needs at least three layers to see the difference")
    waveforms = sounds(encoder, [encoder.sampling_rate], settings.seed)[0][None]
    last = names(encoder)[-1]
    with LiveBytes() as everything:
        states = states_of(encoder, waveforms)
    freeable = sum(state.numel() * state.element_size() for state in states[:-2])
    del states
    with LiveBytes() as only_last:
        encoder(waveforms, layers=[last])
    saved = saved_bytes(everything, only_last)
    tail = sorted(saved[-max(1, len(saved) // 10) :])
    typical = tail[len(tail) // 2]
    expect(
        typical >= freeable / 2,
        f"layers=[{last!r}] saves {typical / 1e3:.0f} kB near the end of a forward of {waveforms.shape[1]} samples "
        f"(peak {only_last.peak / 1e3:.0f} kB, with all layers {everything.peak / 1e3:.0f} kB), where the layers not "
        f"asked for are {freeable / 1e3:.0f} kB: free each one as soon as the next has read it",
    )
