"""The ``hfprobe`` command.

Each command is a module with ``add_arguments(parser)`` and ``run(args) -> str``, whose result is the last line
printed. Modules are imported only when their command is used, so ``hfprobe --help`` does not wait for torch.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from typing import NoReturn

from hfprobe import __version__
from hfprobe.cli.examples import HelpFormatter, epilog

COMMANDS: dict[str, str] = {
    "demo": "everything once, small, offline, with sound; opens as a page",
    "listen": "hear what every layer of an encoder keeps of your recording",
    "train": "train one probe per layer of an encoder, all in one pass",
    "evaluate": "measure what is left of speaker and words, layer by layer",
    "score": "measure sound files that something else made against their references",
    "similarity": "compare layers with one another, between encoders and along training (CCA, CKA)",
    "classify": "name phones, speakers, genders and noise from every layer, with controls",
    "invariance": "measure how little the layers change when noise is added",
    "untangle": "measure how far apart words, phones or speakers lie in every layer (manifold capacity)",
    "listening-test": "let people listen: make a test of whose voice a layer keeps, and score the answers",
    "report": "make one page of one run or several: listen, curves, tables, what was run",
    "card": "write the model card of a bank or an encoder from its files and results",
    "push": "push a probe bank with its card to the Hugging Face Hub, in one commit",
    "encoders": "list the encoders and layers that hfprobe knows",
    "bench": "measure what hfprobe costs on this machine, side by side with other ways to do the same",
}


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is what ``--help`` is for."""

    def parse_known_args(self, args=None, namespace=None):
        """Refuse unknown words here, where it is known which command's they are, and name the nearest option."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            near = difflib.get_close_matches(unknown[0].split("=")[0], options, n=1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{f'; did you mean {near[0]}?' if near else ''}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line; only the options of ``command`` are filled in."""
    parser = OneLineParser(
        allow_abbrev=False,
        prog="hfprobe",
        description="Hear, and measure, what every layer of a speech recogniser still carries.",
        epilog=epilog(""), formatter_class=HelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"hfprobe {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False,
            epilog=epilog(name), formatter_class=HelpFormatter,
        )  # fmt: skip
        if name == command:
            from hfprobe.cli.common import add_common_arguments

            module = _module(name)
            module.add_arguments(sub)
            if not getattr(module, "ACTIONS", ()):  # those have them: before an action they would be lost
                add_common_arguments(sub)
    return parser


def _module(command: str):
    return importlib.import_module(f"hfprobe.cli.{command.replace('-', '_')}")


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done, 1 failed (message on standard error), 2 wrong arguments, 130 interrupted (143 by SIGTERM).
    """
    argv = sys.argv[1:] if argv is None else argv
    command = next((word for word in argv if word in COMMANDS), None)
    try:
        if command is not None and any(word.split("=")[0] == "--config" for word in argv):
            from hfprobe.cli.config_file import expand

            argv = expand(lambda: build_parser(command), argv, command)
        args = build_parser(command).parse_args(argv)
        from hfprobe.cli.common import run_command
        from hfprobe.memory import keep_freed_memory

        keep_freed_memory()
        return run_command(_module(args.command), args, argv)
    except SystemExit as stop:  # argparse has already printed why
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        print(f"hfprobe: {str(stop) or 'interrupted'}", file=sys.stderr)
        return getattr(stop, "status", 130)
