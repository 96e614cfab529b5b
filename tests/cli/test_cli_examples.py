"""The example below every ``--help``: the command line takes it, and it stands on one line to be copied."""

import shlex

import pytest

from hfprobe.cli import COMMANDS, build_parser, main
from hfprobe.cli.examples import EXAMPLES
from hfprobe.cli.listening_test import ACTIONS

WITH_ACTIONS = {"listening-test": [f"listening-test {name}" for name in ACTIONS]}


def test_every_command_has_an_example():
    leaves = [leaf for name in COMMANDS for leaf in WITH_ACTIONS.get(name, [name])]
    assert set(EXAMPLES) == {"", *leaves}


@pytest.mark.parametrize("command", EXAMPLES)
def test_example_is_taken_and_shown_on_one_line(command, capsys):
    words = shlex.split(EXAMPLES[command])
    assert words[0] == "hfprobe" and words[1:][: len(command.split())] == command.split()
    args = build_parser(words[1]).parse_args(words[1:])  # exits if a word is wrong
    assert args.command == words[1]
    assert main([*command.split(), "--help"]) == 0
    assert f"\n  {EXAMPLES[command]}\n" in capsys.readouterr().out
