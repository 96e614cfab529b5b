"""Packed ESPnet models: the ``.zip`` that ``espnet2.bin.pack`` writes, opened without trusting it.

Members are written nowhere but below a temporary folder, which is removed afterwards. An archive with a
member that points elsewhere (an absolute name, ``..``, a link) is refused as a whole.
"""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from hfprobe.errors import EncoderError
from hfprobe.plain import reason, short

_SUFFIXES = frozenset({".yaml", ".yml", ".pth", ".safetensors", ".txt"})
_DRIVE = re.compile(r"[A-Za-z]:")


def is_archive(path: Path) -> bool:
    """Whether a path is a packed model.

    Args:
        path: Any path.

    Returns:
        True for an existing file that ends on ``.zip``.
    """
    return path.suffix.lower() == ".zip" and path.is_file()


def is_safe_member(name: str) -> bool:
    """Whether a name stays below the folder that it is looked up in.

    Args:
        name: Name of a member or a path in ``meta.yaml``, with ``/`` between its parts.

    Returns:
        False if it is empty, absolute, holds ``..``, a backslash, a drive or a control character.

    Example:
        >>> [is_safe_member(name) for name in ("exp/a/1epoch.pth", "../a.pth", "/etc/passwd", "C:\\\\a.pth")]
        [True, False, False, False]
    """
    parts = PurePosixPath(name).parts
    strange = "\\" in name or _DRIVE.match(name) is not None or any(ord(letter) < 32 for letter in name)
    return bool(parts) and not name.startswith("/") and ".." not in parts and not strange


@contextmanager
def unpack(archive: Path) -> Iterator[Path]:
    """Unpack configuration, weights and token lists for as long as a ``with`` block lasts.

    Args:
        archive: The ``.zip``.

    Yields:
        A temporary folder with the archive's layout.

    Raises:
        EncoderError: If the archive is damaged, encrypted, or has a member that points outside. Errors of this
            kind from inside the block name the archive instead of the temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="hfprobe-") as folder:
        try:
            with zipfile.ZipFile(archive) as packed:
                members = packed.infolist()
                _check_members(members, archive)
                for member in members:
                    if PurePosixPath(member.filename).suffix.lower() in _SUFFIXES and not member.is_dir():
                        target = Path(folder, *PurePosixPath(member.filename).parts)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        # Copied by hand: `extract` would quietly rename what it takes for unsafe.
                        with packed.open(member) as source, target.open("wb") as sink:
                            shutil.copyfileobj(source, sink)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeError, OSError) as error:
            raise EncoderError(
                f"expected a packed ESPnet model in {archive}, could not read it: {reason(error)}; download it again"
            ) from error
        try:
            yield Path(folder)
        except EncoderError as error:
            # The temporary folder is gone by the time that anybody reads the message.
            raise EncoderError(str(error).replace(folder, str(archive))) from error


def _check_members(members: list[zipfile.ZipInfo], archive: Path) -> None:
    """Refuse an archive that points outside itself."""
    names = [member.filename for member in members]
    for member in members:
        link = stat.S_ISLNK(member.external_attr >> 16)
        # `orig_filename` still has what zipfile tidied away in `filename`.
        if link or not is_safe_member(member.filename) or not is_safe_member(member.orig_filename):
            what, name = "a link" if link else "a name that points outside", short(member.orig_filename)
            raise EncoderError(f"expected only plain members in {archive}, got {what}: {name}; do not use this file")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise EncoderError(f"expected each member of {archive} once, got {short(twice)} twice: pack the model anew")
