"""Word and character error rate over a corpus: all edits over all reference units (Levenshtein, 1966)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hfprobe.errors import MeasureError


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions that turn one sequence into the other.

    Args:
        reference: Units of the reference, e.g. words.
        hypothesis: Units of the hypothesis.

    Returns:
        Number of edits.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    codes: dict[str, int] = {}
    first = [codes.setdefault(unit, len(codes)) for unit in reference]
    second = np.array([codes.setdefault(unit, len(codes)) for unit in hypothesis], dtype=np.int64)
    columns = np.arange(len(second) + 1)
    row = columns.copy()
    for position, unit in enumerate(first, start=1):
        above = row
        row = np.empty_like(above)
        row[0] = position
        np.minimum(above[1:] + 1, above[:-1] + (second != unit), out=row[1:])
        # Insertions run along the row: row[j] = min over i <= j of row[i] + (j - i).
        row = np.minimum.accumulate(row - columns) + columns
    return int(row[-1])


def wer(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Word error rate of a corpus, a fraction; words are what white space separates.

    Args:
        references: True texts, a list, or one string.
        hypotheses: Recognised texts, in the same order.

    Returns:
        Edits over reference words; above 1 when much is inserted.

    Raises:
        MeasureError: The numbers of texts differ (``"length"``), or the references hold no word
            (``"empty"``).

    Example:
        >>> wer(["a b c d"], ["a x c"])
        0.5
    """
    return _error_rate(references, hypotheses, str.split, "word")


def cer(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Character error rate of a corpus, a fraction; runs of white space are one space, outer ones none.

    Args:
        references: True texts, a list, or one string.
        hypotheses: Recognised texts, in the same order.

    Returns:
        Edits over reference characters.

    Raises:
        MeasureError: The numbers of texts differ (``"length"``), or the references are empty (``"empty"``).

    Example:
        >>> cer("abcd", "abd")
        0.25
    """
    return _error_rate(references, hypotheses, lambda text: " ".join(text.split()), "character")


def _error_rate(references, hypotheses, units, kind: str) -> float:
    if isinstance(references, str) and isinstance(hypotheses, str):
        references, hypotheses = [references], [hypotheses]
    references, hypotheses = list(references), list(hypotheses)
    if len(references) != len(hypotheses):
        raise MeasureError(
            f"one hypothesis per reference is needed, got {len(hypotheses)} for {len(references)}", "length"
        )
    split = [units(text) for text in references]
    total = sum(map(len, split))
    if total == 0:
        raise MeasureError(f"references hold no {kind}; leave out utterances without text", "empty")
    return sum(edit_distance(a, units(b)) for a, b in zip(split, hypotheses, strict=True)) / total
