"""Writes the page of the command line from the parsers themselves, so that it cannot differ from ``--help``."""

from __future__ import annotations

import argparse
import re

PAGE, MARK = "reference/command-line.md", "<!-- commands -->"


def on_page_markdown(markdown: str, page, **kwargs) -> str:
    """Put the commands in place of the mark; called by MkDocs for every page."""
    if page.file.src_uri != PAGE:
        return markdown
    if MARK not in markdown:
        raise ValueError(f"{PAGE} has no line {MARK!r}")
    return markdown.replace(MARK, commands_markdown())


def commands_markdown() -> str:
    """All commands: summary, usage and a table of options for each, actions of a command below it."""
    from hfprobe.cli import COMMANDS, build_parser

    parts = []
    for name in COMMANDS:
        parser = _choices(build_parser(name))[name]
        parts += _command(f"hfprobe {name}", parser, 2)
        parts += [line for key, sub in _choices(parser).items() for line in _command(f"hfprobe {name} {key}", sub, 3)]
    return "\n".join(parts)


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    return dict(found.choices) if found else {}


def _command(title: str, parser: argparse.ArgumentParser, level: int) -> list[str]:
    lines = ["", f"{'#' * level} {title}", "", _text(parser.description or "")]
    rows = [row for action in parser._actions if (row := _row(action))]
    if rows and not _choices(parser):
        lines += ["", "| option | | default |", "| :--- | :--- | :--- |", *rows]
    return lines


def _row(action: argparse.Action) -> str | None:
    if action.help == argparse.SUPPRESS or isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
        return None
    formatter = argparse.HelpFormatter("hfprobe")
    value = "" if action.nargs == 0 else formatter._format_args(action, action.dest.upper())
    name = f"{action.option_strings[0]} {value}".strip() if action.option_strings else value
    shown = "" if action.default in (None, False, argparse.SUPPRESS, []) else action.default
    shown = " ".join(map(str, shown)) if isinstance(shown, (list, tuple)) else str(shown)
    if action.required and action.option_strings:
        shown = "required"
    help_text = action.help or ""
    help_text = re.sub(r" ?\(default: %\(default\)s\)", "", help_text)  # it has a column of its own
    help_text = help_text % {**vars(action), "prog": "hfprobe"} if "%(" in help_text else help_text.replace("%%", "%")
    name = name.replace("|", "\\|")
    return f"| `{name}` | {_text(help_text)} | {_text(shown)} |"


def _text(text: str) -> str:
    """Plain text for a cell of a table; what is between backticks stays as it is."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        part.replace("|", "\\|") if part.startswith("`") else re.sub(r"([<>*_|\[\]\\])", r"\\\1", part)
        for part in parts
    )
