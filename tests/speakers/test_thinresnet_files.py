"""The converter of Keras' weights: what goes in comes out, and what does not belong is refused in one line."""

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hfprobe.errors import EncoderError
from hfprobe.speakers import load_speaker_encoder
from hfprobe.speakers.convert import main
from hfprobe.speakers.keras_weights import TRAINABLE, keras_names, keras_shape, read_keras
from hfprobe.speakers.thinresnet import ThinResNet


def random_network(seed=0):
    """A network with random weights whose activations stay sane."""
    torch.manual_seed(seed)
    network = ThinResNet().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network


def keras_arrays(network):
    """Arrays in Keras' order of axes, by layer and full weight name, in the order of the layers."""
    state, layers = network.state_dict(), {}
    for (layer, weight), ours in keras_names().items():
        array = state[ours].numpy()
        if weight == "kernel":
            array = np.transpose(array, (2, 3, 1, 0) if array.ndim == 4 else (1, 0))
        assert array.shape == keras_shape(weight, tuple(state[ours].shape))
        layers.setdefault(layer, {})[f"{layer}/{weight}:0"] = array
    return layers


def write_keras(path, layers):
    """Layer names with slashes nest, as in the original."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in ("input_1", *layers)]
        file.create_group("input_1").attrs["weight_names"] = np.array([])
        for layer, weights in layers.items():
            group = file.require_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                group.create_dataset(name, data=array)
    return path


@pytest.fixture(scope="module")
def network():
    return random_network()


@pytest.fixture(scope="module")
def layers(network):
    return keras_arrays(network)


@pytest.fixture(scope="module")
def file(layers, tmp_path_factory):
    return write_keras(tmp_path_factory.mktemp("keras") / "weights.h5", layers)


def refused(path, *words):
    with pytest.raises(EncoderError) as error:
        load_speaker_encoder(f"thinresnet:{path}")
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_the_table_names_every_weight_once(network):
    wanted = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    assert sorted(keras_names().values()) == sorted(wanted)
    assert len(keras_names()) == 197 and sum(p.numel() for p in network.parameters()) == TRAINABLE


def test_what_was_written_is_read(network, file):
    state = read_keras(file)
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(state[key], value, rtol=0, atol=0)
    encoder = load_speaker_encoder(f"thinresnet:{file}")
    sound = 0.1 * torch.randn(1, 4000)
    torch.testing.assert_close(encoder.embed(sound), network.embed(sound), rtol=0, atol=0)
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())


def test_converted_file_gives_the_same_embeddings(network, file, tmp_path, capsys):
    target = tmp_path / "new" / "weights.safetensors"
    assert main([str(file), str(target)]) == 0
    assert f"{TRAINABLE:,}" in capsys.readouterr().out
    sound = 0.1 * torch.randn(1, 4000)
    found = load_speaker_encoder(f"thinresnet:{target}").embed(sound)
    torch.testing.assert_close(found, network.embed(sound), rtol=0, atol=0)
    state = load_file(target)
    state.pop("vlad.centers")
    save_file(state, tmp_path / "less.safetensors")
    refused(tmp_path / "less.safetensors", "vlad.centers")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    refused(tmp_path / "broken.safetensors", "broken.safetensors")


def test_a_classifier_over_training_speakers_is_left_out(layers, tmp_path):
    more = layers | {"prediction": {"prediction/kernel:0": np.zeros((512, 7), "f")}}
    assert len(read_keras(write_keras(tmp_path / "w.h5", more))) == 197


def test_model_save_keeps_weights_in_a_group(file, tmp_path):
    with h5py.File(file) as source, h5py.File(tmp_path / "model.h5", "w") as target:
        source.copy(source["/"], target, "model_weights")
    assert len(read_keras(tmp_path / "model.h5")) == 197


def test_missing_surplus_and_wrong_shapes_are_named(layers, tmp_path):
    less = {name: weights for name, weights in layers.items() if name != "conv3_b_3x3/bn"}
    refused(write_keras(tmp_path / "less.h5", less), "4 missing", "conv3_b_3x3/bn: gamma")
    more = layers | {"conv6": {"conv6/kernel:0": np.zeros((1, 1, 2, 2), "f")}}
    refused(write_keras(tmp_path / "more.h5", more), "1 surplus", "conv6")
    centers = {"gvlad_pool/centers:0": np.zeros((12, 512), "f")}  # 10 clusters, main.py's default
    refused(write_keras(tmp_path / "ten.h5", layers | {"gvlad_pool": centers}), "(12, 512)", "centers")
    bad = {"gvlad_pool/centers:0": np.full((10, 512), np.nan, "f")}
    refused(write_keras(tmp_path / "nan.h5", layers | {"gvlad_pool": bad}), "finite", "centers")


def test_links_to_other_files_are_not_followed(layers, tmp_path):
    less = {name: weights for name, weights in layers.items() if name != "gvlad_pool"}
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["centers"] = np.zeros((10, 512), "f")
    path = write_keras(tmp_path / "links.h5", less)
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = np.append(np.asarray(file.attrs["layer_names"], "S"), b"gvlad_pool")
        group = file.create_group("gvlad_pool")
        group.attrs["weight_names"] = [b"gvlad_pool/centers:0"]
        group["gvlad_pool/centers:0"] = h5py.ExternalLink("other.h5", "centers")
    refused(path, "centers")
    np.zeros(5120, "f").tofile(tmp_path / "raw.bin")
    with h5py.File(path, "a") as file:
        del file["gvlad_pool/gvlad_pool/centers:0"]
        file["gvlad_pool"].create_dataset(
            "gvlad_pool/centers:0", (10, 512), "f", external=[(str(tmp_path / "raw.bin"), 0, 20480)]
        )
    refused(path, "centers")


def test_other_files_are_refused(tmp_path):
    refused(tmp_path / "none.h5", "none.h5", "VGG-Speaker-Recognition")
    (tmp_path / "broken.h5").write_bytes(b"not HDF5")
    refused(tmp_path / "broken.h5", "broken.h5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    refused(tmp_path / "empty.h5", "empty.h5")
    (tmp_path / "weights.pt").write_bytes(b"")
    refused(tmp_path / "weights.pt", ".h5")
    with pytest.raises(EncoderError, match="thinresnet:weights.h5"):
        load_speaker_encoder("thinresnet")


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path / "none.h5"), str(tmp_path / "out.safetensors")]) == 1
    assert "none.h5" in capsys.readouterr().err
    assert main(["weights.h5", str(tmp_path / "out.pt")]) == 1
    assert main(["weights.txt", str(tmp_path / "out.safetensors")]) == 1
    assert main([str(tmp_path / "none.bin"), str(tmp_path / "out.safetensors")]) == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
