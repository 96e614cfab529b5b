"""Where a bank comes from (a folder or the Hub), and what is recorded of the machine that makes one."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import hfprobe
from hfprobe.errors import BankError, HubError
from hfprobe.hub.place import Place
from hfprobe.probes.bank_files import INDEX

T = TypeVar("T")


def describe_environment() -> dict[str, str]:
    """Versions and date, as `bank.json` records them; packages that are not installed are left out."""
    packages = {}
    for name in ("torch", "transformers", "accelerate", "safetensors"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:  # loading needs no accelerate
            continue
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, "hfprobe": hfprobe.__version__, "python": platform.python_version(), **packages}


def shipped_folder() -> Path:
    """Folder inside the package with the banks of the shipped encoders."""
    return Path(str(resources.files("hfprobe"))) / "pretrained" / "banks"


def shipped_banks() -> tuple[str, ...]:
    """Names of the banks inside the package: those of the encoders that they belong to."""
    folder = shipped_folder()
    return tuple(sorted(item.parent.name for item in folder.glob(f"*/{INDEX}"))) if folder.is_dir() else ()


def bank_place(
    source: str | Path,
    revision: str | None = None,
    subfolder: str | None = None,
    what: str = "a probe bank",
    **options: Any,
) -> Place:
    """Where a bank, or one probe of it, is to be read from.

    Args:
        source: Name of a shipped encoder (its bank comes along), folder, or repository id.
        revision: Branch, tag or commit of the repository.
        subfolder: Folder of the bank, or of the probe, inside it.
        what: What is expected there, for messages.
        **options: ``token``, ``cache_dir``, ``force``, ``local_files_only``.

    Returns:
        The place; nothing has been fetched yet.

    Raises:
        BankError: It can be neither.
    """
    text = str(source)
    with bank_errors():
        if text in shipped_banks():
            return Place(shipped_folder() / text, None, subfolder, what)
        if not Path(text).expanduser().is_dir() and text.count("/") != 1:
            raise BankError(
                f"expected the name of a shipped bank ({', '.join(shipped_banks())}), a folder or a Hugging Face "
                f"repository user/name with a probe bank, got {text!r}; check the name"
            )
        return Place(text, revision, subfolder, what, **options)


@contextmanager
def bank_errors() -> Iterator[None]:
    """Errors of the Hub as errors of a bank."""
    try:
        yield
    except HubError as error:
        raise BankError(str(error)) from error


def read_checked(place: Place, names: list[str], read: Callable[[Path], T]) -> T:
    """Fetch files and read them; if they are broken, fetch them once more, because the cache would keep them so.

    Args:
        place: Where they are.
        names: Their paths.
        read: Called with the folder; raises `BankError` if the files are broken.

    Returns:
        What ``read`` returns.

    Raises:
        BankError: They cannot be fetched, or are broken.
    """
    with bank_errors():
        place.get(*names)
        try:
            return read(place.folder)
        except BankError:
            if not place.remote:
                raise
        place.get(*names, force=True)
        return read(place.folder)
