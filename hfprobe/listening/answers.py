"""Files of answers that listeners sent: read, checked against the key, and one per listener kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfprobe.listening.key import Key, ListeningError, read_json
from hfprobe.plain import short

ANSWERS_FORMAT, ANSWERS_VERSION = "hfprobe-listening-answers", 1


@dataclass
class Sheet:
    """What one listener answered.

    Attributes:
        listener: Name or number.
        file: File name, for messages.
        answers: Item to the chosen clip (triplets) or to the marks by clip (ratings); None where a sound did not play.
        seconds: Item to the time it took.
        plays: How often sounds were played, in all.
        complete: All items are there.
        notes: What was odd about the file.
    """

    listener: str
    file: str
    answers: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    plays: int = 0
    complete: bool = True
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Gathered:
    """All sheets that count, and what was left out.

    Attributes:
        sheets: One per listener, in order of the files.
        notes: What a reader of the results should know.
    """

    sheets: tuple[Sheet, ...]
    notes: tuple[str, ...]


def read_sheet(path: str | Path, key: Key) -> Sheet:
    """Read one file of answers.

    Args:
        path: JSON that the page saved.
        key: Of the test.

    Returns:
        The sheet. An item that is there twice counts once, the first time, and is noted.

    Raises:
        ListeningError: It is cut off, no file of answers, of another test, or names items or choices the key lacks.
    """
    content, name = read_json(path, "answers"), Path(path).name
    if content.get("format") != ANSWERS_FORMAT:
        found = content.get("format")
        raise ListeningError(f"{name} is no file of answers (format {short(found)}); give what the page saved")
    if content.get("version") != ANSWERS_VERSION:
        found = content.get("version")
        raise ListeningError(f"{name}: expected version {ANSWERS_VERSION}, got {short(found)}; use a newer hfprobe")
    if content.get("test") != key.test:
        raise ListeningError(
            f"{name} is of test {short(content.get('test'))}, the key of {short(key.test)}; give the key that fits"
        )
    listener, entries = content.get("listener"), content.get("answers")
    if not isinstance(listener, str) or not listener.strip() or not isinstance(entries, list):
        raise ListeningError(f"{name} lacks the listener or the answers; ask for the file again")
    sheet, again = Sheet(listener.strip(), name, {}), 0
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("item"), str):
            raise ListeningError(f"{name}: an answer has no item; ask for the file again")
        item = entry["item"]
        if item not in key.scored():
            raise ListeningError(
                f"{name}: the key has no item {short(item)}; the file was changed, or is of another test"
            )
        answer = _answer(entry, item, key, name)
        if item in sheet.answers:
            again += 1
            continue
        sheet.answers[item] = answer
        seconds = entry.get("seconds")
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < math.inf:
            sheet.seconds[item] = float(seconds)
        plays = entry.get("plays")
        if isinstance(plays, dict):
            sheet.plays += sum(n for n in plays.values() if isinstance(n, int) and 0 <= n < 1_000_000)
    missing = len(key.scored()) - len(sheet.answers)
    sheet.complete = not missing
    if again:
        sheet.notes.append(f"{name}: {again} items are there twice; the first answer counts")
    if missing:
        sheet.notes.append(f"{name}: {missing} of {len(key.scored())} items are not answered")
    return sheet


def _answer(entry: Mapping[str, Any], item: str, key: Key, name: str) -> Any:
    choices = key.items[item].choices
    if entry.get("failed") is True and entry.get("answer") is None:
        return None
    if key.kind == "mushra":
        marks = entry.get("ratings")
        if not isinstance(marks, dict) or set(marks) != set(choices):
            raise ListeningError(f"{name}: item {short(item)} has not one mark per sound; ask for the file again")
        for mark in marks.values():
            if isinstance(mark, bool) or not isinstance(mark, (int, float)) or not 0 <= mark <= 100:
                raise ListeningError(f"{name}: item {short(item)} has the mark {short(mark)}; marks are 0 to 100")
        return {clip: float(mark) for clip, mark in marks.items()}
    answer = entry.get("answer")
    if answer not in choices:
        raise ListeningError(
            f"{name}: item {short(item)} is answered with {short(answer)}, which is none of its choices"
        )
    return answer


def gather(
    paths: Sequence[str | Path],
    key: Key,
    skip_bad: bool = False,
    read: Callable[[str | Path, Key], Sheet] = read_sheet,
) -> Gathered:
    """Read all files, and keep one per listener.

    Args:
        paths: Files of answers.
        key: Of the test.
        skip_bad: Leave files out that cannot be used, and say so, instead of stopping.
        read: Reads one file, in whatever form.

    Returns:
        The sheets. Of two files by one listener that agree, e.g. one saved on the way and one at the end, the fuller
        one counts.

    Raises:
        ListeningError: A file cannot be used, or two files by one listener contradict each other, without ``skip_bad``;
            or nothing is left.
    """
    sheets, bad = [], []
    for path in paths:
        try:
            sheets.append(read(path, key))
        except ListeningError as error:
            bad.append(str(error))
    by_listener: dict[str, list[Sheet]] = {}
    for sheet in sheets:
        by_listener.setdefault(sheet.listener, []).append(sheet)
    kept, notes = [], []
    for listener, own in by_listener.items():
        fullest = max(own, key=lambda sheet: len(sheet.answers))
        clash = next((sheet for sheet in own if not sheet.answers.items() <= fullest.answers.items()), None)
        if clash is not None:
            bad.append(
                f"{clash.file} and {fullest.file} are both by listener {short(listener)} and differ; keep one, or tell "
                "the two people apart by another name"
            )
            continue
        if len(own) > 1:
            names = ", ".join(sheet.file for sheet in own)
            notes.append(f"{names} are all by listener {short(listener)} and agree; {fullest.file} counts")
        kept.append(fullest)
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1} more files like this)" if len(bad) > 1 else ""
        raise ListeningError(f"{bad[0]}{more}; --skip-bad goes on without them")
    if not kept:
        raise ListeningError(f"no file of answers can be used: {bad[0] if bad else 'none was given'}")
    notes = [f"left out: {message}" for message in bad] + notes + [note for sheet in kept for note in sheet.notes]
    failed = sum(answer is None for sheet in kept for answer in sheet.answers.values())
    if failed:
        notes.append(f"{failed} items have no answer because a sound did not play")
    return Gathered(tuple(kept), tuple(notes))


def listening_times(sheets: Iterable[Sheet]) -> dict[str, float]:
    """Median time per item of each listener, in seconds; who left no time is not there."""
    from statistics import median

    return {sheet.listener: median(sheet.seconds.values()) for sheet in sheets if sheet.seconds}
