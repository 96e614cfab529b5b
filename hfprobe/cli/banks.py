"""Finding encoders, their probe banks, noise and speaker encoders from what the command line names."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.common import positive_int
from hfprobe.errors import BankError, ConfigError


def add_encoder_arguments(parser: argparse.ArgumentParser, probes: bool = True, required: bool = True) -> None:
    """``--encoder`` (repeatable) and ``--probes``."""
    parser.add_argument(
        "--encoder", action="append", required=required, metavar="E",
        help="encoder: a name from `hfprobe encoders`, an ESPnet experiment folder, or a Hub id; may be repeated",
    )  # fmt: skip
    if probes:
        parser.add_argument(
            "--probes", action="append", default=[], metavar="BANK",
            help="probe bank (name, folder, Hub id[@revision]), one per --encoder, in order; default: that which ships",
        )  # fmt: skip


def add_vocoder_arguments(parser: argparse.ArgumentParser, iterations: int) -> None:
    """``--vocoder`` and ``--iterations``."""
    parser.add_argument(
        "--vocoder", default="griffin-lim", metavar="V",
        help="griffin-lim, hifigan[:SOURCE] or speechbrain-hifigan[:SOURCE] (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--iterations", type=positive_int, default=iterations, help="Griffin-Lim iterations (default: %(default)s)"
    )


def load_encoders(names: list[str], banks: list[str]) -> list[tuple]:
    """Pairs of encoder and bank.

    Raises:
        ConfigError: The number of banks does not fit.
        BankError: An encoder that does not ship with hfprobe has no bank given.
    """
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.probes import ProbeBank
    from hfprobe.probes.bank_source import shipped_banks

    if banks and len(banks) != len(names):
        raise ConfigError(
            f"{len(names)} --encoder but {len(banks)} --probes; give one bank per encoder, in the same order"
        )
    if len(set(names)) != len(names):
        raise ConfigError("an encoder is given twice; give each once")
    pairs = []
    for index, name in enumerate(names):
        encoder = AutoSpeechEncoder.from_pretrained(name)
        if banks:
            bank = _load_bank(banks[index])
        elif name in AutoSpeechEncoder.shipped() and name in shipped_banks():
            bank = ProbeBank.from_pretrained(name)
        else:
            raise BankError(
                f"no probes for encoder {name!r}: give --probes BANK, or train them with "
                f"`hfprobe train --encoder {name} --dataset D --output BANK`"
            )
        bank.check(encoder)
        pairs.append((encoder, bank))
    return pairs


def load_random_floors(names: list[str], pairs: list[tuple], banks: list[str]) -> tuple[list[tuple], list[str]]:
    """The random twins of encoders with their banks: what `hfprobe train --random-floor` made.

    Args:
        names: What ``--encoder`` said, in order.
        pairs: What `load_encoders` made of it.
        banks: Banks of the twins, one per encoder in order; where empty, the folder ``random`` in each encoder's own
            bank is used if it is there.

    Returns:
        Pairs of random encoder and bank, and the names of the encoders that have none.

    Raises:
        ConfigError: The number of banks does not fit.
        BankError: A bank is not that of a random twin of its encoder.
    """
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.encoders.random_weights import split_random

    if banks and len(banks) != len(names):
        raise ConfigError(
            f"{len(names)} --encoder but {len(banks)} --random-probes; give one per encoder, in the same order"
        )
    floors, without = [], []
    for index, (name, (encoder, bank)) in enumerate(zip(names, pairs, strict=True)):
        if split_random(encoder.name):
            continue
        random_bank = _load_bank(banks[index]) if banks else bank.random_twin()
        if random_bank is None:
            without.append(encoder.name)
            continue
        made = split_random(random_bank.encoder)
        if made is None:
            raise BankError(
                f"expected probes of {encoder.name!r} with random weights, got those of {random_bank.encoder!r}; "
                f"train them with `hfprobe train --encoder {name} --random-floor --dataset D --output BANK`"
            )
        twin = AutoSpeechEncoder.from_pretrained(name, random_weights=made[1])
        random_bank.check(twin)
        floors.append((twin, random_bank))
    return floors, without


def _load_bank(source: str):
    """A bank by the name that was typed."""
    from hfprobe.probes import ProbeBank
    from hfprobe.probes.bank_source import shipped_banks

    if source in shipped_banks() or Path(source).is_dir():
        return ProbeBank.from_pretrained(source)
    repository, _, revision = source.partition("@")
    if repository.count("/") != 1:
        raise BankError(f"probe bank {source!r} does not exist; give a bank's folder or a Hub id user/name[@revision]")
    return ProbeBank.from_pretrained(repository, revision or None)
