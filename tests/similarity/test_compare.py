"""Layers of encoders compared on a corpus: the same numbers as from stored features, in one pass or in several."""

import csv
import io
import warnings

import numpy as np
import pytest
import torch

from hfprobe.analysis.compare import (
    CompareSettings,
    Source,
    Tap,
    between,
    compare,
    result_rows,
    same_layers,
    within,
)
from hfprobe.analysis.compare_plan import make_plan
from hfprobe.analysis.conditions import Condition
from hfprobe.analysis.processes import Processes
from hfprobe.analysis.test_set import TestSet
from hfprobe.data import load_noise
from hfprobe.encoders.base import LayerSpec, SpeechEncoder, SpeechEncoderOutput
from hfprobe.errors import ConfigError, DatasetError, MeasureError
from hfprobe.reports.figures import save_figure
from hfprobe.reports.similarity import COLUMNS, figures, matrix, score_csv, score_markdown
from hfprobe.similarity import PairAccumulator, linear_cka, minibatch_cka, pwcca, rbf_cka, rsa
from hfprobe.similarity.grid import common_grid, on_grid, shared_points
from hfprobe.similarity.sample import frame_keys

QUICK = {"replicates": 0, "groups": 1}


class Framer(SpeechEncoder):
    """Layers are random projections of the last few samples, at their own strides."""

    min_samples = 800

    def __init__(self, name, seed=0, strides=(160, 320, 640), dims=(4, 5, 3)):
        specs = [
            LayerSpec(f"l{i}", d, s, s // 2, "test") for i, (s, d) in enumerate(zip(strides, dims, strict=True), 1)
        ]
        super().__init__(name, specs)
        random = torch.Generator().manual_seed(seed)
        self.maps = [torch.randn(40, spec.dim, generator=random) for spec in specs]
        self.calls = 0

    def hidden_lengths_for(self, samples):
        return tuple(samples // spec.stride for spec in self.layers)

    def _encode(self, waveforms, lengths, keep):
        self.calls += 1
        states = []
        for spec, mapping, counts in zip(self.layers, self.maps, self.hidden_lengths_for(lengths), strict=True):
            frames = waveforms[:, : waveforms.shape[1] // spec.stride * spec.stride]
            frames = frames.reshape(len(waveforms), -1, spec.stride)[:, :, -40:]
            inside = torch.arange(frames.shape[1]) < counts[:, None]
            states.append(torch.tanh(3 * frames @ mapping) * inside[..., None] if spec.name in keep else None)
        return SpeechEncoderOutput(last_hidden_state=waveforms, hidden_states=tuple(states))


@pytest.fixture(scope="module")
def corpus():
    random, found = np.random.default_rng(0), TestSet()
    for number in range(12):
        sound = 0.1 * random.standard_normal(random.integers(12000, 20000)).astype(np.float32)
        sound[: len(sound) // 4] *= 1e-3
        found.ids.append(f"u{number}")
        found.waveforms.append(np.convolve(sound, np.ones(8) / 3, "same").astype(np.float32))
        found.texts.append("")
        found.speakers.append(f"s{number // 2}")
    return found


def source(name="one", seed=0, condition=None, **options):
    encoder = Framer(name, seed, **options)
    return Source(encoder, condition or Condition(), tuple(spec.name for spec in encoder.layers))


def stored(item, test, others=()):
    """The features that `compare` should have seen of each layer, by hand."""
    specs = [spec for one in (item, *others) for spec in one.encoder.layers]
    grid = common_grid(specs)
    found = {}
    for waveform in test.waveforms:
        output = item.encoder(torch.from_numpy(waveform)[None])
        points = shared_points(grid, specs, [len(waveform) // spec.stride for spec in specs])
        for spec, states in zip(item.encoder.layers, output.hidden_states, strict=True):
            found.setdefault(spec.name, []).append(on_grid(states[0], spec, points, grid))
    return {name: torch.cat(parts) for name, parts in found.items()}


def test_within_and_between_equal_stored_features(corpus):
    left, right = source("one", 0), source("two", 1)
    pairs = within(left) + between(left, right)
    assert len(pairs) == 3 + 9
    settings = CompareSettings(("linear_cka", "pwcca"), **QUICK)
    scores = compare([left, right], pairs, corpus, settings)
    features = {"one": stored(left, corpus, [right]), "two": stored(right, corpus, [left])}
    assert len(scores) == 24 and {item.n for item in scores} == {len(features["one"]["l1"])}
    for item in scores:
        sides = [features[tap.encoder][tap.layer] for tap in (item.left, item.right)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = {"linear_cka": linear_cka, "pwcca": pwcca}[item.measure](*sides)
        # The encoders compute in float32, where an utterance alone and in a batch may differ by rounding.
        assert item.score == pytest.approx(want, abs=1e-7)


def test_encoders_run_once_per_batch_and_several_passes_give_the_same(corpus):
    one = source()
    whole = compare([one], within(one), corpus, CompareSettings(**QUICK))
    assert one.encoder.calls == 1  # 12 short utterances are one batch
    parts = compare([one], within(one), corpus, CompareSettings(**QUICK, memory_limit=900))
    assert one.encoder.calls == 1 + 3
    for a, b in zip(whole, parts, strict=True):
        assert (a.left, a.right, a.measure) == (b.left, b.right, b.measure)
        assert b.score == pytest.approx(a.score, abs=1e-12)
    with pytest.raises(MeasureError, match="limit"):
        compare([one], within(one), corpus, CompareSettings(**QUICK, memory_limit=100))


def test_frames_are_drawn_by_seed_and_silence_is_left_out(corpus):
    one = source()

    def counts(**options):
        scores = compare([one], within(one), corpus, CompareSettings(("linear_cka",), **QUICK, **options))
        return scores[0].n, float(scores[0].score)

    every, drawn = counts(), counts(frames=5)
    assert drawn[0] == 12 * 5 < every[0] and drawn == counts(frames=5) != counts(frames=5, seed=1)
    assert 0.6 * every[0] < counts(drop_silence=True)[0] < 0.85 * every[0]
    assert counts(rule="nearest")[1] != every[1]


def test_clean_against_noisy_falls_with_the_noise(corpus):
    conditions = [Condition(), Condition(20.0), Condition(0.0)]
    encoder = Framer("one")
    sources = [Source(encoder, condition, ("l1", "l3")) for condition in conditions]
    pairs = [pair for noisy in sources[1:] for pair in same_layers(sources[0], noisy)]
    scores = compare(
        sources, pairs, corpus, CompareSettings(("linear_cka",), groups=6), load_noise("generated", "test")
    )
    values = {(item.right.condition, item.left.layer): item.score for item in scores}
    assert values["noise@20dB", "l1"] > values["noise@0dB", "l1"]
    low, high = values["noise@0dB", "l1"].interval
    assert low < values["noise@0dB", "l1"] < high
    rows = result_rows(scores)
    assert [(row.layer, row.condition) for row in rows][:2] == [("l1~l1", "noise@20dB"), ("l3~l3", "noise@20dB")]
    assert {row.encoder for row in rows} == {"one"} and rows[0].ci_low is not None


def test_a_measure_without_a_value_is_told_not_raised(corpus):
    one = source(dims=(4, 5, 3))
    one.encoder.maps[1] = torch.zeros(40, 5)  # a dead layer
    scores = compare([one], within(one), corpus, CompareSettings(("linear_cka", "svcca"), **QUICK))
    dead = [item for item in scores if "l2" in (item.left.layer, item.right.layer)]
    assert all(item.score is None and "constant" in item.error for item in dead) and len(dead) == 4
    assert sum(item.score is not None for item in scores) == 2
    row = next(row for row in result_rows(scores) if row.layer == "l1~l2")
    assert (row.value, row.n, row.n_failed) == (None, 0, scores[0].n)
    assert "No value: one clean l1 ~ one clean l2" in score_markdown(scores)
    assert [name for name, _ in figures(scores)] == ["map_linear-cka_one_clean", "map_svcca_one_clean"]


def test_bad_plans_are_refused(corpus):
    one = source()
    with pytest.raises(ConfigError, match="one name"):
        compare([one, source()], within(one), corpus)
    with pytest.raises(ConfigError, match="no pair"):
        compare([one], [], corpus)
    with pytest.raises(ConfigError, match="choose from mean_cca"):
        CompareSettings(("beauty",))
    with pytest.raises(ConfigError, match="each measure once"):
        CompareSettings(("pwcca", "pwcca"))
    short = TestSet(["u"], [np.ones(700, np.float32)], [""], ["s"])
    with pytest.raises(DatasetError, match="800 samples"):
        compare([one], within(one), short)


def test_csv_markdown_and_figures_hold_every_score(corpus, tmp_path):
    steps = [source(f"run@{step}", step) for step in (1, 2, 3)]
    pairs = [pair for step in steps for pair in within(step)]
    pairs += [pair for step in steps[:-1] for pair in same_layers(step, steps[-1])]
    scores = compare(steps, pairs, corpus, CompareSettings(("pwcca",), replicates=5, groups=6))
    lines = list(csv.DictReader(io.StringIO(score_csv(scores))))
    assert tuple(lines[0]) == COLUMNS and len(lines) == len(scores) == 9 + 6
    assert float(lines[0]["value"]) == float(scores[0].score) and float(lines[0]["null"]) == scores[0].score.null
    text = score_markdown(scores)
    assert "along training" in text and "95 % interval" in text and f"{scores[-1].score:.3f}" in text
    names = []
    for name, figure in figures(scores):
        names += [path.name for path in save_figure(figure, tmp_path / name)]
    assert sorted(names) == sorted(
        f"{stem}.{kind}"
        for stem in ("map_pwcca_run@1_clean", "map_pwcca_run@2_clean", "map_pwcca_run@3_clean", "training_pwcca_run")
        for kind in ("png", "pdf")
    )


def test_matrix_within_is_symmetric_and_between_is_not(corpus):
    left, right = source("one"), source("two", 1, strides=(160, 640), dims=(4, 3))
    settings = CompareSettings(("linear_cka",), **QUICK)
    rows, columns, cells = matrix(compare([left], within(left), corpus, settings))
    assert rows == columns == ["l1", "l2", "l3"]
    assert cells[0][1] == cells[1][0] and [cells[i][i] for i in range(3)] == [1, 1, 1]
    rows, columns, cells = matrix(compare([left, right], between(left, right), corpus, settings))
    assert (rows, columns) == (["l1", "l2", "l3"], ["l1", "l2"]) and cells[0][0] < 1


def test_tap_names():
    assert Tap("e", "clean", "l").key == "e clean l"


def test_wide_layers_get_fewer_groups_then_leading_directions():
    dims, pairs = {"a": 1000, "b": 1000, "c": 10}, [("a", "b"), ("b", "c")]
    one = 3 * 8e6  # two Grams and a cross-Gram of 1000 x 1000 float64

    def plan(limit, dims=dims, **options):
        return make_plan(dims, pairs, 20, CompareSettings(memory_limit=limit, **options))

    assert (plan(25 * one).groups, plan(12 * one).groups, len(plan(12 * one).passes)) == (20, 10, 1)
    few = plan(6 * one)
    assert (few.groups, sum(map(len, few.passes)), few.narrow) == (5, 2, frozenset())
    led = plan(1.5 * one)
    assert (led.groups, led.narrow) == (1, {"a", "b"}) and led.spread_groups in (5, 10, 20)
    assert plan(1.1 * one, replicates=0).narrow == frozenset()
    # Very wide ones in any case: a bootstrap of such moments takes hours.
    wide = plan(1e12, {"a": 5120, "b": 1000, "c": 10})
    assert (wide.groups, wide.spread_groups, wide.narrow) == (1, 20, {"a"})
    with pytest.raises(MeasureError, match="the limit is"):
        plan(0.5 * one)
    with pytest.raises(MeasureError, match="smaller sample"):
        plan(1e6, measures=("rsa",))


STREAMED = ("rbf_cka", "rsa", "minibatch_cka")


def test_sampled_and_minibatch_measures_equal_stored_features(corpus):
    left, right = source("one", 0), source("two", 1)
    pairs = within(left) + between(left, right)
    settings = CompareSettings(STREAMED, sample=10**5, minibatch=16, replicates=40, groups=6)
    calls = left.encoder.calls
    scores = compare([left, right], pairs, corpus, settings)
    assert left.encoder.calls == calls + 1 and len(scores) == 3 * 12
    features = {"one": stored(left, corpus, [right]), "two": stored(right, corpus, [left])}
    # The order of `length_batches` is that of the stream; minibatches are cut in the order of the keys.
    specs = [spec for one in (left, right) for spec in one.encoder.layers]
    counts = [
        len(shared_points(common_grid(specs), specs, [len(w) // s.stride for s in specs])) for w in corpus.waveforms
    ]
    keys = torch.cat([frame_keys(name, count, 0) for name, count in zip(corpus.ids, counts, strict=True)])
    order = keys.argsort()
    for item in scores:
        x, y = (features[tap.encoder][tap.layer][order] for tap in (item.left, item.right))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if item.measure == "minibatch_cka":
                want, n = minibatch_cka(x, y, batch_size=16), len(x) // 16 * 16
            else:
                want, n = {"rbf_cka": rbf_cka, "rsa": rsa}[item.measure](x, y), len(x)
        assert item.score == pytest.approx(want, abs=1e-6 if item.measure == "rsa" else 1e-7)
        assert item.n == item.score.n == n and item.score.null == pytest.approx(want.null, abs=1e-7)
        assert item.score.interval[0] < item.score < item.score.interval[1]
    assert {row.metric for row in result_rows(scores)} == set(STREAMED)
    assert [name for name, _ in figures(scores)][:2] == ["map_rbf-cka_one_clean", "map_rsa_one_clean"]


def test_a_small_sample_is_bounded_and_says_so(corpus):
    one = source()
    settings = CompareSettings(STREAMED, sample=50, minibatch=10**4, replicates=0)
    scores = compare([one], within(one), corpus, settings)
    assert {item.n for item in scores if item.measure in ("rbf_cka", "rsa")} == {50}
    missing = [item for item in scores if item.measure == "minibatch_cka"]
    assert all(item.score is None and "no minibatch" in item.error for item in missing) and len(missing) == 3
    with pytest.raises(ConfigError, match="4 frames or more"):
        CompareSettings(sample=3)


@pytest.fixture
def narrow_limits(monkeypatch):
    """Layers of 60 features count as wide, and stand by 12 directions."""
    monkeypatch.setattr("hfprobe.analysis.compare_plan.WIDE", 50)
    for module in ("compare", "compare_plan"):
        monkeypatch.setattr(f"hfprobe.analysis.{module}.DIRECTIONS", 12)


def test_very_wide_layers_have_values_of_all_features_and_intervals(corpus, narrow_limits):
    """The same values as by groups, and nearly the same intervals, where the layer is wide but its speech is not."""
    wide = source(dims=(4, 60, 3))
    scores = compare(
        [wide], within(wide), corpus, CompareSettings(("linear_cka", "svcca", "mean_cca"), groups=6, replicates=30)
    )
    features = stored(wide, corpus)
    whole = PairAccumulator({name: x.shape[1] for name, x in features.items()})
    whole.update(features)
    for item in scores:
        names = (item.left.layer, item.right.layer)
        want = whole.score(*names, item.measure, rank="reduce", quiet=True)
        assert item.score == pytest.approx(want, abs=1e-7)
        told = "l2" in names
        assert (item.score.interval is None) == (told and item.measure == "mean_cca")
        if item.score.interval:
            assert item.score.interval[0] <= item.score <= item.score.interval[1]
            assert ("interval_directions" in item.score.extra) == told
    assert "leading principal directions" in score_markdown(scores)
    line = next(line for line in csv.DictReader(io.StringIO(score_csv(scores))) if line["layer_b"] == "l2")
    assert line["interval_directions"] == "4 12"


def test_a_dead_wide_layer_is_told_not_raised(corpus, narrow_limits):
    wide = source(dims=(4, 60, 3))
    wide.encoder.maps[1] = torch.zeros(40, 60)
    scores = compare([wide], within(wide), corpus, CompareSettings(("linear_cka",), groups=6, replicates=5))
    assert [item.score is None for item in scores] == [True, False, True]


def test_shares_of_processes_are_disjoint_and_add_up():
    shares = [Processes(index, 3).share(range(10)) for index in range(3)]
    assert sorted(sum(shares, [])) == list(range(10))
    alone = Processes()
    assert alone.first and alone.merged("x") == "x" and alone.from_first(7) == 7
