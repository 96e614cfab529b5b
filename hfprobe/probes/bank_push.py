"""A bank's folder as one commit of one repository: what is pushed, what stays here, and what a push replaces."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from hfprobe.errors import BankError
from hfprobe.hub.safety import check_inside, read_header
from hfprobe.hub.upload import Pushed, push
from hfprobe.plain import read_text
from hfprobe.probes.bank_files import INDEX, LAYER_FILES, LAYER_NAME, RANDOM, check_files
from hfprobe.probes.bank_index import files_of, read_index
from hfprobe.probes.bank_source import bank_errors

CARD = "README.md"
# What a card may bring along: sounds, figures and tables. Nothing else of the folder leaves this machine.
LINKED = (".flac", ".wav", ".ogg", ".mp3", ".png", ".svg", ".jpg", ".pdf", ".csv", ".json", ".md", ".txt", ".html")
_LINK = re.compile(r"""\]\(\s*<?([^)\s>]+)|(?:src|href)\s*=\s*["']([^"']+)""")


@dataclass(frozen=True)
class BankFolder:
    """A bank on this machine whose files were found to be whole.

    Attributes:
        folder: Where it is.
        kind: ``"probes"`` or ``"classifiers"``.
        index: Content of its ``bank.json``.
        files: What a push takes, as paths below the folder: the bank, that of the random twin, and what the card links
            to.
        left: Other files and folders at the top, which stay here.
    """

    folder: Path
    kind: str
    index: dict[str, Any]
    files: tuple[str, ...]
    left: tuple[str, ...]


def open_bank_folder(folder: str | Path, card: str | None = None) -> BankFolder:
    """Find out what there is to push, and that all of it is whole.

    Args:
        folder: The bank's folder.
        card: Text of its card; that of ``README.md`` in it where None.

    Returns:
        What is there.

    Raises:
        BankError: There is no bank, or a file is missing, damaged, a pickle, or a link to somewhere else.
    """
    folder = Path(folder)
    index = read_index(folder, None)
    files = [INDEX, *_whole(folder, index)]
    if (folder / RANDOM / INDEX).is_file():
        twin = read_index(folder / RANDOM, index["kind"])
        files += [f"{RANDOM}/{file}" for file in (INDEX, *_whole(folder / RANDOM, twin))]
    if card is None and (folder / CARD).is_file():
        card = read_text(folder / CARD, "a model card", BankError)
        files.insert(0, CARD)
    files += [file for file in linked_files(card or "", folder) if file not in files]
    with bank_errors():
        for file in files:
            check_inside(folder / file, folder)
    tops = {PurePosixPath(file).parts[0] for file in files}
    left = sorted(item.name + "/" * item.is_dir() for item in folder.iterdir() if item.name not in tops)
    return BankFolder(folder, index["kind"], index, tuple(files), tuple(name for name in left if name != CARD))


def _whole(folder: Path, index: dict[str, Any]) -> list[str]:
    files = files_of(index)
    with bank_errors():
        for file in files:
            check_inside(folder / file, folder)
        check_files(folder, index, files)
        for file in files:
            if file.endswith(".safetensors"):
                read_header(folder / file)
    return files


def linked_files(card: str, folder: Path) -> list[str]:
    """Files of a folder that a card shows or links to.

    Args:
        card: Text of the card.
        folder: Where its relative links lead.

    Returns:
        Paths below the folder, in the order of the card; what is not there, hidden or of another kind is left out.
    """
    found = []
    for match in _LINK.finditer(card):
        path = PurePosixPath(unquote((match[1] or match[2]).split("#")[0].split("?")[0]))
        plain = path.parts and not path.is_absolute() and not any(part.startswith(".") for part in path.parts)
        if plain and path.suffix.lower() in LINKED and os.path.isfile(folder / path) and str(path) not in found:
            found.append(str(path))
    return found


def replaced(there: Collection[str]) -> list[str]:
    """Files of an older bank among the paths of a repository, which a new one takes the place of.

    Example:
        >>> replaced(["bank.json", "l9/config.json", "l9/model.safetensors", "notes.md"])
        ['bank.json', 'l9/config.json', 'l9/model.safetensors']
        >>> replaced(["config.json", "l9/config.json"])
        []
    """
    if INDEX not in there:
        return []
    layer = re.compile(rf"({RANDOM}/)?({LAYER_NAME.pattern})/({'|'.join(map(re.escape, LAYER_FILES))})")
    return [path for path in there if path in (INDEX, f"{RANDOM}/{INDEX}") or layer.fullmatch(path)]


def push_bank(
    folder: str | Path,
    repo_id: str,
    card: str | None,
    commit_message: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: Any = None,
) -> Pushed:
    """Push a bank's folder, file by file as it is, in one commit.

    Args:
        folder: The bank's folder.
        repo_id: ``"user/name"``.
        card: Text of the card; that of the folder's ``README.md`` where None.
        commit_message: First line of the commit.
        private: Whether a new repository is private.
        revision: Branch.
        token: Access token; the stored one where None.

    Returns:
        Where the commit is.

    Raises:
        BankError: The bank is not whole.
        HubError: No token, no access, no connection, no such name or branch.
        ConfigError: Message or card cannot be used.
    """
    bank = open_bank_folder(folder, card)
    with tempfile.TemporaryDirectory(prefix="hfprobe-") as scratch:
        # A copy, checked again: the folder may be written to while its files are on their way.
        for file in bank.files:
            (Path(scratch) / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bank.folder / file, Path(scratch) / file)
        copy = open_bank_folder(scratch, card)
        files: dict[str, Path | bytes] = {file: copy.folder / file for file in copy.files}
        if card is not None:
            files[CARD] = card.encode("utf-8")
        options = {"private": private, "revision": revision, "token": token}
        return push(repo_id, files, commit_message, **options, replaces=replaced)
