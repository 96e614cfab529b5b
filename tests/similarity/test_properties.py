"""What every measure must keep, whatever the features: hypothesis draws them."""

import math
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.errors import MeasureError
from hfprobe.similarity import linear_cka, mean_cca, minibatch_cka, pwcca, rbf_cka, rsa, svcca

MEASURES = {
    "mean_cca": mean_cca,
    "svcca": svcca,
    "pwcca": pwcca,
    "linear_cka": linear_cka,
    "linear_cka_debiased": lambda x, y: linear_cka(x, y, debiased=True),
    "rbf_cka": rbf_cka,
    "minibatch_cka": lambda x, y: minibatch_cka(x, y, batch_size=20),
    "rsa": lambda x, y: rsa(x, y, distance="euclidean"),
}
ROTATION = ["svcca", "linear_cka", "linear_cka_debiased", "rbf_cka", "minibatch_cka", "rsa"]
SIGNED = ["linear_cka_debiased", "minibatch_cka", "rsa"]
few = settings(max_examples=15, deadline=None)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@st.composite
def features(draw):
    """Pairs ``(n, d1), (n, d2)`` that share something, with offsets."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d1, d2 = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    n = draw(st.integers(20, 80))
    x = random.standard_normal((n, d1)) * np.exp(random.uniform(-2, 2, d1)) + random.uniform(-9, 9, d1)
    y = draw(st.floats(0, 2)) * x @ random.standard_normal((d1, d2)) + random.standard_normal((n, d2))
    return x, y, random


def orthogonal(random, d):
    return np.linalg.qr(random.standard_normal((d, d)))[0]


@pytest.mark.parametrize("name", MEASURES)
@few
@given(features())
def test_self_similarity_is_1_and_all_values_lie_in_range(name, drawn):
    x, y, _ = drawn
    measure = MEASURES[name]
    assert measure(x, x) == pytest.approx(1, abs=1e-9)
    value = measure(x, y)
    assert (-1 if name in SIGNED else 0) <= value <= 1
    assert value.null is not None and math.isfinite(value.null)


@pytest.mark.parametrize("name", MEASURES)
@few
@given(features())
def test_symmetric(name, drawn):
    x, y, _ = drawn
    there, back = MEASURES[name](x, y), MEASURES[name](y, x)
    if name == "pwcca":  # weighted by one view: the two sides change places
        assert (there.left, there.right) == pytest.approx((back.right, back.left), abs=1e-9)
        if x.shape[1] == y.shape[1]:
            return
    assert there == pytest.approx(back, abs=1e-9)


@pytest.mark.parametrize("name", ROTATION)
@few
@given(features(), st.floats(-6, 6))
def test_rotation_scale_and_offset_change_nothing(name, drawn, power):
    x, y, random = drawn
    moved = 10**power * (y @ orthogonal(random, y.shape[1])) + 10**power * random.uniform(-5, 5, y.shape[1])
    assert MEASURES[name](x, moved) == pytest.approx(MEASURES[name](x, y), abs=1e-7)


@few
@given(features())
def test_invertible_maps_change_no_canonical_correlation(drawn):
    x, y, random = drawn

    def invertible(d):
        return orthogonal(random, d) * np.exp(random.uniform(-3, 3, d)) @ orthogonal(random, d)

    a, b = x @ invertible(x.shape[1]) + 1, y @ invertible(y.shape[1]) - 1
    np.testing.assert_allclose(mean_cca(a, b).correlations, mean_cca(x, y).correlations, atol=1e-7)
    # The weights of PWCCA come from one view, so it bears any map of the other.
    assert pwcca(x, b).left == pytest.approx(pwcca(x, y).left, abs=1e-7)
    assert pwcca(a, y).right == pytest.approx(pwcca(x, y).right, abs=1e-7)


@few
@given(features())
def test_order_of_samples_and_features_does_not_matter(drawn):
    x, y, random = drawn
    order, columns = random.permutation(len(x)), random.permutation(x.shape[1])
    for name in set(MEASURES) - {"minibatch_cka"}:
        assert MEASURES[name](x[order][:, columns], y[order]) == pytest.approx(MEASURES[name](x, y), abs=1e-9)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("factor", [1e-150, 1e150])
def test_extreme_scales_are_as_good_as_any(name, factor):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((40, 3)), random.standard_normal((40, 4))
    y[:, 0] += x[:, 0]
    assert MEASURES[name](x * factor, y) == pytest.approx(MEASURES[name](x, y), abs=1e-9)


@pytest.mark.parametrize("name", MEASURES)
@few
@given(st.integers(1, 30), st.integers(1, 12), st.sampled_from(["zero", "constant", "column", "twin", "step", "huge"]))
def test_a_number_or_an_error_but_never_nan(name, n, d, kind):
    x = np.random.default_rng(n * 100 + d).standard_normal((n, d))
    y = x.copy()
    if kind == "zero":
        x[:] = 0
    elif kind == "constant":
        x[:] = 0.1
    elif kind == "column":
        x[:, 0] = 1 / 3
    elif kind == "twin":
        x = np.hstack([x, x])
    elif kind == "step":
        x[:] = np.arange(n)[:, None] > n // 2
    else:
        x *= 1e308 / np.abs(x).max()
    for left, right in ((x, y), (y, x), (x, x)):
        try:
            value = MEASURES[name](left, right)
        except MeasureError:
            continue
        assert math.isfinite(value) and value.null is not None and math.isfinite(value.null)


def test_a_score_is_a_float_that_survives_pickling():
    x = np.random.default_rng(0).standard_normal((50, 3))
    score = pickle.loads(pickle.dumps(pwcca(x, x[:, :2])))
    assert score == pytest.approx(1) and score.dims == (3, 2) and score.left is not None
    assert f"{score:.2f}" == "1.00" and float(score) + 1 == pytest.approx(2)
    with pytest.raises(AttributeError):
        score.nothing  # noqa: B018
