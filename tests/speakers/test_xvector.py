"""Transformers' ...ForXVector with tiny models from configurations, saved to a folder and loaded strictly."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hfprobe.errors import EncoderError
from hfprobe.hub.download import Snapshot
from hfprobe.speakers import fetch, load_speaker_encoder, speaker_encoders
from hfprobe.speakers.convert import main
from hfprobe.speakers.xvector import FAMILIES, SHORT_NAMES

TINY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 2), "conv_stride": (5, 4, 4), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "tdnn_dim": (16, 16, 24), "tdnn_kernel": (5, 3, 1),
    "tdnn_dilation": (1, 2, 1), "xvector_output_dim": 12, "num_labels": 7, "use_weighted_layer_sum": True,
}  # fmt: skip
# Samples that leave two frames after all convolutions: 10 frames, 41, 163 (+ 1), 820 ... computed by hand.
MIN_SAMPLES = ((10 - 1) * 4 + 2 - 1) * 4 + 3
MIN_SAMPLES = (MIN_SAMPLES - 1) * 5 + 10


def make(kind, folder, processor=None, **options):
    from transformers import AutoConfig, AutoModelForAudioXVector

    torch.manual_seed(1)
    model = AutoModelForAudioXVector.from_config(AutoConfig.for_model(kind, **(TINY | options))).eval()
    model.save_pretrained(folder)
    settings = {"do_normalize": False, "sampling_rate": 16000} if processor is None else processor
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return make(request.param, folder), load_speaker_encoder(f"hf:{folder}"), folder


@pytest.fixture
def folder(tmp_path):
    make("wavlm", tmp_path / "m")
    return tmp_path / "m"


def clips():
    torch.manual_seed(0)
    return 0.1 * torch.randn(4, 6000) + 0.02, torch.tensor([6000, 3000, 4500, 3000])


def test_equals_the_librarys_model(pair):
    model, encoder, folder = pair
    waveforms, _ = clips()
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model(waveforms).embeddings)
    torch.testing.assert_close(encoder.embed(waveforms), expected, atol=1e-6, rtol=0)
    assert encoder.dim == 12 and encoder.name == f"hf:{folder.name}"


def test_equals_the_librarys_feature_extractor(tmp_path):
    from transformers import Wav2Vec2FeatureExtractor

    model = make("wavlm", tmp_path, {"do_normalize": True})
    waveforms, _ = clips()
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    for clip in waveforms[:2]:
        values = extractor(clip.numpy(), sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            expected = torch.nn.functional.normalize(model(values).embeddings)
        found = load_speaker_encoder(f"hf:{tmp_path}").embed(clip[None])
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_padding_and_company_change_nothing(pair):
    _, encoder, _ = pair
    waveforms, lengths = clips()
    together = encoder.embed(waveforms, lengths)
    alone = torch.cat([encoder.embed(waveforms[i : i + 1, :n]) for i, n in enumerate(lengths)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    waveforms[1, 3000:] = 3.0
    torch.testing.assert_close(encoder.embed(waveforms, lengths), together, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))


def test_failures_are_counted(pair, recwarn):
    _, encoder, _ = pair
    assert encoder.min_samples == MIN_SAMPLES
    waveforms, _ = clips()
    waveforms[0] = 0
    waveforms[1, 3] = torch.nan
    found = encoder.embed(waveforms, torch.tensor([6000, 6000, 0, MIN_SAMPLES - 1]))
    assert encoder.last_failures == {0: "silent", 1: "not finite", 2: "empty", 3: "too short"}
    assert torch.isnan(found).all()
    assert torch.isfinite(encoder.embed(waveforms[3:, :MIN_SAMPLES])).all()
    assert not [w for w in recwarn if "degrees of freedom" in str(w.message)]


def test_classifier_and_old_spellings_do_not_matter(folder):
    encoder = load_speaker_encoder(f"hf:{folder}")
    state = load_file(folder / "model.safetensors")
    old = {}
    for key, value in state.items():
        if key.startswith(("classifier.", "objective.")):
            continue
        key = key.replace("parametrizations.weight.original0", "weight_g")
        old[key.replace("parametrizations.weight.original1", "weight_v")] = value
    assert len(old) < len(state) and any(key.endswith("weight_g") for key in old)
    save_file(old, folder / "model.safetensors")
    waveforms, _ = clips()
    found = load_speaker_encoder(f"hf:{folder}").embed(waveforms)
    torch.testing.assert_close(found, encoder.embed(waveforms), rtol=0, atol=0)


def test_weights_that_do_not_fit_are_refused(folder):
    state = load_file(folder / "model.safetensors")
    removed = state.pop("projector.weight")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(EncoderError, match="projector.weight"):
        load_speaker_encoder(f"hf:{folder}")
    save_file(state | {"projector.weight": removed[:1].clone()}, folder / "model.safetensors")
    with pytest.raises(EncoderError, match="projector.weight"):
        load_speaker_encoder(f"hf:{folder}")
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(EncoderError, match="truncated or not safetensors"):
        load_speaker_encoder(f"hf:{folder}")


def test_pickles_are_not_read_but_can_be_converted(folder, capsys):
    waveforms, _ = clips()
    expected = load_speaker_encoder(f"hf:{folder}").embed(waveforms)
    state = load_file(folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="convert"):
        load_speaker_encoder(f"hf:{folder}")
    assert main([str(folder / "pytorch_model.bin"), str(folder / "model.safetensors")]) == 0
    assert f"{len(state)} tensors" in capsys.readouterr().out
    torch.testing.assert_close(load_speaker_encoder(f"hf:{folder}").embed(waveforms), expected, rtol=0, atol=0)
    torch.save(Exception("an object"), folder / "pytorch_model.bin")
    assert main([str(folder / "pytorch_model.bin"), str(folder / "other.safetensors")]) == 1
    assert not (folder / "other.safetensors").exists()


def test_an_index_cannot_lead_elsewhere(folder):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    for name in ("../outside.safetensors", "pytorch_model.bin"):
        (folder / "pytorch_model.bin").write_bytes(b"")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(EncoderError, match="beside"):
            load_speaker_encoder(f"hf:{folder}")


@pytest.mark.parametrize(
    "file,content,match",
    [
        ("config.json", {"model_type": "bert"}, "bert"),
        ("config.json", {"model_type": "wav2vec2-bert"}, "wav2vec2-bert"),
        ("config.json", [], "dictionary"),
        ("config.json", {"model_type": "wavlm", "hidden_size": -3}, "cannot build"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "8000"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, file, content, match):
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=match) as error:
        load_speaker_encoder(f"hf:{folder}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["conv_stride", "tdnn_kernel"])
def test_lists_of_unequal_length_are_refused(folder, name):
    file = folder / "config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, name: settings[name] + [1]}))
    with pytest.raises(EncoderError, match=r"of one length|cannot build"):
        load_speaker_encoder(f"hf:{folder}")


def test_remote_code_is_not_followed(folder):
    settings = json.loads((folder / "config.json").read_text())
    settings["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForAudioXVector": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text("raise SystemExit('code was run')")
    assert load_speaker_encoder(f"hf:{folder}").dim == 12


def test_random_state_is_left_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_speaker_encoder(f"hf:{folder}")
    assert torch.rand(1) == expected


def test_names(folder, monkeypatch):
    asked = []

    def fetched(name, revision, files):
        asked.append((name, revision))
        return Snapshot(folder, None)

    monkeypatch.setattr(fetch, "fetch", fetched)
    for name, source in SHORT_NAMES.items():
        assert name in speaker_encoders()
        assert load_speaker_encoder(name).name == name
        assert asked[-1] == (source, None)
    assert load_speaker_encoder("hf:some/one@refs/pr/2").name == "hf:some/one@refs/pr/2"
    assert asked[-1] == ("some/one", "refs/pr/2")
    assert load_speaker_encoder(f"wavlm-sv:{folder}").name == "hf:m"
    with pytest.raises(EncoderError, match="hf:FOLDER"):
        load_speaker_encoder("hf")
    with pytest.raises(EncoderError, match="neither is there"):
        load_speaker_encoder("hf:nothing")
    with pytest.raises(EncoderError) as error:
        load_speaker_encoder("nobody")
    assert all(name in str(error.value) for name in speaker_encoders())
