"""Code blocks of a Markdown page: found, and run in order in one folder, their printed output compared with the page's.

A block is fenced and marked ``python`` or ``sh``. What it prints is compared, as doctest compares (``...`` stands for
anything, white space counts as one), with the block ``text title="Output"`` right behind it. A comment before a block says
how it is tested where it cannot run here:

- ``<!-- test: parse -->``: read only. Python is compiled; the options of ``hfprobe`` commands go through its parser.
- ``<!-- test: instead A=B C=D -->``: run with B in place of A, such as a tiny model in place of one on the Hub.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<code>.*?)^(?P=indent)```[ ]*$", re.M | re.S)
MARK = re.compile(r"<!-- test: (?P<how>parse|instead) ?(?P<words>[^>]*)-->\s*$")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SHELL_ONLY = re.compile(r"[|;&<>*$`(){}]")


@dataclass
class Block:
    """One block of code.

    Args:
        language: ``python`` or ``sh``.
        code: Its text.
        line: Line of the page on which the code begins.
        how: ``run``, ``parse`` or ``instead``.
        replaced: For ``instead``: text to what it is run with.
        output: What the page says is printed; None where it does not say.
    """

    language: str
    code: str
    line: int
    how: str = "run"
    replaced: dict[str, str] = field(default_factory=dict)
    output: str | None = None

    def text(self) -> str:
        """The code as it is run."""
        code = self.code
        for old, new in self.replaced.items():
            if old not in code:
                raise ValueError(f"line {self.line}: {old!r} is to be replaced but is not in the block")
            code = code.replace(old, new)
        return code


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order.

    Example:
        >>> page = "```python\\nprint(1)\\n```\\n\\n```text title=\\"Output\\"\\n1\\n```\\n"
        >>> [(block.language, block.output) for block in blocks_of(page)]
        [('python', '1\\n')]
    """
    found: list[Block] = []
    end = 0
    for match in BLOCK.finditer(page):
        info, code = match["info"].strip(), re.sub(rf"^{match['indent']}", "", match["code"], flags=re.M)
        between, end = page[end : match.start()], match.end()
        line = page[: match.start()].count("\n") + 2
        if info == 'text title="Output"':
            if not found or between.strip():
                raise ValueError(f"line {line}: an output must follow its block")
            found[-1].output = code
        elif info in ("python", "sh"):
            mark = MARK.search(between)
            replaced = dict(word.split("=", 1) for word in mark["words"].split()) if mark else {}
            found.append(Block(info, code, line, mark["how"] if mark else "run", replaced))
        elif info.split(" ")[0] not in ("text", "json", "yaml", "toml", "csv"):
            raise ValueError(f"line {line}: a block {info!r} is neither tested (python, sh) nor text")
    return found


def commands_of(code: str) -> list[list[str]]:
    """Words of each command of a shell block.

    Example:
        >>> commands_of("# why\\nhfprobe encoders \\\\\\n  blstm-robust\\n")
        [['hfprobe', 'encoders', 'blstm-robust']]
    """
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def parse(block: Block) -> None:
    """Check a block that is not run; raises where it could not be right."""
    if block.language == "python":
        compile(block.code, "page", "exec")
        return
    done = subprocess.run(["bash", "-n"], input=block.code, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    for words in commands_of(block.code):
        while words and (re.match(r"\w+=", words[0]) or words[0].startswith("$")):
            words = words[1:]
        if "hfprobe" in words and words[0] in ("hfprobe", "torchrun", "accelerate", "srun"):
            parse_command(words[words.index("hfprobe") + 1 :])


def parse_command(words: list[str]) -> None:
    """Put the options of one ``hfprobe`` command through its parser."""
    from hfprobe.cli import build_parser

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser = build_parser(words[0])
            if "--config" in words:  # the file may give what is required
                parser = relaxed(parser, words[0])
            parser.parse_args(words)
    except SystemExit as stop:
        assert not stop.code, f"hfprobe {' '.join(words)}: {said.getvalue()}"


def relaxed(parser, command: str):
    """The parser with nothing required of the command."""
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for action in commands.choices[command]._actions:
        action.required = False
    return parser


class Runner:
    """Runs blocks in the working folder, Python in one namespace; ``hfprobe`` commands in this process, to save time."""

    def __init__(self) -> None:
        self.names: dict = {"__name__": "page"}

    def run(self, block: Block) -> str:
        """Run a block; returns what it prints on standard output."""
        if block.language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block.text(), f"line {block.line}", "exec"), self.names)
            return out.getvalue()
        commands = commands_of(block.text())
        if SHELL_ONLY.search(block.text()) or any(words[0] != "hfprobe" for words in commands):
            return self._shell(block.text())
        return "".join(self._hfprobe(words[1:]) for words in commands)

    @staticmethod
    def _hfprobe(words: list[str]) -> str:
        from hfprobe.cli import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
        assert status == 0, f"hfprobe {' '.join(words)} ended with {status}: {err.getvalue()}"
        return out.getvalue()

    @staticmethod
    def _shell(code: str) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def compare(block: Block, printed: str) -> None:
    """Raise unless what was printed is what the page shows."""
    if block.output is None:
        return
    if not doctest.OutputChecker().check_output(block.output, printed, FLAGS):
        raise AssertionError(f"line {block.line}: the page shows\n{block.output}\nbut the block prints\n{printed}")
