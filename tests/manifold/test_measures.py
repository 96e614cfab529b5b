"""Cheap measures: planted classes, no classes, and what they must agree with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.errors import MeasureError
from hfprobe.manifold import class_variance, explained_variance_dimension, participation_ratio, separability


def planted(between, classes=10, points=12, dim=20, seed=0):
    rng = np.random.default_rng(seed)
    return [between * c + rng.standard_normal((points, dim)) for c in rng.standard_normal((classes, dim))]


def test_class_variance_is_the_planted_share_and_zero_for_shuffled_labels():
    found = class_variance(planted(2.0, classes=200))
    assert found.value == pytest.approx(4 / 5, abs=0.03) and found.low < found.value < found.high
    nothing = [class_variance(planted(0.0, points=4, seed=seed)).value for seed in range(30)]
    assert abs(np.mean(nothing)) < 0.01 and min(nothing) < 0 < max(nothing)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-100, 100))
def test_class_variance_ignores_place_and_scale(seed, scale, shift):
    manifolds = planted(1.0, classes=4, points=5, dim=3, seed=seed)
    expected = class_variance(manifolds, n_replicates=10).value
    assert class_variance([scale * m + shift for m in manifolds], n_replicates=10).value == pytest.approx(
        expected, abs=1e-6
    )
    assert expected <= 1


def test_class_variance_of_equal_points():
    with pytest.raises(MeasureError, match="equal ones"):
        class_variance([np.ones((3, 2)), np.ones((3, 2))])


def test_separability_of_planted_classes_and_of_none():
    assert separability(planted(10.0)).value == 1
    nothing = separability(planted(0.0, classes=5, points=60))
    assert nothing.value == pytest.approx(0.2, abs=0.08) and nothing.low < nothing.value < nothing.high
    wide = planted(1.0, dim=400)
    assert separability(wide).value > 0.8 and separability(wide) == separability(wide)


def test_a_class_that_is_only_known_from_its_group_is_not_separable():
    """Groups lie at random places, and each has its class at random: where groups are kept apart, nothing helps."""
    rng = np.random.default_rng(0)
    places = 30 * rng.standard_normal((20, 40))
    labels = rng.integers(0, 2, 20)
    manifolds = [places[labels == k].repeat(5, axis=0) for k in (0, 1)]
    manifolds = [m + 0.1 * rng.standard_normal(m.shape) for m in manifolds]
    groups = [np.flatnonzero(labels == k).repeat(5) for k in (0, 1)]
    assert separability(manifolds).value > 0.9 > 0.75 > separability(manifolds, groups).value


def test_separability_needs_two_groups():
    with pytest.raises(MeasureError, match="two groups"):
        separability(planted(1.0), [["a"] * 12] * 10)
    with pytest.raises(MeasureError, match="one group for every point"):
        separability(planted(1.0), [["a"] * 11] * 10)


def test_dimensions():
    rng = np.random.default_rng(0)
    for dim in (1, 4, 9):
        points = rng.standard_normal((5000, dim)) @ np.linalg.qr(rng.standard_normal((30, dim)))[0].T
        assert participation_ratio(points) == pytest.approx(dim, rel=0.02)
        assert explained_variance_dimension(points, 1.0) >= dim
    points = rng.standard_normal((400, 3)) * [10, 3, 1]
    values = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    shares = np.cumsum(values) / values.sum()
    for share in (0.5, 0.95, 0.999, 1.0):
        expected = next(k for k in (1, 2, 3) if shares[k - 1] >= share - 1e-12)
        assert explained_variance_dimension(points, share) == expected
    for measure in (participation_ratio, explained_variance_dimension):
        with pytest.raises(MeasureError, match="equal ones"):
            measure(np.ones((3, 2)))
        with pytest.raises(MeasureError, match="shape"):
            measure(np.ones(3))
    with pytest.raises(MeasureError, match="share"):
        explained_variance_dimension(points, 0.0)
