"""RBF CKA, RSA and minibatch CKA from a stream, and intervals of wide layers: values, order, processes, coverage."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from hfprobe.errors import MeasureError
from hfprobe.similarity import PairAccumulator, linear_cka, minibatch_cka, rbf_cka, rsa
from hfprobe.similarity.cka import hsic1
from hfprobe.similarity.groups import draw_times, draws_without, widening
from hfprobe.similarity.leading import leading_directions
from hfprobe.similarity.left_out import left_of, memberships, rows_without
from hfprobe.similarity.minibatches import MinibatchAccumulator
from hfprobe.similarity.sample import FrameSample, frame_keys
from hfprobe.similarity.sampled import sampled_scores

SIZES = (60, 45, 75, 30, 50, 40, 55, 65)


def utterances(seed=0, dims=(6, 9), spread=1.0, sizes=SIZES):
    """Two related sets of features of several utterances, each with an offset of its own."""
    random = np.random.default_rng(seed)
    maps = [random.standard_normal((5, dim)) for dim in dims]
    for size in sizes:
        base = random.standard_normal((size, 5)) + spread * random.standard_normal(5)
        yield {
            name: torch.from_numpy(np.tanh(base @ m) + 0.5 * random.standard_normal((size, m.shape[1])))
            for name, m in zip("xy", maps, strict=True)
        }


def together(parts):
    parts = list(parts)
    return [torch.cat([part[name] for part in parts]) for name in "xy"]


def sampled(parts, size=120, order=None, seed=0):
    parts = list(parts)
    sample = FrameSample({"x": 6, "y": 9}, size, len(parts))
    for place in order or range(len(parts)):
        n = len(parts[place]["x"])
        sample.update(parts[place], frame_keys(f"u{place}", n, seed), torch.full((n,), place))
    return sample


def test_the_sample_depends_on_seed_alone_is_bounded_and_fair():
    parts = list(utterances())
    first, turned = sampled(parts), sampled(parts, order=list(range(8))[::-1])
    assert torch.equal(first.features("x"), turned.features("x")) and torch.equal(first.codes, turned.codes)
    assert len(first.features("y")) == 120 and int(first.counts.sum()) == sum(SIZES)
    assert not torch.equal(first.features("x"), sampled(parts, seed=1).features("x"))
    every = torch.cat([part["x"] for part in parts])
    assert all(bool((every == row).all(dim=1).any()) for row in first.features("x"))
    # A frame is in it as often as its share says, whatever its utterance.
    hits = sum(torch.bincount(sampled(parts, seed=seed).codes, minlength=8) for seed in range(60))
    expected = 60 * 120 * torch.tensor(SIZES) / sum(SIZES)
    assert float(((hits - expected).abs() / expected.sqrt()).max()) < 4


def test_two_samples_merged_equal_one():
    parts = list(utterances())
    whole, halves = sampled(parts), [FrameSample({"x": 6, "y": 9}, 120, 8) for _ in range(2)]
    for place, part in enumerate(parts):
        n = len(part["x"])
        halves[place % 2].update(part, frame_keys(f"u{place}", n, 0), torch.full((n,), place))
    merged = halves[0].merge(halves[1])
    assert torch.equal(merged.features("y"), whole.features("y")) and torch.equal(merged.counts, whole.counts)
    with pytest.raises(MeasureError, match="same sets"):
        merged.merge(FrameSample({"x": 6}, 120, 8))


def test_values_are_those_of_the_functions_on_the_sample():
    sample = sampled(utterances())
    x, y = sample.features("x"), sample.features("y")
    found = sampled_scores(sample, ("rbf_cka", "rsa"), [("x", "y"), ("y", "x")], replicates=50)
    for a, b, left, right in (("x", "y", x, y), ("y", "x", y, x)):
        want = rbf_cka(left, right)
        assert found[a, b, "rbf_cka"] == pytest.approx(want, abs=1e-12)
        assert found[a, b, "rbf_cka"].null == pytest.approx(want.null, abs=1e-12)
        assert found[a, b, "rsa"] == pytest.approx(rsa(left, right), abs=1e-12)
    apart = [1 - np.corrcoef(side.numpy())[np.triu_indices(120, 1)] for side in (x, y)]
    assert found["x", "y", "rsa"] == pytest.approx(spearmanr(*apart).statistic, abs=1e-9)
    for score in found.values():
        assert score.n == 120 and score.interval[0] < score < score.interval[1]


def test_leaving_a_group_out_equals_computing_without_it():
    sample = sampled(utterances())
    x, y, codes = sample.features("x"), sample.features("y"), sample.codes
    members = memberships(codes, codes.unique())
    kernels = [(side @ side.T).fill_diagonal_(0.0) for side in (x, y)]
    rows = [rows_without(kernel, members) for kernel in kernels]
    found = left_of(*kernels, *rows, members)
    ones = [(kernel / kernel.abs().max()).fill_diagonal_(0.0) for kernel in kernels]
    biased = left_of(*ones, *(rows_without(kernel, members) for kernel in ones), members).biased()
    for place, group in enumerate([None, *codes.unique().tolist()]):
        kept = codes != (-1 if group is None else group)
        k, h = (kernel[kept][:, kept] for kernel in kernels)
        assert float(found.hsic1()[place]) == pytest.approx(float(hsic1(k, h)), rel=1e-9)
        k, h = (kernel[kept][:, kept] + torch.eye(int(kept.sum())) for kernel in ones)
        centre = torch.eye(len(k)) - 1 / len(k)
        want = torch.trace(k.double() @ centre.double() @ h.double() @ centre.double())
        assert float(biased[place]) == pytest.approx(float(want), rel=1e-6)


def test_rsa_without_a_group_ranks_anew():
    sample = sampled(utterances())
    times = draw_times(sample.counts, 40, 0)
    without = np.array([
        rsa(sample.features("x")[sample.codes != group], sample.features("y")[sample.codes != group])
        for group in range(8)
    ])  # fmt: skip
    score = sampled_scores(sample, ("rsa",), [("x", "y")], replicates=40)["x", "y", "rsa"]
    want = float(score) + widening(8) * (draws_without(float(score), without, times) - float(score))
    assert np.ptp(score.replicates) > 0
    np.testing.assert_allclose(score.replicates, np.clip(float(score) + want - want.mean(), -1, 1), atol=1e-9)


def minibatches(parts, size=32, order=None):
    parts = list(parts)
    sums = MinibatchAccumulator({"x": 6, "y": 9}, size=size, groups=len(parts))
    for places in order or [range(0, 4), range(4, 8)]:
        keys = torch.cat([frame_keys(f"u{place}", len(parts[place]["x"]), 0) for place in places])
        codes = torch.cat([torch.full((len(parts[place]["x"]),), place) for place in places])
        sums.update({name: torch.cat([parts[place][name] for place in places]) for name in "xy"}, keys, codes)
    return sums


def test_minibatch_cka_equals_the_function_on_shuffled_frames():
    parts = list(utterances())
    kept = []
    for places in (range(0, 4), range(4, 8)):
        keys = torch.cat([frame_keys(f"u{place}", len(parts[place]["x"]), 0) for place in places])
        order = keys.argsort()[: len(keys) // 32 * 32]
        kept.append([torch.cat([parts[place][name] for place in places])[order] for name in "xy"])
    x, y = (torch.cat(side) for side in zip(*kept, strict=True))
    want = minibatch_cka(x, y, batch_size=32)
    found = minibatches(parts).scores(replicates=60)
    assert found["x", "y", "minibatch_cka"] == pytest.approx(want, abs=1e-12)
    assert found["x", "x", "minibatch_cka"] == pytest.approx(1, abs=1e-12)
    score = found["x", "y", "minibatch_cka"]
    assert score.n == len(x) and score.extra["batches"] == want.extra["batches"] and score.null == 0
    assert score.interval[0] < score < score.interval[1]


def test_minibatches_without_a_group_and_merged():
    parts = list(utterances())
    whole = minibatches(parts)
    # One group left out of each minibatch, by hand, for one group.
    keys = torch.cat([frame_keys(f"u{place}", SIZES[place], 0) for place in range(4)])
    codes = torch.cat([torch.full((SIZES[place],), place) for place in range(4)])
    x = torch.cat([parts[place]["x"] for place in range(4)])
    want = 0.0
    for batch in keys.argsort().split(32):
        if len(batch) == 32:
            kept = batch[codes[batch] != 2]
            want += float(hsic1(x[kept] @ x[kept].T, x[kept] @ x[kept].T))
    first = minibatches(parts, order=[range(0, 4)])
    assert float(first._sums[0, 1 + 2]) == pytest.approx(want, rel=1e-9)
    merged = first.merge(minibatches(parts, order=[range(4, 8)]))
    torch.testing.assert_close(merged._sums, whole._sums, rtol=1e-12, atol=1e-12)
    assert (merged.batches, merged.counts.tolist()) == (whole.batches, whole.counts.tolist())
    with pytest.raises(MeasureError, match="same sets"):
        merged.merge(MinibatchAccumulator({"x": 6}, groups=8))


def test_no_value_is_told_with_its_reason():
    parts = list(utterances())
    empty, failures = minibatches(parts, size=300), {}
    assert empty.scores(failures=failures) == {} and "no minibatch" in failures["x", "y", "minibatch_cka"]
    for part in parts:
        part["y"] = torch.full_like(part["y"], 3.0)
    dead, failures = sampled(parts), {}
    assert sampled_scores(dead, ("rbf_cka", "rsa"), [("x", "y")], failures=failures) == {}
    assert "constant" in failures["x", "y", "rbf_cka"] and "same in all features" in failures["x", "y", "rsa"]
    failures = {}
    assert ("x", "x", "minibatch_cka") in minibatches(parts).scores(failures=failures)
    assert "self-similarity" in failures["x", "y", "minibatch_cka"]
    with pytest.raises(MeasureError, match="constant"):
        sampled_scores(dead, ("rbf_cka",), [("x", "y")])
    with pytest.raises(MeasureError, match="minibatches of 4"):
        MinibatchAccumulator({"x": 3}, size=3)
    with pytest.raises(MeasureError, match="4 frames"):
        FrameSample({"x": 3}, size=3)


# Coverage: intervals of small corpora hold the value of a very large one about as often as they promise.

SPEAKERS, EACH, RUNS = 20, 20, 60


def corpus(seed, speakers=SPEAKERS, dims=(6, 9)):
    """Speakers with offsets of their own around maps that are the same for all corpora."""
    random, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    maps = [fixed.standard_normal((5, dim)) for dim in dims]
    codes = torch.arange(speakers).repeat_interleave(EACH)
    base = random.standard_normal((speakers * EACH, 5)) + 0.7 * random.standard_normal((speakers, 5))[codes.numpy()]
    sides = [np.tanh(base @ m / 2) + 0.4 * random.standard_normal((len(base), m.shape[1])) for m in maps]
    return {name: torch.from_numpy(side) for name, side in zip("xy", sides, strict=True)}, codes


def test_intervals_of_streamed_kernels_cover_the_truth():
    large, codes = corpus(10**6, 60)
    truth = {
        "rbf_cka": float(rbf_cka(large["x"], large["y"], debiased=True)),
        "rsa": float(rsa(large["x"], large["y"])),
        "minibatch_cka": float(linear_cka(large["x"], large["y"], debiased=True)),
    }
    hits = {measure: [] for measure in truth}
    for seed in range(RUNS):
        features, codes = corpus(seed)
        keys = torch.from_numpy(np.random.default_rng(seed).permutation(len(codes)))
        sample, sums = (
            FrameSample({"x": 6, "y": 9}, 200, SPEAKERS),
            MinibatchAccumulator({"x": 6, "y": 9}, size=50, groups=SPEAKERS),
        )
        sample.update(features, keys, codes)
        sums.update(features, keys, codes)
        found = sampled_scores(sample, ("rbf_cka", "rsa"), [("x", "y")], replicates=100, seed=seed)
        found |= sums.scores([("x", "y")], replicates=100, seed=seed)
        for (_, _, measure), score in found.items():
            low, high = score.interval
            # The biased RBF CKA of 200 frames lies above the unbiased truth by its bias, which no interval is about.
            bias = (
                0.0
                if measure != "rbf_cka"
                else float(score) - float(rbf_cka(sample.features("x"), sample.features("y"), debiased=True))
            )
            hits[measure].append(low - bias <= truth[measure] <= high - bias)
    for measure, found in hits.items():
        assert 0.85 <= np.mean(found), (measure, np.mean(found))


def wide_corpus(seed, speakers=SPEAKERS):
    """As `corpus`, with sides of 120 features whose variances fall as those of layers do."""
    random, fixed = np.random.default_rng(seed), np.random.default_rng(98)
    scales = np.arange(1, 41) ** -0.7
    maps = [fixed.standard_normal((40, 120)) for _ in range(2)]
    codes = torch.arange(speakers).repeat_interleave(EACH)
    base = random.standard_normal((speakers * EACH, 40)) + 0.7 * random.standard_normal((speakers, 40))[codes.numpy()]
    shared = base * scales
    own = [shared + 0.5 * scales * random.standard_normal((len(base), 40)) for _ in range(2)]
    sides = [side @ m + 0.1 * random.standard_normal((len(base), 120)) for side, m in zip(own, maps, strict=True)]
    return {name: torch.from_numpy(side) for name, side in zip("xy", sides, strict=True)}, codes


def wide_scores(features, codes, directions, measures, replicates=60):
    groups = int(codes.max()) + 1
    dims = {name: side.shape[1] for name, side in features.items()}
    bases = {name: leading_directions(side[::2], directions) for name, side in features.items()}
    whole = PairAccumulator(dims)
    narrow = PairAccumulator({name: base.basis.shape[1] for name, base in bases.items()}, groups=groups)
    whole.update(features)
    narrow.update({name: base.of(features[name]) for name, base in bases.items()}, codes)
    options = {"replicates": replicates, "quiet": True, "rank": "reduce"}
    return whole.scores(measures, [("x", "y")], spread=narrow, **options)


def test_wide_sets_keep_their_value_and_get_the_interval_of_their_leading_directions():
    features, codes = wide_corpus(0)
    measures = ("linear_cka", "linear_cka_debiased", "svcca", "pwcca")
    found = wide_scores(features, codes, 60, measures)
    full = PairAccumulator({"x": 120, "y": 120}, groups=SPEAKERS)
    full.update(features, codes)
    want = full.scores(measures[:2], [("x", "y")], replicates=60, quiet=True)
    for key, score in want.items():
        assert found[key] == pytest.approx(score, abs=1e-12)
        np.testing.assert_allclose(found[key].interval, score.interval, atol=0.1 * np.ptp(score.interval))
        assert found[key].extra["interval_directions"] == (60, 60)
    low, high = found["x", "y", "svcca"].interval
    assert low <= found["x", "y", "svcca"] <= high and found["x", "y", "pwcca"].interval is None


def test_intervals_of_wide_sets_cover_what_corpora_of_this_size_give():
    """Few speakers make sides look more alike than many do, in all intervals; the spread over corpora is tested here."""
    scores = [
        wide_scores(*wide_corpus(seed), 30, ("linear_cka_debiased",), 40)["x", "y", "linear_cka_debiased"]
        for seed in range(20)
    ]
    mean = np.mean([float(score) for score in scores])
    assert np.mean([score.interval[0] <= mean <= score.interval[1] for score in scores]) >= 0.85
    widths = [score.interval[1] - score.interval[0] for score in scores]
    assert 0.6 < np.mean(widths) / (2 * 1.96 * np.std([float(score) for score in scores], ddof=1)) < 1.7


def test_leading_directions_are_the_principal_ones():
    features, _ = wide_corpus(0)
    for rows in (80, 400):  # fewer and more samples than features
        x = features["x"][:rows].numpy()
        found = leading_directions(features["x"][:rows], 10)
        _, values, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
        cosines = np.linalg.svd(right[:10] @ found.basis.double().numpy(), compute_uv=False)
        assert cosines.min() > 1 - 1e-6
        assert found.share == pytest.approx((values[:10] ** 2).sum() / (values**2).sum(), rel=1e-9)
