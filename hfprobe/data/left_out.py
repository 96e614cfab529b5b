"""What was left out, and why: counts by reason, and the first few names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

NAMES = 5  # in a sentence, or one of each reason where there are more reasons
KEPT = 1000  # of each reason
LONGEST = 100  # characters of a name


class LeftOut(Counter):
    """How many things were left out, by reason, with the names of the first few.

    A `collections.Counter` of reasons that also keeps names.

    Attributes:
        names: Reason to the names of the first ``KEPT`` things left out for it.
        first_error: The first error in full, "" where there was none.

    Example:
        >>> left_out = LeftOut()
        >>> left_out.add("truncated", "a-1", "a-1: cut off after 2 s")
        >>> left_out.add("silent", "b-7")
        >>> left_out.sentence()
        '2 utterances (1 silent, 1 truncated): a-1, b-7'
        >>> dict(left_out), left_out.first_error
        ({'truncated': 1, 'silent': 1}, 'a-1: cut off after 2 s')
    """

    def __init__(self, counts=()):
        super().__init__(counts)
        self.names: dict[str, list[str]] = {}
        self.first_error = ""

    def __reduce__(self):
        # A plain Counter would cross a process boundary without the names.
        return _restored, (dict(self), self.names, self.first_error)

    def add(self, reason: str, name: str = "", error: str = "", count: int = 1) -> None:
        """Note ``count`` things called ``name`` that were left out for ``reason``."""
        if count == 0:
            return
        self[reason] += count
        known = self.names.setdefault(reason, [])
        # Names come from data of anybody's: one line, and nothing that a terminal would obey.
        name = "".join(c if c.isprintable() else "?" for c in name)[:LONGEST]
        if name and len(known) < KEPT and name not in known:
            known.append(name)
        self.first_error = self.first_error or error

    def join(self, other: Counter) -> None:
        """Add the counts and names of another."""
        for reason, count in other.items():
            self[reason] += count
            known = self.names.setdefault(reason, [])
            known += [name for name in getattr(other, "names", {}).get(reason, ()) if name not in known]
            del known[KEPT:]
        self.first_error = self.first_error or getattr(other, "first_error", "")

    def sentence(self, unit: str = "utterance") -> str:
        """One line: how many, by reason, and names; "" where nothing was left out."""
        total = self.total()
        if not total:
            return ""
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.items()) if count)
        # A name of every reason comes before the second name of any.
        columns = [self.names.get(reason, []) for reason, count in self.items() if count]
        order = [column[i] for i in range(NAMES) for column in columns if i < len(column)]
        names = list(dict.fromkeys(order))[: max(NAMES, len(columns))]
        more = ", ..." if names and total > len(names) else ""
        shown = f": {', '.join(names)}{more}" if names else ""
        return f"{total} {unit}{'' if total == 1 else 's'} ({reasons}){shown}"


def _restored(counts: dict, names: dict, first_error: str) -> LeftOut:
    found = LeftOut(counts)
    found.names, found.first_error = names, first_error
    return found


def by_reason(reasons: Mapping[str, str], first_error: str = "") -> LeftOut:
    """Names and reasons, counted.

    Example:
        >>> by_reason({"a": "silent", "b": "nan", "c": "silent"}).sentence()
        '3 utterances (1 nan, 2 silent): a, b, c'
    """
    found = LeftOut()
    for name, reason in reasons.items():
        found.add(reason, name, first_error)
    return found


def all_left_out(parts: Iterable[Counter]) -> LeftOut:
    """The sum of several.

    Example:
        >>> all_left_out([LeftOut({"silent": 1}), LeftOut({"silent": 2})])["silent"]
        3
    """
    total = LeftOut()
    for part in parts:
        total.join(part)
    return total
