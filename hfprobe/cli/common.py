"""What all commands share: common options, errors, and the resolved configuration on disk."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from hfprobe.errors import ConfigError, HfprobeError
from hfprobe.files import write_whole

NOT_SETTINGS = ("config", "debug", "command")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that every command takes."""
    group = parser.add_argument_group("common options")
    group.add_argument("--config", metavar="FILE.yaml", help="read options from a YAML file; the command line wins")
    group.add_argument("--seed", type=seed, default=0, help="seed of everything drawn (default: %(default)s)")
    group.add_argument("--device", default="auto", help="auto, cpu or cuda[:N] (default: %(default)s)")
    group.add_argument("--debug", action="store_true", help="show a traceback when something fails")


def run_command(module: Any, args: argparse.Namespace, argv: list[str]) -> int:
    """Run ``module.run`` with one-line errors; returns the exit status."""
    args.command_line = "hfprobe " + " ".join(_tidy(word) for word in argv)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    try:
        print(module.run(args))
        return 0
    except (HfprobeError, OSError) as error:
        if args.debug:
            raise
        print(f"hfprobe: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _tidy(word: str) -> str:
    """A word of the command line without folders of this machine: results are published."""
    return Path(word).name if word.startswith(("/", "~")) else word


def device_of(args: argparse.Namespace) -> str:
    """``cpu`` or ``cuda[:N]``; ``auto`` takes a GPU where there is one."""
    import torch

    if args.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(args.device)
    except RuntimeError as error:
        raise ConfigError(f"--device {args.device!r} is not known; use auto, cpu or cuda[:N]") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {args.device} was asked for, but no CUDA device is there; use --device cpu")
    return str(device)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The resolved options as plain values, without folders of this machine."""
    plain = {}
    for name, value in sorted(vars(args).items()):
        if name in (*NOT_SETTINGS, "command_line"):
            continue
        plain[name] = [_tidy(str(v)) for v in value] if isinstance(value, list) else value
        if isinstance(value, (str, Path)):
            plain[name] = _tidy(str(value))
    return plain


def write_settings(args: argparse.Namespace, folder: Path) -> None:
    """Write the resolved configuration as ``config.yaml`` beside the results; ``--config`` reads it back."""
    import yaml

    values = {name: value for name, value in vars(args).items() if name not in (*NOT_SETTINGS, "command_line")}
    plain = {
        k: [str(x) for x in v] if isinstance(v, list) else str(v) if isinstance(v, Path) else v
        for k, v in values.items()
    }
    write_whole(folder / "config.yaml", yaml.safe_dump(plain))


def check_output(path: str) -> Path:
    """The output folder, not yet made: commands check all inputs first and leave nothing behind if one is bad.

    Raises:
        ConfigError: The path, or a part of it, is a file.
    """
    folder = Path(path)
    for part in (folder, *folder.parents):
        if part.exists():
            if not part.is_dir():
                raise ConfigError(f"--output {path!r}: {str(part)!r} is a file; give a folder")
            break
    return folder


def _positive(kind: type, text: str):
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {what} above 0, got {text!r}")
    return value


def positive_int(text: str) -> int:
    """Type of options that count something."""
    return _positive(int, text)


def positive_float(text: str) -> float:
    """Type of options that measure something."""
    return _positive(float, text)


def share(text: str) -> float:
    """Type of options that are a part of a whole, 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def training_device(device: str) -> str:
    """What `ProbeTrainingConfig` calls a device of `device_of`: one GPU by number, or Accelerate's own choice."""
    return "auto" if device == "cuda" else device


def seed(text: str) -> int:
    """Type of ``--seed``."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)
