"""Training: exact resumption, independence of the layers, two processes."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hfprobe.errors import BankError, ConfigError, DatasetError, LayerError
from hfprobe.probes import ProbeBank, ProbeTrainingConfig, checkpoints, train_bank
from hfprobe.probes.losses import frame_mask, pack_frames
from hfprobe.probes.normalisation import Moments

REPOSITORY = Path(__file__).resolve().parents[2]


def settings(**kwargs):
    values = {
        "hidden_dim": 16, "max_steps": 12, "frames_per_batch": 40, "statistics_batches": 2, "checkpoint_steps": 4,
        "log_steps": 5, "warmup_steps": 2, "device": "cpu", "save_dtype": "float32",
    }  # fmt: skip
    return ProbeTrainingConfig(**{**values, **kwargs})


def weights(bank, names=None):
    return {f"{name}.{key}": value for name in names or bank for key, value in bank[name].state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def log(folder):
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(toy, tmp_path):
    whole = train_bank(toy.Encoder(), toy.Stream(), tmp_path / "whole", settings(), progress=False)
    with pytest.raises(InterruptedError):
        # Two batches of statistics and ten steps: breaks off behind the checkpoint of step 8.
        train_bank(toy.Encoder(), toy.Stream(break_at=12), tmp_path / "cut", settings(), progress=False)
    assert not (tmp_path / "cut" / "bank.json").exists()
    torch.manual_seed(99)  # another process would start with other generators
    resumed = train_bank(toy.Encoder(), toy.Stream(), tmp_path / "cut", settings(log_steps=3), progress=False)
    assert_same(weights(whole), weights(resumed))
    assert_same(weights(whole), weights(ProbeBank.from_pretrained(tmp_path / "cut")))
    assert [line["step"] for line in log(tmp_path / "cut")] == [5, 9, 12]
    assert [line["step"] for line in log(tmp_path / "whole")] == [5, 10, 12]
    kept = [path.name for path in checkpoints.available(tmp_path / "cut" / "checkpoints")]
    assert kept == ["step-00000012", "step-00000008"]
    # Once more: nothing is left to do.
    stream = toy.Stream(break_at=0)
    assert_same(
        weights(whole),
        weights(train_bank(toy.Encoder(), stream, tmp_path / "cut", settings(), progress=False)),
    )


def test_global_generators_are_restored(toy, tmp_path):
    class Noisy(toy.Stream):
        def batch(self, number):
            batch = super().batch(number)
            batch.waveforms = batch.waveforms + 0.01 * torch.randn(batch.waveforms.shape)
            batch.waveforms *= float(np.random.uniform(0.5, 1))
            return batch

    def seeded(*args):
        torch.manual_seed(3)
        np.random.seed(3)
        return train_bank(toy.Encoder(), Noisy(*args), folder, settings(), progress=False)

    folder = tmp_path / "whole"
    whole = seeded()
    folder = tmp_path / "cut"
    with pytest.raises(InterruptedError):
        seeded(3, 12)
    assert_same(weights(whole), weights(train_bank(toy.Encoder(), Noisy(), folder, settings(), progress=False)))


def test_layers_trained_together_equal_each_alone(toy, tmp_path):
    together = train_bank(toy.Encoder(), toy.Stream(), tmp_path / "all", settings(), progress=False)
    for name in ("l1", "l2"):
        alone = train_bank(toy.Encoder(), toy.Stream(), tmp_path / name, settings(), layers=[name], progress=False)
        assert list(alone) == [name]
        assert_same(weights(together, [name]), weights(alone))


def test_probes_learn(toy, tmp_path):
    config = settings(max_steps=150, frames_per_batch=None, log_steps=150, checkpoint_steps=None)
    dev = [toy.Stream().batch(-number) for number in (1, 2)]
    encoder = toy.Encoder().train()
    bank = train_bank(encoder, toy.Stream(), tmp_path, config, progress=False, dev_batches=dev)
    assert encoder.training and not bank["l1"].training
    # One pass of the encoder per batch: 2 of statistics, 150 steps, 2 of dev.
    assert encoder.calls == 154
    last = log(tmp_path)[-1]
    floor = bank.mels(encoder, dev[0].waveforms, dev[0].lengths, layers=["floor"])["floor"]
    target = bank_target(dev[0])
    floor_error = (floor - target)[target > math.log(1e-9)].abs().mean().item()
    assert max(last["dev_loss"].values()) < 0.5 * floor_error
    assert last["step"] == 150 and last["seconds"] > 0 and set(last["loss"]) == {"l1", "l2"}
    recorded = json.loads((tmp_path / "training.json").read_text())
    assert recorded["config"] == config.to_dict()
    assert ProbeTrainingConfig.from_dict(recorded["config"]) == config


def bank_target(batch):
    from hfprobe.audio import mel_spectrogram

    return mel_spectrogram(batch.waveforms, lengths=batch.lengths)


def test_statistics_are_those_of_the_first_batches(toy, tmp_path):
    config = settings(max_steps=1, statistics_batches=3)
    encoder, stream = toy.Encoder(), toy.Stream()
    bank = train_bank(encoder, stream, tmp_path, config, progress=False)
    frames, targets = [], []
    for number in (1, 2, 3):
        batch = stream.batch(number)
        output = encoder(batch.waveforms, batch.lengths)
        packed = pack_frames(
            output.hidden_states[1], output.hidden_lengths[1], bank_target(batch), 1 + batch.lengths // 160, 2
        )
        frames.append(packed.frames)
        targets.append(packed.target[packed.mask])
    frames, targets = torch.cat(frames).double(), torch.cat(targets).double()
    torch.testing.assert_close(bank["l2"].input_mean.double(), frames.mean(0), atol=1e-5, rtol=1e-5)
    deviation = frames.std(0, correction=0)
    floored = deviation.clamp(min=0.05 * deviation.square().mean().sqrt())
    torch.testing.assert_close(bank["l2"].input_std.double(), floored, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(bank["l2"].output_mean.double(), targets.mean(0), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(bank["l2"].output_std.double(), targets.std(0, correction=0), atol=1e-4, rtol=1e-4)


def test_moments_survive_a_large_mean():
    rows = 1e4 + torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    moments = Moments(3, "cpu")
    for part in rows.split(700):
        moments.add(part)
    torch.testing.assert_close(moments.std(), rows.double().std(0, correction=0), rtol=1e-3, atol=0)


def test_stops_by_the_clock_fully_decayed(toy, tmp_path):
    config = settings(max_steps=None, max_minutes=0.02, checkpoint_steps=None)
    bank = train_bank(toy.Encoder(), toy.Stream(), tmp_path, config, progress=False)
    assert 0.02 <= bank.training["minutes"] < 0.2 and bank.training["steps"] > 1


def test_learning_rate_schedule():
    config = settings(learning_rate=1.0, warmup_steps=3, final_learning_rate=0.1)
    assert [config.learning_rate_at(step, 0.0) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert config.learning_rate_at(9, 0.5) == pytest.approx(0.55)
    assert config.learning_rate_at(9, 1.0) == pytest.approx(0.1)


@pytest.mark.parametrize("wrong", [
    {"max_steps": None}, {"max_steps": 0}, {"learning_rate": 0}, {"learning_rate": float("nan")}, {"schedule": "x"},
    {"hidden_dim": "12"}, {"save_dtype": "int8"}, {"clip_norm": -1}, {"frames_per_batch": 1.5}, {"seed": True},
])  # fmt: skip
def test_wrong_settings(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ProbeTrainingConfig(**wrong)


def test_resuming_with_other_settings_is_refused(toy, tmp_path):
    train_bank(toy.Encoder(), toy.Stream(), tmp_path, settings(max_steps=4), progress=False)
    with pytest.raises(ConfigError, match="learning_rate"):
        config = settings(max_steps=4, learning_rate=0.1)
        train_bank(toy.Encoder(), toy.Stream(), tmp_path, config, progress=False)
    with pytest.raises(ConfigError, match="encoder"):
        train_bank(toy.Encoder(seed=2), toy.Stream(), tmp_path, settings(max_steps=4), progress=False)
    anew = train_bank(toy.Encoder(seed=2), toy.Stream(), tmp_path, settings(max_steps=4), resume=False, progress=False)
    assert anew.training["steps"] == 4
    newest = checkpoints.available(tmp_path / "checkpoints")[0]
    (newest / "optimizer.pt").write_bytes(b"\x80\x02broken")
    with pytest.raises(BankError, match="step-00000004"):
        train_bank(toy.Encoder(seed=2), toy.Stream(), tmp_path, settings(max_steps=4), progress=False)


def test_resuming_on_other_data_is_refused(toy, tmp_path):
    class Told(toy.Stream):
        told = {"corpus": "a:b", "batch_size": 2, "noise": {"files": "1f", "voices": [3, 7]}}

        def identity(self):
            return self.told

    class Other(Told):
        told = {**Told.told, "batch_size": 4}

    train_bank(toy.Encoder(), Told(), tmp_path, settings(max_steps=4), progress=False)
    with pytest.raises(ConfigError, match=r"expected data.batch_size=2 as in .*step-00000004, got 4; .*--no-resume"):
        train_bank(toy.Encoder(), Other(), tmp_path, settings(max_steps=4), progress=False)
    train_bank(toy.Encoder(), Told(), tmp_path, settings(max_steps=4), progress=False)
    # A stream that says nothing left this checkpoint, as those of earlier versions did: nothing can be compared.
    train_bank(toy.Encoder(), toy.Stream(), tmp_path / "silent", settings(max_steps=4), progress=False)
    train_bank(toy.Encoder(), Other(), tmp_path / "silent", settings(max_steps=4), progress=False)


def test_the_log_is_that_of_a_run_that_was_never_cut(toy, tmp_path):
    train_bank(toy.Encoder(), toy.Stream(), tmp_path / "whole", settings(), progress=False)
    with pytest.raises(InterruptedError):
        train_bank(toy.Encoder(), toy.Stream(break_at=12), tmp_path / "cut", settings(), progress=False)
    train_bank(toy.Encoder(), toy.Stream(), tmp_path / "cut", settings(), progress=False)  # on from step 8
    # The line of step 10 is the mean over five steps, of which three were taken before.
    assert [line["loss"] for line in log(tmp_path / "cut")] == [line["loss"] for line in log(tmp_path / "whole")]


def test_a_checkpoint_too_many_goes_with_the_next_run(toy, tmp_path):
    train_bank(toy.Encoder(), toy.Stream(), tmp_path, settings(), progress=False)
    root = tmp_path / "checkpoints"
    shutil.copytree(root / "step-00000008", root / "step-00000004")  # killed between a rename and a removal
    train_bank(toy.Encoder(), toy.Stream(), tmp_path, settings(), progress=False)
    assert [path.name for path in checkpoints.available(root)] == ["step-00000012", "step-00000008"]


def test_bad_streams_layers_and_divergence(toy, tmp_path):
    with pytest.raises(DatasetError, match="endless"):
        stream = toy.Stream()
        stream.__class__ = type("Short", (toy.Stream,), {"__iter__": lambda self: iter([self.batch(1)])})
        train_bank(toy.Encoder(), stream, tmp_path / "a", settings(), progress=False)
    with pytest.raises(ConfigError, match="state_dict"):
        train_bank(toy.Encoder(), [], tmp_path / "a", settings(), progress=False)
    with pytest.raises(LayerError, match="l1, l2"):
        train_bank(toy.Encoder(), toy.Stream(), tmp_path / "a", settings(), layers=["l3"], progress=False)
    encoder = toy.Encoder()
    with torch.no_grad():
        encoder.l2.fill_(float("nan"))
    with pytest.raises(ConfigError, match="l2"):
        train_bank(encoder, toy.Stream(), tmp_path / "b", settings(), progress=False)


def test_checkpoints_hold_plain_values_only(tmp_path):
    state = {
        "a": [1, (2.5, None)],
        "b": np.arange(3, dtype=np.uint32),
        "c": b"x",
        "d": torch.ones(2),
        "e": np.float32(1),
    }
    torch.save(checkpoints.to_plain(state), tmp_path / "state.pt")
    back = checkpoints.from_plain(torch.load(tmp_path / "state.pt", weights_only=True))
    assert back["a"] == [1, (2.5, None)] and back["c"] == b"x" and back["e"] == 1.0
    assert back["b"].dtype == np.uint32 and back["b"].tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"\['deep'\].*Path"):
        checkpoints.to_plain({"deep": Path(".")})


TWO_PROCESSES = """
import os, sys, torch
sys.path.insert(0, sys.argv[1] + "/tests/probes")
from probe_fakes import ToyEncoder, ToyStream
from hfprobe.probes import ProbeTrainingConfig, train_bank
torch.set_num_threads(1)
rank, folder = int(os.environ["RANK"]), sys.argv[2]
config = ProbeTrainingConfig(hidden_dim=16, max_steps=6, statistics_batches=2, checkpoint_steps=3, log_steps=5,
                             warmup_steps=2, device="cpu", save_dtype="float32")

def train(name, break_at=None):
    stream = ToyStream(4, break_at, slice(rank, None, 2), equal=True)
    bank = train_bank(ToyEncoder(), stream, f"{folder}/{name}", config, progress=False)
    torch.save({key: value.state_dict() for key, value in bank.items()}, f"{folder}/{name}/rank{rank}.pt")

train("whole")
try:
    train("cut", break_at=7)
except InterruptedError:
    train("cut")
"""


def test_two_processes_average_their_gradients_and_resume(toy, tmp_path):
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(tmp_path / "two.py"), str(REPOSITORY), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    def rank(folder, number):
        return torch.load(tmp_path / folder / f"rank{number}.pt", weights_only=True)

    # One process that sees the clips of both in one batch, and one that sees the first one's only. All clips have
    # one length, so that the mean over processes is the mean over the batch.
    config = settings(max_steps=6, frames_per_batch=None, checkpoint_steps=3)
    single = train_bank(toy.Encoder(), toy.Stream(4, equal=True), tmp_path / "a", config, progress=False)
    stream = toy.Stream(4, part=slice(0, None, 2), equal=True)
    half = train_bank(toy.Encoder(), stream, tmp_path / "b", config, progress=False)
    start = settings(max_steps=1, frames_per_batch=None, warmup_steps=10**9)
    fresh = train_bank(toy.Encoder(), toy.Stream(4, equal=True), tmp_path / "c", start, progress=False)
    for name, first in rank("whole", 0).items():
        assert_same(first, rank("whole", 1)[name])
        assert_same(first, rank("cut", 0)[name])
        assert_same(first, rank("cut", 1)[name])
        torch.testing.assert_close(first["input_mean"], single[name].input_mean, atol=1e-5, rtol=1e-5)
        begin = fresh[name].state_dict()["output.weight"]
        moved = (single[name].output.weight - begin).norm()
        assert (first["output.weight"] - single[name].output.weight).norm() < 0.02 * moved
        assert (first["output.weight"] - half[name].output.weight).norm() > 0.1 * moved


def test_random_twin_learns_in_the_same_pass_what_it_would_have_learnt_alone(toy, tmp_path):
    encoder, twin = toy.Encoder(), toy.Encoder(seed=5)
    twin.name = "random:toy"
    with_twin = train_bank(encoder, toy.Stream(), tmp_path / "both", settings(), progress=False, random_twin=twin)
    alone = train_bank(toy.Encoder(), toy.Stream(), tmp_path / "own", settings(), progress=False)
    assert_same(weights(with_twin), weights(alone))
    twin_alone = train_bank(toy.Encoder(seed=5), toy.Stream(), tmp_path / "twin", settings(), progress=False)
    saved = ProbeBank.from_pretrained(tmp_path / "both" / "random")
    assert_same(weights(saved), weights(twin_alone))
    assert (saved.encoder, saved.fingerprint) == ("random:toy", twin.fingerprint)
    assert saved["l1"].config.encoder == "random:toy"
    saved.check(twin)
    with pytest.raises(BankError, match="other weights"):
        saved.check(encoder)
    assert set(log(tmp_path / "both")[-1]["loss"]) == {"l1", "l2", "random/l1", "random/l2"}
    assert encoder.calls == twin.calls == 14
    # Broken off and resumed: the twin's probes too are the same bit for bit.
    with pytest.raises(InterruptedError):
        stream = toy.Stream(break_at=12)
        train_bank(toy.Encoder(), stream, tmp_path / "cut", settings(), progress=False, random_twin=twin)
    assert not list((tmp_path / "cut").rglob("bank.json"))
    with pytest.raises(ConfigError, match="random='"):
        train_bank(toy.Encoder(), toy.Stream(), tmp_path / "cut", settings(), progress=False)
    train_bank(toy.Encoder(), toy.Stream(), tmp_path / "cut", settings(), progress=False, random_twin=twin)
    assert_same(weights(ProbeBank.from_pretrained(tmp_path / "cut" / "random")), weights(twin_alone))
    for wrong, word in ((toy.Encoder(), "very same weights"), (toy.Encoder(3, (160,)), "other layers")):
        with pytest.raises(ConfigError, match=word):
            train_bank(encoder, toy.Stream(), tmp_path / "no", settings(), progress=False, random_twin=wrong)
    assert not (tmp_path / "no").exists()


def test_checkpoints_from_before_probe_and_twin_existed_go_on(toy, tmp_path):
    with pytest.raises(InterruptedError):
        train_bank(toy.Encoder(), toy.Stream(break_at=12), tmp_path, settings(), progress=False)
    for path in (tmp_path / "checkpoints").glob("*/trainer.json"):
        content = json.loads(path.read_text())
        assert content["identity"].pop("probe") == "highway" and content["identity"].pop("random") is None
        path.write_text(json.dumps(content))
    bank = train_bank(toy.Encoder(), toy.Stream(), tmp_path, settings(), progress=False)
    whole = train_bank(toy.Encoder(), toy.Stream(), tmp_path / "whole", settings(), progress=False)
    assert_same(weights(bank), weights(whole))
    with pytest.raises(ConfigError, match="probe='highway'"):
        train_bank(toy.Encoder(), toy.Stream(), tmp_path, settings(probe="linear"), progress=False)


def test_linear_probes_read_what_lies_open(toy, tmp_path):
    from hfprobe.audio import mel_spectrogram

    class Affine(toy.Encoder):
        def forward(self, waveforms, lengths=None, output_hidden_states=True, layers=None):
            output = super().forward(waveforms, lengths, output_hidden_states, layers)
            output.hidden_states = (0.1 * mel_spectrogram(waveforms, lengths=lengths)[..., :32] - 2,)
            return output

    config = settings(max_steps=900, frames_per_batch=None, checkpoint_steps=None, learning_rate=0.02, probe="linear")
    encoder = Affine(strides=(160,))
    trained = train_bank(encoder, toy.Stream(), tmp_path, config, progress=False)
    names = ["input_mean", "input_std", "output_mean", "output_std", "projection.weight", "projection.bias"]
    assert trained.capacity == "linear" and list(trained["l1"].state_dict()) == names
    batch, bank = toy.Stream().batch(-1), ProbeBank.from_pretrained(tmp_path)
    mel = bank.mels(encoder, batch.waveforms, batch.lengths)["l1"]
    inside = frame_mask(1 + batch.lengths // 160, mel)
    error = (mel - bank_target(batch))[inside].abs()
    # The layer holds the first 32 bands; of the others the probe knows no more than what they share with those.
    assert error[:, :32].mean() < 0.1 and error[:, 48:].mean() > 0.3
