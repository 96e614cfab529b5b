"""Trials are balanced and repeatable; intervals equal slow resampling and cover the truth."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.errors import MeasureError
from hfprobe.metrics import (
    all_trials,
    bootstrap_eer,
    bootstrap_mean,
    bootstrap_min_dcf,
    draw_trials,
    eer,
    min_dcf,
    weighted,
)
from hfprobe.metrics import (
    trials as trials_module,
)
from hfprobe.metrics.resample import bounds, two_sided_p_value
from hfprobe.metrics.weighted import WeightedTrials, equal_error_rates, smallest_costs


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), min_size=4, max_size=40), st.integers(0, 5), st.integers(1, 30))
def test_drawn_trials_are_balanced_and_distinct(speakers, seed, wanted):
    pairs = [(i, j) for i in range(len(speakers)) for j in range(i + 1, len(speakers))]
    positive = sum(speakers[i] == speakers[j] for i, j in pairs)
    if positive == 0 or positive == len(pairs):
        with pytest.raises(MeasureError):
            draw_trials(speakers, seed=seed)
        return
    for count in (None, wanted):
        trials = draw_trials(speakers, count, seed)
        expected = min(positive, len(pairs) - positive, count or positive)
        assert trials.labels.sum() == expected == (~trials.labels).sum()
        chosen = set(zip(trials.left.tolist(), trials.right.tolist(), strict=True))
        assert len(chosen) == len(trials) and chosen <= set(pairs)
        assert trials.labels.tolist() == [
            speakers[i] == speakers[j] for i, j in zip(trials.left, trials.right, strict=True)
        ]
    again = draw_trials(speakers, wanted, seed)
    assert np.array_equal(again.left, trials.left) and np.array_equal(again.right, trials.right)


def test_negative_draws_are_uniform():
    speakers = list("aaabbbccc" * 3)
    counts = np.zeros((27, 27))
    for seed in range(600):
        trials = draw_trials(speakers, 20, seed)
        counts[trials.left[20:], trials.right[20:]] += 1
    possible = np.triu(np.array(speakers)[:, None] != np.array(speakers), 1)
    assert counts[~possible].sum() == 0
    expected = 600 * 20 / possible.sum()
    chi2 = ((counts[possible] - expected) ** 2 / expected).sum()
    assert abs(chi2 - possible.sum()) < 5 * np.sqrt(2 * possible.sum())


def test_all_trials_and_scores():
    generator = np.random.default_rng(0)
    embeddings = generator.standard_normal((6, 4))
    trials = all_trials(list("aabbcc"))
    assert len(trials) == 15 and trials.labels.sum() == 3
    scores = trials.scores(embeddings)
    for score, i, j in zip(scores, trials.left, trials.right, strict=True):
        a, b = embeddings[i], embeddings[j]
        assert score == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    embeddings[2] = np.nan
    scores = trials.scores(embeddings)
    kept = trials.keep(np.isfinite(scores))
    assert len(kept) == 10 and 2 not in kept.left and 2 not in kept.right
    other = trials.scores(embeddings, np.ones((6, 4)))
    assert np.isnan(other).sum() == (trials.left == 2).sum()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=30), st.integers(1, 200), st.booleans())
def test_all_pairs_in_blocks_equal_a_plain_product(speakers, cells, two):
    if len(set(speakers)) < 2 or len(set(speakers)) == len(speakers):
        return
    generator = np.random.default_rng(0)
    left, right = generator.standard_normal((2, len(speakers), 3))
    right = right if two else left
    rows, columns = np.triu_indices(len(speakers), 1)
    trials = all_trials(speakers)
    assert np.array_equal(trials.left, rows) and np.array_equal(trials.right, columns)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (left, right)]
    before, trials_module.BLOCK_CELLS = trials_module.BLOCK_CELLS, cells
    try:
        found = trials.scores(left, right if two else None)
        shuffled = trials.keep(np.ones(len(trials)))
        drawn = draw_trials(speakers)
        again = drawn.scores(left, right if two else None)
    finally:
        trials_module.BLOCK_CELLS = before
    product = unit[0] @ unit[1].T
    np.testing.assert_allclose(found, product[rows, columns], atol=1e-12)
    np.testing.assert_allclose(again, product[drawn.left, drawn.right], atol=1e-12)
    assert len(shuffled) == len(rows)


def test_all_pairs_of_many_clips_fit_in_memory():
    import tracemalloc

    speakers = [f"s{i // 20}" for i in range(2000)]
    embeddings = np.random.default_rng(0).standard_normal((2000, 256)).astype("f")
    tracemalloc.start()
    trials = all_trials(speakers)
    scores = trials.scores(embeddings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(trials) == 1_999_000 and np.isfinite(scores).all()
    assert peak < 150e6  # the trials' rows at once would be 8 GB
    value = eer(scores, trials.labels)
    assert 0.4 < value < 0.6


def _planted(n_speakers, per_speaker, seed, spread=1.0):
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((n_speakers, 8))
    speakers = np.repeat(np.arange(n_speakers), per_speaker)
    embeddings = centres[speakers] + spread * generator.standard_normal((len(speakers), 8))
    trials = draw_trials(speakers.astype(str).tolist(), seed=seed)
    return trials, trials.scores(embeddings)


def _slow_draws(trials, scores, measure, n_speakers, n_replicates, seed):
    """Each measure on trials that are written out as often as they count."""
    draws = []
    for weight in np.random.default_rng(seed).multinomial(
        n_speakers, np.full(n_speakers, 1 / n_speakers), n_replicates
    ):
        sides = zip(trials.left_speakers, trials.right_speakers, strict=True)
        times = np.array([weight[a] if a == b else weight[a] * weight[b] for a, b in sides])
        labels = np.repeat(trials.labels, times)
        both = 0 < labels.sum() < len(labels)
        draws.append(measure(np.repeat(scores, times), labels) if both else np.nan)
    return np.array(draws)


@pytest.mark.parametrize("decimals", [1, 9])
@pytest.mark.parametrize("kind", ["drawn", "all"])
def test_bootstrap_equals_slow_resampling(kind, decimals):
    drawn, scores = _planted(6, 4, 0)
    trials = drawn
    if kind == "all":
        trials = all_trials([f"s{i // 4}" for i in range(24)])
        scores = np.random.default_rng(1).standard_normal(len(trials)) + trials.labels
    scores = scores.round(decimals)  # 1: many ties
    sides = trials.left_speakers, trials.right_speakers
    # Six speakers: the percentiles are those of Student's t with 5 degrees of freedom: sqrt(6 / 5) 2.5706 = 2.816 normal ones.
    levels = np.array([0.002432, 1 - 0.002432])
    slow = _slow_draws(trials, scores, eer, 6, 300, 3)
    result = bootstrap_eer(scores, trials.labels, *sides, n_replicates=300, seed=3)
    assert result.value == eer(scores, trials.labels)
    np.testing.assert_allclose(result[1:], np.nanquantile(slow, levels), atol=2e-4)
    slow = _slow_draws(trials, scores, lambda s, t: eer(s, t, "speechbrain"), 6, 300, 3)
    result = bootstrap_eer(scores, trials.labels, *sides, n_replicates=300, seed=3, convention="speechbrain")
    assert result.value == eer(scores, trials.labels, "speechbrain")
    np.testing.assert_allclose(result[1:], np.nanquantile(slow, levels), atol=2e-4)
    slow = _slow_draws(trials, scores, lambda s, t: min_dcf(s, t, 0.3, 2.0, 0.7), 6, 300, 3)
    result = bootstrap_min_dcf(scores, trials.labels, *sides, 0.3, 2.0, 0.7, n_replicates=300, seed=3)
    assert result.value == min_dcf(scores, trials.labels, 0.3, 2.0, 0.7)
    reach = np.abs(np.nanquantile(slow, levels) - result.value).max()
    expected = [max(0, result.value - reach), min(1, result.value + reach)]
    np.testing.assert_allclose(result[1:], expected, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 3))
def test_weights_of_one_give_the_measures_themselves(seed, decimals):
    trials, scores = _planted(5, 3, seed)
    scores = scores.round(decimals)
    ranked = WeightedTrials(scores, trials.labels, trials.left_speakers, trials.right_speakers)
    counts = ranked.counts(np.ones((2, 5)))
    assert equal_error_rates(*counts) == pytest.approx(eer(scores, trials.labels), abs=1e-12)
    nearest = equal_error_rates(*counts, convention="speechbrain")
    assert nearest == pytest.approx(eer(scores, trials.labels, "speechbrain"), abs=1e-12)
    assert smallest_costs(*counts, p_target=0.2) == pytest.approx(min_dcf(scores, trials.labels, 0.2), abs=1e-12)


def test_many_thresholds_are_thinned_without_harm(monkeypatch):
    trials = all_trials([f"s{i // 10}" for i in range(200)])
    scores = np.random.default_rng(0).standard_normal(len(trials)) + 1.5 * trials.labels
    sides = trials.left_speakers, trials.right_speakers
    exact = bootstrap_eer(scores, trials.labels, *sides, n_replicates=100)
    monkeypatch.setattr(weighted, "MAX_THRESHOLDS", 1000)
    ranked = WeightedTrials(scores, trials.labels, *sides)
    hits, alarms = ranked.counts(np.ones((1, 20)))
    assert len(hits) <= 1000 and hits[-1] == 900 and alarms[-1] == 19000
    assert np.diff(hits[:, 0] + alarms[:, 0]).max() <= 20
    thinned = bootstrap_eer(scores, trials.labels, *sides, n_replicates=100)
    np.testing.assert_allclose(thinned, exact, atol=1e-3)
    ties = np.round(scores)  # a run of equal scores is never cut
    assert len(WeightedTrials(ties, trials.labels, *sides).counts(np.ones((1, 20)))[0]) == len(np.unique(ties))


def test_bootstrap_eer_is_fast_and_repeatable():
    trials, scores = _planted(100, 11, 1)
    assert len(trials) > 10_000
    sides = trials.left_speakers, trials.right_speakers
    start = time.process_time()
    first = bootstrap_eer(scores, trials.labels, *sides)
    assert time.process_time() - start < 8
    assert first == bootstrap_eer(scores, trials.labels, *sides)
    assert first.low < first.value < first.high
    names = np.array([f"s{code}" for code in range(100)])
    assert first.value == bootstrap_eer(scores, trials.labels, *(names[side] for side in sides), n_replicates=5).value


def test_bounds_are_as_wide_as_students_t():
    draws = np.random.default_rng(0).standard_normal(400_000)
    for groups, width in ((10_000, 1.960), (20, 2.1474), (5, 3.1042)):  # sqrt(n / (n - 1)) t(0.975, n - 1)
        low, high = bounds(draws, 0.95, groups)
        assert low == pytest.approx(-width, abs=0.05) and high == pytest.approx(width, abs=0.05)
    assert bounds(draws, 0.95, 1) == (None, None)
    assert bounds(np.array([1.0, np.nan, np.nan]), 0.95, 5) == (None, None)
    assert bounds(np.empty(0), 0.95, 5) == (None, None)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 60), st.floats(-3, 3))
def test_p_value_is_below_the_level_exactly_where_the_interval_leaves_out_zero(seed, groups, shift):
    draws = np.random.default_rng(seed).standard_normal(999) + shift
    p_value = two_sided_p_value(draws, groups)
    assert 0 < p_value <= 1
    for level in (0.5, 0.9, 0.95):
        low, high = bounds(draws, level, groups)
        if p_value < (1 - level) * 0.9:
            assert low > 0 or high < 0
        if p_value > (1 - level) * 1.1 + 0.01:
            assert low <= 0 <= high
    assert two_sided_p_value(np.zeros(100), 10) == 1


def test_cluster_bootstrap_of_a_mean():
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(40), 25)
    values = generator.standard_normal(40)[speakers] + 0.1 * generator.standard_normal(1000)
    clustered, single = bootstrap_mean(values, speakers), bootstrap_mean(values)
    assert clustered.value == single.value == pytest.approx(values.mean())
    width, narrow = clustered.high - clustered.low, single.high - single.low
    by_speaker = values.reshape(40, 25).mean(1)
    assert width == pytest.approx(2 * 1.96 * by_speaker.std() / np.sqrt(40), rel=0.15)
    assert narrow == pytest.approx(2 * 1.96 * values.std() / np.sqrt(1000), rel=0.15)


def test_unequal_clusters_keep_their_weight():
    interval = bootstrap_mean([1.0] * 9 + [0.0], ["a"] * 9 + ["b"], n_replicates=400)
    assert interval == (pytest.approx(0.9), 0.0, 1.0)


def test_one_cluster_has_no_interval():
    assert bootstrap_mean([1.0, 2.0], ["a", "a"]) == (1.5, None, None)
    assert bootstrap_mean([1.0]) == (1.0, None, None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap_mean([]),
        lambda: bootstrap_mean([np.nan, 1.0]),
        lambda: bootstrap_mean([1.0, 2.0], ["a"]),
        lambda: bootstrap_mean([1.0, 2.0], n_replicates=0),
        lambda: bootstrap_mean([1.0, 2.0], confidence=1.0),
        lambda: bootstrap_eer([1, 2], [0, 1], ["a", "a"], ["b"]),
        lambda: bootstrap_eer([1, 2], [0, 1], ["a", "a"], ["a", "a"]),
        lambda: bootstrap_min_dcf([1, 2], [0, 1], ["a", "a"], ["b", "a"], p_target=0),
        lambda: draw_trials(["a", "b", "c"]),
        lambda: draw_trials(["a", "a", "a"]),
        lambda: draw_trials(["a", "a", "b"], n_per_class=0),
        lambda: all_trials([]),
    ],
)
def test_errors(call):
    with pytest.raises(MeasureError):
        call()
