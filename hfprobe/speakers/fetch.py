"""From the name of a model to a folder with its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hfprobe.errors import EncoderError, HubError
from hfprobe.hub.download import fetch

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def model_folder(source: str, files: Sequence[str]) -> Path:
    """Find a model's folder, or fetch it from the Hugging Face Hub.

    Args:
        source: A local folder; or a repository `user/name`, with a branch, tag or commit behind an `@` where wanted.
        files: Patterns of the files that are fetched; nothing else is.

    Returns:
        A local folder.

    Raises:
        EncoderError: If there is no such folder and no such repository, or the Hub cannot be reached.

    Example:
        >>> model_folder("no/such/folder", ["*.json"])
        Traceback (most recent call last):
        ...
        hfprobe.errors.EncoderError: expected a folder or a repository user/name, got 'no/such/folder': neither is there
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    repository, _, revision = source.partition("@")
    if not _HUB_ID.fullmatch(repository):
        raise EncoderError(f"expected a folder or a repository user/name, got {source!r}: neither is there")
    try:
        return fetch(repository, revision or None, files).folder
    except HubError as error:
        raise EncoderError(
            f"cannot fetch {source} from the Hugging Face Hub: {error} (or download it elsewhere and give its folder)"
        ) from error
