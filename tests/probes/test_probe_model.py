"""The Highway probe: what it sees, what it saves, what it refuses."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel

from hfprobe.audio import MelConfig, mel_spectrogram
from hfprobe.errors import BankError, ConfigError
from hfprobe.probes import HighwayProbe, HighwayProbeConfig, LinearProbe, LinearProbeConfig, MeanProbe, MeanProbeConfig
from hfprobe.probes.losses import frame_mask, masked_l1, mel_targets, pack_frames
from hfprobe.probes.modeling import load_layer_probe


def make(stride=640, **kwargs):
    torch.manual_seed(0)
    probe = HighwayProbe(HighwayProbeConfig(input_dim=12, layer="blstm1", stride=stride, hidden_dim=16, **kwargs))
    probe.input_mean.normal_(3, 1)
    probe.input_std.uniform_(0.1, 4)
    probe.output_mean.normal_(-5, 2)
    probe.output_std.uniform_(1, 3)
    return probe


def reference_mel(probe, frames):
    """The equations of the two papers, written out with nothing folded or fused."""
    config = probe.config
    x = (frames - probe.input_mean) / probe.input_std
    x = nn.functional.linear(x, probe.projection.weight, probe.projection.bias)
    x = x.reshape(*frames.shape[:-1], config.upsampling, config.hidden_dim)
    for highway in probe.highways:
        transform, gate = highway.linear.weight.split(config.hidden_dim)
        transform_bias, gate_bias = highway.linear.bias.split(config.hidden_dim)
        g = 1 / (1 + torch.exp(-(x @ gate.T + gate_bias)))
        x = g * (x @ transform.T + transform_bias).clamp(min=0) + (1 - g) * x
    return (x @ probe.output.weight.T + probe.output.bias) * probe.output_std + probe.output_mean


@pytest.mark.parametrize("stride", [160, 320, 640])
def test_forward_is_the_papers_equations(stride):
    probe = make(stride)
    hidden = 3 + 2 * torch.randn(2, 5, 12)
    expected = reference_mel(probe, hidden).reshape(2, 5 * stride // 160, 80)
    torch.testing.assert_close(probe(hidden).mel, expected, atol=2e-4, rtol=1e-5)


@given(st.integers(0, 6), st.sampled_from([160, 320, 640]))
@settings(max_examples=15, deadline=None)
def test_one_hidden_frame_moves_its_own_mel_frames_only(frame, stride):
    probe, up = make(stride), stride // 160
    hidden = torch.randn(2, 7, 12)
    moved = hidden.clone()
    moved[1, frame] += 1.0
    changed = (probe(hidden).mel != probe(moved).mel).any(dim=-1)
    expected = torch.zeros(2, 7 * up, dtype=torch.bool)
    expected[1, frame * up : (frame + 1) * up] = True
    assert torch.equal(changed, expected)


def test_gradient_flows_to_one_hidden_frame_only():
    hidden = torch.randn(1, 4, 12, requires_grad=True)
    make()(hidden).mel[0, 5].sum().backward()
    assert (hidden.grad.abs().sum(-1)[0] > 0).tolist() == [False, True, False, False]


def test_initial_gate_bias_is_minus_one():
    for highway in make().highways:
        assert highway.linear.bias.tolist() == [0.0] * 16 + [-1.0] * 16
        assert highway.linear.weight.abs().sum() > 0


def test_loss_is_the_masked_mean():
    probe = make(320)
    hidden, labels = torch.randn(2, 5, 12), torch.randn(2, 9, 80)
    labels[1, 5:] = float("nan")  # padding: hidden length 4 allows 8, label length 5 allows 5
    labels[0, 6:] = float("nan")  # hidden length 3 allows 6
    out = probe(hidden, torch.tensor([3, 4]), labels, torch.tensor([9, 5]))
    assert out.mel.shape == (2, 9, 80)
    errors = torch.cat([(out.mel[0, :6] - labels[0, :6]).abs(), (out.mel[1, :5] - labels[1, :5]).abs()])
    torch.testing.assert_close(out.loss, errors.mean())
    out.loss.backward()
    assert all(torch.isfinite(value.grad).all() for value in probe.parameters())


def test_packed_loss_equals_padded_loss():
    probe = make(640)
    hidden, labels = torch.randn(3, 6, 12), torch.randn(3, 21, 80)
    hidden_lengths, label_lengths = torch.tensor([6, 2, 4]), torch.tensor([21, 8, 13])
    packed = pack_frames(hidden, hidden_lengths, labels, label_lengths, 4)
    assert packed.frames.shape == (12, 12)
    loss = masked_l1(probe.frames_to_mel(packed.frames), packed.target, packed.mask)
    torch.testing.assert_close(loss, probe(hidden, hidden_lengths, labels, label_lengths).loss)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), min_size=1, max_size=4), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_packed_choice_takes_valid_frames_once_with_their_own_target(lengths, mel_frames):
    hidden_lengths, mel_lengths = (torch.tensor(column) for column in zip(*lengths, strict=True))
    n_clips = len(lengths)
    # Every value names its clip and time, so that a wrong pairing shows.
    clip = 1000.0 * torch.arange(n_clips).view(-1, 1, 1)
    hidden = (clip + torch.arange(9).view(1, -1, 1)).expand(n_clips, 9, 2)
    mel = (clip + torch.arange(20).view(1, -1, 1)).expand(n_clips, 20, 3)
    packed = pack_frames(hidden, hidden_lengths, mel, mel_lengths, 2, mel_frames, torch.Generator().manual_seed(1))
    names = packed.frames[:, 0].tolist()
    valid = [min(h, -(-m // 2)) for h, m in lengths]
    assert len(names) == len(set(names)) == min(sum(valid), max(1, mel_frames // 2))
    for name, target, mask in zip(names, packed.target, packed.mask, strict=True):
        which, frame = int(name) // 1000, int(name) % 1000
        assert frame < valid[which]
        assert mask.tolist() == [2 * frame < mel_lengths[which], 2 * frame + 1 < mel_lengths[which]]
        assert (target[mask] == 1000 * which + 2 * frame + torch.arange(2.0)[mask].unsqueeze(1)).all()


def test_target_of_padded_batch_is_that_of_each_clip():
    waveforms, lengths = torch.randn(2, 8000), torch.tensor([8000, 5003])
    mel, counts = mel_targets(waveforms, lengths, MelConfig())
    assert counts.tolist() == [51, 32]
    torch.testing.assert_close(mel[1, :32], mel_spectrogram(waveforms[1, :5003]), atol=1e-4, rtol=1e-4)
    assert frame_mask(counts, mel).sum().item() == 83


@pytest.mark.parametrize("stride", [100, 240, 0, -160, 2.5, True])
def test_stride_must_be_a_multiple_of_the_hop(stride):
    with pytest.raises(ConfigError):
        HighwayProbeConfig(input_dim=4, stride=stride)


@pytest.mark.parametrize("name", ["input_dim", "hidden_dim", "num_layers"])
@pytest.mark.parametrize("value", [0, "12", 1.5, True])
def test_widths_are_checked(name, value):
    with pytest.raises(ConfigError, match=name):
        HighwayProbeConfig(**{name: value})


def test_wrong_shapes_are_explained():
    probe = make()
    with pytest.raises(ConfigError, match="batch, frames, 12"):
        probe(torch.zeros(1, 3, 13))
    with pytest.raises(ConfigError, match="labels"):
        probe(torch.zeros(1, 3, 12), labels=torch.zeros(1, 12, 40))


def test_round_trip_keeps_everything(tmp_path):
    probe = make()
    probe.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    for loaded in (HighwayProbe.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is HighwayProbe and not loaded.training
        for name, value in probe.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.mel_config, config.stride, config.layer) == (MelConfig(), 640, "blstm1")


def test_other_mel_settings_travel_with_the_probe(tmp_path):
    mel = MelConfig(n_mels=40, hop_length=80, win_length=320)
    HighwayProbe(HighwayProbeConfig(input_dim=4, stride=320, mel=mel, hidden_dim=4)).save_pretrained(tmp_path)
    loaded = HighwayProbe.from_pretrained(tmp_path)
    assert loaded.config.mel_config == mel
    assert loaded(torch.zeros(1, 2, 4)).mel.shape == (1, 8, 40)


def test_half_precision_files_load_as_float32(tmp_path):
    probe = make().half()
    probe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
    assert {value.dtype for value in HighwayProbe.from_pretrained(tmp_path).state_dict().values()} == {torch.float32}
    assert AutoModel.from_pretrained(tmp_path).dtype == torch.float32
    assert HighwayProbe.from_pretrained(tmp_path, dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("name", ["input_mean", "output_std", "highways.2.linear.weight"])
def test_missing_weights_raise(tmp_path, name):
    make().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state[name]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BankError, match=name):
        HighwayProbe.from_pretrained(tmp_path)


def test_broken_files_raise(tmp_path):
    make().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    path = tmp_path / "model.safetensors"
    save_file({**state, "extra": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(BankError, match="extra"):
        HighwayProbe.from_pretrained(tmp_path)
    save_file({**state, "output.weight": torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    with pytest.raises(BankError, match="output.weight"):
        HighwayProbe.from_pretrained(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BankError):
        HighwayProbe.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(BankError):
        HighwayProbe.from_pretrained(tmp_path)


def test_mean_probe_has_the_same_interface(tmp_path):
    probe = MeanProbe(MeanProbeConfig(stride=320))
    probe.output_mean.copy_(torch.arange(80.0))
    labels = torch.zeros(2, 9, 80)
    out = probe(torch.randn(2, 5, 7), torch.tensor([5, 3]), labels)
    assert out.mel.shape == (2, 9, 80)
    assert out.loss.item() == pytest.approx(39.5)
    probe.save_pretrained(tmp_path)
    assert torch.equal(MeanProbe.from_pretrained(tmp_path).output_mean, torch.arange(80.0))


@pytest.mark.parametrize("stride", [160, 640])
def test_linear_probe_is_one_affine_map(stride, tmp_path):
    torch.manual_seed(3)
    probe = LinearProbe(LinearProbeConfig(input_dim=12, layer="blstm1", stride=stride)).eval()
    for name in ("input_mean", "output_mean"):
        getattr(probe, name).normal_()
    for name in ("input_std", "output_std"):
        getattr(probe, name).uniform_(0.5, 2)
    hidden, up = 3 + 2 * torch.randn(2, 5, 12), stride // 160
    weight, bias = (value.detach().double() for value in (probe.projection.weight, probe.projection.bias))
    normal = (hidden.double() - probe.input_mean) / probe.input_std
    expected = (normal @ weight.T + bias).reshape(2, 5 * up, 80) * probe.output_std + probe.output_mean
    torch.testing.assert_close(probe(hidden).mel.double(), expected, atol=1e-4, rtol=1e-5)
    # Affine: the value at a mean of inputs is the mean of the values.
    half = probe(hidden.mean(0, keepdim=True)).mel
    torch.testing.assert_close(half, probe(hidden).mel.mean(0, keepdim=True), atol=1e-4, rtol=1e-4)
    probe.save_pretrained(tmp_path)
    loaded = [AutoModel.from_pretrained(tmp_path), LinearProbe.from_pretrained(tmp_path), load_layer_probe(tmp_path)]
    assert all(type(each) is LinearProbe and torch.equal(each(hidden).mel, probe(hidden).mel) for each in loaded)
    with pytest.raises(BankError):
        HighwayProbe.from_pretrained(tmp_path)


def test_a_layer_of_an_unknown_kind_is_refused(tmp_path):
    MeanProbe(MeanProbeConfig()).save_pretrained(tmp_path)
    with pytest.raises(BankError, match="hfprobe-highway, hfprobe-linear.*got 'hfprobe-mean'"):
        load_layer_probe(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(BankError, match="expected the configuration"):
        load_layer_probe(tmp_path)
