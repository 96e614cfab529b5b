"""``hfprobe listening-test``: make a test for people, and score what they answered."""

from __future__ import annotations

import argparse

from hfprobe.cli import listening_test_make, listening_test_score
from hfprobe.cli.common import add_common_arguments
from hfprobe.cli.examples import HelpFormatter, epilog

ACTIONS = {
    "make": (listening_test_make, "write the page that listeners open, and the key that stays with you"),
    "score": (listening_test_score, "say from the saved answers what listeners can still tell, layer by layer"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions of this command, each with options of its own."""
    actions = parser.add_subparsers(dest="action", metavar="make|score", required=True)
    for name, (module, summary) in ACTIONS.items():
        described = summary[0].upper() + summary[1:] + "."
        sub = actions.add_parser(
            name, help=summary, description=described, allow_abbrev=False,
            epilog=epilog(f"listening-test {name}"), formatter_class=HelpFormatter,
        )  # fmt: skip
        module.add_arguments(sub)
        add_common_arguments(sub)


def run(args: argparse.Namespace) -> str:
    """Do what the action says."""
    module, _ = ACTIONS[args.action]
    del args.action  # not a setting: `--config` reads back options of one action
    return module.run(args)
