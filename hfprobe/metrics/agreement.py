"""How far several raters agree beyond chance: Krippendorff's alpha for nominal data.

Source: Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011. Unlike Fleiss' kappa it takes items that not
everybody answered. (The package of that name is under the GPL, so it is not used here; its reference values are in the
tests.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from hfprobe.errors import MeasureError


def krippendorff_alpha(items: Iterable[Iterable[Hashable | None]]) -> float | None:
    """Agreement on categories: 1 is full, 0 is what chance gives, negative is less than chance.

    Args:
        items: For each item the answers it got, in any order; None for no answer. Items with fewer than two answers say
            nothing and are left out.

    Returns:
        Alpha; None where all answers are the same category, which leaves nothing to agree on.

    Raises:
        MeasureError: No item has two answers (``"empty"``).

    Example:
        >>> round(krippendorff_alpha([("a", "a"), ("b", "b"), ("a", "b")]), 3)
        0.444
    """
    different = 0.0  # coincidences of two different answers to one item
    totals: Counter = Counter()
    for answers in items:
        counts = Counter(answer for answer in answers if answer is not None)
        size = counts.total()
        if size < 2:
            continue
        totals.update(counts)
        # Each ordered pair of answers weighs 1 / (size - 1), so that an item weighs as much as it has answers.
        different += (size * size - sum(n * n for n in counts.values())) / (size - 1)
    n = totals.total()
    if not n:
        raise MeasureError("no item has two answers; agreement needs at least two listeners of one item", "empty")
    expected = (n * n - sum(count * count for count in totals.values())) / (n - 1)
    return 1 - different / expected if expected else None
