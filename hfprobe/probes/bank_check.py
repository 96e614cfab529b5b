"""Is this the encoder that a bank was trained for? Another one would give plausible, wrong sound."""

from __future__ import annotations

from typing import Any

from hfprobe.errors import BankError, ConfigError
from hfprobe.plain import short
from hfprobe.probes.bank_files import RANDOM


def check_encoder(bank: Any, encoder: Any) -> None:
    """Compare layers, rate and fingerprint.

    Args:
        bank: A `ProbeBank`.
        encoder: A `SpeechEncoder`.

    Raises:
        BankError: If a layer is missing, has another width or stride, the sampling rate differs, or the
            fingerprint does; the message says which.
    """
    specs = {spec.name: spec for spec in encoder.layers}
    told = f"this is the bank of encoder {short(bank.encoder)}, not of {short(encoder.name)}"
    for name, probe in bank.items():
        if name not in specs:
            raise BankError(
                f"{told}: it has no layer {short(name)} (it has {', '.join(specs)}); load the right encoder"
            )
        expected, found = (
            (probe.config.input_dim, probe.config.stride),
            (specs[name].dim, specs[name].stride),
        )
        if expected != found:
            raise BankError(
                f"{told}: layer {short(name)} has width {found[0]} and stride {found[1]}, "
                f"expected {expected[0]} and {expected[1]}; load the right encoder"
            )
    if encoder.sampling_rate != bank.mel_config.sampling_rate:
        raise BankError(f"{told}: it works at {encoder.sampling_rate} Hz, expected {bank.mel_config.sampling_rate} Hz")
    fingerprint = encoder.fingerprint
    if bank.fingerprint and fingerprint != bank.fingerprint:
        raise BankError(
            f"{told}: same shape but other weights (fingerprint {fingerprint}, "
            f"expected {bank.fingerprint}); load the encoder of this bank, or train a bank for this one"
        )


def check_twin(encoder: Any, fingerprint: str, twin: Any) -> str:
    """Compare an encoder with its random twin: the same shape, other weights.

    Args:
        encoder: A `SpeechEncoder`.
        fingerprint: Its fingerprint.
        twin: The other one.

    Returns:
        The twin's fingerprint.

    Raises:
        ConfigError: It is of another shape, or has the encoder's own weights.
    """
    shapes = [[(spec.name, spec.dim, spec.stride) for spec in each.layers] for each in (encoder, twin)]
    found = twin.fingerprint
    if shapes[0] != shapes[1] or found == fingerprint:
        what = "the very same weights" if shapes[0] == shapes[1] else "other layers"
        raise ConfigError(
            f"expected a random twin of {encoder.name!r}, got {twin.name!r} with {what}; load it with "
            "AutoSpeechEncoder.from_pretrained('random:NAME')"
        )
    if RANDOM in (spec.name for spec in encoder.layers):
        raise ConfigError(f"a layer of {encoder.name!r} is called {RANDOM!r}, as the twin's folder would be; rename it")
    return found
