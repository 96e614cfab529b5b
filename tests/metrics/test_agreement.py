"""Krippendorff's alpha against his own examples, and the difference of two rates against Newcombe's table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfprobe.errors import MeasureError
from hfprobe.metrics import krippendorff_alpha, rate_difference


def test_krippendorffs_binary_example():
    """ "Computing Krippendorff's Alpha-Reliability" (2011), example A: two observers, ten units."""
    one, other = "0100000010", "1110010000"
    assert krippendorff_alpha(zip(one, other, strict=True)) == pytest.approx(0.095, abs=5e-4)


def test_krippendorffs_example_with_missing_answers():
    """The same, example C: four observers, twelve units, nominal."""
    rows = (
        "123321412...",
        "1233224125.3",
        ".333234225 1.".replace(" ", "")[:12],
        "1233244125 1.".replace(" ", "")[:12],
    )
    items = [[None if mark == "." else mark for mark in column] for column in zip(*rows, strict=True)]
    assert krippendorff_alpha(items) == pytest.approx(0.743, abs=5e-4)


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=2, max_size=4), min_size=2))
def test_order_of_answers_and_names_of_categories_do_not_matter(items):
    swapped = [[{"a": "b", "b": "a"}[mark] for mark in reversed(item)] for item in items]
    first, second = krippendorff_alpha(items), krippendorff_alpha(swapped)
    assert first == pytest.approx(second) if first is not None else second is None
    assert first is None or first <= 1


def test_full_agreement_chance_and_none():
    assert krippendorff_alpha([("a",) * 3, ("b",) * 3]) == 1
    draws = np.random.default_rng(0).integers(0, 2, (4000, 3))
    assert krippendorff_alpha(draws.tolist()) == pytest.approx(0, abs=0.03)
    assert krippendorff_alpha([("a", "a"), ("a", "a", None)]) is None
    with pytest.raises(MeasureError, match="at least two listeners"):
        krippendorff_alpha([("a", None), ("b",)])


@pytest.mark.parametrize(
    "counts,expected",
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_newcombes_table(counts, expected):
    """Newcombe 1998, Table II, method 10."""
    assert rate_difference(*counts)[1:] == pytest.approx(expected, abs=5e-5)
    one, low, high = rate_difference(*counts)
    assert rate_difference(*counts[2:], *counts[:2]) == pytest.approx((-one, -high, -low))
