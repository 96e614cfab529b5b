"""Where a bank comes from (a folder or the Hub), and what is recorded of the machine that makes one."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import resources
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import hfprobe
from hfprobe.errors import BankError
from hfprobe.probes.bank_files import FLOOR, INDEX, LAYER_FILES, check_layer_name


def describe_environment() -> dict[str, str]:
    """Versions and date, as `bank.json` records them."""
    packages = {name: version(name) for name in ("torch", "transformers", "accelerate", "safetensors")}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, "hfprobe": hfprobe.__version__, "python": platform.python_version(), **packages}


def shipped_folder() -> Path:
    """Folder inside the package with the banks of the shipped encoders."""
    return Path(str(resources.files("hfprobe"))) / "pretrained" / "banks"


def shipped_banks() -> tuple[str, ...]:
    """Names of the banks inside the package: those of the encoders that they belong to."""
    folder = shipped_folder()
    return tuple(sorted(item.parent.name for item in folder.glob(f"*/{INDEX}"))) if folder.is_dir() else ()


def local_folder(
    source: str, revision: str | None = None, subfolder: str | None = None, layers: list[str] | None = None
) -> Path:
    """The folder that holds `bank.json`, downloaded if need be.

    Args:
        source: Name of a shipped encoder (its bank comes along), folder, or repository id.
        revision: Branch, tag or commit of the repository.
        subfolder: Folder of the bank inside it.
        layers: Download these layers only.

    Returns:
        A folder on this machine.

    Raises:
        BankError: If there is no such folder or repository, or it cannot be reached.
    """
    parts = PurePosixPath(subfolder or "").parts
    if any(part == ".." or part.startswith("/") for part in parts):
        raise BankError(f"expected a subfolder inside the repository, got {subfolder!r}")
    if source in shipped_banks():
        return Path(shipped_folder(), source, *parts)
    if Path(source).is_dir():
        return Path(source, *parts)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    prefix = "".join(f"{part}/" for part in parts)
    names = ["*"] if layers is None else [check_layer_name(name, "layers") for name in [*layers, FLOOR]]
    patterns = [f"{prefix}{INDEX}", *(f"{prefix}{n}/{file}" for n in names for file in LAYER_FILES)]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns), *parts)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BankError(
            f"expected the name of a shipped bank ({', '.join(shipped_banks())}), a folder or a Hugging Face "
            f"repository with a probe bank, got {source!r} ({reason}); check the name"
        ) from error
