"""The key of a listening test: what each item is about and which answer is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfprobe.errors import HfprobeError
from hfprobe.listening.design import Cell
from hfprobe.listening.make import KEY_FORMAT, KEY_VERSION
from hfprobe.plain import parse_json, read_text, reason, short

ROLES = ("test", "catch", "training")


class ListeningError(HfprobeError):
    """A key or a file of answers cannot be used."""


@dataclass(frozen=True)
class KeyItem:
    """What the key says of one item.

    Attributes:
        role: ``test``, ``catch`` or ``training``.
        cell: What it is about.
        choices: What can be chosen, or is rated.
        right: The right choice; None for rating items.
        stimuli: What each choice of a rating item is; None for triplets.
    """

    role: str
    cell: Cell
    choices: tuple[str, ...]
    right: str | None = None
    stimuli: Mapping[str, Cell] | None = None


@dataclass(frozen=True)
class Key:
    """A test's key.

    Attributes:
        test: Name of the test.
        kind: ``triplet`` or ``mushra``.
        items: By name, in the order of the file.
        seed: Of the test.
        settings: What the test was made with.
    """

    test: str
    kind: str
    items: Mapping[str, KeyItem]
    seed: int = 0
    settings: Mapping[str, Any] | None = None

    def scored(self) -> dict[str, KeyItem]:
        """Items that a complete file of answers has: all but the training items."""
        return {name: item for name, item in self.items.items() if item.role != "training"}


def read_key(path: str | Path) -> Key:
    """Read the key that `hfprobe listening-test make` wrote.

    Args:
        path: A JSON file.

    Raises:
        ListeningError: It cannot be read, or is no key.
    """
    content = read_json(path, "key")
    name = Path(path).name
    if content.get("format") != KEY_FORMAT:
        raise ListeningError(
            f"{name} is not a key (format {short(content.get('format'))}); give the key.json of the test"
        )
    if content.get("version") != KEY_VERSION:
        raise ListeningError(
            f"{name}: expected version {KEY_VERSION} of the key, got {short(content.get('version'))}; use the hfprobe "
            "that made it"
        )
    try:
        items = {
            item: KeyItem(
                str(entry["role"]),
                Cell(str(entry["encoder"]), str(entry["layer"]), str(entry["condition"])),
                tuple(map(str, entry["choices"])),
                entry.get("right"),
                {clip: Cell(*map(str, each)) for clip, each in entry["stimuli"].items()}
                if "stimuli" in entry
                else None,
            )
            for item, entry in content["items"].items()
        }
        key = Key(str(content["test"]), str(content["kind"]), items, int(content["seed"]), content.get("settings"))
        _check_items(key)
        return key
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = f"{type(error).__name__}: {reason(error)}"
        raise ListeningError(f"{name} is damaged ({why}); take it from where it was made") from error


def _check_items(key: Key) -> None:
    """Scoring looks up roles, right choices and stimuli by name, so all of them must be there.

    Raises:
        ValueError: One is not.
    """
    for name, item in key.items.items():
        if item.role not in ROLES:
            raise ValueError(f"item {short(name)} has the role {short(item.role)}; roles are {', '.join(ROLES)}")
        if key.kind == "triplet" and item.right not in item.choices:
            raise ValueError(f"item {short(name)}: the right choice {short(item.right)} is none of its choices")
        if item.stimuli is not None and set(item.stimuli) != set(item.choices):
            raise ValueError(f"item {short(name)} has stimuli that are not its choices")


def read_json(path: str | Path, what: str) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ListeningError: The file is missing, cut off, or something else.
    """
    name = Path(path).name
    try:
        content = parse_json(read_text(path, f"the {what}", ListeningError, encoding="utf-8-sig"))
    except ListeningError:
        raise
    except ValueError as error:
        why = reason(error)
        raise ListeningError(f"{name} is not valid JSON ({why}), maybe cut off; ask for the {what} again") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ListeningError(f"{name} holds a {kind}, not the {what} of a listening test; check the file")
    return content
