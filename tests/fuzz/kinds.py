"""Every kind of file that hfprobe reads: how a valid one is made, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMS = ("json", "yaml", "lines", "binary")


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: Short.
        readers: Modules of hfprobe, by path, that read such a file.
        form: One of `FORMS`.
        make: Writes a valid one, with what belongs to it, into an empty folder; returns the file to be spoiled.
        read: Reads it, as far as hfprobe would.
        named: What a message calls it, besides the file's and the folder's name.
        after: Called when the file has been spoiled, e.g. to renew a checksum.
        slow: Seconds for a read: fewer examples are tried.
    """

    name: str
    readers: tuple[str, ...]
    form: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    named: tuple[str, ...] = ()
    after: Callable[[Path], None] | None = None
    slow: bool = False


def all_kinds() -> list[Kind]:
    """Of all modules beside this one."""
    import kinds_listening
    import kinds_models
    import kinds_sound
    import kinds_text

    return [*kinds_text.KINDS, *kinds_listening.KINDS, *kinds_sound.KINDS, *kinds_models.KINDS]
