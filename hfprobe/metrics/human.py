"""How often listeners choose the wrong speaker (human error rate), with an interval that few answers can bear.

Source: Li, Yuan, Lee, "What does a network layer hear?" (arXiv 1911.01102), section 3.2: after clips A and B of two
speakers and a clip X of one of them, a listener says whose voice X is; 50 % is guessing. Interval: Wilson, "Probable
inference, the law of succession, and statistical inference", JASA 1927.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

from hfprobe.errors import MeasureError


class HumanErrorRate(NamedTuple):
    """Share of wrong choices with its interval; fields in the order of a result row.

    Attributes:
        value: Wrong choices over answers, a fraction; None without answers.
        ci_low: Lower bound, or None.
        ci_high: Upper bound, or None.
        n: Answers.
        n_failed: Items without an answer.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_failed: int


def wilson(errors: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate: usable at 0, at 1 and for ten answers.

    Args:
        errors: How often it happened; a fraction where it is what one expects.
        n: Out of how many independent answers, at least 1.
        confidence: Share of experiments whose interval holds the true rate.

    Returns:
        Lower and upper bound, fractions.

    Raises:
        MeasureError: Counts or confidence are out of range.

    Example:
        >>> [round(bound, 3) for bound in wilson(5, 10)]
        [0.237, 0.763]
    """
    if not 0 <= errors <= n or n < 1 or not 0 < confidence < 1:
        raise MeasureError(
            f"need 0 <= errors <= n, n >= 1 and 0 < confidence < 1, got {errors}, {n} and {confidence}", "counts"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = errors + z * z / 2
    reach = z * math.sqrt(errors * (n - errors) / n + z * z / 4)
    # At 0 and at n one bound is exact; rounding must not cross it.
    low = 0.0 if errors == 0 else (centre - reach) / (n + z * z)
    high = 1.0 if errors == n else (centre + reach) / (n + z * z)
    return low, high


def her(
    answers: Sequence[Hashable], key: Sequence[Hashable], choices: Sequence[Hashable] = (0, 1), confidence: float = 0.95
) -> HumanErrorRate:
    """Human error rate: the share of answers that differ from the key.

    The interval takes answers as independent. Several answers of one listener are not quite: give their errors to
    `hfprobe.metrics.bootstrap_mean` with the listeners as groups where there are enough listeners.

    Args:
        answers: What each item was answered with ``(items,)``; None where it was not.
        key: The right answers ``(items,)``.
        choices: What answers and key are out of, e.g. ``("A", "B")``.
        confidence: Of the interval.

    Returns:
        Rate, bounds and counts; items without an answer are counted, not scored.

    Raises:
        MeasureError: The lengths differ (``"length"``), there is no item (``"empty"``), or an answer or a key is not
            among the choices (``"answer"``).

    Example:
        >>> her([0, 1, 1, None], [0, 1, 0, 1])[0], her([0, 1, 1, None], [0, 1, 0, 1]).n_failed
        (0.3333333333333333, 1)
    """
    answers, key = list(answers), list(key)
    if len(answers) != len(key):
        raise MeasureError(f"need one answer per item, got {len(answers)} answers for {len(key)} items", "length")
    if not key:
        raise MeasureError("there is no item; give answers and their key", "empty")
    for name, values in (("answers", [a for a in answers if a is not None]), ("key", key)):
        for value in values:
            if value not in choices:
                raise MeasureError(
                    f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}; correct it", "answer"
                )
    given = [(answer, right) for answer, right in zip(answers, key, strict=True) if answer is not None]
    if not given:
        return HumanErrorRate(None, None, None, 0, len(key))
    errors = sum(answer != right for answer, right in given)
    return HumanErrorRate(
        errors / len(given), *wilson(errors, len(given), confidence), len(given), len(key) - len(given)
    )


def her_by_layer(
    answers: Sequence[Hashable],
    key: Sequence[Hashable],
    layers: Sequence[str],
    choices: Sequence[Hashable] = (0, 1),
    confidence: float = 0.95,
) -> dict[str, HumanErrorRate]:
    """`her` of each layer's items.

    Args:
        answers: As for `her`.
        key: As for `her`.
        layers: Layer of each item ``(items,)``.
        choices: As for `her`.
        confidence: As for `her`.

    Returns:
        Layer to its rate, in order of appearance.

    Raises:
        MeasureError: As for `her`; or there is not one layer per item.

    Example:
        >>> {name: rate.value for name, rate in her_by_layer([0, 1, 1], [0, 0, 1], ["cnn1", "blstm5", "cnn1"]).items()}
        {'cnn1': 0.0, 'blstm5': 1.0}
    """
    layers = list(layers)
    her(answers, key, choices, confidence)  # refuses what does not fit, before anything is picked out of it
    if len(layers) != len(key):
        raise MeasureError(f"need one layer per item, got {len(layers)} layers for {len(key)} items", "length")
    rates = {}
    for name in dict.fromkeys(layers):
        chosen = [i for i, layer in enumerate(layers) if layer == name]
        rates[name] = her([answers[i] for i in chosen], [key[i] for i in chosen], choices, confidence)
    return rates


def items_needed(half_width: float, rate: float = 0.5, confidence: float = 0.95) -> int:
    """How many answers make Wilson's interval this narrow, to plan a listening test.

    Args:
        half_width: Wanted half width of the interval, a fraction.
        rate: Expected error rate; 0.5 needs most.
        confidence: Of the interval.

    Returns:
        The smallest number of answers.

    Raises:
        MeasureError: A value is out of range.

    Example:
        >>> items_needed(0.05), items_needed(0.05, rate=0.1)
        (381, 141)
    """
    if not 0 < half_width < 0.5 or not 0 <= rate <= 1 or not 0 < confidence < 1:
        raise MeasureError(
            f"need 0 < half_width < 0.5, 0 <= rate <= 1 and 0 < confidence < 1, got {half_width}, {rate}, {confidence}",
            "counts",
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    # Wilson's half width is z sqrt(n p (1 - p) + z^2 / 4) / (n + z^2); squared, it is a quadratic equation in n.
    square, spread = z * z, rate * (1 - rate)
    linear = 2 * square - square * spread / half_width**2
    constant = square * square * (1 - 1 / (4 * half_width**2))
    return max(1, math.ceil((-linear + math.sqrt(linear * linear - 4 * constant)) / 2))


def rate_difference(
    errors: float, n: int, other_errors: float, other_n: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """How far two independent rates are apart, with the interval that Wilson's bounds of both give.

    Source: Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
    1998, method 10.

    Args:
        errors: Errors of the first; a fraction where they are what one expects.
        n: Answers of the first, at least 1.
        other_errors: Errors of the second.
        other_n: Answers of the second, at least 1.
        confidence: Of the interval.

    Returns:
        First rate less second, lower and upper bound, fractions.

    Raises:
        MeasureError: As for `wilson`.

    Example:
        >>> [round(each, 4) for each in rate_difference(56, 70, 48, 80)]
        [0.2, 0.0524, 0.3339]
    """
    one, other = errors / max(n, 1), other_errors / max(other_n, 1)
    low, high = wilson(errors, n, confidence)
    other_low, other_high = wilson(other_errors, other_n, confidence)
    below = math.hypot(one - low, other_high - other)
    above = math.hypot(high - one, other - other_low)
    return one - other, one - other - below, one - other + above
