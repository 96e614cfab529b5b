"""Keys and answers as plain text: the form of the paper's public kit, and lines of ``item answer``.

The kit (YuanPJ/Voice-in-ASR) has five sheets of twelve lines ``A B X answer``: three files, and 0 if X is by the
speaker of A, 1 if of B. Without a header, a line of a key or of answers has 1 field (the answer; lines are counted from
1), 2 fields (item and answer) or 4 (the kit's). A header names columns: item and answer, and in a key layer, condition
and encoder if there are any. Fields are separated by commas, tabs or blanks. Answers are A or B, 0 or 1, or 1 or 2;
``-`` is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hfprobe.listening.answers import Sheet
from hfprobe.listening.design import Cell
from hfprobe.listening.key import Key, KeyItem, ListeningError
from hfprobe.plain import line as one_line
from hfprobe.plain import read_text, short

SIDES = ("A", "B")
# Layers of the kit's folders musan-layer-N-... (VGG-LSTM, trained with noise), as the paper calls them.
KIT_LAYERS = {0: "cnn1", 4: "cnn2", 9: "cnn4", 10: "blstm1", 12: "blstm3", 14: "blstm5"}
_KIT = re.compile(r"(?:^|[/_-])musan-layer-(\d+)(?=[-_/]|$)")
_LAYER = re.compile(r"layer[-_]?(\d+)")
_NUMBERINGS = {"A": ("A", "B"), "0": ("0", "1"), "1": ("1", "2")}
_COLUMNS = ("item", "answer", "layer", "condition", "encoder")


class Line(NamedTuple):
    """One line: the item's name (None where the place counts), the answer as written, and what it is about."""

    item: str | None
    answer: str
    cell: Cell
    depth: int


def read_text_key(paths: Sequence[str | Path]) -> Key:
    """A key from one text file, or from several sheets in order.

    Args:
        paths: The files. With several, item 3 of ``2.txt`` is called ``2-3``; in answers it may also be called by its
            place in the whole, e.g. ``15``.

    Returns:
        The key; its choices are ``A`` and ``B``.

    Raises:
        ListeningError: A file cannot be read, an item is there twice, or an answer is missing or unknown.
    """
    named: list[tuple[str, Line]] = []
    for path in paths:
        stem = Path(path).stem
        for number, line in enumerate(_lines(path), start=1):
            own = line.item or str(number)
            named.append((f"{stem}-{own}" if len(paths) > 1 else own, line))
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ListeningError(f"the key has item {short(twice)} twice; keep one line per item")
    where = ", ".join(Path(path).name for path in paths)
    sides = read_sides([line.answer for _, line in named], where)
    unknown = next((name for name, side in zip(names, sides, strict=True) if side is None), None)
    if unknown:
        raise ListeningError(f"the key has no answer for item {short(unknown)}; fill it in")
    # In order of depth where layers are numbered, so that tables and figures are.
    order = sorted(range(len(named)), key=lambda place: named[place][1].depth)
    items = {names[i]: KeyItem("test", named[i][1].cell, SIDES, sides[i]) for i in order}
    return Key(where, "triplet", items, settings={"places": names, "first": _numbering([n.answer for _, n in named])})


def read_text_sheet(path: str | Path, key: Key) -> Sheet:
    """Answers of one listener, who is called as the file is.

    Args:
        path: The file.
        key: From `read_text_key`.

    Raises:
        ListeningError: It cannot be read, has an unknown item, or has no names and not as many lines as the key.
    """
    lines, name = _lines(path), Path(path).name
    settings = key.settings or {}
    places: list[str] = settings["places"]
    if any(line.item is None for line in lines) and len(lines) != len(places):
        raise ListeningError(
            f"{name} has {len(lines)} answers and the key {len(places)}; without names of items there must be as many, "
            "in the same order"
        )
    by_place = {str(number): item for number, item in enumerate(places, start=1)}
    sides = read_sides([line.answer for line in lines], name, settings["first"])
    sheet, again, empty = Sheet(Path(path).stem, name, {}), 0, 0
    for number, (line, side) in enumerate(zip(lines, sides, strict=True)):
        item = places[number] if line.item is None else line.item
        item = item if item in key.items else by_place.get(item, item)
        if item not in key.items:
            raise ListeningError(
                f"{name}: the key has no item {short(item)}; check the name, or give the key that fits"
            )
        if item in sheet.answers:
            again += 1
        elif side is None:
            empty += 1
        else:
            sheet.answers[item] = side
    missing = len(key.items) - len(sheet.answers)
    sheet.complete = not missing
    if again:
        sheet.notes.append(f"{name}: {again} items are there twice; the first answer counts")
    if missing:
        sheet.notes.append(f"{name}: {missing} of {len(key.items)} items are not answered")
    return sheet


def read_sides(answers: Sequence[str], where: str, first: str | None = None) -> list[str | None]:
    """Answers in any of the three ways of writing as ``A`` and ``B``.

    Args:
        answers: As written.
        where: For messages.
        first: How the first side is written where the answers leave it open (all are ``1``): ``"0"`` or ``"1"``.

    Returns:
        Sides; None for no answer.

    Raises:
        ListeningError: Something else is there, or two ways are mixed.

    Example:
        >>> read_sides(["0", "1", "-"], "x.txt"), read_sides(["1", "2"], "x.txt"), read_sides(["b"], "x.txt")
        (['A', 'B', None], ['A', 'B'], ['B'])
    """
    written = [answer.strip().upper() for answer in answers]
    given = {answer for answer in written if answer not in ("", "-", "?")}
    numbering = _NUMBERINGS[_numbering(written) or first or "0"]
    for answer in sorted(given):
        if answer not in numbering:
            raise ListeningError(
                f"{where}: expected answers A or B, 0 or 1, or 1 or 2, and one way throughout, got "
                f"{', '.join(one_line(text, 20) for text in sorted(given)[:6])}; correct {short(answer)}"
            )
    return [SIDES[numbering.index(answer)] if answer in given else None for answer in written]


def _numbering(answers: Sequence[str]) -> str | None:
    """How the first side is written; None where that cannot be told."""
    given = {answer.strip().upper() for answer in answers}
    if given & {"A", "B"}:
        return "A"
    return "0" if "0" in given else "1" if "2" in given else None


def _lines(path: str | Path) -> list[Line]:
    name = Path(path).name
    text = read_text(path, "lines of 'item answer'", ListeningError, encoding="utf-8-sig")
    rows = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    rows = [(number, line) for number, line in rows if line and not line.startswith("#")]
    if not rows:
        raise ListeningError(f"{name} has no answers; give lines of 'item answer'")
    separator = "," if "," in rows[0][1] else None
    header = [field.strip().lower() for field in rows[0][1].split(separator)]
    columns = header if "item" in header and "answer" in header else None
    return [_line(name, number, line.split(separator), columns) for number, line in rows[1 if columns else 0 :]]


def _line(name: str, number: int, fields: list[str], columns: list[str] | None) -> Line:
    fields = [field.strip() for field in fields]
    if columns is not None:
        if len(fields) != len(columns):
            raise ListeningError(f"{name} line {number}: expected {len(columns)} fields, got {len(fields)}; correct it")
        row = {column: field for column, field in zip(columns, fields, strict=True) if column in _COLUMNS}
        cell = Cell(row.get("encoder") or "sounds", row.get("layer") or "all", row.get("condition") or "clean")
        return Line(row["item"], row["answer"], cell, 0)
    plain = Cell("sounds", "all", "clean")
    if len(fields) == 1:
        return Line(None, fields[0], plain, 0)
    if len(fields) == 2:
        return Line(fields[0], fields[1], plain, 0)
    if len(fields) == 4:
        kit, numbered = _KIT.search(fields[2]), _LAYER.search(fields[2])
        depth = int(numbered[1]) if numbered else 0
        if kit and int(kit[1]) in KIT_LAYERS:
            return Line(None, fields[3], Cell("vgg-lstm-robust", KIT_LAYERS[int(kit[1])], "clean"), depth)
        return Line(None, fields[3], Cell("sounds", f"layer{depth}" if numbered else "all", "clean"), depth)
    raise ListeningError(
        f"{name} line {number}: expected 'answer', 'item answer' or 'A B X answer', got {len(fields)} fields; mend it"
    )
