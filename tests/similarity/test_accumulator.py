"""One pass equals memory, in any batches, processes and order; and the nulls and intervals that come with it."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.errors import MeasureError
from hfprobe.similarity import PairAccumulator, cca_null, linear_cka, mean_cca, plan_passes, pwcca, rbf_cka, svcca
from hfprobe.similarity.plan import moment_bytes

IN_MEMORY = {
    "mean_cca": mean_cca,
    "svcca": svcca,
    "pwcca": pwcca,
    "linear_cka": linear_cka,
    "linear_cka_debiased": lambda x, y: linear_cka(x, y, debiased=True),
}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def sets(seed=0, n=300, offset=10.0):
    """Three sets of features with offsets far from 0."""
    random = np.random.default_rng(seed)
    base = random.standard_normal((n, 5))
    return {
        name: base @ random.standard_normal((5, dim)) + 0.5 * random.standard_normal((n, dim)) + offset * place
        for place, (name, dim) in enumerate({"a": 4, "b": 7, "c": 6}.items(), 1)
    }


def filled(data, cuts=(), groups=1, **options):
    """An accumulator that saw the data in these pieces."""
    n = len(data["a"])
    moments = PairAccumulator({name: x.shape[1] for name, x in data.items()}, groups=groups, **options)
    for start, stop in zip((0, *cuts), (*cuts, n), strict=True):
        codes = np.arange(start, stop) * groups // n
        moments.update({name: x[start:stop] for name, x in data.items()}, codes if groups > 1 else 0)
    return moments


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 299), max_size=5, unique=True), st.floats(0, 1e4))
def test_streaming_equals_memory(seed, cuts, offset):
    data = sets(seed, offset=offset)
    moments = filled(data, sorted(cuts))
    for a, b in (("a", "b"), ("b", "a"), ("c", "c")):
        for measure, function in IN_MEMORY.items():
            got, want = moments.score(a, b, measure), function(data[a], data[b])
            assert got == pytest.approx(want, abs=1e-9)
            assert got.null == pytest.approx(want.null, abs=1e-9)
            assert (got.n, got.dims, got.directions) == (want.n, want.dims, want.directions)
            if measure == "pwcca":
                assert (got.left, got.right) == pytest.approx((want.left, want.right), abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 299))
def test_two_merged_equal_one(seed, cut):
    data = sets(seed, offset=1e3)
    parts = [{name: x[where] for name, x in data.items()} for where in (slice(cut), slice(cut, None))]
    first, second = (filled(part) for part in parts)
    together, whole = first + second, filled(data)
    assert (together.n, first.n) == (300, cut)  # a sum leaves its parts alone
    for key, want in whole.scores(tuple(IN_MEMORY)).items():
        assert together.scores((key[2],), [key[:2]])[key] == pytest.approx(want, abs=1e-9)
    assert first.merge(second) is first and first.score("a", "b", "pwcca") == together.score("a", "b", "pwcca")


def test_merging_with_nothing_changes_nothing():
    data = sets()
    whole, empty = filled(data), PairAccumulator({"a": 4, "b": 7, "c": 6})
    for together in (whole + empty, empty + whole):
        assert together.score("a", "b", "linear_cka_debiased") == whole.score("a", "b", "linear_cka_debiased")
    with pytest.raises(MeasureError, match="same sets"):
        whole.merge(PairAccumulator({"a": 4}))


def test_two_processes_equal_one(tmp_path):
    code = """
import sys, numpy as np
from hfprobe.similarity import PairAccumulator
part, path = int(sys.argv[1]), sys.argv[2]
data = np.random.default_rng(0).standard_normal((200, 5)) + 3
data = data[part * 100 : part * 100 + 100]
moments = PairAccumulator({"x": 2, "y": 3})
moments.update({"x": data[:, :2], "y": data[:, 2:] + data[:, :1]})
moments.save(path)
"""
    files = [tmp_path / f"{part}.safetensors" for part in (0, 1)]
    for part, file in enumerate(files):
        subprocess.run([sys.executable, "-c", code, str(part), str(file)], check=True)
    together = PairAccumulator.load(files[0]) + PairAccumulator.load(files[1])
    data = np.random.default_rng(0).standard_normal((200, 5)) + 3
    for measure, function in IN_MEMORY.items():
        want = function(data[:, :2], data[:, 2:] + data[:, :1])
        assert together.score("x", "y", measure) == pytest.approx(want, abs=1e-9)


def test_saved_and_loaded(tmp_path):
    moments = filled(sets(), groups=6)
    again = PairAccumulator.load(moments.save(tmp_path / "m.safetensors"))
    assert again.score("a", "c", "pwcca") == moments.score("a", "c", "pwcca") and again.counts.tolist() == [50] * 6
    other = PairAccumulator({"a": 4, "b": 7, "c": 6}, groups=6)
    other.load_state_dict(moments.state_dict())
    other.update({"a": np.ones((1, 4)), "b": np.ones((1, 7)), "c": np.ones((1, 6))})
    assert (other.n, moments.n) == (301, 300)  # a copy
    with pytest.raises(MeasureError, match="does not fit"):
        PairAccumulator({"a": 4, "b": 8, "c": 6}, groups=6).load_state_dict(moments.state_dict())
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    for name in ("bad", "missing"):
        with pytest.raises(MeasureError, match=f"{name}.safetensors"):
            PairAccumulator.load(tmp_path / f"{name}.safetensors")


def test_only_the_pairs_asked_for_are_kept():
    data = sets()
    moments = filled(data, (100,), pairs=[("c", "a")])
    assert moments.pairs == (("a", "c"),)
    assert moments.score("a", "c", "pwcca") == pytest.approx(pwcca(data["a"], data["c"]), abs=1e-9)
    assert moments.score("c", "a", "linear_cka") == pytest.approx(linear_cka(data["c"], data["a"]), abs=1e-9)
    assert moments.nbytes < filled(data).nbytes
    with pytest.raises(MeasureError, match="not accumulated"):
        moments.score("a", "b", "linear_cka")


def test_passes_under_a_memory_limit_cover_all_pairs_once():
    dims = {name: 60 for name in "abcdef"}
    whole = PairAccumulator(dims).nbytes
    passes = plan_passes(dims, None, memory_limit=whole / 2)
    assert len(passes) > 1 and sorted(pair for part in passes for pair in part) == sorted(PairAccumulator(dims).pairs)
    for part in passes:
        used = {name: 60 for name in dims if any(name in pair for pair in part)}
        assert moment_bytes(used, part) <= whole / 2
        PairAccumulator(used, part, memory_limit=whole / 2)
    with pytest.raises(MeasureError, match="limit"):
        plan_passes(dims, None, memory_limit=1000)
    with pytest.raises(MeasureError, match="limit"):
        PairAccumulator(dims, memory_limit=whole - 1)


def test_memory_does_not_grow_with_the_stream():
    moments = filled(sets(n=50))
    before = sum(tensor.numel() for tensor in moments.state_dict().values())
    for seed in range(20):
        moments.update(sets(seed, n=50))
    assert sum(tensor.numel() for tensor in moments.state_dict().values()) == before
    assert moments.n == 21 * 50


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"a": None}, "check a"),
        ({"d": np.ones((300, 2))}, "check d"),
        ({"a": np.ones((299, 4))}, "as many samples"),
        ({"a": np.ones((300, 5))}, "4 wide, got 5"),
        ({"a": np.full((300, 4), np.nan)}, "NaN"),
    ],
)
def test_wrong_updates_are_refused_and_change_nothing(change, word):
    data = sets()
    moments = filled(data)
    features = {name: value for name, value in {**data, **change}.items() if value is not None}
    with pytest.raises(MeasureError, match=word):
        moments.update(features)
    assert moments.n == 300
    moments.update({name: x[:0] for name, x in data.items()})
    assert moments.n == 300


def test_errors_instead_of_nan():
    for bad, measure, word in (
        (np.full((40, 4), 0.1), "linear_cka", "constant"),
        (np.repeat(np.arange(40.0)[:, None], 4, 1), "mean_cca", "rank 1 of 4"),
        (np.full((3, 4), 1.0), "linear_cka", "at least 4"),
    ):
        moments = PairAccumulator({"x": 4, "y": 2})
        for part in np.array_split(np.arange(len(bad)), 3):
            moments.update({"x": bad[part] + 0.0, "y": np.random.default_rng(0).random((len(part), 2))})
        with pytest.raises(MeasureError, match=word):
            moments.score("x", "y", measure)
        if len(bad) > 3:
            failures = {}
            assert moments.scores((measure,), [("x", "y")], failures=failures) == {}
            assert word in failures["x", "y", measure]


def test_dependent_columns_can_be_reduced():
    random = np.random.default_rng(0)
    x = random.standard_normal((500, 3))
    moments = PairAccumulator({"x": 5, "y": 3})
    moments.update({"x": np.hstack([x, x[:, :1], np.full((500, 1), 7.7)]), "y": x @ random.standard_normal((3, 3))})
    score = moments.score("x", "y", "mean_cca", rank="reduce")
    assert score == pytest.approx(1, abs=1e-9) and score.directions == (3, 3)


def test_float32_tensors_with_gradients_are_taken():
    data = {name: torch.from_numpy(x).float().requires_grad_() for name, x in sets().items()}
    moments = PairAccumulator({name: x.shape[1] for name, x in data.items()})
    moments.update(data)
    want = pwcca(data["a"], data["b"])
    assert moments.score("a", "b", "pwcca") == pytest.approx(want, abs=1e-9)


def test_svcca_of_fewer_samples_than_features_equals_memory():
    random = np.random.default_rng(0)
    base = random.standard_normal((60, 200)) * np.arange(1, 201) ** -0.8
    data = {"x": base @ random.standard_normal((200, 150)) + 4, "y": base @ random.standard_normal((200, 90))}
    moments = PairAccumulator({"x": 150, "y": 90})
    moments.update(data)
    for variance in (0.9, 0.99):
        got, want = moments.score("x", "y", "svcca", variance=variance), svcca(data["x"], data["y"], variance=variance)
        assert got.directions == want.directions and got.directions[0] < 59
        assert got == pytest.approx(want, abs=1e-8)


def test_float32_products_hold_linear_cka_to_1e_6():
    random = np.random.default_rng(0)
    base = random.standard_normal((4000, 20)) * np.logspace(0, -2, 20)
    data = {"x": base + 30, "y": base @ random.standard_normal((20, 12)) + 0.1 * random.standard_normal((4000, 12))}
    exact, quick = (PairAccumulator({"x": 20, "y": 12}, products=kind) for kind in ("float64", "float32"))
    for part in np.array_split(np.arange(4000), 9):
        for moments in (exact, quick):
            moments.update({name: x[part] for name, x in data.items()})
    for measure in ("linear_cka", "linear_cka_debiased"):
        want = exact.score("x", "y", measure)
        assert want != quick.score("x", "y", measure) == pytest.approx(want, abs=1e-6)
    with pytest.raises(MeasureError, match="float64, float32"):
        PairAccumulator({"x": 1}, products="float16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    data = sets()
    moments = filled(data, (100,), device="cuda")
    for measure, function in IN_MEMORY.items():
        assert moments.score("a", "b", measure) == pytest.approx(function(data["a"], data["b"]), abs=1e-9)


# Nulls and intervals


@pytest.mark.parametrize(("n", "known"), [(50, 0.577), (1000, 0.118)])
def test_cca_null_is_what_independent_data_give(n, known):
    random = np.random.default_rng(0)
    drawn = [mean_cca(random.standard_normal((n, 20)), random.standard_normal((n, 20))) for _ in range(20)]
    assert cca_null(n, 20, 20) == pytest.approx(np.mean(drawn), abs=0.01)
    assert cca_null(n, 20, 20) == pytest.approx(known, abs=0.02)
    assert drawn[0].null == cca_null(n, 20, 20)
    drawn = [pwcca(random.standard_normal((n, 4)), random.standard_normal((n, 20))) for _ in range(60)]
    assert cca_null(n, 4, 20) == pytest.approx(np.mean(drawn), abs=0.02)


def test_cca_null_with_hardly_more_samples_than_dimensions():
    random = np.random.default_rng(0)
    drawn = [mean_cca(random.standard_normal((30, 20)), random.standard_normal((30, 15))) for _ in range(40)]
    assert cca_null(30, 20, 15) == pytest.approx(np.mean(drawn), abs=0.01)
    assert cca_null(20, 20, 15) == 1.0


def test_kernel_nulls_are_means_over_pairings():
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 5)) * [1, 2, 3, 4, 5]
    y = x[:, :3] + random.standard_normal((60, 3))
    for measure in (linear_cka, rbf_cka):
        drawn = [measure(x, y[random.permutation(60)]) for _ in range(300)]
        assert measure(x, y).null == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 300**0.5)
    drawn = [linear_cka(x, y[random.permutation(60)], debiased=True) for _ in range(300)]
    assert np.mean(drawn) == pytest.approx(linear_cka(x, y, debiased=True).null, abs=4 * np.std(drawn) / 300**0.5)


def test_intervals_hold_the_value_shrink_with_data_and_repeat():
    widths = []
    for n in (400, 6400):
        moments = filled(sets(n=n), groups=20)
        found = moments.scores(tuple(IN_MEMORY), replicates=60, seed=3)
        again = moments.scores(tuple(IN_MEMORY), replicates=60, seed=3)
        for key, score in found.items():
            low, high = score.interval
            assert low <= score + 1e-9 and score <= high + 1e-9 and -1 <= low <= high <= 1
            assert again[key].interval == score.interval
        widths.append(np.subtract(*found["a", "b", "linear_cka"].interval))
    assert abs(widths[1]) < 0.6 * abs(widths[0])


def test_intervals_cover_the_truth():
    """Value of a large sample inside the intervals of small ones, about as often as they promise."""
    truth, hits = filled(sets(0, 20000)).score("a", "b", "linear_cka_debiased"), []
    big = sets(0, 20000)
    for start in range(0, 20000, 1000):
        part = {name: x[start : start + 500] for name, x in big.items() if name != "c"}
        score = filled(part, groups=25).score("a", "b", "linear_cka_debiased", replicates=60)
        hits.append(score.interval[0] <= truth <= score.interval[1])
    assert np.mean(hits) >= 0.8


def test_too_few_groups_give_no_interval():
    assert filled(sets(), groups=4).score("a", "b", "linear_cka", replicates=10).interval is None
    assert filled(sets(), groups=5).score("a", "b", "linear_cka").interval is None
    assert math.isfinite(filled(sets(), groups=5).score("a", "b", "linear_cka", replicates=10).interval[0])
