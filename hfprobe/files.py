"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
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
