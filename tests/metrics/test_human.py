"""Human error rate: counts, Wilson's interval against scipy, coverage, and the planning of a listening test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from hfprobe.errors import MeasureError
from hfprobe.metrics import her, her_by_layer, items_needed
from hfprobe.metrics.human import wilson
from hfprobe.results import ResultRow


@given(st.integers(1, 400), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n, data, confidence):
    errors = data.draw(st.integers(0, n))
    expected = binomtest(errors, n).proportion_ci(confidence, method="wilson")
    assert wilson(errors, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5])
def test_wilson_covers_the_true_rate(rate):
    errors = np.random.default_rng(0).binomial(40, rate, 4000)
    bounds = {count: wilson(int(count), 40) for count in set(errors.tolist())}
    covered = np.mean([bounds[count][0] <= rate <= bounds[count][1] for count in errors.tolist()])
    assert 0.92 < covered < 0.985


@given(st.lists(st.tuples(st.sampled_from([0, 1, None]), st.sampled_from([0, 1]), st.sampled_from("abc")), min_size=1))
def test_rates_of_layers_add_up_to_the_whole(items):
    answers, key, layers = zip(*items, strict=True)
    whole, parts = her(answers, key), her_by_layer(answers, key, layers)
    assert list(parts) == list(dict.fromkeys(layers))
    assert sum(part.n for part in parts.values()) == whole.n == sum(answer is not None for answer in answers)
    assert sum(part.n_failed for part in parts.values()) == whole.n_failed
    errors = [part.value * part.n for part in parts.values() if part.n]
    assert sum(errors) == pytest.approx((whole.value or 0) * whole.n)
    for part in (whole, *parts.values()):
        ResultRow("e", "blstm1", "clean", "her", *part)  # fits a result row as it is
        assert part.value is None or part.ci_low <= part.value <= part.ci_high


def test_swapped_answers_are_all_wrong():
    key = [0, 1, 1, 0, 1]
    assert her(key, key).value == 0 and her(key, key).ci_low == 0
    assert her([1 - k for k in key], key).value == 1
    assert her(list("ABBA"), list("ABAB"), choices="AB")[0] == 0.5


def test_ten_answers_say_little():
    """definitions.md, section 9: ten items per layer; Wald's half width at 50 % would be 31 points."""
    rate = her([0, 1] * 5, [0] * 10)
    assert rate.value == 0.5 and rate.ci_high - rate.ci_low == pytest.approx(0.527, abs=0.001)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.93])
@pytest.mark.parametrize("width", [0.02, 0.1, 0.3])
def test_items_needed_is_the_smallest(rate, width):
    z = 1.959963984540054

    def half(n):
        return z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)

    n = items_needed(width, rate)
    assert half(n) <= width and (n == 1 or half(n - 1) > width)


@pytest.mark.parametrize(
    "answers,key,reason",
    [([0], [0, 1], "length"), ([], [], "empty"), ([2], [0], "answer"), ([0], [None], "answer"), (["0"], [0], "answer")],
)
def test_what_does_not_fit_is_refused(answers, key, reason):
    with pytest.raises(MeasureError) as error:
        her(answers, key)
    assert error.value.reason == reason


def test_refusals_of_the_rest():
    with pytest.raises(MeasureError, match="one layer per item"):
        her_by_layer([0, 1], [0, 1], ["a"])
    for bad in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(MeasureError):
            wilson(*bad)
    with pytest.raises(MeasureError):
        items_needed(0.5)
