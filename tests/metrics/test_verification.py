"""EER and minDCF against slow references, planted answers and invariants."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.errors import MeasureError
from hfprobe.metrics import eer, min_dcf

TRIALS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60).filter(
    lambda trials: 0 < sum(label for _, label in trials) < len(trials)
)


def _roc(trials):
    positive = [s for s, label in trials if label]
    negative = [s for s, label in trials if not label]
    thresholds = sorted({s for s, _ in trials} | {99}, reverse=True)
    return [
        (
            Fraction(sum(s >= t for s in negative), len(negative)),
            Fraction(sum(s < t for s in positive), len(positive)),
        )
        for t in thresholds
    ]


def _slow_eer(trials):
    """The crossing in exact fractions, piece by piece."""
    points = _roc(trials)
    for (far0, frr0), (far1, frr1) in zip(points, points[1:], strict=False):
        gap0, gap1 = far0 - frr0, far1 - frr1
        if gap0 <= 0 <= gap1 and gap0 != gap1:
            return far0 + (far1 - far0) * gap0 / (gap0 - gap1)
    raise AssertionError("no crossing")


@settings(max_examples=200, deadline=None)
@given(TRIALS)
def test_eer_is_the_exact_crossing(trials):
    scores, labels = zip(*trials, strict=True)
    assert eer(scores, labels) == pytest.approx(float(_slow_eer(trials)), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(TRIALS, st.floats(0.001, 0.999))
def test_min_dcf_is_the_smallest_cost(trials, prior):
    scores, labels = zip(*trials, strict=True)
    slow = min(prior * float(frr) + (1 - prior) * float(far) for far, frr in _roc(trials)) / min(prior, 1 - prior)
    assert min_dcf(scores, labels, prior) == pytest.approx(slow)
    assert 0 <= slow <= 1 + 1e-12


@settings(max_examples=50, deadline=None)
@given(TRIALS)
def test_eer_invariants(trials):
    scores, labels = np.array(trials).T
    value = eer(scores, labels)
    assert eer(np.exp(scores / 5.0) - 3, labels) == pytest.approx(value)
    assert eer(-scores, 1 - labels) == pytest.approx(value)
    assert eer(-scores, labels) == pytest.approx(1 - value)


def _speechbrain_eer(positive, negative):
    """As documented: thresholds are unique scores and midpoints, FRR = mean(pos <= t), FAR = mean(neg > t)."""
    unique = np.unique(np.concatenate([positive, negative]))
    thresholds = np.sort(np.concatenate([unique, (unique[1:] + unique[:-1]) / 2]))
    alarms = np.array([(negative > t).sum() for t in thresholds])
    misses = np.array([(positive <= t).sum() for t in thresholds])
    best = np.argmin(np.abs(alarms * len(positive) - misses * len(negative)))  # whole numbers: ties are exact
    return (alarms[best] / len(negative) + misses[best] / len(positive)) / 2


@pytest.mark.parametrize("seed", range(20))
def test_speechbrain_convention(seed):
    generator = np.random.default_rng(seed)
    positive, negative = generator.normal(1.8, 1, 50).round(1 + seed % 2), generator.normal(0, 1, 500).round(2)
    scores = np.concatenate([positive, negative])
    labels = np.arange(550) < 50
    expected = _speechbrain_eer(positive, negative)
    assert eer(scores, labels, convention="speechbrain") == pytest.approx(expected)
    assert abs(eer(scores, labels) - expected) < 0.03


def test_eer_equals_sklearn_and_brentq():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq

    generator = np.random.default_rng(0)
    labels = np.arange(3000) < 1000
    scores = generator.normal(0, 1, 3000) + 1.5 * labels
    far, tpr, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    expected = brentq(lambda x: 1 - x - interp1d(far, tpr)(x), 0, 1)
    assert eer(scores, labels) == pytest.approx(expected, abs=1.1e-3)  # its root finder stops on vertical steps


@pytest.mark.parametrize("seed", range(5))
def test_equals_speechbrains_own_code(seed):
    pytest.importorskip("speechbrain")
    import torch
    from speechbrain.utils.metric_stats import EER, minDCF

    from hfprobe.encoders.speechbrain import forget_lazy_modules

    forget_lazy_modules()
    generator = np.random.default_rng(seed)
    positive, negative = generator.normal(1.5, 1, 60).astype("f"), generator.normal(0, 1, 300).astype("f")
    scores, labels = np.concatenate([positive, negative]), np.arange(360) < 60
    tensors = torch.from_numpy(positive), torch.from_numpy(negative)
    theirs = EER(*tensors)[0]
    assert eer(scores, labels, convention="speechbrain") == pytest.approx(theirs, abs=1e-6)
    for prior in (0.01, 0.2):
        cost = float(minDCF(*tensors, p_target=prior)[0])
        assert min_dcf(scores, labels, prior) == pytest.approx(cost / prior, rel=1e-5)  # theirs is not normalised


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0, 3.0])
def test_gaussian_scores_have_the_analytic_rates(distance):
    """Unit Gaussians d apart: EER = Phi(-d / 2), and minDCF at the threshold where the likelihood ratio is the cost's."""
    from scipy.stats import norm

    # Quantiles instead of draws: no chance, the error is that of the grid.
    quantiles = norm.ppf((np.arange(40_000) + 0.5) / 40_000)
    scores, labels = np.concatenate([quantiles + distance, quantiles]), np.arange(80_000) < 40_000
    assert eer(scores, labels) == pytest.approx(norm.cdf(-distance / 2), abs=5e-5)
    for prior in (0.01, 0.1, 0.5):
        threshold = np.log((1 - prior) / prior) / distance + distance / 2
        cost = prior * norm.cdf(threshold - distance) + (1 - prior) * norm.sf(threshold)
        expected = min(1, cost / min(prior, 1 - prior))
        assert min_dcf(scores, labels, prior) == pytest.approx(expected, abs=2e-3)
    unequal = np.concatenate([2 * quantiles + distance, quantiles])  # EER = Phi(-d / (s1 + s2))
    assert eer(unequal, labels) == pytest.approx(norm.cdf(-distance / 3), abs=5e-5)


def test_planted_answers():
    assert eer([1, 2, 3, 4], [0, 0, 1, 1]) == 0 == min_dcf([1, 2, 3, 4], [0, 0, 1, 1])
    assert eer([1, 2, 3, 4], [1, 1, 0, 0]) == 1
    assert eer([5, 5, 5, 5], [0, 1, 0, 1]) == 0.5 and min_dcf([5, 5], [0, 1]) == 1
    normal = np.random.default_rng(0).standard_normal((2, 200_000))
    scores = np.concatenate([normal[0] + 2, normal[1]])  # EER of unit Gaussians 2 apart: Phi(-1)
    assert eer(scores, np.arange(400_000) < 200_000) == pytest.approx(0.158655, abs=2e-3)


@pytest.mark.parametrize(
    "scores,labels,reason",
    [
        ([1, 2], [1], "length"),
        ([1, np.nan], [0, 1], "nan"),
        ([1, 2], [1, 1], "one class"),
        ([], [], "one class"),
        ([1, 2], [0, 2], "labels"),
    ],
)
def test_errors_have_a_reason(scores, labels, reason):
    for measure in (eer, min_dcf):
        with pytest.raises(MeasureError) as error:
            measure(scores, labels)
        assert error.value.reason == reason
    with pytest.raises(MeasureError):
        eer([1, 2], [0, 1], convention="mean")
    with pytest.raises(MeasureError):
        min_dcf([1, 2], [0, 1], p_target=1)
