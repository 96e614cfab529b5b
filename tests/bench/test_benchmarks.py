"""The benchmarks at tiny sizes: equal outputs, equal losses, the shape of what is written. Never how long it took."""

import json
import math
import os

import pytest
import torch
from espnet_stock import build_stock

from hfprobe.audio import griffin_lim
from hfprobe.bench import run as bench_run
from hfprobe.bench.encoders import EQUAL, bench_encoders
from hfprobe.bench.evaluate import STAGES, _prepare, evaluate_once
from hfprobe.bench.plain import plain_trainings, stock_espnet
from hfprobe.bench.report import Section
from hfprobe.bench.speech import clips, pad
from hfprobe.bench.stock import FAMILIES, build_transformers, espnet_forward
from hfprobe.bench.train import ProbeSteps, _batch, bench_train
from hfprobe.bench.vocoder import LIBROSA, bench_vocoder
from hfprobe.cli import main
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.probes import ProbeTrainingConfig, train_bank

SLOW = os.environ.get("HFPROBE_SLOW") == "1"


@pytest.fixture(scope="module", params=["vgg-delta", "rnn-delta"])
def tiny(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    build_stock(folder, request.param)
    return AutoSpeechEncoder.from_pretrained(folder)


def check(section: Section) -> dict:
    """What every section keeps to; its rows by name."""
    content = json.loads(json.dumps(section.to_dict(), allow_nan=False))
    for row in content["rows"]:
        for clock in ("cpu_s", "wall_s"):
            assert 0 <= row[clock]["low"] <= row[clock]["median"] <= row[clock]["high"]
        if "times" in row:
            assert 0 < row["times"]["low"] <= row["times"]["median"] <= row["times"]["high"]
        if "operations" in row:
            assert row["operations"] > 0 and row["floor_s"] > 0
    for goal in content["goals"]:
        low, high = (goal["limit"], math.inf) if goal["relation"] == "at least" else (-math.inf, goal["limit"])
        assert goal["met"] == (low <= goal["measured"] <= high)
    text = section.to_markdown()
    assert section.title in text and all(row["name"] in text for row in content["rows"])
    assert text.count("**missed**") == sum(not goal["met"] for goal in content["goals"])
    return {row["name"]: row for row in content["rows"]}


def test_plain_training_reads_the_layers_that_hfprobe_reads(tiny):
    # Every layer of one utterance, taken from ESPnet's forward by the hooks of the plain training.
    from hfprobe.bench.plain import _place

    waveforms, lengths = pad(clips([0.7]))
    stock = stock_espnet(tiny)
    seen = {}
    for spec in tiny.layers:
        module, as_frames = _place(stock.network, spec.name)

        def keep(module, arguments, output, name=spec.name, as_frames=as_frames):
            seen[name] = as_frames(output, 1)

        module.register_forward_hook(keep)
    with torch.no_grad():
        last = stock(waveforms, lengths)
        own = tiny(waveforms, lengths)
    assert torch.allclose(last, own.last_hidden_state, atol=1e-5)
    for spec, state in zip(tiny.layers, own.hidden_states, strict=True):
        assert seen[spec.name].shape == state.shape
        assert torch.allclose(seen[spec.name], state, atol=1e-4 * float(state.abs().max())), spec.name


def test_plain_training_learns(tiny):
    waveforms, lengths = pad(clips([0.4, 0.7]))
    steps = plain_trainings(tiny, waveforms, lengths, hidden_dim=16, learning_rate=0.1)
    assert len(steps) == len(tiny.layers)
    losses = [steps[-1]() for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]
    assert steps[0]() != steps[0]()


def test_steps_are_those_of_training(tiny, tmp_path):
    layers, config = [tiny.layers[0].name, tiny.layers[-1].name], {"hidden_dim": 8, "max_steps": 3, "seed": 5}
    batch = _batch(*pad(clips([0.4, 0.7])))

    class Same:
        def __iter__(self):
            while True:
                yield batch

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    settings = ProbeTrainingConfig(**config, frames_per_batch=24, statistics_batches=1, device="cpu")
    bank = train_bank(tiny, Same(), tmp_path, settings, layers=layers, progress=False)
    steps = ProbeSteps(tiny, batch, settings, layers, "cpu")
    for _ in range(3):
        steps()
    for name in layers:
        trained, own = bank[name].state_dict(), steps.probes.probes[name].state_dict()
        assert trained.keys() == own.keys()
        assert all(torch.equal(trained[key], own[key]) for key in trained), name


def test_training(machine, tiny):
    section = bench_train(machine, tiny, [0.4, 0.7], repeats=2, hidden_dim=8)
    rows = check(section)
    count = len(tiny.layers)
    wanted = ["one probe at a time", "the encoder alone, no gradients", "one at a time, as the text says"]
    assert list(rows) == [f"all {count} probes, one pass", *wanted]
    together, alone = rows[f"all {count} probes, one pass"], rows["one probe at a time"]
    encoder = rows["the encoder alone, no gradients"]["operations"]
    # The same probes, the encoder once against once for each.
    assert alone["operations"] - together["operations"] == pytest.approx((count - 1) * encoder)
    assert together["operations"] > encoder
    assert [goal.limit for goal in section.goals] == [6.0, 1.5]


def test_probes_arithmetic_by_hand(machine, tiny):
    section = bench_train(machine, tiny, [0.5], repeats=1, frames=8, plain=False, hidden_dim=8, num_layers=2)
    rows = check(section)
    encoder = rows["the encoder alone, no gradients"]["operations"]
    found = rows[f"all {len(tiny.layers)} probes, one pass"]["operations"] - encoder
    wanted = 0
    for spec in tiny.layers:
        up = spec.stride // 160
        frames = 8 // up
        first, rest = 2 * spec.dim * up * 8, up * (2 * 2 * 8 * 16 + 2 * 8 * 80)
        # The first matrix has no gradient on its input, the others have both.
        wanted += frames * (2 * first + 3 * rest)
    # Besides: the mel targets, and the mean that is folded into the projections.
    assert wanted < found < 1.3 * wanted + 2 * 51 * 257 * 80 + 1e6


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_own_forward_gives_the_same(machine, family, tmp_path):
    encoder, stock = build_transformers(family, "tiny", tmp_path)
    rows = check(section := bench_encoders(machine, [("transformers", encoder, stock)], [0.3, 0.9], repeats=1))
    assert len(rows) == 7 and all(row["difference"] < EQUAL for name, row in rows.items() if "hfprobe" in name)
    assert section.goals[0].met and section.goals[0].measured > 0  # two computations, not one compared with itself


def test_espnet_own_forward_gives_the_same(machine, tiny):
    rows = check(bench_encoders(machine, [("ESPnet", tiny, espnet_forward(tiny))], [0.3, 0.9, 0.5], repeats=1))
    assert all(row["difference"] < EQUAL for name, row in rows.items() if "hfprobe" in name)
    padded = next(row["difference"] for name, row in rows.items() if "ESPnet, one padded batch" in name)
    if "cnn1" in [spec.name for spec in tiny.layers]:
        assert padded > EQUAL  # ESPnet's convolutions see the padding; that is said, and not compared
    else:
        assert padded < EQUAL


def test_vocoders(machine, monkeypatch):
    if not SLOW:  # librosa compiles for half a minute: here hfprobe's own fast Griffin-Lim stands for it
        monkeypatch.setattr("hfprobe.bench.vocoder._librosa", fast_griffin_lim)
    section = bench_vocoder(machine, [1.0, 0.6], repeats=1, iterations=(4,))
    rows = check(section)
    assert list(rows) == [LIBROSA, "hfprobe, 4 iterations"]
    librosa, own = rows.values()
    assert all(0.3 < row["stoi"] < 1 and 1 < row["pesq"] < 4.6 for row in rows.values())
    assert librosa["times"]["median"] == 1 and librosa["operations"] == 8 * own["operations"]
    assert section.goals[1].measured == pytest.approx(own["stoi"] - librosa["stoi"])


def fast_griffin_lim(magnitude, length, seed):
    return griffin_lim(magnitude, n_iter=32, seed=seed, length=length, init="random", algorithm="fgla").numpy()


def test_an_evaluation_is_timed_by_stage():
    pair, verifier, test = _prepare("blstm-robust", clips([1.0] * 4))
    found = evaluate_once(pair, verifier, test, "cpu")
    assert found["layers"] == 5 and set(found["stages"]) == set(STAGES)
    for clock in ("wall", "cpu"):
        parts = [found["stages"][stage][clock] for stage in STAGES]
        assert all(part > 0 for part in parts) and sum(parts) <= found[clock]


def test_command_writes_what_it_prints(monkeypatch, tmp_path, capsys):
    tiny_size = bench_run.Size(1, (1, 0.3), 8, (2, 0.3), ("tiny",), (1, 0.5), (2, 0.5), 1)
    monkeypatch.setattr(bench_run, "QUICK", tiny_size)
    monkeypatch.setattr("hfprobe.bench.machine.describe_machine", small_machine)
    build_stock(tmp_path, "vgg-delta")
    out = tmp_path / "out"
    argv = ["bench", "train", "--quick", "--encoder", str(tmp_path), "--output", str(out), "--device", "cpu"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert (out / "benchmarks.md").read_text() in printed
    assert printed.splitlines()[-1].startswith(tuple("0123456789"))
    content = json.loads((out / "benchmarks.json").read_text())
    assert set(content) == {"machine", "environment", "sections"}
    assert set(content["sections"]) == {"train", "train_sampled"}
    assert content["machine"]["matmul"] > 0 and content["environment"]["versions"]["torch"]
    assert str(tmp_path) not in (out / "benchmarks.json").read_text()


def small_machine(device):
    from hfprobe.bench.machine import Machine

    return Machine("a processor", 1, 1, 2**30, 0.0, device, "cpu", 1e10, 1e9)


def test_command_refuses_what_it_does_not_know(capsys):
    assert main(["bench", "trains"]) == 1
    assert "choose from train, encoders, vocoder, evaluate, start" in capsys.readouterr().err


def test_help_names_the_benchmarks(capsys):
    assert main(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in bench_run.BENCHMARKS) and "--quick" in text
