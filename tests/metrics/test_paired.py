"""Paired differences against slow resampling, planted differences, and p-values that are uniform without one."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from hfprobe.errors import MeasureError
from hfprobe.metrics import (
    bootstrap_mean,
    draw_trials,
    eer,
    min_dcf,
    paired_eer_difference,
    paired_mean_difference,
    paired_min_dcf_difference,
)
from hfprobe.metrics.resample import speaker_draws


def planted(seed, n_speakers=20, per_speaker=6, noise_a=0.6, noise_b=0.6):
    """Trials and the scores of two systems that see the same clips, each with noise of its own."""
    generator = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(n_speakers), per_speaker)
    clips = generator.standard_normal((n_speakers, 8))[speakers] + 0.6 * generator.standard_normal((len(speakers), 8))
    trials = draw_trials([f"s{code:03d}" for code in speakers], seed=seed)
    systems = [clips + noise * generator.standard_normal(clips.shape) for noise in (noise_a, noise_b)]
    return trials, *(trials.scores(system) for system in systems)


def sides(trials):
    return trials.labels, trials.left_speakers, trials.right_speakers


NEAREST = {"convention": "speechbrain"}
MEASURES = [
    (paired_eer_difference, eer),
    (partial(paired_eer_difference, **NEAREST), partial(eer, **NEAREST)),
    (paired_min_dcf_difference, min_dcf),
]


@pytest.mark.parametrize("paired,measure", MEASURES)
def test_equals_slow_resampling(paired, measure):
    trials, first, second = planted(0, n_speakers=8, per_speaker=4)
    first = first.round(1)
    draws = []
    for weight in np.concatenate(list(speaker_draws(8, 200, 1, 5))).astype(int):
        times = np.where(
            trials.labels,
            weight[trials.left_speakers],
            weight[trials.left_speakers] * weight[trials.right_speakers],
        )
        labels = np.repeat(trials.labels, times)
        draws.append(measure(np.repeat(first, times), labels) - measure(np.repeat(second, times), labels))
    tail = stats.norm.cdf(np.sqrt(8 / 7) * stats.t.ppf(0.025, 7))
    result = paired(first, second, *sides(trials), n_boot=200, seed=5)
    assert result.first == measure(first, trials.labels) and result.second == measure(second, trials.labels)
    assert result.difference == result.first - result.second and result.n == len(trials)
    np.testing.assert_allclose([result.low, result.high], np.quantile(draws, [tail, 1 - tail]), atol=1e-9)


def test_a_planted_difference_is_found():
    trials, bad, good = planted(1, n_speakers=40, noise_a=2.0, noise_b=0.2)
    for paired in (paired_eer_difference, paired_min_dcf_difference):
        result = paired(bad, good, *sides(trials))
        assert 0 < result.low < result.difference < result.high and result.p_value < 0.01
        turned = paired(good, bad, *sides(trials))
        assert turned.difference == -result.difference and turned.p_value == pytest.approx(result.p_value)
        assert turned.low == pytest.approx(-result.high) and turned.high == pytest.approx(-result.low)
        assert result == paired(bad, good, *sides(trials))


def test_the_same_system_twice_differs_by_nothing():
    trials, scores, _ = planted(2)
    result = paired_eer_difference(scores, np.exp(scores), *sides(trials))
    assert result[:4] == (0.0, 0.0, 0.0, 1.0)


def test_pairing_sees_what_two_intervals_cannot():
    """Clips differ much more than systems do."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(30), 8)
    clips = 0.7 + 0.1 * generator.standard_normal(30)[speakers] + 0.05 * generator.standard_normal(240)
    first, second = clips + 0.01 + 0.005 * generator.standard_normal(240), clips
    result = paired_mean_difference(first, second, speakers)
    assert 0 < result.low < 0.01 < result.high and result.p_value < 0.01
    assert result.high - result.low < 0.01
    separate = [bootstrap_mean(values, speakers) for values in (first, second)]
    assert separate[0].low < separate[1].value < separate[0].high


def test_mean_difference_equals_students_t_for_single_clips():
    generator = np.random.default_rng(3)
    first, second = generator.normal(0.15, 1, 60), generator.normal(0, 0.2, 60)
    result, test = paired_mean_difference(first, second, n_boot=20_000), stats.ttest_rel(first, second)
    interval = test.confidence_interval()
    assert result.difference == pytest.approx((first - second).mean())
    np.testing.assert_allclose([result.low, result.high], interval, atol=0.03)
    assert result.p_value == pytest.approx(test.pvalue, abs=0.02)


def test_missing_values_are_dropped_pairwise_and_counted():
    result = paired_mean_difference([1.0, None, 3.0, np.nan, 5.0], [0.5, 1.0, None, 2.0, 4.5], list("aabbc"))
    assert (result.difference, result.n, result.n_dropped) == (0.5, 2, 3)
    assert (result.first, result.second) == (3.0, 2.5)
    trials, first, second = planted(4)
    holes = first.copy()
    holes[::7] = np.nan
    kept = np.isfinite(holes)
    found = paired_eer_difference(holes, second, *sides(trials))
    expected = paired_eer_difference(first[kept], second[kept], *sides(trials.keep(kept)))
    assert found.n_dropped == (~kept).sum() and found[:7] == expected[:7]


def test_one_speaker_has_a_difference_but_no_interval():
    assert paired_mean_difference([1.0, 2.0], [0.0, 0.0], ["a", "a"])[:4] == (1.5, None, None, None)


def test_p_values_are_uniform_without_a_difference():
    """150 experiments each; also the rate of false alarms at 10 %."""
    p_values = {"eer": [], "mean": []}
    for seed in range(150):
        trials, first, second = planted(seed + 100, n_speakers=15, per_speaker=5)
        p_values["eer"].append(paired_eer_difference(first, second, *sides(trials), n_boot=200, seed=seed).p_value)
        generator = np.random.default_rng(seed)
        speakers = np.repeat(np.arange(12), 4)
        effect = 0.5 * generator.standard_normal((2, 12))[:, speakers]
        values = generator.standard_normal(48) + effect + generator.standard_normal((2, 48))
        p_values["mean"].append(paired_mean_difference(*values, speakers, n_boot=400, seed=seed).p_value)
    for values in p_values.values():
        # Never more false alarms than promised (15 of 150; 26 has a chance of 0.3 %).
        assert sum(p < 0.1 for p in values) <= 25
    assert stats.kstest(p_values["mean"], "uniform").pvalue > 0.003
    # Noise of single trials counts double in the draws of pairs, which widens the interval: p-values err upwards.
    assert 0.4 < np.mean(p_values["eer"]) < 0.75


def test_small_differences_are_found_as_often_as_a_t_test_finds_them():
    found, by_t = 0, 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        values = generator.standard_normal(30) + np.array([[0.4], [0.0]]) + 0.5 * generator.standard_normal((2, 30))
        found += paired_mean_difference(*values, n_boot=400, seed=seed).p_value < 0.05
        by_t += stats.ttest_rel(*values).pvalue < 0.05
    assert by_t > 50 and abs(found - by_t) <= 8


@pytest.mark.parametrize(
    "call,reason",
    [
        (lambda: paired_mean_difference([1.0], [1.0, 2.0]), "length"),
        (lambda: paired_mean_difference([1.0, 2.0], [1.0, 2.0], ["a"]), "length"),
        (lambda: paired_mean_difference([None], [1.0]), "empty"),
        (lambda: paired_mean_difference([], []), "empty"),
        (lambda: paired_mean_difference([1.0], [1.0], n_boot=0), "draws"),
        (lambda: paired_eer_difference([1, 2], [1], [0, 1], "ab", "bb"), "length"),
        (lambda: paired_eer_difference([1, 2], [1, 2], [0, 1], ["a"], ["b"]), "length"),
        (lambda: paired_eer_difference([1, 2], [1, 2], [0, 1], ["a", "b"], ["a", "b"]), "labels"),
        (lambda: paired_eer_difference([1, np.nan], [1, 2], [0, 1], ["a", "b"], ["b", "b"]), "one class"),
        (lambda: paired_min_dcf_difference([1, 2], [1, 2], [0, 1], ["a", "b"], ["b", "b"], p_target=1), "prior"),
    ],
)
def test_errors_have_a_reason(call, reason):
    with pytest.raises(MeasureError) as error:
        call()
    assert error.value.reason == reason
