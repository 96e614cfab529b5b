"""Trials are balanced and repeatable; intervals equal slow resampling and cover the truth."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.errors import MeasureError
from hfprobe.metrics import all_trials, bootstrap_eer, bootstrap_mean, draw_trials, eer


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


def _planted(n_speakers, per_speaker, seed, spread=1.0):
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((n_speakers, 8))
    speakers = np.repeat(np.arange(n_speakers), per_speaker)
    embeddings = centres[speakers] + spread * generator.standard_normal((len(speakers), 8))
    trials = draw_trials(speakers.astype(str).tolist(), seed=seed)
    return trials, trials.scores(embeddings)


def test_bootstrap_eer_equals_slow_resampling():
    trials, scores = _planted(6, 4, 0)
    scores = scores.round(1)  # many ties
    names, draws = np.unique(trials.left_speakers), []
    generator = np.random.default_rng(3)
    for weights in generator.multinomial(6, np.full(6, 1 / 6), 300):
        weight = dict(zip(names, weights, strict=True))
        sides = zip(trials.left_speakers, trials.right_speakers, strict=True)
        times = np.array([weight[a] if a == b else weight[a] * weight[b] for a, b in sides])
        labels = np.repeat(trials.labels, times)
        if 0 < labels.sum() < len(labels):
            draws.append(eer(np.repeat(scores, times), labels))
    result = bootstrap_eer(scores, trials.labels, trials.left_speakers, trials.right_speakers, n_replicates=300, seed=3)
    assert result.value == eer(scores, trials.labels)
    np.testing.assert_allclose([result.low, result.high], np.quantile(draws, [0.025, 0.975]), atol=1e-9)


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


def test_bootstrap_eer_covers_the_truth():
    truth = np.mean([eer(s, t.labels) for t, s in (_planted(200, 6, 900 + seed) for seed in range(3))])
    hits = 0
    for seed in range(40):
        trials, scores = _planted(25, 6, seed)
        interval = bootstrap_eer(
            scores, trials.labels, trials.left_speakers, trials.right_speakers, n_replicates=200, seed=seed
        )
        hits += interval.low <= truth <= interval.high
    assert hits >= 33  # 95 % of 40 is 38; below 33 has a chance of 0.3 %


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
        lambda: draw_trials(["a", "b", "c"]),
        lambda: draw_trials(["a", "a", "a"]),
        lambda: draw_trials(["a", "a", "b"], n_per_class=0),
        lambda: all_trials([]),
    ],
)
def test_errors(call):
    with pytest.raises(MeasureError):
        call()
