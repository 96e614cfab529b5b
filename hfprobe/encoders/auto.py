"""One door to all encoders: a shipped name, a local folder, or a repository on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hfprobe.encoders.base import SpeechEncoder
from hfprobe.errors import EncoderError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ("*.yaml", "*.pth", "*.safetensors", "*.json")


@dataclass(frozen=True)
class Family:
    """A kind of encoder folder and how to load it.

    Args:
        matches: Says whether a folder, or a weight file inside one, is of this kind.
        load: Called with the path and the keywords ``name``, ``random_init`` and ``seed``, and whatever
            else was given to ``from_pretrained``.
        layout: What such a folder holds, for messages.
    """

    matches: Callable[[Path], bool]
    load: Callable[..., SpeechEncoder]
    layout: str


def _is_espnet(path: Path) -> bool:
    folder = path.parent if path.is_file() else path
    return (folder / "config.yaml").is_file() or (folder / "meta.yaml").is_file()


def _load_espnet(path: Path, **options: Any) -> SpeechEncoder:
    # Imported here: espnet2 takes seconds and is wanted only for its own encoders.
    from hfprobe.encoders.espnet.loading import load_espnet

    return load_espnet(path, **options)


# Other toolkits add themselves here; the first family that recognises a folder loads it.
FAMILIES: dict[str, Family] = {
    "espnet": Family(_is_espnet, _load_espnet, "an ESPnet experiment folder with config.yaml and weights")
}


def shipped_folder() -> Path:
    """Folder inside the package with the encoders that come along."""
    return Path(str(resources.files("hfprobe"))) / "pretrained" / "encoders"


class AutoSpeechEncoder:
    """Loads any encoder that hfprobe knows; not to be instantiated."""

    def __init__(self) -> None:
        raise EncoderError("AutoSpeechEncoder has no instances: call AutoSpeechEncoder.from_pretrained(name)")

    @staticmethod
    def shipped() -> tuple[str, ...]:
        """Names of the encoders inside the package.

        Returns:
            Short names, sorted.
        """
        folder = shipped_folder()
        if not folder.is_dir():
            return ()
        return tuple(sorted(item.name for item in folder.iterdir() if (item / "config.yaml").is_file()))

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        random_init: bool = False,
        seed: int = 0,
        revision: str | None = None,
        **options: Any,
    ) -> SpeechEncoder:
        """Load an encoder.

        Args:
            name_or_path: In this order: a local folder (or a weight file inside one), a shipped name, the
                id of a repository on the Hub (``user/name``; yaml, pth, safetensors and json files are
                fetched).
            random_init: Same shape and input features, random weights: the floor of every measure.
            seed: Of the random weights.
            revision: Branch, tag or commit on the Hub.
            **options: Passed to the loader of the family; ESPnet takes ``weights``, the name of the weight
            file.

        Returns:
            The encoder, in ``eval()`` mode on the CPU.

        Raises:
            EncoderError: If the name is unknown, the Hub cannot be reached, or the files do not fit.
        """
        name = str(name_or_path)
        path = Path(name_or_path).expanduser()
        short_name = None
        # A bare word means the shipped encoder even where a folder of that name lies about.
        if name in cls.shipped():
            path, short_name = shipped_folder() / name, name
        elif not path.exists():
            if not _HUB_ID.fullmatch(name):
                raise EncoderError(_unknown(name, "is neither a shipped encoder nor an existing folder"))
            path, short_name = _download(name, revision), name
        for family in FAMILIES.values():
            if family.matches(path):
                return family.load(path, name=short_name, random_init=random_init, seed=seed, **options)
        raise EncoderError(_unknown(name, "is a folder of no known kind"))


def _unknown(name: str, problem: str) -> str:
    """Message that lists what is accepted."""
    shipped = ", ".join(AutoSpeechEncoder.shipped()) or "none"
    layouts = "; ".join(family.layout for family in FAMILIES.values())
    return f"encoder {name!r} {problem}: choose a shipped one ({shipped}), {layouts}, or a Hub id user/name"


def _download(repo_id: str, revision: str | None) -> Path:
    """Fetch a repository's configuration and weights from the Hub (or its cache)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(repo_id, revision=revision, allow_patterns=list(_HUB_FILES))
    except (OSError, HFValidationError) as error:
        # Every error of the Hub's client and of its network layer is an OSError.
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(_unknown(repo_id, f"could not be fetched from the Hub ({reason})")) from error
    return Path(folder)
