"""What listeners' answers say: human error rate by layer, who listened, how far they agree, what more would tell.

Source: Li, Yuan, Lee, "What does a network layer hear?" (arXiv 1911.01102), section 3.2 and Figure 2b.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hfprobe.errors import MeasureError
from hfprobe.listening.answers import Sheet, listening_times
from hfprobe.listening.design import Cell
from hfprobe.listening.key import Key, ListeningError
from hfprobe.metrics import HumanErrorRate, bootstrap_mean, her, items_needed, krippendorff_alpha, rate_difference
from hfprobe.results import ResultRow

MOST_CATCH_ERRORS = 0.25


@dataclass(frozen=True)
class ListenerScore:
    """One listener.

    Attributes:
        listener: Name.
        n: Test items answered.
        errors: Of them wrong.
        catch_n: Catch items answered.
        catch_errors: Of them wrong.
        seconds: Median time per item, or None.
        excluded: Does not count.
    """

    listener: str
    n: int
    errors: int
    catch_n: int
    catch_errors: int
    seconds: float | None
    excluded: bool


@dataclass(frozen=True)
class CellScore:
    """One layer under one condition.

    Attributes:
        cell: Encoder, layer, condition.
        rate: Human error rate with Wilson's interval over answers.
        over_listeners: Interval by bootstrap over listeners, None with fewer than two: wider where they differ.
        alpha: Krippendorff's alpha of the listeners' choices, or None.
    """

    cell: Cell
    rate: HumanErrorRate
    over_listeners: tuple[float, float] | None
    alpha: float | None


@dataclass(frozen=True)
class Separation:
    """Two layers of one encoder and condition.

    Attributes:
        first: One cell.
        second: The deeper one.
        difference: Error rate of the second less that of the first, a fraction.
        low: Lower bound of its 95 % interval (Newcombe).
        high: Upper bound.
        needed: Answers per layer that would tell rates as far apart as these; None where they are equal.
        more: Answers per layer that are missing; 0 where the interval leaves out 0 already.
    """

    first: Cell
    second: Cell
    difference: float
    low: float
    high: float
    needed: int | None
    more: int | None

    @property
    def separated(self) -> bool:
        """The interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class TripletScore:
    """Everything that triplets say.

    Attributes:
        cells: By encoder, condition and layer, in the order of the key; natural speech (catch items) last.
        listeners: All, also those who do not count.
        overall: Error rate over all test items.
        alpha: Agreement on all test items, or None.
        separations: All pairs of layers.
        notes: What a reader should know.
    """

    cells: tuple[CellScore, ...]
    listeners: tuple[ListenerScore, ...]
    overall: HumanErrorRate
    alpha: float | None
    separations: tuple[Separation, ...]
    notes: tuple[str, ...]

    def rows(self) -> list[ResultRow]:
        """Result rows of the metric ``her``."""
        return [
            ResultRow(*cell, "her", rate.value, rate.ci_low, rate.ci_high, rate.n, rate.n_failed)
            for cell, rate in ((each.cell, each.rate) for each in self.cells)
        ]


def score_triplets(
    key: Key, sheets: Sequence[Sheet], most_catch_errors: float = MOST_CATCH_ERRORS, seed: int = 0
) -> TripletScore:
    """Score the answers.

    Args:
        key: Of the test.
        sheets: One per listener.
        most_catch_errors: A listener with a larger share of wrong catch items does not count.
        seed: Of the bootstrap.

    Returns:
        The score.

    Raises:
        ListeningError: The key is of another kind of test, or no listener is left.
    """
    if key.kind != "triplet":
        raise ListeningError(f"expected the key of a triplet test, got one of kind {key.kind!r}; score it as that")
    times = listening_times(sheets)
    listeners = [_listener(key, sheet, times.get(sheet.listener), most_catch_errors) for sheet in sheets]
    counted = [sheet for sheet, each in zip(sheets, listeners, strict=True) if not each.excluded]
    notes = [_excluded(each, most_catch_errors) for each in listeners if each.excluded]
    if not counted:
        why = "; ".join(notes) or "there are no answers"
        raise ListeningError(f"no listener is left: {why}; ask more listeners")
    has_catch = any(item.role == "catch" for item in key.items.values())
    if not has_catch:
        notes.append("the test has no catch items: nobody could be left out")
    notes += [f"listener {e.listener!r} answered no catch item" for e in listeners if has_catch and not e.catch_n]
    cells = []
    for role in ("test", "catch"):
        for cell in dict.fromkeys(item.cell for item in key.items.values() if item.role == role):
            names = [name for name, item in key.items.items() if item.role == role and item.cell == cell]
            cells.append(_cell(key, cell, names, counted, seed))
    if has_catch:
        notes.append("layer 'input' is the catch items, by which listeners were chosen: its low rate is by design")
    tests = [name for name, item in key.items.items() if item.role == "test"]
    overall = _rate(key, tests, counted)
    tested = [each for each in cells if each.cell.layer != "input"]
    return TripletScore(
        tuple(cells), tuple(listeners), overall, _alpha(key, tests, counted), tuple(_separations(tested)), tuple(notes)
    )


def _listener(key: Key, sheet: Sheet, seconds: float | None, most: float) -> ListenerScore:
    wrong: dict[str, list[bool]] = {"test": [], "catch": []}
    for name, answer in sheet.answers.items():
        if answer is not None:
            wrong[key.items[name].role].append(answer != key.items[name].right)
    errors, n = sum(wrong["catch"]), len(wrong["catch"])
    # Counted, not divided: 2 of 8 is not more than 0.25, whatever floating point makes of it.
    excluded = n > 0 and errors > most * n + 1e-9
    return ListenerScore(sheet.listener, len(wrong["test"]), sum(wrong["test"]), n, errors, seconds, excluded)


def _excluded(each: ListenerScore, most: float) -> str:
    return (
        f"listener {each.listener!r} is left out: {each.catch_errors} of {each.catch_n} catch items wrong, more than "
        f"{100 * most:g} %"
    )


def _cell(key: Key, cell: Cell, names: Sequence[str], sheets: Sequence[Sheet], seed: int) -> CellScore:
    rate = _rate(key, names, sheets)
    given = [
        (float(sheet.answers[name] != key.items[name].right), sheet.listener)
        for sheet in sheets
        for name in names
        if sheet.answers.get(name) is not None
    ]
    bounds = None
    if len({who for _, who in given}) > 1:
        errors, groups = zip(*given, strict=True)
        interval = bootstrap_mean(errors, groups, seed=seed)
        # Where all are right, or all wrong, every draw is the same: that says nothing about other listeners.
        low, high = interval.low, interval.high
        bounds = None if low is None or high is None or low == high else (low, high)
    return CellScore(cell, rate, bounds, _alpha(key, names, sheets))


def _rate(key: Key, names: Sequence[str], sheets: Sequence[Sheet]) -> HumanErrorRate:
    answers = [sheet.answers.get(name) for sheet in sheets for name in names]
    right = [key.items[name].right for _ in sheets for name in names]
    choices = {choice for name in names for choice in key.items[name].choices}
    return her(answers, right, tuple(choices))


def _alpha(key: Key, names: Sequence[str], sheets: Sequence[Sheet]) -> float | None:
    """Agreement on which of the two voices was chosen, 0 or 1 as the key lists them, which is drawn.

    Not on right and wrong: where nearly all are right, chance alone would explain that, and alpha would be low.
    """

    def side(sheet: Sheet, name: str) -> int | None:
        answer = sheet.answers.get(name)
        return None if answer is None else key.items[name].choices.index(answer)

    try:
        return krippendorff_alpha([[side(sheet, name) for sheet in sheets] for name in names])
    except MeasureError:
        return None


def rank_correlation(score: TripletScore, machine: Iterable[ResultRow]) -> float | None:
    """Spearman's correlation of the human and the machine's error rates over layers.

    Args:
        score: Of the test.
        machine: Rows of `hfprobe evaluate`.

    Returns:
        From -1 to 1; None with fewer than four cells that both measured, or where one of them never changes.
    """
    from scipy.stats import spearmanr

    eer = {Cell(row.encoder, row.layer, row.condition): row.value for row in machine if row.metric == "eer"}
    both = [
        (each.rate.value, eer[each.cell])
        for each in score.cells
        if each.cell.layer != "input" and each.rate.value is not None and eer.get(each.cell) is not None
    ]
    if len(both) < 4 or any(len(set(values)) == 1 for values in zip(*both, strict=True)):
        return None
    return float(spearmanr(*zip(*both, strict=True)).statistic)


def _separations(cells: Sequence[CellScore]) -> list[Separation]:
    found = []
    for place, one in enumerate(cells):
        for other in cells[place + 1 :]:
            same = one.cell.encoder == other.cell.encoder and one.cell.condition == other.cell.condition
            if same and one.rate.n and other.rate.n:
                found.append(_separation(one, other))
    return found


def _separation(one: CellScore, other: CellScore) -> Separation:
    first, second = one.rate.value, other.rate.value
    assert first is not None and second is not None  # there are answers to both
    errors = round(second * other.rate.n), round(first * one.rate.n)
    difference, low, high = rate_difference(errors[0], other.rate.n, errors[1], one.rate.n)
    if difference == 0:
        return Separation(one.cell, other.cell, 0.0, low, high, None, None)
    needed = _needed(first, second)
    more = 0 if low > 0 or high < 0 else max(1, needed - min(one.rate.n, other.rate.n))
    return Separation(one.cell, other.cell, difference, low, high, needed, more)


def _needed(one: float, other: float) -> int:
    """Fewest answers per layer with which Newcombe's interval of these two rates leaves out 0."""

    def apart(n: int) -> bool:
        # Expected errors need not be whole: rounded, they would be apart by luck at some n and not at the next.
        _, low, high = rate_difference(other * n, n, one * n, n)
        return low > 0 or high < 0

    # The interval reaches the root of the two squared half widths: if each is the gap by the root of 2, it is enough.
    half = min(abs(other - one) / 2**0.5, 0.499)
    enough = max(items_needed(half, rate) for rate in (one, other))
    while not apart(enough):
        enough *= 2
    few = 0
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if apart(middle) else (middle, enough)
    return enough
