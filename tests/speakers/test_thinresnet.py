"""ThinResNet against the original's outputs, a slow GhostVLAD, librosa, and invariants that need no golden files."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hfprobe.speakers import load_speaker_encoder
from hfprobe.speakers.thinresnet import GhostVLAD, ThinResNet, spectrogram

SHARED = Path(os.environ.get("HFPROBE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
GOLDEN = SHARED / "golden" / "thin_resnet"
golden = pytest.mark.skipif(not (GOLDEN / "weights.h5").is_file(), reason=f"no {GOLDEN}; set HFPROBE_SHARED")


def wave(name):
    import soundfile

    sound, rate = soundfile.read(GOLDEN / f"wav_{name}.wav", dtype="float32")
    assert rate == 16000
    return torch.from_numpy(sound)


@pytest.fixture(scope="module")
def original():
    return load_speaker_encoder(f"thinresnet:{GOLDEN / 'weights.h5'}")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return ThinResNet().eval()


def close(found, expected, relative=1e-4):
    """Of the largest value: single values next to 0 have no relative error."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


@golden
@pytest.mark.parametrize("name", "ab")
def test_every_stage_equals_the_original(original, name):
    outputs, inputs = np.load(GOLDEN / "outputs.npz"), np.load(GOLDEN / "inputs.npz")
    sound = wave(name)
    head = torch.cat([sound, sound.flip(0)])[:64]
    close(head, inputs[f"wav_ext_{name}_head"], 1e-6)
    close(spectrogram(sound[None]), inputs[f"spec_{name}"][..., 0], 1e-5)
    activations, seen = [], {}
    hooks = [
        module.register_forward_hook(lambda m, i, output: activations.append(output.clone()))
        for module in original.modules()
        if isinstance(module, torch.nn.ReLU)
    ]
    for place in ("pool1", "pool2", "features", "assignment", "vlad", "bottleneck"):
        module = getattr(original, place)
        hooks.append(module.register_forward_hook(lambda m, i, output, place=place: seen.update({place: output})))
    embedding = original.embed(sound[None])
    for hook in hooks:
        hook.remove()
    assert len(activations) == 34 and original.last_failures == {}
    stages = {f"activation_{index}": value for index, value in enumerate(activations, 1)}
    stages["max_pooling2d_1"] = seen["pool1"]
    for stage, value in stages.items():
        value = value[0].permute(1, 2, 0)  # frequency, time, channels
        close(value.mean(dim=(0, 1)), outputs[f"{stage}_{name}_chmean"])
        # Of the map's largest value: a corner can be next to nothing.
        corner = outputs[f"{stage}_{name}_corner"]
        assert np.abs(value[:3, -3:, :8].numpy() - corner).max() <= 1e-5 * float(value.max())
    close(seen["pool2"].permute(0, 2, 3, 1), outputs[f"mpool2_{name}"])
    close(seen["features"].relu().permute(0, 2, 3, 1), outputs[f"x_fc_{name}"])
    close(seen["assignment"].permute(0, 2, 3, 1), outputs[f"gvlad_center_assignment_{name}"])
    close(seen["vlad"], outputs[f"gvlad_pool_{name}"])
    close(seen["bottleneck"].relu(), outputs[f"fc6_{name}"])
    close(embedding, outputs[f"embedding_{name}"], 2e-5)
    assert (embedding >= 0).all()


@golden
def test_batch_of_the_originals_clips_equals_the_original(original):
    outputs = np.load(GOLDEN / "outputs.npz")
    clips = [wave("a"), wave("b")]
    lengths = torch.tensor([len(clip) for clip in clips])
    waveforms = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=0.7)
    found = original.embed(waveforms, lengths).numpy()
    close(found, np.concatenate([outputs["embedding_a"], outputs["embedding_b"]]), 2e-5)


@pytest.mark.parametrize("n_samples", [400, 4001, 8000])
def test_spectrogram_equals_librosas(n_samples):
    librosa = pytest.importorskip("librosa")
    sound = 0.1 * np.random.default_rng(0).standard_normal(n_samples).astype("f")
    extended = np.append(sound, sound[::-1])
    magnitude = np.abs(librosa.stft(extended, n_fft=512, win_length=400, hop_length=160, pad_mode="reflect"))
    expected = (magnitude - magnitude.mean(0, keepdims=True)) / (magnitude.std(0, keepdims=True) + 1e-5)
    np.testing.assert_allclose(spectrogram(torch.from_numpy(sound)[None])[0], expected, atol=2e-5)


def test_ghost_vlad_equals_a_slow_one():
    torch.manual_seed(0)
    vlad = GhostVLAD()
    features, scores = torch.randn(2, 512, 5), 3 * torch.randn(2, 10, 5)
    expected = torch.zeros(2, 8, 512, dtype=torch.float64)
    centers = vlad.centers.detach().double()
    for clip in range(2):
        for frame in range(5):
            shares = torch.softmax(scores[clip, :, frame].double(), 0)
            for cluster in range(8):
                expected[clip, cluster] += shares[cluster] * (features[clip, :, frame].double() - centers[cluster])
    expected /= expected.norm(dim=2, keepdim=True)
    torch.testing.assert_close(vlad(features, scores).double(), expected.flatten(1), atol=1e-6, rtol=0)


def test_padding_and_company_change_nothing(encoder):
    torch.manual_seed(1)
    waveforms = 0.1 * torch.randn(4, 9000)
    lengths = torch.tensor([9000, 4321, 6000, 4321])
    together = encoder.embed(waveforms, lengths)
    alone = torch.cat([encoder.embed(waveforms[i : i + 1, :n]) for i, n in enumerate(lengths)])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)
    waveforms[1, 4321:] = 5.0
    torch.testing.assert_close(encoder.embed(waveforms, lengths), together, atol=2e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    assert (together[1] - together[3]).abs().max() > 1e-3  # equal length, other sound
    assert (together >= 0).all() and not together.requires_grad


def test_small_passes_equal_one_large_one(encoder, monkeypatch):
    from hfprobe.speakers import whole

    torch.manual_seed(2)
    waveforms = 0.1 * torch.randn(3, 3000)
    expected = encoder.embed(waveforms)
    monkeypatch.setattr(whole, "BATCH_SAMPLES", 1)
    torch.testing.assert_close(encoder.embed(waveforms), expected, atol=2e-6, rtol=0)


def test_what_cannot_be_embedded_is_nan_with_a_reason(encoder):
    torch.manual_seed(3)
    waveforms = 0.1 * torch.randn(6, 3000)
    waveforms[0] = 0.0
    waveforms[1, 5] = torch.nan
    waveforms[2, 7] = torch.inf
    lengths = torch.tensor([3000, 3000, 3000, 0, 399, 400])
    before = waveforms.clone()
    found = encoder.embed(waveforms, lengths)
    assert encoder.last_failures == {0: "silent", 1: "not finite", 2: "not finite", 3: "empty", 4: "too short"}
    assert torch.isnan(found[:5]).all() and torch.isfinite(found[5]).all()
    torch.testing.assert_close(waveforms, before, rtol=0, atol=0, equal_nan=True)
    encoder.embed(waveforms[5:])
    assert encoder.last_failures == {}
    # Samples behind a clip's end do not make it a failure.
    assert torch.isfinite(encoder.embed(waveforms[1:2, :].nan_to_num(9.0), torch.tensor([2000]))).all()


def test_a_vector_of_zeros_has_no_direction():
    network = ThinResNet().eval()
    with torch.no_grad():
        network.bottleneck.weight.zero_()
        network.bottleneck.bias.fill_(-1.0)
    assert torch.isnan(network.embed(torch.rand(2, 800) - 0.5)).all()
    assert network.last_failures == dict.fromkeys(range(2), "the network gave no direction")


def test_no_clips(encoder):
    assert encoder.embed(torch.empty(0, 800)).shape == (0, 512)
    assert encoder.last_failures == {}
