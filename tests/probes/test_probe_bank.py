"""The bank: mapping, files that cannot be half there, and the check of the encoder."""

import json
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from hfprobe.audio import MelConfig
from hfprobe.errors import BankError, ConfigError, LayerError
from hfprobe.probes import HighwayProbe, HighwayProbeConfig, MeanProbe, MeanProbeConfig, ProbeBank, bank_files
from hfprobe.probes.bank_card import default_card


def make_bank(encoder, seed=0, **kwargs):
    torch.manual_seed(seed)
    probes = {}
    for spec in encoder.layers:
        config = HighwayProbeConfig(input_dim=spec.dim, layer=spec.name, stride=spec.stride, hidden_dim=8)
        probes[spec.name] = HighwayProbe(config)
        probes[spec.name].output_mean.normal_(-6, 2)
    floor = MeanProbe(MeanProbeConfig())
    floor.output_mean.copy_(torch.linspace(-9, -3, 80))
    return ProbeBank(probes, floor, encoder.name, encoder.fingerprint, {"steps": 7}, **kwargs)


@pytest.fixture
def encoder(toy):
    return toy.Encoder()


@pytest.fixture
def bank(encoder):
    return make_bank(encoder)


def same_weights(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_mapping(bank):
    assert list(bank) == ["l1", "l2"] and len(bank) == 2
    assert "l1" in bank and "floor" in bank and "l9" not in bank
    assert bank["floor"] is bank.floor and bank.get("l9") is None
    assert "l1, l2" in repr(bank)
    with pytest.raises(LayerError, match="l9.*l1, l2"):
        bank["l9"]


def test_round_trip_float32_is_exact(bank, tmp_path):
    bank.save_pretrained(tmp_path / "bank", dtype="float32")
    loaded = ProbeBank.from_pretrained(tmp_path / "bank")
    assert list(loaded) == list(bank)
    assert (loaded.encoder, loaded.fingerprint) == ("toy", bank.fingerprint)
    assert (loaded.training, loaded.environment) == (bank.training, bank.environment)
    assert loaded.mel_config == MelConfig()
    assert all(same_weights(bank[name], loaded[name]) for name in [*bank, "floor"])
    assert {"l1", "l2", "floor", "bank.json"} == {path.name for path in (tmp_path / "bank").iterdir()}


def test_round_trip_float16_is_small_and_loads_as_float32(bank, tmp_path):
    bank["l1"].input_mean.fill_(1e6)  # beyond float16: statistics stay in float32
    bank.save_pretrained(tmp_path / "half")
    stored = load_file(tmp_path / "half" / "l1" / "model.safetensors")
    assert stored["projection.weight"].dtype == torch.float16
    assert stored["input_mean"].dtype == torch.float32
    loaded = ProbeBank.from_pretrained(tmp_path / "half")
    assert {value.dtype for value in loaded["l1"].state_dict().values()} == {torch.float32}
    assert torch.equal(loaded["l1"].input_mean, bank["l1"].input_mean)
    assert torch.equal(loaded.floor.output_mean, bank.floor.output_mean)
    torch.testing.assert_close(loaded["l1"].projection.weight, bank["l1"].projection.weight, atol=1e-3, rtol=1e-3)
    probe = HighwayProbe.from_pretrained(tmp_path / "half", subfolder="l2")
    assert same_weights(probe, loaded["l2"])


def test_overflow_in_float16_is_refused_and_leaves_the_old_bank(bank, tmp_path):
    bank.save_pretrained(tmp_path / "bank")
    with torch.no_grad():
        bank["l2"].output.weight[0, 0] = 1e6
    with pytest.raises(BankError, match="float32"):
        bank.save_pretrained(tmp_path / "bank")
    assert len(ProbeBank.from_pretrained(tmp_path / "bank")) == 2
    assert {"l1", "l2", "floor", "bank.json"} == {path.name for path in (tmp_path / "bank").iterdir()}
    bank.save_pretrained(tmp_path / "bank", dtype="float32")
    with pytest.raises(ConfigError, match="bfloat16"):
        bank.save_pretrained(tmp_path / "bank", dtype="bfloat16")


def test_saving_over_a_bank_keeps_other_files(bank, encoder, tmp_path):
    folder = tmp_path / "bank"
    bank.save_pretrained(folder)
    (folder / "train_log.jsonl").write_text("{}\n")
    other = make_bank(encoder, seed=5)
    other.save_pretrained(folder, dtype="float32")
    assert same_weights(ProbeBank.from_pretrained(folder)["l1"], other["l1"])
    assert (folder / "train_log.jsonl").read_text() == "{}\n"
    assert not [path for path in folder.iterdir() if path.name.startswith(".bank-")]


def test_a_write_that_breaks_off_leaves_nothing_or_an_error(bank, encoder, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(bank_files, "write_probe", fail)
    with pytest.raises(OSError, match="disk full"):
        bank.save_pretrained(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    bank.save_pretrained(tmp_path / "new")
    renames = []

    def rename_twice(source, target, real=bank_files.os.rename):
        renames.append(target)
        if len(renames) == 3:
            raise OSError("killed")
        real(source, target)

    monkeypatch.setattr(bank_files.os, "rename", rename_twice)
    with pytest.raises(OSError, match="killed"):
        make_bank(encoder, seed=5).save_pretrained(tmp_path / "new")
    with pytest.raises(BankError, match="bank.json"):  # an error, not a mixture of two banks
        ProbeBank.from_pretrained(tmp_path / "new")


def test_only_some_layers(bank, tmp_path):
    bank.save_pretrained(tmp_path / "bank")
    shutil.rmtree(tmp_path / "bank" / "l2")
    assert list(ProbeBank.from_pretrained(tmp_path / "bank", layers=["l1"])) == ["l1"]
    with pytest.raises(BankError, match="l2"):
        ProbeBank.from_pretrained(tmp_path / "bank")
    with pytest.raises(LayerError, match="l1, l2"):
        ProbeBank.from_pretrained(tmp_path / "bank", layers=["l3"])


@pytest.mark.parametrize("file", ["l1/model.safetensors", "l1/config.json", "floor/model.safetensors", "bank.json"])
@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_damaged_files(bank, tmp_path, file, damage):
    bank.save_pretrained(tmp_path / "bank")
    path = tmp_path / "bank" / file
    path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BankError):
        ProbeBank.from_pretrained(tmp_path / "bank")


def test_layers_of_two_banks_do_not_mix(bank, encoder, tmp_path):
    bank.save_pretrained(tmp_path / "a")
    make_bank(encoder, seed=5).save_pretrained(tmp_path / "b")
    shutil.rmtree(tmp_path / "a" / "l1")
    shutil.copytree(tmp_path / "b" / "l1", tmp_path / "a" / "l1")
    with pytest.raises(BankError, match="another bank"):
        ProbeBank.from_pretrained(tmp_path / "a")


@pytest.mark.parametrize("name", ["../evil", "/etc", "a/b", "", ".", "..", "a\n", "x" * 65, 3, None])
def test_paths_in_the_index_are_not_trusted(bank, tmp_path, name):
    bank.save_pretrained(tmp_path / "bank")
    path = tmp_path / "bank" / "bank.json"
    index = json.loads(path.read_text())
    index["layers"][0] = name
    path.write_text(json.dumps(index))
    with pytest.raises(BankError):
        ProbeBank.from_pretrained(tmp_path / "bank")


@pytest.mark.parametrize(
    "change", [{"format_version": 2}, {"layers": []}, {"layers": "l1"}, {"sha256": {}}, {"mel": 0}]
)
def test_broken_index(bank, tmp_path, change):
    bank.save_pretrained(tmp_path / "bank")
    path = tmp_path / "bank" / "bank.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BankError):
        ProbeBank.from_pretrained(tmp_path / "bank")


def test_not_a_bank(tmp_path):
    with pytest.raises(BankError, match="bank.json"):
        ProbeBank.from_pretrained(tmp_path)
    with pytest.raises(BankError, match="folder or a Hugging Face repository"):
        ProbeBank.from_pretrained(tmp_path / "no" / "such" / "place")
    with pytest.raises(BankError, match="subfolder"):
        ProbeBank.from_pretrained(tmp_path, subfolder="../up")


def test_check_accepts_its_encoder_and_refuses_others(bank, toy, encoder):
    bank.check(encoder)
    with pytest.raises(BankError, match="other weights"):
        bank.check(toy.Encoder(seed=1))
    with pytest.raises(BankError, match="stride 640"):
        bank.check(toy.Encoder(strides=(160, 640)))
    with pytest.raises(BankError, match="no layer 'l2'"):
        bank.check(toy.Encoder(strides=(160,)))


def test_weights_changed_after_the_check_are_noticed(bank, encoder):
    bank.mels(encoder, torch.randn(1, 8000))
    with torch.no_grad():
        encoder.l1 += 1
    with pytest.raises(BankError, match="other weights"):
        bank.mels(encoder, torch.randn(1, 8000))


def test_mels_equal_the_probe_alone_with_one_pass(bank, encoder):
    waveforms, lengths = 0.1 * torch.randn(2, 8000), torch.tensor([8000, 4807])
    mels = bank.mels(encoder, waveforms, lengths, layers=["l1", "l2", "floor"])
    assert encoder.calls == 1 and list(mels) == ["l1", "l2", "floor"]
    silence = float(np.log(1e-10))
    for name, mel in mels.items():
        assert mel.shape == (2, 51, 80)
        assert (mel[1, 31:] == silence).all() and (mel[1, :31] != silence).any(dim=-1).all()
        alone = bank.mels(encoder, waveforms[1:, :4807], layers=[name])[name]
        torch.testing.assert_close(mel[1, :31], alone[0], atol=1e-4, rtol=1e-4)
    # 51 mel frames, 25 hidden frames of two: the last one is repeated.
    states = encoder(waveforms, lengths).hidden_states[1]
    torch.testing.assert_close(mels["l2"][0, :50], bank["l2"](states).mel[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(mels["l2"][0, 50], mels["l2"][0, 49])
    assert torch.equal(mels["floor"][0, 3], bank.floor.output_mean)


def test_reconstruct_gives_sound_of_the_same_length(bank, encoder):
    waveform = 0.1 * torch.randn(4807)
    sounds = bank.reconstruct(encoder, waveform, n_iter=2)
    assert list(sounds) == ["l1", "l2"]
    for sound in sounds.values():
        assert sound.shape == (4807,) and torch.isfinite(sound).all() and sound.abs().max() > 0
    again = bank.reconstruct(encoder, waveform.numpy(), layers=["l2"], n_iter=2)
    assert torch.equal(again["l2"], sounds["l2"])  # whichever other layers are asked for
    assert bank.reconstruct(encoder, waveform.expand(2, -1), layers="floor", n_iter=1)["floor"].shape == (
        2,
        4807,
    )
    with pytest.raises(LayerError):
        bank.reconstruct(encoder, waveform, layers=["l7"])
    with pytest.raises(ConfigError, match="samples"):
        bank.reconstruct(encoder, torch.zeros(1, 1, 8))


def test_encoder_is_given_back_in_its_mode(bank, encoder):
    encoder.train()
    bank.mels(encoder, torch.randn(1, 3200))
    assert encoder.training


def test_probes_with_different_mel_settings_are_refused(encoder):
    probe = HighwayProbe(HighwayProbeConfig(input_dim=4, stride=160, mel=MelConfig(n_mels=40), hidden_dim=4))
    with pytest.raises(BankError, match="mel settings"):
        ProbeBank({"l1": probe}, MeanProbe(MeanProbeConfig()))
    with pytest.raises(BankError):
        ProbeBank({}, MeanProbe(MeanProbeConfig()))


def test_default_card(bank):
    text = default_card(bank, "user/probes")
    assert ModelCard(text).data.library_name == "hfprobe"
    assert "| l2 | 40 | 320 |" in text and 'from_pretrained("user/probes")' in text and "{" not in text
