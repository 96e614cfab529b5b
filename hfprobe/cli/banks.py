"""Finding encoders, their probe banks, noise and speaker encoders from what the command line names."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.errors import BankError, ConfigError


def add_encoder_arguments(parser: argparse.ArgumentParser, probes: bool = True) -> None:
    """``--encoder`` (repeatable) and ``--probes``."""
    parser.add_argument(
        "--encoder", action="append", required=True, metavar="E",
        help="encoder: a name from `hfprobe encoders`, an ESPnet experiment folder, or a Hub id; may be repeated",
    )  # fmt: skip
    if probes:
        parser.add_argument(
            "--probes", action="append", default=[], metavar="BANK",
            help="probe bank (shipped name, folder, Hub id), one per --encoder in order; shipped encoders bring theirs",
        )  # fmt: skip


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
            known = banks[index] in shipped_banks() or Path(banks[index]).is_dir()
            if not known and banks[index].count("/") != 1:
                raise BankError(
                    f"probe bank {banks[index]!r} does not exist; give a bank's folder or a Hub id user/name"
                )
            bank = ProbeBank.from_pretrained(banks[index])
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
