"""Classification end to end on planted layers: one holds the label exactly, one is noise; splits; what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hfprobe.analysis import classify_data
from hfprobe.analysis.classify import classify
from hfprobe.analysis.classify_data import Plan, check_target, heard, make_plan, session_of
from hfprobe.analysis.classify_points import Collector, heads_of
from hfprobe.data import SpeechBatch, load_noise
from hfprobe.data.alignments import Alignment, Segment
from hfprobe.encoders.base import LayerSpec
from hfprobe.errors import ConfigError, DatasetError, LayerError
from hfprobe.probes.classifier_config import ClassifierTrainingConfig

PHONES = ("AH", "B", "S", "T")
CONFIG = ClassifierTrainingConfig(steps=200, batch_size=64, learning_rate=0.02, device="cpu")


class Planted(nn.Module):
    """Reads its labels off the waveform, where the test has written them: the level of each 10 ms is 0.1 (1 + label)."""

    sampling_rate, min_samples, fingerprint = 16000, 400, "f"

    def __init__(self, name="planted"):
        super().__init__()
        self.name, self.calls = name, 0
        self.layers = (
            LayerSpec("noise", 8, 160, 80, "nothing"),
            LayerSpec("exact", 6, 160, 80, "the label"),
            LayerSpec("coarse", 6, 320, 80, "every second frame"),
        )

    def hidden_lengths_for(self, samples):
        return samples // 160, samples // 160, (samples // 160 + 1) // 2

    def forward(self, waveforms, lengths, output_hidden_states=True, layers=None):
        self.calls += 1
        level = waveforms[:, : waveforms.shape[1] // 160 * 160].unflatten(1, (-1, 160)).mean(dim=2)
        exact = nn.functional.one_hot((level * 10 - 1).round().long().clamp(0, 5), 6).float()
        generator = torch.Generator().manual_seed(self.calls)
        states = {
            "noise": torch.randn(*level.shape, 8, generator=generator), "exact": exact, "coarse": exact[:, ::2],
        }  # fmt: skip
        counts = dict(zip(states, self.hidden_lengths_for(lengths), strict=True))
        names = layers or list(states)
        return SimpleNamespace(
            hidden_states=tuple(states[n] for n in names), hidden_lengths=tuple(counts[n] for n in names)
        )


class PlantedAlignment:
    """Gives each utterance the phones that `phone_batch` wrote into it; utterance ``u0`` cannot be aligned."""

    def __init__(self):
        self.phones, self.failures = {}, {}

    def align(self, batch):
        self.failures = {"more letters than frames": 1}
        return [None if name == "u0" else Alignment((), self.phones[name]) for name in batch.ids]


def batch_of(names, waveforms, speakers):
    padded = torch.stack(waveforms)
    lengths = torch.full((len(names),), padded.shape[1])
    return SpeechBatch(names, padded, lengths, padded, [""] * len(names), speakers, ["clean"] * len(names))


def phone_batches(source, count=40):
    rng = np.random.default_rng(0)
    for first in range(0, count, 8):
        names, sounds = [f"u{i}" for i in range(first, first + 8)], []
        for name in names:
            labels = rng.integers(4, size=25)  # of 40 ms each
            sounds.append(torch.from_numpy(np.repeat(0.1 * (1 + labels), 640).astype(np.float32)))
            source.phones[name] = tuple(
                Segment(PHONES[label], 0.04 * i, 0.04 * (i + 1), f"w{rng.integers(50)}/0")
                for i, label in enumerate(labels)
            )
        yield batch_of(names, sounds, [f"s{int(n[1:]) % 5}" for n in names])


def phone_plan(count=40):
    names = [f"u{i}" for i in range(count)]
    speakers = {name: f"s{int(name[1:]) % 5}" for name in names}
    return Plan("phone", {}, {n: n for n in names}, speakers, frozenset(names[::4]))


def rows_of(answers, metric):
    return {row.layer: row for row in answers.rows if row.metric == metric}


@pytest.fixture(scope="module")
def phones():
    from collections import Counter

    source = PlantedAlignment()
    encoder = Planted()
    collector = Collector([encoder], phone_plan(), source=source)
    batches = list(phone_batches(source))
    for batch in batches:
        collector.add(batch)
    source.failures = Counter(source.failures)
    found = collector.finish()
    return SimpleNamespace(found=found, answers=classify(found, "phone", CONFIG, mdl=True), encoder=encoder)


def test_a_layer_with_the_label_and_one_without(phones):
    accuracy, selectivity = rows_of(phones.answers, "accuracy"), rows_of(phones.answers, "selectivity")
    for layer in ("exact", "coarse"):
        assert accuracy[layer].value == 1.0 and selectivity[layer].value > 0.6
    noise = accuracy["noise"]
    assert noise.ci_low <= max(0.25, accuracy["floor"].value) + 0.03 and noise.ci_high >= 0.25 - 0.03
    assert abs(selectivity["noise"].value) < 0.1
    control = rows_of(phones.answers, "control_accuracy")
    for layer in ("exact", "noise"):
        assert selectivity[layer].value == pytest.approx(accuracy[layer].value - control[layer].value)
    assert {row.n for row in accuracy.values()} == {len(phones.found.test)}
    assert {row.n_failed for row in accuracy.values()} == {1} and phones.answers.facts["left_out"]
    assert {row.encoder for row in phones.answers.rows if row.layer in ("input", "floor")} == {"-"}
    assert accuracy["input"].value > 0.6  # the mel of a level tells the level, mostly


def test_majority_is_that_of_the_training_part(phones):
    train, test = phones.found.train.labels, phones.found.test.labels
    majority = torch.bincount(train).argmax()
    assert rows_of(phones.answers, "accuracy")["floor"].value == pytest.approx(
        (test == majority).double().mean().item()
    )
    assert phones.answers.facts["majority"] == PHONES[majority] and phones.found.labels == PHONES


def test_description_lengths(phones):
    code, ratio = rows_of(phones.answers, "mdl"), rows_of(phones.answers, "compression")
    assert code["exact"].value < 0.8 < 1.8 < code["noise"].value
    assert ratio["exact"].value == pytest.approx(2 / code["exact"].value)  # 4 classes: 2 bits
    assert ratio["exact"].ci_low <= ratio["exact"].value <= ratio["exact"].ci_high


def test_train_and_test_share_no_utterance_and_the_encoder_ran_once_per_batch(phones):
    assert not set(phones.found.train.units.tolist()) & set(phones.found.test.units.tolist())
    assert phones.encoder.calls == 5


def test_all_layers_are_read_at_the_same_points(phones):
    features = phones.found.test.features
    assert torch.equal(features["planted exact"], features["planted coarse"])
    assert {len(values) for values in features.values()} == {len(phones.found.test)}


def test_the_same_seed_gives_the_same_rows(phones):
    again = classify(phones.found, "phone", CONFIG)
    assert again.rows == [row for row in phones.answers.rows if row.metric not in ("mdl", "compression")]


def utterances(plan, label_index, count=90):
    for first in range(0, count, 6):
        names = [f"u{i}" for i in range(first, min(first + 6, count))]
        sounds = [torch.full((4000,), 0.1 * (1 + label_index(n))) for n in names]
        yield batch_of(names, sounds, [plan.speakers.get(n, n) for n in names])


def test_speakers_of_utterances():
    names = [f"u{i}" for i in range(90)]
    speaker = {name: f"s{int(name[1:]) % 3}" for name in names}
    plan = Plan("speaker", speaker, {n: n for n in names}, speaker, frozenset(names[:30]))
    collector = Collector([Planted()], plan, layers=["exact", "noise"])
    for batch in utterances(plan, lambda name: int(name[1:]) % 3):
        collector.add(batch)
    answers = classify(collector.finish(), "speaker", CONFIG)
    accuracy = rows_of(answers, "accuracy")
    assert accuracy["exact"].value == 1.0 and accuracy["exact"].n == 30 and "coarse" not in accuracy
    assert rows_of(answers, "selectivity")["exact"].value > 0.35
    assert accuracy["noise"].value < 0.7


@pytest.fixture
def corpus(monkeypatch):
    """A corpus of bare rows."""
    rows = []

    class Rows(list):
        def take(self, n):
            return Rows(self[:n])

    monkeypatch.setattr(classify_data, "load_corpus", lambda spec: Rows(rows))
    monkeypatch.setattr(classify_data, "row_samples", lambda row: row.get("samples", 16000))
    return rows


def fill(rows, speakers=4, each=6, sessions=2):
    for s in range(speakers):
        for k in range(each):
            name = f"{s}-{k % sessions}-{k:04d}"
            rows.append({"id": name, "speaker": f"s{s}", "gender": "fm"[s % 2]})


def test_speakers_are_split_by_session(corpus):
    fill(corpus, sessions=3)
    corpus.append({"id": "9-1-0", "speaker": "alone", "gender": "f"})
    corpus.append({"id": "0-0-99", "speaker": "s0", "gender": "f", "samples": 10**6})
    plan = make_plan("c", "speaker", 0.3)
    test = {plan.units[name] for name in plan.test}
    train = {unit for name, unit in plan.units.items() if name not in plan.test}
    assert test and not test & train
    assert {plan.labels[name] for name in plan.test} == {f"s{i}" for i in range(4)} == set(plan.labels.values())
    assert plan.left_out == {"class with one session or utterance": 1, "too long": 1} and "9-1-0" not in plan.units


def test_genders_are_split_by_speaker_and_phones_by_utterance(corpus):
    fill(corpus, speakers=10)
    plan = make_plan("c", "gender", 0.4)
    sides = [{plan.speakers[n] for n in plan.units if (n in plan.test) == side} for side in (False, True)]
    assert not sides[0] & sides[1] and len(sides[1]) == 4
    assert {plan.labels[name] for name in plan.test} == {"f", "m"}
    phone = make_plan("c", "phone", 0.5)
    assert len(phone.test) == 30 and not phone.labels
    assert make_plan("c", "phone", 0.5).test == phone.test != make_plan("c", "phone", 0.5, seed=1).test
    assert len(make_plan("c", "phone", 0.5, limit=10).units) == 10


@pytest.mark.parametrize(
    ("change", "target", "message"),
    [
        (
            lambda rows: rows[:] and rows.__setitem__(slice(None), rows[:1]),
            "phone",
            "one utterance to learn from.*0 have them",
        ),
        (lambda rows: [row.update(speaker="one") for row in rows], "speaker", "1 have them"),
        (lambda rows: [row.update(speaker=row["id"]) for row in rows], "speaker", "have only one"),
        (lambda rows: [row.update(gender="") for row in rows], "gender", "no gender in the corpus"),
    ],
)
def test_corpora_that_cannot_be_classified(corpus, change, target, message):
    fill(corpus)
    change(corpus)
    with pytest.raises(DatasetError, match=message):
        make_plan("c", target)


def test_unknown_target_encoder_twice_and_unknown_layer(corpus):
    with pytest.raises(ConfigError, match="phone, speaker, gender, noise, snr"):
        check_target("age")
    with pytest.raises(ConfigError, match="different names"):
        heads_of([Planted(), Planted()])
    with pytest.raises(LayerError, match="coarse, exact, noise"):
        heads_of([Planted()], ["blstm9"])
    with pytest.raises(ConfigError, match="test share"):
        make_plan("c", "phone", 1.0)


def test_noise_and_snr_of_what_is_heard(corpus):
    fill(corpus, speakers=20)
    noise = {side: load_noise("generated", part) for side, part in ((False, "train"), (True, "test"))}
    plan = make_plan("c", "snr", noise=noise[False])
    assert set(plan.labels.values()) == set(classify_data.SNR_LEVELS)
    speech = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    for name, label in list(plan.labels.items())[:12]:
        added = heard(plan, name, speech, noise) - speech
        if label == "clean":
            assert not added.any()
        else:
            ratio = 10 * np.log10((speech**2).mean() / (added**2).mean())
            assert ratio == pytest.approx(float(label[:-2]), abs=0.01)
    kinds = make_plan("c", "noise", noise=noise[False])
    assert set(kinds.labels.values()) == {"clean", "noise", "music", "speech"}
    noisy = next(name for name, label in kinds.labels.items() if label == "music")
    assert np.array_equal(heard(kinds, noisy, speech, noise), heard(kinds, noisy, speech, noise))


def test_sessions():
    assert session_of("84-121123-0001") == session_of("84-121123-0002") != session_of("84-121550-0001")


def test_no_phone_at_all_says_why(phones):
    from collections import Counter

    source = SimpleNamespace(align=lambda batch: [None] * len(batch), failures=Counter({"no transcript": 8}))
    collector = Collector([Planted()], phone_plan(), source=source)
    collector.add(next(iter(phone_batches(PlantedAlignment()))))
    with pytest.raises(DatasetError, match="no transcript"):
        collector.finish()


def test_more_classes_than_memory(phones):
    with pytest.raises(ConfigError, match="4 classes need"):
        classify(phones.found, "phone", CONFIG, memory=1000)
