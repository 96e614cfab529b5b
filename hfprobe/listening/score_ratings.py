"""What marks of a quality test say: the mean by layer, over listeners who find the hidden reference.

Source: Recommendation ITU-R BS.1534-3, post-screening of assessors: who gives the hidden reference less than 90 in more
than 15 % of the items does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hfprobe.listening.answers import Sheet, listening_times
from hfprobe.listening.design import NATURAL, Cell
from hfprobe.listening.key import Key, KeyItem, ListeningError
from hfprobe.metrics import bootstrap_mean
from hfprobe.results import ResultRow

LEAST_MARK = 90
MOST_MISSED = 0.15


@dataclass(frozen=True)
class RaterScore:
    """One listener.

    Attributes:
        listener: Name.
        n: Items rated.
        missed: Of them with the hidden reference below 90.
        mean: Mean of all marks, or None.
        seconds: Median time per item, or None.
        excluded: Does not count.
    """

    listener: str
    n: int
    missed: int
    mean: float | None
    seconds: float | None
    excluded: bool


@dataclass(frozen=True)
class MarkScore:
    """Marks of one version.

    Attributes:
        cell: What was heard; the hidden reference is layer ``input``, the low-pass anchor ``lowpass``.
        mean: 0 to 100, or None.
        low: Lower bound of the 95 % interval (bootstrap over listeners, over items where there is one listener).
        high: Upper bound.
        n: Marks.
        n_failed: Items without marks.
    """

    cell: Cell
    mean: float | None
    low: float | None
    high: float | None
    n: int
    n_failed: int


@dataclass(frozen=True)
class RatingScore:
    """Everything that marks say.

    Attributes:
        cells: By version, in the order of the key.
        listeners: All, also those who do not count.
        notes: What a reader should know.
    """

    cells: tuple[MarkScore, ...]
    listeners: tuple[RaterScore, ...]
    notes: tuple[str, ...]

    def rows(self) -> list[ResultRow]:
        """Result rows of the metric ``mushra``."""
        return [ResultRow(*e.cell, "mushra", e.mean, e.low, e.high, e.n, e.n_failed) for e in self.cells]


def score_marks(key: Key, sheets: Sequence[Sheet], seed: int = 0) -> RatingScore:
    """Score the marks.

    Args:
        key: Of the test.
        sheets: One per listener.
        seed: Of the bootstrap.

    Returns:
        The score.

    Raises:
        ListeningError: The key is of another kind of test, or no listener is left.
    """
    if key.kind != "mushra":
        raise ListeningError(f"expected the key of a mushra test, got one of kind {key.kind!r}; score it as that")
    times = listening_times(sheets)
    listeners = [_rater(key, sheet, times.get(sheet.listener)) for sheet in sheets]
    counted = [sheet for sheet, each in zip(sheets, listeners, strict=True) if not each.excluded]
    notes = [
        f"listener {e.listener!r} is left out: the hidden reference got less than {LEAST_MARK} in {e.missed} of "
        f"{e.n} items, more than {100 * MOST_MISSED:g} %"
        for e in listeners
        if e.excluded
    ]
    if not counted:
        why = "; ".join(notes) or "there are no answers"
        raise ListeningError(f"no listener is left: {why}; ask more listeners")
    notes.append("layer 'input' is the hidden reference, by which listeners were chosen")
    tests = {name: item for name, item in key.scored().items() if item.role == "test"}
    cells = dict.fromkeys(cell for item in tests.values() for cell in _stimuli(item).values())
    ordered = sorted(cells, key=lambda cell: cell == NATURAL)
    return RatingScore(tuple(_marks(cell, tests, counted, seed) for cell in ordered), tuple(listeners), tuple(notes))


def _stimuli(item: KeyItem) -> Mapping[str, Cell]:
    if item.stimuli is None:
        raise ListeningError("the key lacks what the sounds of an item are; take it from where it was made")
    return item.stimuli


def _rater(key: Key, sheet: Sheet, seconds: float | None) -> RaterScore:
    hidden, marks = [], []
    for name, answer in sheet.answers.items():
        if answer is not None:
            stimuli = _stimuli(key.items[name])
            hidden += [mark for clip, mark in answer.items() if stimuli[clip] == NATURAL]
            marks += answer.values()
    missed = sum(mark < LEAST_MARK for mark in hidden)
    mean = sum(marks) / len(marks) if marks else None
    return RaterScore(sheet.listener, len(hidden), missed, mean, seconds, missed > MOST_MISSED * len(hidden) + 1e-9)


def _marks(cell: Cell, tests: Mapping[str, KeyItem], sheets: Sequence[Sheet], seed: int) -> MarkScore:
    values, who, failed = [], [], 0
    for sheet in sheets:
        for name, item in tests.items():
            clips = [clip for clip, each in _stimuli(item).items() if each == cell]
            answer = sheet.answers.get(name)
            failed += len(clips) if answer is None else 0
            values += [] if answer is None else [answer[clip] for clip in clips]
            who += [] if answer is None else [sheet.listener] * len(clips)
    if not values:
        return MarkScore(cell, None, None, None, 0, failed)
    interval = bootstrap_mean(values, who if len(set(who)) > 1 else None, seed=seed)
    return MarkScore(cell, *interval, len(values), failed)
