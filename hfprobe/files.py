"""Files that are whole or not there, and folders that one run at a time writes into."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hfprobe.errors import ConfigError

LOCK = ".lock"
# What `whole_file`, a bank or a checkpoint is called until it is complete: all begin with a dot.
UNFINISHED = re.compile(r"\..+(\.\d+\.part(\.[^.]*)?|\.part|\.tmp)")


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name in its own folder; it gets its name when the block ends well.

    Args:
        path: Where the file is to be; folders are made.

    Yields:
        Where to write, with the suffix of ``path``. If the block raises, nothing is left and an older file stays.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "new" / "note.txt"
        >>> with whole_file(target) as place:
        ...     _ = place.write_text("all of it")
        >>> target.read_text(), len(list(target.parent.iterdir()))
        ('all of it', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: libraries choose the format by it, and numpy would add its own.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write bytes, or text as UTF-8 with its line ends kept, as `whole_file` does.

    Args:
        path: Where to write; folders are made.
        data: What to write.

    Returns:
        The path.
    """
    with whole_file(path) as place:
        place.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return Path(path)


def clear_unfinished(folder: str | Path) -> list[Path]:
    """Remove what a run that was killed left half written; only for the holder of the folder's lock.

    Args:
        folder: Searched with all folders below; links are not followed.

    Returns:
        What was removed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in (".results.4711.part.json", "results.json", ".gitignore"):
        ...     _ = (folder / name).write_text("")
        >>> [path.name for path in clear_unfinished(folder)]
        ['.results.4711.part.json']
    """
    removed = []
    for place, folders, files in os.walk(folder):
        for name in [name for name in folders if UNFINISHED.fullmatch(name)]:
            folders.remove(name)
            if not os.path.islink(os.path.join(place, name)):
                shutil.rmtree(os.path.join(place, name), ignore_errors=True)
                removed.append(Path(place, name))
        for name in filter(UNFINISHED.fullmatch, files):
            Path(place, name).unlink(missing_ok=True)
            removed.append(Path(place, name))
    return removed


@contextmanager
def sole_writer(folder: str | Path, command: str = "") -> Iterator[Path]:
    """Keep other runs out of an output folder while the block runs, and clear what a killed run left in it.

    The lock is the kernel's, on the file ``.lock``: it ends with the process, however that ends. Where the file system
    has no locks, the block runs without.

    Args:
        folder: Made if it is not there; removed again if the block raises and leaves it empty.
        command: What is running, for the message that another run gets.

    Yields:
        The folder.

    Raises:
        ConfigError: Another run is writing into the folder.
        OSError: The folder cannot be made or written.

    Example:
        >>> import tempfile
        >>> with sole_writer(tempfile.mkdtemp()) as folder:
        ...     with sole_writer(folder):
        ...         pass
        Traceback (most recent call last):
        ...
        hfprobe.errors.ConfigError: another run (process ...) is writing into ...; wait for it, stop it, or ...
    """
    folder = Path(folder)
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _locked(folder / LOCK, command)
    try:
        clear_unfinished(folder)
        yield folder
    finally:
        # Unlinked while it is still held: whoever waits for this file sees that it is no longer the one by that name.
        (folder / LOCK).unlink(missing_ok=True)
        os.close(descriptor)
        for part in made:
            try:
                part.rmdir()
            except OSError:  # there is something in it
                break


def _locked(path: Path, command: str) -> int:
    """A descriptor of the lock file that holds its lock."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise ConfigError(
                f"another run ({holder}) is writing into {path.parent}; wait for it, stop it, or choose another folder"
            ) from None
        except OSError:  # the file system has no locks
            return descriptor
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the run before removed this file between opening and locking
    os.ftruncate(descriptor, 0)
    told = {"process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": command}
    os.write(descriptor, json.dumps(told).encode())
    return descriptor


def _holder(descriptor: int) -> str:
    """Who says in the lock file that it holds the lock."""
    try:
        told = json.loads(os.pread(descriptor, 65536, 0))
        command = f", `{str(told['command'])[:200]}`" if told["command"] else ""
        return f"process {int(told['process'])}, since {str(told['since'])[:40]}{command}"
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):  # it has just been taken, or is damaged
        return "of another process"
