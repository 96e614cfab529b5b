"""Untangling: points chosen alike whatever the order, vectors from the right frames, planted labels found, losses counted."""

import io

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.analysis import manifold_points, manifolds_of
from hfprobe.analysis.conditions import parse_conditions
from hfprobe.analysis.manifold_points import plan_points
from hfprobe.analysis.manifolds_of import collect
from hfprobe.analysis.pooling import pooled
from hfprobe.analysis.untangle import CHEAP, GEOMETRY, UntangleSettings, class_csv, untangle
from hfprobe.data import load_noise
from hfprobe.data.alignments import Alignment, Segment
from hfprobe.encoders.base import LayerSpec, SpeechEncoder, SpeechEncoderOutput
from hfprobe.errors import ConfigError, DatasetError
from hfprobe.reports import ReportError
from hfprobe.reports.untangling import untangling_figure, untangling_table
from hfprobe.results import ResultRow

RATE = 16000
SLOT = 0.1  # seconds a word takes: a tone of its own
WORDS = [f"W{letter}" for letter in "ABCDEF"]
FAST = UntangleSettings(n_t=60, n_restarts=1, replicates=50)


def tone(word: str, level: float) -> np.ndarray:
    return level * np.sin(2 * np.pi * (400 + 600 * WORDS.index(word)) * np.arange(int(SLOT * RATE)) / RATE)


@pytest.fixture
def corpus(monkeypatch):
    """Utterances of four of six words, each a tone; each of eight speakers speaks at a level of their own."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(48):
        words = [WORDS[i] for i in rng.permutation(6)[:4]]
        buffer = io.BytesIO()
        sound = np.concatenate([tone(word, 0.05 * (1 + number % 8)) for word in words])
        soundfile.write(buffer, sound + 1e-4 * rng.standard_normal(len(sound)), RATE, format="WAV")
        phones = "[" + ", ".join(f'["{word}", ["AA1", "{word}0"]]' for word in words) + "]"
        rows.append({"id": f"u{number}", "text": " ".join(words), "speaker": f"s{number % 8}", "gender": ""})
        rows[-1] |= {"words": phones, "audio": buffer.getvalue()}
    for module in (manifold_points, manifolds_of):
        monkeypatch.setattr(module, "load_corpus", lambda name: rows)
    return rows


class Aligner:
    """Knows the slots; cannot align the utterances named."""

    def __init__(self, broken=()):
        self.broken = broken

    def align_utterances(self, ids, waveforms=None, texts=None, words=None):
        found = []
        for name, text in zip(ids, texts, strict=True):
            slots = [Segment(word, i * SLOT, (i + 1) * SLOT) for i, word in enumerate(text.split())]
            phones = [Segment(label, s.start + k * SLOT / 2, s.start + (k + 1) * SLOT / 2)
                      for s in slots for k, label in enumerate(("AA", s.label))]  # fmt: skip
            found.append(None if name in self.broken else Alignment(tuple(slots), tuple(phones)))
        return found


class Encoder(SpeechEncoder):
    """``tone`` holds the word of every moment and nothing else, ``level`` the speaker, ``dead`` nothing."""

    def __init__(self):
        dims = {"tone": 81, "level": 12, "dead": 3}
        super().__init__("toy", [LayerSpec(name, dim, 160, 80, "test") for name, dim in dims.items()])
        self.min_samples = 160
        self.calls = 0

    def hidden_lengths_for(self, samples):
        return (samples // 160,) * 3

    def _encode(self, waveforms, lengths, keep):
        self.calls += 1
        frames = waveforms.unfold(1, 160, 160)
        spectrum = torch.fft.rfft(frames).abs()
        loud = frames.square().mean(-1, keepdim=True).sqrt()
        level = torch.cos(torch.arange(1, 13) * 40 * loud)
        states = {
            "tone": spectrum / spectrum.sum(-1, keepdim=True),
            "level": level,
            "dead": torch.ones(*loud.shape[:2], 3),
        }
        return SpeechEncoderOutput(
            states["dead"], tuple(states[s.name] if s.name in keep else None for s in self.layers)
        )


def gather(by, plan=None, **options):
    plan = plan or plan_points("toy", by, classes=6, points=8)
    chosen = {"conditions": parse_conditions(["clean"]), "aligner": Aligner(), **options}
    return collect("toy", plan, chosen.pop("encoders", [Encoder()]), **chosen)


def test_points_do_not_depend_on_the_order_of_the_corpus(corpus):
    plan = plan_points("toy", "word", classes=4, points=8)
    assert len(plan.classes) == 4 and plan.available == 6 and set(map(len, plan.points.values())) == {11}
    for label, points in plan.points.items():
        assert len({point.utterance for point in points}) == len(points)  # one from an utterance
        texts = {row["id"]: row["text"].split() for row in corpus}
        assert all(texts[point.utterance][point.number] == label for point in points)
    corpus.reverse()
    again = plan_points("toy", "word", classes=4, points=8)
    assert (again.classes, again.points) == (plan.classes, plan.points)
    assert plan_points("toy", "word", classes=4, points=8, seed=1).points != plan.points


def test_labels_come_from_the_corpus_or_from_given_alignments(corpus):
    assert set(plan_points("toy", "speaker", points=4).classes) == {f"s{i}" for i in range(8)}
    phones = plan_points("toy", "phone", points=8)
    assert set(phones.classes) == {"AA", *WORDS} and {point.number % 2 for point in phones.points["AA"]} == {0}

    class Given:
        def align_utterances(self, ids):
            return [Alignment((Segment("EVEN" if int(ids[0][1:]) % 2 == 0 else "ODD", 0.0, 0.1),))]

    assert plan_points("toy", "word", points=8, given=Given()).classes == ("EVEN", "ODD")


def test_plans_that_cannot_be_made(corpus):
    with pytest.raises(ConfigError, match="word, phone, speaker"):
        plan_points("toy", "letter")
    with pytest.raises(ConfigError, match="two classes or more"):
        plan_points("toy", "word", classes=1)
    with pytest.raises(DatasetError, match="most: .* use fewer points"):
        plan_points("toy", "speaker", points=7)
    for row in corpus:
        row["speaker"] = ""
    with pytest.raises(DatasetError, match="found 0 .most: none"):
        plan_points("toy", "speaker", points=2)
    assert all(name == speaker for name, speaker in plan_points("toy", "word", points=4).speakers.items())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_pooled_is_what_a_loop_gives(seed):
    rng = np.random.default_rng(seed)
    stride, offset = int(rng.choice([160, 320, 640])), int(rng.integers(-200, 400))
    counts = torch.tensor(rng.integers(1, 9, 3))
    states, spec = torch.randn(3, 9, 2), LayerSpec("x", 2, stride, offset, "")
    places = torch.tensor(rng.integers(0, 3, 7))
    starts = torch.tensor(rng.integers(0, 9 * stride, 7), dtype=torch.float64)
    ends = starts + torch.tensor(rng.integers(0, 3 * stride, 7))
    frames, means = (pooled(states, counts, spec, places, starts, ends, pool) for pool in ("frame", "mean"))
    for i, (b, start, end) in enumerate(zip(places, starts, ends, strict=True)):
        centres = offset + stride * np.arange(int(counts[b]))
        nearest = int(np.argmin(np.abs(centres - float(start + end) / 2)))
        inside = np.flatnonzero((centres >= float(start)) & (centres < float(end)))
        torch.testing.assert_close(frames[i], states[b, nearest])
        torch.testing.assert_close(means[i], states[b, inside if len(inside) else [nearest]].mean(0))


@pytest.mark.parametrize("pool", ["frame", "mean"])
def test_vectors_are_of_the_right_words(corpus, pool, monkeypatch):
    encoder = Encoder()
    points = gather("word", encoders=[encoder], pool=pool)
    assert encoder.calls < 8  # batches, not utterances
    assert points.lost == 0 and len(points.labels) == 48 and set(points.vectors) == {
        ("-", "clean", "input"), *(("toy", "clean", name) for name in ("tone", "level", "dead")),
    }  # fmt: skip
    tones = points.vectors["toy", "clean", "tone"].argmax(axis=1)
    assert tones.tolist() == [4 + 6 * WORDS.index(label) for label in points.labels]  # bins of 100 Hz
    assert all(m.shape == (8, 12) for m in points.manifolds(("toy", "clean", "level")))
    monkeypatch.setattr(manifolds_of, "BATCH_SAMPLES", 1)  # batches of one change nothing
    alone = gather("word", pool=pool)
    for key, rows in points.vectors.items():
        np.testing.assert_allclose(alone.vectors[key], rows, rtol=1e-4, atol=1e-5)
    assert (alone.utterances == points.utterances).all()


def test_planted_labels_are_found_where_they_are(corpus):
    def values(by, **options):
        results = untangle(gather(by, plan_points("toy", by, classes=6, points=6), **options), by, FAST)
        rows = [row for item in results for row in item.rows]
        return {(row.layer, row.metric): row.value for row in rows}, results

    word, results = values("word")
    speaker, _ = values("speaker", aligner=None)
    metrics = {m + s for m in (*GEOMETRY, *CHEAP) for s in ("", "_shuffled")}
    assert {metric for _, metric in word} == metrics
    for found, holds, lacks in ((word, "tone", "level"), (speaker, "level", "tone")):
        assert found[holds, "capacity"] > 1.2 > 0.7 > found[lacks, "capacity"]
        assert found[holds, "separability"] == 1 and found[lacks, "separability"] < 0.5
        assert found[holds, "class_variance"] > 0.9 > 0.3 > found[lacks, "class_variance"]
        for layer in (holds, lacks):
            assert found[layer, "capacity_shuffled"] < 0.7 and found[layer, "separability_shuffled"] < 0.5
            assert abs(found[layer, "class_variance_shuffled"]) < 0.3
    # A layer without any variance cannot be measured: no value, and all its points counted.
    dead = next(item for item in results if item.key[2] == "dead")
    assert dead.geometry is None and "equal" in dead.error and "lies on it" in dead.error
    broken = next(row for row in dead.rows if row.metric == "capacity")
    assert (broken.value, broken.n, broken.n_failed) == (None, 0, 36)
    good = next(row for item in results for row in item.rows if row.layer == "tone" and row.metric == "capacity")
    assert (good.n, good.n_failed) == (36, 0) and good.ci_low < good.value < good.ci_high
    lines = class_csv(results).splitlines()
    assert len(lines) == 1 + 3 * 6 and lines[1].startswith("-,clean,input,WA,6,")


def test_phones_and_moments_of_speakers(corpus):
    phones = gather("phone", plan_points("toy", "phone", classes=7, points=8))
    for label, row in zip(phones.labels, phones.vectors["toy", "clean", "tone"], strict=True):
        assert label == "AA" or row.argmax() == 4 + 6 * WORDS.index(label)
    one, again = (gather("speaker", plan_points("toy", "speaker", points=5), aligner=None) for _ in range(2))
    assert all(np.array_equal(rows, again.vectors[key]) for key, rows in one.vectors.items())


def test_losses_are_counted_and_made_up_for(corpus):
    plan = plan_points("toy", "word", classes=6, points=8)
    first = plan.points["WA"][0].utterance
    points = gather("word", plan, aligner=Aligner({first}))
    lost = len(plan.utterances[first])
    assert points.failures == {"not aligned": lost} and points.lost == 0  # there are spare candidates
    assert first not in points.utterances
    row = next(row for row in corpus if row["id"] == first)
    row["audio"] = row["audio"][:30]
    assert gather("word", plan).failures == {"cut off": lost}
    names = {point.utterance for point in plan.points["WA"]}
    points = gather("word", plan, aligner=Aligner(names))
    assert "WA" not in points.labels and points.lost >= 8
    with pytest.raises(DatasetError, match="fewer than two classes"):
        gather("word", plan, aligner=Aligner({row["id"] for row in corpus}))


def test_noise_changes_the_vectors_but_not_the_points(corpus):
    conditions = parse_conditions(["clean", "0"])
    points = gather("word", conditions=conditions, noise=load_noise("generated", "test"), layers=["tone"])
    assert set(points.vectors) == {
        (e, c, n) for e, n in (("-", "input"), ("toy", "tone")) for c in ("clean", "noise@0dB")
    }
    assert not np.allclose(
        points.vectors["toy", "clean", "tone"], points.vectors["toy", "noise@0dB", "tone"], atol=0.01
    )


def test_collections_that_cannot_be_made(corpus):
    with pytest.raises(ConfigError, match="frame, mean"):
        gather("word", pool="median")
    with pytest.raises(ConfigError, match="need word times"):
        gather("word", aligner=None)
    with pytest.raises(ConfigError, match="GiB, the limit is"):
        gather("word", memory_limit=100)
    for options in ({"kappa": -1.0}, {"n_t": 0}, {"replicates": 0}):
        with pytest.raises(ConfigError, match="margin of 0 or more"):
            UntangleSettings(**options)


def test_figure_and_table_of_two_architectures():
    made = [("a", ("x", "y")), ("b", ("z",)), ("-", ("input",))]
    rows = [
        ResultRow(encoder, layer, condition, metric, None if layer == "z" else 0.5, n=4)
        for encoder, layers in made
        for layer in layers
        for condition in ("clean", "noise@5dB")
        for metric in ("capacity", "capacity_shuffled", "radius")
    ]
    assert len(untangling_figure(rows, floor=0.1).axes) == 2 * 2 * 2  # metrics, architectures, conditions
    one = untangling_figure([row for row in rows if row.encoder != "b" and row.condition == "clean"])
    assert [label.get_text() for label in one.axes[0].get_xticklabels()] == ["input", "x", "y"]
    table = untangling_table(rows).splitlines()
    assert "| clean | b | z | – \\[–\\] | – |" in table and len(table) == 2 + 2 + 2 * 4
    with pytest.raises(ReportError, match="run hfprobe untangle"):
        untangling_figure([ResultRow("a", "x", "clean", "eer", 0.5)])
