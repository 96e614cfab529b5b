"""Classifiers: the model and its files, the fair sample, control tasks, training that keeps heads apart, the code."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel

from hfprobe.errors import BankError, ConfigError, DatasetError, LayerError
from hfprobe.probes.classifier import ClassifierProbe, mean_frames
from hfprobe.probes.classifier_bank import ClassifierBank
from hfprobe.probes.classifier_config import ClassifierProbeConfig, ClassifierTrainingConfig
from hfprobe.probes.classifier_items import Items, Reservoir, control_labels, stable_hash
from hfprobe.probes.classifier_training import Head, check_memory, log_probabilities, online_code, train_classifiers

LABELS = ("AH", "B", "S")


def make_probe(layer="l1", dim=6, **options):
    torch.manual_seed(len(layer))
    config = ClassifierProbeConfig(input_dim=dim, labels=LABELS, layer=layer, target="phone", **options)
    probe = ClassifierProbe(config)
    probe.input_mean.normal_()
    probe.input_std.uniform_(0.5, 2)
    return probe.eval()


def make_items(n=600, seed=0, units=60):
    """``right`` holds the label exactly, ``noise`` knows nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    right = torch.eye(3)[labels] * 3 + 100.0
    noise = torch.randn(n, 5, generator=generator)
    ids = torch.arange(n)
    order = torch.rand(n, dtype=torch.float64, generator=generator)
    return Items({"right": right, "noise": noise}, labels, ids, ids % units, ids % 7, order)


HEADS = (Head("right", 3, "l1", "toy", "f"), Head("noise", 5, "l2", "toy", "f"))


@pytest.mark.parametrize("hidden", [0, 7])
@pytest.mark.parametrize("pooling", ["frame", "utterance"])
def test_forward_against_plain_torch(hidden, pooling):
    probe = make_probe(hidden_dim=hidden, pooling=pooling)
    states, lengths = torch.randn(2, 5, 6), torch.tensor([5, 3])
    states[1, 3:] = float("nan")  # padding may hold anything
    labels = torch.tensor([0, 2]) if pooling == "utterance" else torch.tensor([[0, 1, 2, -100, 1], [1, 1, 0, 2, 2]])
    output = probe(states, lengths, labels)
    pooled = torch.stack([states[0].mean(0), states[1, :3].mean(0)])
    x = (states if pooling == "frame" else pooled).sub(probe.input_mean) / probe.input_std
    x = torch.relu(x @ probe.hidden.weight.T + probe.hidden.bias) if hidden else x
    logits = x @ probe.output.weight.T + probe.output.bias
    valid = (
        [(0, 0), (0, 1), (0, 2), (0, 4), (1, 0), (1, 1), (1, 2)] if pooling == "frame" else [(0,), (1,)]
    )  # fmt: skip
    torch.testing.assert_close(output.logits[1, :3] if pooling == "frame" else output.logits, logits[1, :3] if pooling == "frame" else logits)  # fmt: skip
    expected = torch.stack([-logits[place].log_softmax(-1)[labels[place]] for place in valid]).mean()
    torch.testing.assert_close(output.loss, expected)


def test_files_of_one_probe(tmp_path):
    probe = make_probe(hidden_dim=4)
    probe.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, ClassifierProbe) and loaded.config.id2label == dict(enumerate(LABELS))
    assert isinstance(AutoConfig.from_pretrained(tmp_path), ClassifierProbeConfig)
    states = torch.randn(1, 2, 6)
    assert torch.equal(loaded(states).logits, probe(states).logits)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["target"] == "phone" and config["label2id"] == {"AH": 0, "B": 1, "S": 2}
    (tmp_path / "config.json").write_text(json.dumps({**config, "input_dim": 9}))
    with pytest.raises(BankError, match="mismatched"):
        ClassifierProbe.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(BankError, match="classifier"):
        ClassifierProbe.from_pretrained(tmp_path)


def test_bad_settings():
    for bad in ({"labels": ["a"]}, {"labels": ["a", "a"]}, {"input_dim": 0}, {"pooling": "word"}, {"hidden_dim": -1}):
        with pytest.raises(ConfigError):
            ClassifierProbeConfig(**{"input_dim": 4, "labels": ["a", "b"], **bad})
    for bad in ({"probe": "deep"}, {"steps": 0}, {"learning_rate": 0.0}, {"dev_share": 1.0}):
        with pytest.raises(ConfigError):
            ClassifierTrainingConfig(**bad)
    with pytest.raises(ConfigError, match="hidden_states"):
        make_probe()(torch.zeros(1, 2, 5))
    with pytest.raises(ConfigError, match="labels of shape"):
        make_probe()(torch.zeros(1, 2, 6), labels=torch.zeros(2, dtype=torch.int64))


def test_bank(tmp_path):
    bank = ClassifierBank({"l1": make_probe("l1"), "input": make_probe("input")}, "toy", "abc", {"steps": 3})
    bank.save_pretrained(tmp_path / "bank")
    loaded = ClassifierBank.from_pretrained(tmp_path / "bank")
    assert list(loaded) == ["l1", "input"] and loaded.labels == LABELS and loaded.target == "phone"
    assert (loaded.encoder, loaded.fingerprint, loaded.training) == ("toy", "abc", {"steps": 3})
    states = torch.randn(1, 2, 6)
    assert torch.equal(loaded["input"](states).logits, bank["input"](states).logits)
    alone = ClassifierProbe.from_pretrained(tmp_path / "bank", subfolder="l1")
    assert torch.equal(alone(states).logits, bank["l1"](states).logits)
    with pytest.raises(LayerError, match="l1, input"):
        loaded["l9"]
    with pytest.raises(BankError, match="one target"):
        ClassifierBank({"a": make_probe(), "b": make_probe(pooling="frame")})
    with pytest.raises(BankError, match="bank of classifiers"):
        ClassifierBank.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["../evil", "/etc", "", 3])
def test_a_broken_bank_is_refused(tmp_path, name):
    folder = ClassifierBank({"l1": make_probe()}).save_pretrained(tmp_path / "bank")
    index = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps({**index, "layers": [name]}))
    with pytest.raises(BankError):
        ClassifierBank.from_pretrained(folder)
    (folder / "bank.json").write_text(json.dumps(index))
    shutil.copy(folder / "l1" / "config.json", folder / "l1" / "model.safetensors")
    with pytest.raises(BankError, match="checksum"):
        ClassifierBank.from_pretrained(folder)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(0, 99))
def test_the_sample_does_not_depend_on_order_or_batches(parts, seed):
    items = make_items(300, seed)
    whole = Reservoir({"right": 3, "noise": 5}, memory=32 * 50)
    whole.add(items)
    pieces = Reservoir({"right": 3, "noise": 5}, memory=32 * 50)
    for part in torch.randperm(300, generator=torch.Generator().manual_seed(seed)).chunk(parts):
        pieces.add(items.take(part))
    one, other = whole.items(), pieces.items()
    assert len(one) == len(other) == 50 and pieces.seen == 300
    assert set(one.types.tolist()) == set(other.types.tolist())
    assert set(one.types.tolist()) == set(items.priorities.argsort()[:50].tolist())
    by_type = dict(zip(other.types.tolist(), other.features["right"].tolist(), strict=True))
    assert all(
        by_type[kind] == row for kind, row in zip(one.types.tolist(), one.features["right"].tolist(), strict=True)
    )


def test_too_little_memory_and_nothing_to_learn():
    with pytest.raises(ConfigError, match="--memory"):
        Reservoir({"x": 1_000_000}, memory=2**20)
    with pytest.raises(DatasetError, match="no labelled point"):
        Reservoir({"x": 1}, memory=2**20).items()
    with pytest.raises(ConfigError, match="classes need"):
        check_memory(HEADS, 10_000_000, ClassifierTrainingConfig(), 2**20)


def test_control_labels():
    kinds = torch.tensor([stable_hash(str(i % 5000)) for i in range(10_000)])
    drawn = control_labels(kinds, torch.tensor([700, 200, 100]), 0)
    assert torch.equal(drawn[:5000], drawn[5000:])  # one label for each type
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.02, rtol=0)
    other = control_labels(kinds, torch.tensor([700, 200, 100]), 1)
    assert 0.4 < (drawn == other).float().mean() < 0.68  # chance is 0.54


@pytest.mark.parametrize("probe", ["linear", "mlp"])
def test_a_label_that_is_there_and_one_that_is_not(probe):
    config = ClassifierTrainingConfig(probe, steps=200, batch_size=64, device="cpu")
    items, test = make_items(seed=1), make_items(seed=2)
    controls = control_labels(items.types, torch.bincount(items.labels), 0)
    trained = train_classifiers(items, controls, HEADS, LABELS, "phone", "frame", config)
    rights = {h.key: log_probabilities(trained.probes[h.key], test.features[h.key], test.labels)[0] for h in HEADS}
    assert rights["right"].double().mean() == 1.0
    assert abs(rights["noise"].double().mean() - 1 / 3) < 0.08
    fooled = log_probabilities(trained.controls["right"], test.features["right"], torch.randint(3, (600,)))[0]
    assert abs(fooled.double().mean() - 1 / 3) < 0.08
    assert trained.probes["right"].config.layer == "l1" and trained.probes["right"].input_mean.min() > 100


def test_heads_do_not_notice_one_another():
    config = ClassifierTrainingConfig(steps=30, batch_size=32, eval_steps=10, device="cpu")
    items = make_items()
    both = train_classifiers(items, items.labels, HEADS, LABELS, "phone", "frame", config)
    alone = train_classifiers(items, None, HEADS[:1], LABELS, "phone", "frame", config)
    again = train_classifiers(items, items.labels, HEADS, LABELS, "phone", "frame", config)
    for name, value in alone.probes["right"].state_dict().items():
        assert torch.equal(value, both.probes["right"].state_dict()[name])
        assert torch.equal(value, again.probes["right"].state_dict()[name])
    other = ClassifierTrainingConfig(steps=30, batch_size=32, eval_steps=10, device="cpu", seed=1)
    changed = train_classifiers(items, None, HEADS[:1], LABELS, "phone", "frame", other)
    assert not torch.equal(changed.probes["right"].output.weight, alone.probes["right"].output.weight)


def test_the_kept_weights_are_those_of_the_least_dev_loss():
    # Pure noise in many dimensions: learning on only makes it worse, so the first measured weights are kept.
    items = make_items(120, units=120)
    items.features["noise"] = torch.randn(120, 400)
    heads = (Head("noise", 400, "l2"),)
    short, long = (
        train_classifiers(items, None, heads, LABELS, "phone", "frame", ClassifierTrainingConfig(
            steps=steps, batch_size=32, eval_steps=5, dev_share=0.3, learning_rate=0.02, weight_decay=0, device="cpu"
        )).probes["noise"] for steps in (200, 200)
    )  # fmt: skip
    kept = ClassifierTrainingConfig(steps=200, batch_size=32, dev_share=0.0, learning_rate=0.02, device="cpu")
    last = train_classifiers(items, None, heads, LABELS, "phone", "frame", kept).probes["noise"]
    assert torch.equal(short.output.weight, long.output.weight)
    assert last.output.weight.norm() > 1.2 * short.output.weight.norm()


def test_online_code():
    items = make_items(900, units=90)
    config = ClassifierTrainingConfig(steps=150, batch_size=64, device="cpu", learning_rate=0.02)
    bits, order = online_code(items, HEADS, LABELS, "phone", "frame", config)
    assert sorted(order.tolist()) == list(range(900)) and len(bits["right"]) == 900
    uniform = np.log2(3)
    assert bits["right"].mean() < 0.35 * uniform  # the label is there: little to send
    assert 0.97 * uniform < bits["noise"].mean() < 1.5 * uniform  # it is not: nothing saved
    # Blocks end between units.
    changes = (items.units[order][1:] != items.units[order][:-1]).sum() + 1
    assert changes == 90


def test_mean_frames_of_one_utterance_alone_and_padded():
    states = torch.randn(2, 4, 3)
    alone = mean_frames(states[:1, :2], torch.tensor([2]))
    assert torch.allclose(mean_frames(states, torch.tensor([2, 4]))[:1], alone)
