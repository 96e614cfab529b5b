"""What all commands share: common options, configuration files, errors, and the resolved configuration on disk."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from hfprobe.errors import ConfigError, HfprobeError

NOT_SETTINGS = ("config", "debug", "command")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that every command takes."""
    group = parser.add_argument_group("common options")
    group.add_argument("--config", metavar="FILE.yaml", help="read options from a YAML file; the command line wins")
    group.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    group.add_argument("--device", default="auto", help="auto, cpu or cuda[:N] (default: %(default)s)")
    group.add_argument("--debug", action="store_true", help="show a traceback when something fails")


def resolve(parser: argparse.ArgumentParser, args: argparse.Namespace, argv: list[str]) -> argparse.Namespace:
    """Fill in options from ``--config``: the file's values replace defaults, the command line replaces the file's.

    The file goes through the same checks as the command line, by being turned into options that are read first.
    """
    if not getattr(args, "config", None):
        return args
    import yaml

    path = Path(args.config)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        parser.error(f"--config {args.config}: {str(error).splitlines()[0]}")
    known = {name for name in vars(args) if name not in NOT_SETTINGS}
    names = {str(name).replace("-", "_"): value for name, value in values.items()} if isinstance(values, dict) else {}
    unknown = sorted(set(names) - known)
    if not isinstance(values, dict) or unknown:
        what = f"unknown keys {', '.join(unknown)}" if unknown else "the file is not a table of options"
        parser.error(f"--config {args.config}: {what}; valid keys: {', '.join(sorted(known))}")
    given = {word.split("=")[0] for word in argv if word.startswith("--")}
    options: list[str] = []
    for name, value in names.items():
        option = "--" + name.replace("_", "-")
        if option in given or value is None or value is False:
            continue
        listed = value if isinstance(value, list) else [] if value is True else [value]
        options += [option, *map(str, listed)]
    position = argv.index(args.command) + 1
    # Options before the user's own words, so that theirs win; `--` keeps positionals from joining a list option.
    return parser.parse_args([*argv[:position], *options, *argv[position:]])


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
    except KeyboardInterrupt:
        print("hfprobe: interrupted", file=sys.stderr)
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

    folder.mkdir(parents=True, exist_ok=True)
    values = {name: value for name, value in vars(args).items() if name not in (*NOT_SETTINGS, "command_line")}
    plain = {k: [str(x) for x in v] if isinstance(v, list) else str(v) if isinstance(v, Path) else v for k, v in values.items()}
    temporary = folder / ".config.yaml.tmp"
    temporary.write_text(yaml.safe_dump(plain), encoding="utf-8")
    os.replace(temporary, folder / "config.yaml")


def output_folder(path: str) -> Path:
    """The output folder, made; an existing file of that name is an error."""
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {path!r} is a file; give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
