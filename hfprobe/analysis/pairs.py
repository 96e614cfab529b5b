"""Encoders with their banks, checked to be comparable before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfprobe.audio import MelConfig
from hfprobe.encoders.random_weights import split_random
from hfprobe.errors import BankError, ConfigError


def check_pairs(encoders: Sequence[tuple[Any, Any]]) -> MelConfig:
    """Check pairs of encoder and bank.

    Args:
        encoders: Pairs of an encoder and its probe bank.

    Returns:
        The mel settings that all banks share.

    Raises:
        ConfigError: There is no pair, or two encoders have one name, so that their results would be mixed up.
        BankError: A bank belongs to another encoder, or banks differ in their mel settings, so that they have no
            common ceiling.
    """
    if not encoders:
        raise ConfigError("expected at least one pair of encoder and bank, got none; load one first")
    names = [encoder.name for encoder, _ in encoders]
    if len(set(names)) < len(names):
        raise ConfigError(f"two encoders have the same name (got {', '.join(names)}); rename a folder")
    shared = encoders[0][1].mel_config
    for encoder, bank in encoders:
        bank.check(encoder)
        if bank.mel_config != shared:
            raise BankError(
                f"the banks of {names[0]!r} and {encoder.name!r} differ in their mel settings; evaluate them apart"
            )
    return shared


def trained_name(name: str, among: Sequence[str]) -> str | None:
    """The trained encoder that a random one is the floor of.

    Args:
        name: Of an encoder.
        among: Names of the encoders that are compared.

    Returns:
        The trained encoder's name; None if this one is trained itself, or its trained twin is not there.

    Example:
        >>> trained_name("random:vgg@3", ["vgg", "random:vgg@3"]), trained_name("vgg", ["vgg"])
        ('vgg', None)
    """
    found = split_random(name)
    return found[0] if found and found[0] in among else None
