"""Columns of any corpus brought into hfprobe's shape, by their usual names or as the user says.

A dataset's name may be followed by which column is what, ``parquet:calls/*.parquet audio=wav text=sentence``; the
command line appends there what ``--columns`` says.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hfprobe.errors import DatasetError

FIELDS: dict[str, tuple[str, ...]] = {
    "audio": ("audio",),
    "id": ("id", "utt_id", "path"),
    "text": ("text", "transcription", "transcript", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "gender": ("gender", "sex"),
    "words": ("words",),
}
_FIELD = re.compile(rf"\s+(?=(?:{'|'.join(FIELDS)})=)")


def split_columns(spec: str) -> tuple[str, dict[str, str]]:
    """A dataset's name, and which column is what.

    Raises:
        DatasetError: A field is given twice or has no column.

    Example:
        >>> split_columns("parquet:my calls/*.parquet audio=wav text=what was said")
        ('parquet:my calls/*.parquet', {'audio': 'wav', 'text': 'what was said'})
    """
    name, *pairs = _FIELD.split(spec.strip())
    return name, parse_columns(pairs)


def parse_columns(pairs: Iterable[str]) -> dict[str, str]:
    """``FIELD=COLUMN`` words as a table.

    Raises:
        DatasetError: A field is unknown or given twice, or has no column.

    Example:
        >>> parse_columns(["audio=wav", "speaker=spk"])
        {'audio': 'wav', 'speaker': 'spk'}
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        field, equals, column = (part.strip() for part in pair.partition("="))
        if field not in FIELDS or not equals or not column:
            raise DatasetError(f"columns are given as FIELD=COLUMN with FIELD of {', '.join(FIELDS)}, not {pair!r}")
        if field in columns:
            raise DatasetError(f"columns: {field} is given as {columns[field]!r} and as {column!r}; give it once")
        columns[field] = column
    return columns


def join_columns(name: str, columns: Mapping[str, str]) -> str:
    """The inverse of `split_columns`."""
    return " ".join([name, *(f"{field}={column}" for field, column in columns.items())])


def check_columns(columns: Mapping[str, str], known: Iterable[str], source: str) -> None:
    """Refuse columns that are not there.

    Raises:
        DatasetError: With the columns that are there.
    """
    known = list(known)
    for field, column in columns.items():
        if column not in known:
            raise DatasetError(
                f"{source} has no column {column!r} (asked for as {field}); its columns: {', '.join(known) or 'none'}"
            )


def normal_fields(row: Mapping[str, Any], columns: Mapping[str, str], names: Mapping[str, list[str]]) -> dict[str, str]:
    """``id``, ``text``, ``speaker``, ``gender`` and ``words`` of a row of any corpus; "" where it has none.

    Args:
        row: A row as the corpus has it.
        columns: Which column is what; the usual names are looked for where it does not say.
        names: For columns of class numbers, the names of the classes.

    Example:
        >>> normal_fields({"sentence": "Hello", "sex": 1, "spk": 7}, {"speaker": "spk"}, {"sex": ["male", "female"]})
        {'id': '', 'text': 'HELLO', 'speaker': '7', 'gender': 'f', 'words': ''}
    """

    def value(field: str) -> Any:
        for column in (columns[field],) if field in columns else FIELDS[field]:
            found = row.get(column)
            if isinstance(found, int) and column in names and 0 <= found < len(names[column]):
                found = names[column][found]
            if found is not None and found != "":
                return found
        return ""

    gender = str(value("gender")).strip().lower()[:1]
    return {
        "id": str(value("id")),
        "text": str(value("text")).upper(),
        "speaker": str(value("speaker")),
        "gender": gender if gender in ("m", "f") else "",
        "words": words_column(value("words")),
    }


def normal_row(row: dict, columns: dict[str, str], names: dict[str, list[str]], root: str | None) -> dict:
    """A row with its sound in hfprobe's shape; see `normal_fields`.

    Args:
        row: A row whose sound is bytes, ``{"bytes", "path"}``, or a path.
        columns: Which column is what.
        names: Names of classes.
        root: Paths to sounds are followed inside this folder and nowhere else; none is where None.
    """
    sound = row.get(columns.get("audio", "audio"))
    cells = sound if isinstance(sound, dict) else {"bytes": sound, "path": sound}
    # By type, not by name: text in place of bytes would be taken for a path when the sound is decoded.
    data = cells.get("bytes") if isinstance(cells.get("bytes"), bytes) else None
    path = cells.get("path") if isinstance(cells.get("path"), str) else None
    fields = normal_fields(row, columns, names)
    # Without any name the sound itself names the row: noise is drawn by name, and must differ between rows.
    fields["id"] = fields["id"] or str(path or "") or f"{zlib.crc32(data or b''):08x}"
    return {**fields, "audio": data if data is not None else _inside(root, path)}


def _inside(root: str | None, path: str | None) -> str | None:
    if root is None or not path:
        return None
    try:
        folder = Path(root).resolve()
        target = (folder / path).resolve()
    except (OSError, RuntimeError, ValueError):  # too long, a link to itself, a zero byte
        return None
    return str(target) if target.is_relative_to(folder) else None


def words_column(words) -> str:
    """Words and their phones as JSON: one string, because `datasets` casts nested columns when it mixes corpora."""
    if not isinstance(words, list) or not all(isinstance(word, dict) for word in words):
        return ""
    pairs = [(str(word.get("text") or "").upper(), list(map(str, word.get("phones") or ()))) for word in words]
    return json.dumps(pairs)
