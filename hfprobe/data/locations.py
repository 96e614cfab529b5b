"""Where corpora lie on this machine, if they do.

Two places are looked at, in this order: the folder that the environment variable ``HFPROBE_DATA`` names, and
``../shared/data`` beside a source checkout. Nothing is ever downloaded from here; a corpus that is in neither
place is streamed from the Hugging Face Hub by :mod:`hfprobe.data.corpora`.
"""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "HFPROBE_DATA"


def data_folder() -> Path | None:
    """Return the local data folder, or ``None`` where there is none.

    Raises:
        FileNotFoundError: ``HFPROBE_DATA`` is set but is not a folder.

    Example:
        >>> folder = data_folder()
        >>> folder is None or folder.is_dir()
        True
    """
    named = os.environ.get(DATA_VARIABLE)
    if named == "":  # set and empty: "pretend there is no corpus", used by the tests
        return None
    if named:
        folder = Path(named)
        if not folder.is_dir():
            raise FileNotFoundError(f"{DATA_VARIABLE} names {named!r}, which is not a folder; unset it or repair it")
        return folder
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return beside if beside.is_dir() else None


def local_speechocean(split: str) -> list[str]:
    """Parquet shards of speechocean762's ``split`` in the data folder, sorted; empty where there are none."""
    folder = data_folder()
    return [] if folder is None else sorted(map(str, (folder / "speechocean762").glob(f"{split}-*.parquet")))


def local_noise() -> Path | None:
    """The noise folder in MUSAN's layout inside the data folder, or ``None``."""
    folder = data_folder()
    noise = folder / "noise" if folder is not None else None
    return noise if noise is not None and noise.is_dir() else None
