"""Experiment folders: what is found, what is refused, what random weights leave alone."""

from __future__ import annotations

import os
import pickle
import shutil

import pytest
import torch
import yaml
from espnet_stock import speechlike
from safetensors.torch import save_file

from hfprobe.encoders.espnet.experiment import find_weights
from hfprobe.encoders.espnet.loading import load_espnet
from hfprobe.errors import EncoderError


def rewrite(experiment, **changes) -> None:
    config = {**experiment.config, **changes}
    (experiment.folder / "config.yaml").write_text(yaml.safe_dump(config))


def save(experiment, state, name: str = "valid.loss.best.pth") -> None:
    torch.save(state, experiment.folder / name)


def test_loads_in_eval_mode_with_every_weight(experiment):
    encoder = load_espnet(experiment.folder)
    assert not encoder.training and encoder.name == experiment.folder.name
    stored = experiment.state_dict()
    assert encoder.state_dict().keys() == stored.keys()
    assert all(torch.equal(value, stored[key]) for key, value in encoder.state_dict().items())


def test_missing_surplus_and_misshapen_weights_are_named(experiment):
    state = experiment.state_dict()
    moved = state.pop("encoder.enc.0.bt1.bias")
    state["encoder.enc.0.bt9.bias"] = moved
    state["ctc.ctc_lo.bias"] = torch.zeros(3)
    save(experiment, state)
    with pytest.raises(EncoderError) as caught:
        load_espnet(experiment.folder)
    message = str(caught.value)
    assert "1 missing: encoder.enc.0.bt1.bias" in message
    assert "1 surplus: encoder.enc.0.bt9.bias" in message
    assert "1 of another shape: ctc.ctc_lo.bias (3,) instead of (8,)" in message
    assert "\n" not in message


def test_the_decoder_is_left_out(experiment):
    save(experiment, {**experiment.state_dict(), "decoder.embed.weight": torch.zeros(2, 2)})
    load_espnet(experiment.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder": "longformer"},
            "encoder 'longformer' .* supported are branchformer, conformer, e_branchformer, rnn, transformer, vgg_rnn",
        ),
        ({"frontend": "s3prl"}, "frontend 's3prl' .* supported are default, delta"),
        ({"frontend": None}, "frontend None .* supported are default, delta"),
        ({"normalize": "layer"}, "normalize 'layer' .* supported are global_mvn, utterance_mvn, none"),
        ({"preencoder": "linear"}, "preencoder 'linear' .* not supported"),
        ({"frontend_conf": {"fs": ""}}, "frontend_conf .* does not fit .*Failed to parse size"),
        ({"encoder_conf": {"num_blocks": 3}}, "encoder_conf .* does not fit RNNEncoder: .*num_blocks"),
        ({"encoder_conf": {"rnn_type": "rwkv"}}, "encoder_conf .* does not fit RNNEncoder: .*rwkv"),
        ({"encoder_conf": {"num_layers": "many"}}, "encoder_conf .* does not fit RNNEncoder"),
        ({"frontend_conf": {"fs": 8000, "hop_length": 160}}, "for 16000 Hz, got 8000 Hz"),
        ({"frontend_conf": {"hop_length": 160, "center": False}}, "center: false"),
        ({"frontend_conf": {"frontend_conf": {"use_wpe": True}}}, "WPE or beamformer"),
        ({"token_list": None}, "expected a token_list"),
        ({"token_list": "tokens.txt"}, "put 'tokens.txt' there"),
    ],
)
def test_unsupported_configurations_say_what_is_supported(experiment, changes, message):
    rewrite(experiment, **changes)
    with pytest.raises(EncoderError, match=message):
        load_espnet(experiment.folder)


def test_token_list_may_be_a_file(experiment):
    (experiment.folder / "tokens.txt").write_text("\n".join(experiment.config["token_list"]) + "\n")
    rewrite(experiment, token_list="tokens.txt")
    assert load_espnet(experiment.folder).text.tokens == tuple(experiment.config["token_list"])


def test_a_model_without_ctc_has_states_but_no_text(experiment):
    rewrite(experiment, model_conf={"ctc_weight": 0.0})
    save(experiment, {key: v for key, v in experiment.state_dict().items() if not key.startswith("ctc.")})
    encoder = load_espnet(experiment.folder)
    waveforms = speechlike(3000)[0][None]
    assert encoder(waveforms).logits is None
    with pytest.raises(EncoderError, match="no recognition head"):
        encoder.transcribe(waveforms)


def test_half_precision_on_disk_becomes_single(experiment):
    stored = experiment.state_dict()
    save(experiment, {key: v.half() if key.startswith("encoder.") else v for key, v in stored.items()})
    encoder = load_espnet(experiment.folder)
    assert all(value.dtype == torch.float32 for value in encoder.state_dict().values())
    assert torch.equal(encoder.encoder.enc[0].bt0.weight, stored["encoder.enc.0.bt0.weight"].half().float())
    assert encoder(speechlike(3000)[0][None]).last_hidden_state.dtype == torch.float32


def test_order_of_weight_files(experiment):
    folder = experiment.folder
    (folder / "valid.loss.best.pth").unlink()
    order = ["checkpoint.pth", "other.pth", "9epoch.pth", "10epoch.pth", "valid.loss.best.pth"]
    order += ["valid.loss.ave_3best.pth", "model.safetensors"]
    with pytest.raises(EncoderError, match="expected weights in .*, found none"):
        find_weights(folder)
    for name in order:
        (folder / name).write_bytes(b"x")
        # The order goes before the age.
        os.utime(folder / name, (1000 - len(name), 1000 - len(name)))
        if name == "checkpoint.pth":
            with pytest.raises(EncoderError, match="found none"):
                find_weights(folder)
        else:
            assert find_weights(folder).name == name
    (folder / "model.safetensors").unlink()
    (folder / "valid.acc.ave.pth").write_bytes(b"x")
    os.utime(folder / "valid.acc.ave.pth", (2000, 2000))
    assert find_weights(folder).name == "valid.acc.ave.pth"


def test_one_weight_file_of_many_by_name_or_by_path(experiment):
    changed = experiment.state_dict()
    changed["encoder.enc.0.bt0.bias"] += 1.0
    save(experiment, changed, "3epoch.pth")
    best = load_espnet(experiment.folder)
    by_name = load_espnet(experiment.folder, weights="3epoch.pth")
    by_path = load_espnet(experiment.folder / "3epoch.pth")
    assert by_name.fingerprint == by_path.fingerprint != best.fingerprint
    with pytest.raises(EncoderError, match="expected the weights 4epoch.pth .* found: 3epoch.pth, valid"):
        load_espnet(experiment.folder, weights="4epoch.pth")


def test_safetensors_give_the_same_encoder(experiment):
    best = load_espnet(experiment.folder)
    save_file(
        {key: value.contiguous() for key, value in experiment.state_dict().items()},
        experiment.folder / "model.safetensors",
    )
    (experiment.folder / "valid.loss.best.pth").unlink()
    assert load_espnet(experiment.folder).fingerprint == best.fingerprint


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("kind", ["garbage", "empty", "cut", "pickle", "checkpoint"])
def test_damaged_and_dangerous_files_are_refused(experiment, kind, monkeypatch, tmp_path_factory):
    file = experiment.folder / "valid.loss.best.pth"
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    content = {
        "garbage": b"not a model",
        "empty": b"",
        "cut": file.read_bytes()[:2000],
        "pickle": pickle.dumps(Bomb(), protocol=2),
    }
    if kind == "checkpoint":
        torch.save({"model": experiment.state_dict(), "epoch": 3}, file)
    else:
        file.write_bytes(content[kind])
    with pytest.raises(EncoderError, match="valid.loss.best.pth") as caught:
        load_espnet(experiment.folder)
    assert "\n" not in str(caught.value)
    assert not os.path.exists("exploded")


def test_random_weights_keep_shape_features_and_the_callers_generator(experiment):
    trained = load_espnet(experiment.folder)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = (load_espnet(experiment.folder, random_init=True, seed=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    other = load_espnet(experiment.folder, random_init=True, seed=2)
    assert first.layers == trained.layers
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, other.fingerprint, trained.fingerprint}) == 3
    assert first.name == f"{trained.name}-random1"
    waveforms, lengths = torch.stack(speechlike(3000)), torch.tensor([3000])
    assert torch.equal(first.features(waveforms, lengths)[0], trained.features(waveforms, lengths)[0])
    assert not torch.equal(first.encoder.enc[0].bt0.weight, trained.encoder.enc[0].bt0.weight)


def test_unpacked_archive_layout(experiment, tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    inner = root / "exp" / "asr_train"
    shutil.copytree(experiment.folder, inner)
    (inner / "valid.loss.best.pth").rename(inner / "valid.acc.ave_10best.pth")
    meta = {
        "espnet": "202511",
        "files": {"asr_model_file": "exp/asr_train/valid.acc.ave_10best.pth"},
        "yaml_files": {"asr_train_config": "exp/asr_train/config.yaml"},
    }
    (root / "meta.yaml").write_text(yaml.safe_dump(meta))
    encoder = load_espnet(root)
    assert encoder.name == root.name
    assert encoder.fingerprint == load_espnet(experiment.folder).fingerprint


@pytest.mark.parametrize(("text", "message"), [("a: [1", "expected YAML"), ("- 1\n", "a mapping .* got list")])
def test_a_broken_configuration_is_reported(experiment, text, message):
    (experiment.folder / "config.yaml").write_text(text)
    with pytest.raises(EncoderError, match=message):
        load_espnet(experiment.folder)
