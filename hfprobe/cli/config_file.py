"""``--config FILE.yaml``: options from a file, checked as if they had been typed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hfprobe.cli.common import NOT_SETTINGS
from hfprobe.errors import HfprobeError
from hfprobe.plain import parse_yaml, read_text, reason, short


def expand(make_parser: Callable[[], argparse.ArgumentParser], argv: list[str], command: str) -> list[str]:
    """The command line with the options of the ``--config`` file put in; options that were typed win.

    The file's keys are those of the ``config.yaml`` that every command writes, so that one reads back. Exits with
    status 2, like any wrong argument, if the file cannot be read or has an unknown key.

    Args:
        make_parser: Makes the parser; the one made here is relaxed, since the file may give what is required.
        argv: Words of the command line, with ``command`` among them.
        command: Name of the command.

    Returns:
        A command line without ``--config``.
    """
    parser = make_parser()
    sub = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[command]
    nested = next((a.choices for a in sub._actions if isinstance(a, argparse._SubParsersAction)), {})
    if chosen := next((word for word in argv[argv.index(command) + 1 :] if word in nested), None):
        sub, command = nested[chosen], chosen
    actions = {a.dest: a for a in sub._actions if a.dest != "help" and a.dest not in NOT_SETTINGS}
    for action in actions.values():
        action.default, action.required = argparse.SUPPRESS, False
        if not action.option_strings:
            action.nargs = "*"
    if sum(word.split("=")[0] == "--config" for word in argv) > 1:
        sub.error("--config is given twice; put all options into one file")
    given = vars(parser.parse_args(argv))
    values = _read(sub, given["config"])
    unknown = sorted(set(values) - set(actions))
    if unknown:
        valid = ", ".join(sorted(actions))
        sub.error(f"--config {given['config']}: unknown keys {short(', '.join(unknown))}; valid keys: {valid}")
    positional: list[str] = []
    options: list[str] = []
    for name, value in values.items():
        action = actions[name]
        if value is None or given.get(name):
            continue
        if not action.option_strings:
            positional += map(str, value if isinstance(value, list) else [value])
        elif action.nargs == 0:  # a switch: `const` is what it stands for
            if not isinstance(value, bool):
                sub.error(f"--config {given['config']}: {name} must be true or false, got {short(value)}")
            options += [action.option_strings[0]] if value == action.const else []
        else:
            options += _words(action, value)
    rest = list(argv)
    index = next(i for i, word in enumerate(rest) if word.split("=")[0] == "--config")
    del rest[index : index + (1 if "=" in rest[index] else 2)]
    position = rest.index(command) + 1
    return [*rest[:position], *positional, *options, *rest[position:]]


def _read(sub: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    try:
        text = read_text(path, "options")
    except HfprobeError as error:
        sub.error(f"--config: not readable as YAML: {error}" if Path(path).is_file() else f"--config: {error}")
    try:
        values = parse_yaml(text)
    except ValueError as error:
        sub.error(f"--config {path}: not readable as YAML: {reason(error)}")
    if not isinstance(values, dict):
        sub.error(f"--config {path}: the file is not a table of options")
    return {str(name).replace("-", "_"): value for name, value in values.items()}


def _words(action: argparse.Action, value: Any) -> list[str]:
    """One option as it would be typed."""
    option, items = action.option_strings[0], value if isinstance(value, list) else [value]
    if action.nargs is not None:
        return [option, *map(str, items)] if items else []
    # `--option=value`, so that a value with a dash in front is not taken for an option
    return [f"{option}={item}" for item in items]
