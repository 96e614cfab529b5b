"""LibriSpeech in its original folders: ``LibriSpeech/<split>/<speaker>/<chapter>/*.flac`` and ``*.trans.txt``.

Source: Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books" (ICASSP 2015), and the
README of openslr.org/12. The Hub's copy, openslr/librispeech_asr, has the same splits under other names.
"""

from __future__ import annotations

from pathlib import Path

from hfprobe.data.columns import check_columns, normal_fields
from hfprobe.data.folders import SUFFIXES, from_files, is_sound
from hfprobe.data.locations import data_folder
from hfprobe.errors import DatasetError
from hfprobe.plain import read_bytes

FOLDER = "LibriSpeech"
SPLITS = {
    "clean/train.100": "train-clean-100",
    "clean/train.360": "train-clean-360",
    "clean/validation": "dev-clean",
    "clean/test": "test-clean",
    "other/train.500": "train-other-500",
    "other/validation": "dev-other",
    "other/test": "test-other",
    "all/train.clean.100": "train-clean-100",
    "all/train.clean.360": "train-clean-360",
    "all/train.other.500": "train-other-500",
    "all/validation.clean": "dev-clean",
    "all/validation.other": "dev-other",
    "all/test.clean": "test-clean",
    "all/test.other": "test-other",
}
_BY_FOLDER = {folder: name for name, folder in reversed(SPLITS.items())}


def split_name(which: str) -> str:
    """The Hub's ``config/split`` of a split in any spelling.

    Raises:
        DatasetError: There is no such split; the message lists them.

    Example:
        >>> split_name("clean"), split_name("train-clean-100"), split_name("other/test")
        ('clean/test', 'clean/train.100', 'other/test')
    """
    known = {**{name: name for name in SPLITS}, **_BY_FOLDER, "clean": "clean/test", "other": "other/test"}
    if which not in known:
        raise DatasetError(
            f"librispeech has no split {which!r} and there is no such folder; splits: {', '.join(SPLITS)}, "
            "or a folder such as LibriSpeech/test-clean"
        )
    return known[which]


def local_folder(which: str) -> Path | None:
    """The folder of a split: ``which`` itself, a split inside it, or the split in the data folder; None if neither.

    Args:
        which: A folder (of the corpus or of a split), ``FOLDER/config/split``, or ``config/split``.

    Raises:
        DatasetError: A folder holds several splits and none is named.
    """
    path = Path(which).expanduser()
    if path.is_dir() and which not in SPLITS:
        return _only_split(path, which)
    for name, folder in SPLITS.items():
        if which.endswith(f"/{name}"):
            root = Path(which[: -len(name) - 1]).expanduser()
            if root.is_dir():
                return (root / FOLDER if (root / FOLDER).is_dir() else root) / folder
    data = data_folder()
    if data is not None and which in {**SPLITS, **_BY_FOLDER, "clean": "", "other": ""}:
        there = data / FOLDER / SPLITS[split_name(which)]
        return there if there.is_dir() else None
    return None


def _only_split(path: Path, which: str) -> Path:
    root = path / FOLDER if (path / FOLDER).is_dir() else path
    inside = sorted(name for name in set(SPLITS.values()) if (root / name).is_dir())
    if len(inside) > 1:
        raise DatasetError(
            f"{which!r} holds the splits {', '.join(inside)}; name one: librispeech:{root.name}/{inside[0]}"
        )
    return root / inside[0] if inside else root


def librispeech_folder(folder: Path, columns: dict[str, str]):
    """Rows of one split.

    A transcript without a sound file, and a sound file without a transcript, are rows that cannot be decoded: they are
    left out, counted and named like any broken one. Genders come from ``SPEAKERS.TXT`` where it is.

    Raises:
        DatasetError: There is nothing.
    """
    check_columns(columns, ("id", "text", "speaker", "gender"), str(folder))
    genders = read_genders(folder)
    items: list[dict] = []
    for chapter in sorted(p for p in folder.glob("*/*") if p.is_dir()):
        sounds = {p.stem: p for p in chapter.iterdir() if is_sound(p)}
        texts = {}
        for table in sorted(chapter.glob("*.trans.txt")):
            for line in read_bytes(table, "transcripts", DatasetError).decode("utf-8", "replace").splitlines():
                name, _, text = line.strip().partition(" ")
                if name:
                    texts[name] = text.strip().upper()
        speaker = chapter.parent.name
        for name in sorted(sounds.keys() | texts.keys()):
            row = {"id": name, "text": texts.get(name, ""), "speaker": speaker, "gender": genders.get(speaker, "")}
            problem = "" if name in texts else "no transcript"
            path = str(sounds.get(name, chapter / f"{name}.flac"))
            items.append({**normal_fields(row, columns, {}), "problem": problem, "path": path})
    if not items:
        raise DatasetError(
            f"no utterance in {str(folder)!r}: looked for <speaker>/<chapter>/ with *.trans.txt and sound files "
            f"({', '.join(SUFFIXES)}); give the folder of a split, e.g. LibriSpeech/test-clean"
        )
    return from_files(items, str(folder))


def read_genders(folder: Path) -> dict[str, str]:
    """Speaker to ``"m"`` or ``"f"`` by the corpus's SPEAKERS.TXT beside or above a split; empty where there is none."""
    for place in (folder, folder.parent):
        table = place / "SPEAKERS.TXT"
        if table.is_file():
            lines = read_bytes(table, "a table of speakers", DatasetError).decode("utf-8", "replace").splitlines()
            cells = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(";")]
            return {c[0]: c[1].lower() for c in cells if len(c) > 1 and c[1].lower() in ("m", "f")}
    return {}
