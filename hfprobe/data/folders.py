"""Corpora that lie in folders: sound files below a folder (here or on the Hub), and Kaldi data folders.

Each file is a shard of its own, so that processes and workers can share a folder.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hfprobe.data.columns import check_columns, normal_fields
from hfprobe.errors import DatasetError
from hfprobe.network import call
from hfprobe.plain import parse_json, read_bytes, read_text, reason, short

SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
METADATA = ("metadata.csv", "metadata.jsonl")
REMOTE = "hf://"


def from_generator(rows: Callable[..., Iterator[dict]], items: list, source: str = "the dataset", remote: bool = False):
    """A stream of rows over ``items``; the list becomes shards."""
    from datasets import IterableDataset

    from hfprobe.data.rows import as_rows

    return as_rows(IterableDataset.from_generator(rows, gen_kwargs={"items": items}), source, remote)


def from_files(items: list[dict], source: str, remote: bool = False):
    """A stream of rows over files: each item is a row with ``path`` instead of ``audio``."""
    # `datasets` takes a hash of all items, and copies them: a string each is ten times quicker than a dictionary.
    return from_generator(_file_rows, [json.dumps(item) for item in items], source, remote)


def _file_rows(items: list[str]) -> Iterator[dict]:
    for item in items:
        fields = json.loads(item)
        path = fields.pop("path")
        yield {**fields, "audio": _bytes_or_path(path)}


def _bytes_or_path(path: str) -> bytes | str:
    """The file, or its path where it cannot be read: decoding says why, and the row is counted."""
    try:
        if path.startswith(REMOTE):
            return remote_bytes(path)
        # What is no regular file would wait, or never end.
        return Path(path).read_bytes() if os.path.isfile(path) else path
    except OSError as error:
        if path.startswith(REMOTE) and not isinstance(error, FileNotFoundError):
            raise
        return path


def remote_bytes(url: str) -> bytes:
    """A file of the Hub, ``hf://datasets/user/name@revision/path``."""
    from huggingface_hub import HfFileSystem

    return call(lambda: HfFileSystem().cat_file(url), f"reading {url}")


def existing(folder: str) -> Path:
    """The folder, which has to be there."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise DatasetError(f"folder {folder!r} does not exist; check the part after the colon")
    return path


def is_sound(path: PurePosixPath | Path) -> bool:
    """Whether a file is a sound by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def audiofolder(folder: str, columns: Mapping[str, str]):
    """All sound files below a folder; the parent folder's name is the speaker.

    Further columns come from ``metadata.csv`` or ``metadata.jsonl`` with a column ``file_name``, as in `datasets`.
    """
    root = existing(folder)
    paths = [PurePosixPath(p.relative_to(root).as_posix()) for p in root.rglob("*") if is_sound(p)]
    tables = [PurePosixPath(p.relative_to(root).as_posix()) for name in METADATA for p in root.rglob(name)]
    items = sound_items(paths, tables, lambda p: read_bytes(root / p, "a table", DatasetError), columns, repr(folder))
    for item in items:
        item["path"] = str(root / item["path"])
    return from_files(items, repr(folder))


def sound_items(
    paths: Iterable[PurePosixPath], tables: Iterable[PurePosixPath], read: Callable[[PurePosixPath], bytes],
    columns: Mapping[str, str], source: str,
) -> list[dict]:  # fmt: skip
    """Rows without their sound, one per file, in order.

    Args:
        paths: Sound files, relative to the folder.
        tables: Metadata files, relative to the folder.
        read: Gives the bytes of a metadata file.
        columns: Which column is what.
        source: The folder, for messages.

    Raises:
        DatasetError: There is no sound, a table is broken, or has not the columns asked for.
    """
    paths = sorted(paths)
    if not paths:
        raise DatasetError(f"no sound file below {source} (looked for {', '.join(SUFFIXES)})")
    known: dict[str, dict[str, Any]] = {}
    for table in tables:
        for row in _metadata(table, read(table), source):
            known[(table.parent / str(row.pop("file_name"))).as_posix()] = row
    items: list[dict[str, Any]] = []
    for path in paths:
        row = {"id": path.with_suffix("").as_posix(), "speaker": path.parent.name, **known.pop(path.as_posix(), {})}
        items.append({"path": path.as_posix(), "row": row})
    # A file that only the table knows is a row too: it is counted as missing.
    for name, row in known.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DatasetError(f"metadata of {source} names a file outside the folder: {short(name)}; correct it")
        items.append({"path": name, "row": {"id": str(PurePosixPath(name).with_suffix("")), **row}})
    there = dict.fromkeys(column for item in items for column in item["row"])
    check_columns(columns, there, source)
    return [{**normal_fields(item["row"], columns, {}), "path": item["path"]} for item in items]


def _metadata(table: PurePosixPath, data: bytes, source: str) -> list[dict]:
    try:
        text = data.decode("utf-8-sig")
        if table.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
        else:
            rows = [parse_json(line) for line in text.splitlines() if line.strip()]
        if all(isinstance(row, dict) and isinstance(row.get("file_name"), str) for row in rows):
            return rows
        why = "no column file_name"
    except (ValueError, csv.Error) as error:
        why = reason(error)
    raise DatasetError(f"{table} of {source} cannot be used ({why}); it needs a row per file with its file_name")


def _table(path: Path) -> dict[str, str]:
    lines = read_text(path, "a table of Kaldi's", DatasetError).splitlines() if path.is_file() else []
    return dict((line.split(maxsplit=1) + [""])[:2] for line in lines if line.strip())


def kaldi(folder: str, columns: Mapping[str, str]):
    """A Kaldi data folder: ``wav.scp`` with plain paths; ``text``, ``utt2spk`` and ``spk2gender`` where they are."""
    root = existing(folder)
    scp, text, speaker, gender = (_table(root / name) for name in ("wav.scp", "text", "utt2spk", "spk2gender"))
    if not scp:
        raise DatasetError(f"no wav.scp (or an empty one) in {folder!r}; a Kaldi data folder has one")
    pipes = [utterance for utterance, path in scp.items() if path.rstrip().endswith("|")]
    if pipes:
        raise DatasetError(
            f"wav.scp entry {short(pipes[0])} is a shell command; hfprobe does not run it: write the files first"
        )
    if (root / "segments").is_file():
        raise DatasetError(
            f"{folder!r} has a segments file, which hfprobe does not apply; write one file per utterance first"
        )
    first, path = next(iter(scp.items()))
    if not any(os.path.isfile(path.strip()) for path in scp.values()):
        raise DatasetError(
            f"wav.scp entry {short(first)} names {short(path.strip())}, which does not exist (nor does any other of "
            f"its {len(scp)}); paths start at the current folder"
        )
    check_columns(columns, ("id", "text", "speaker", "gender"), repr(folder))
    items = []
    for utterance, path in scp.items():
        who = speaker.get(utterance, "").strip()
        row = {"id": utterance, "text": text.get(utterance, ""), "speaker": who, "gender": gender.get(who, "")}
        items.append({**normal_fields(row, columns, {}), "path": path.strip()})
    return from_files(items, repr(folder))
