"""Loading transformers checkpoints: strictly, from every layout, with errors that name what is wrong."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from hf_models import VARIANTS, build_stock, enliven, pad, peak_error, speechlike, write_vocabulary
from safetensors.torch import load_file, save_file

from hfprobe.encoders.huggingface import FAMILIES_TABLE, is_huggingface, load_huggingface
from hfprobe.encoders.huggingface.families import FAMILIES
from hfprobe.errors import EncoderError


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A CTC recogniser on disk, not to be tampered with."""
    return build_stock(tmp_path_factory.mktemp("ctc"), "wav2vec2-large-ctc")


@pytest.fixture
def folder(built, tmp_path):
    """A copy to tamper with."""
    return shutil.copytree(built.folder, tmp_path / "model")


def edit_json(file, **changes):
    content = json.loads(file.read_text())
    content.update(changes)
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def test_is_huggingface(folder, tmp_path):
    assert is_huggingface(folder) and is_huggingface(folder / "model.safetensors")
    assert not is_huggingface(tmp_path) and not is_huggingface(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{broken")
    assert not is_huggingface(tmp_path)
    (tmp_path / "config.json").write_text('["model_type"]')
    assert not is_huggingface(tmp_path)


def test_the_table_lists_every_family():
    assert [row[0] for row in FAMILIES_TABLE] == list(FAMILIES)
    assert all(title and "1..N" in layers for _, title, layers in FAMILIES_TABLE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_missing_weight_is_named(variant, tmp_path):
    build_stock(tmp_path, variant)
    state = load_file(tmp_path / "model.safetensors")
    # The encoder's, not a decoder's, which nobody misses.
    key = next(
        key for key in sorted(state) if key.endswith(".1.final_layer_norm.weight") or key.endswith(".1.norm_out.weight")
    )
    if "decoder" in key:
        key = next(
            key for key in sorted(state) if "encoder" in key.split(".") and key.endswith(".1.final_layer_norm.weight")
        )
    removed = state.pop(key)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match=f"1 missing: {key.split('.layers.')[-1].join(['.*', ''])}"):
        load_huggingface(tmp_path)
    save_file({**state, key: removed[:-1].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match=r"of another shape: .*\(23,\) instead of \(24,\)"):
        load_huggingface(tmp_path)


def test_surplus_weights_are_named(folder):
    edit_json(folder / "config.json", num_hidden_layers=2)
    with pytest.raises(EncoderError, match=r"\d+ surplus: encoder\.layers\.2\."):
        load_huggingface(folder)


def test_a_missing_head_is_named(folder):
    state = load_file(folder / "model.safetensors")
    del state["lm_head.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(EncoderError, match="missing: lm_head.bias"):
        load_huggingface(folder)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["bin", "shards", "half", "old-names", "bare", "file", "pretraining"])
def test_layouts_of_weights(built, folder, layout):
    waveforms = speechlike(5000)[0][None]
    expected = load_huggingface(built.folder)(waveforms).last_hidden_state
    path, file, tolerance = folder, folder / "model.safetensors", 1e-6
    state = load_file(file)
    if layout == "bin":
        torch.save(state, folder / "pytorch_model.bin")
        file.unlink()
    elif layout == "shards":
        built.model.save_pretrained(folder, max_shard_size="20KB")
        file.unlink()
        assert len(list(folder.glob("*.safetensors"))) > 1
    elif layout == "half":
        save_file({key: value.to(torch.bfloat16) for key, value in state.items()}, file)
        edit_json(folder / "config.json", dtype="bfloat16")
        tolerance = 0.1
    elif layout == "old-names":
        names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new, old in names.items():
            state = {key.replace(new, old): value for key, value in state.items()}
        assert any("weight_g" in key for key in state)
        save_file(state, file)
    elif layout == "bare":
        built.body.save_pretrained(folder)
    elif layout == "pretraining":
        edit_json(folder / "config.json", architectures=["Wav2Vec2ForPreTraining"])
        state = {key: value for key, value in state.items() if not key.startswith("lm_head")}
        extra = {"quantizer.codevectors": torch.zeros(1), "wav2vec2.masked_spec_embed": torch.zeros(24)}
        save_file({**state, **extra}, file)
    else:
        path = folder / "model.safetensors"
    encoder = load_huggingface(path)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32} and not encoder.training
    assert peak_error(encoder(waveforms).last_hidden_state, expected) < tolerance
    assert (encoder.ctc is None) == (layout in ("bare", "pretraining"))


def test_files_that_are_missing_or_broken(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncoderError, match="expected safetensors in .*model.safetensors.*header"):
        load_huggingface(folder)
    file.unlink()
    with pytest.raises(EncoderError, match="expected weights in .*model.safetensors"):
        load_huggingface(folder)
    with pytest.raises(EncoderError, match="put other.safetensors there"):
        load_huggingface(folder, weights="other.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(EncoderError, match="missing: gone.safetensors"):
        load_huggingface(folder)
    (folder / "model.safetensors.index.json").unlink()

    class Harmful:
        def __reduce__(self):
            return print, ("code was run",)

    torch.save({"weight": Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="plain weights"):
        load_huggingface(folder)
    torch.save(["not a dictionary"], folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="dictionary of tensors"):
        load_huggingface(folder)


def test_configurations_that_cannot_be_built(folder):
    config = folder / "config.json"
    good = config.read_text()
    edit_json(config, model_type="bert")
    with pytest.raises(EncoderError, match="'bert' .*supported are data2vec-audio, hubert, .*whisper"):
        load_huggingface(folder)
    for changes in ({"num_attention_heads": 7}, {"hidden_size": "many"}, {"feat_extract_norm": "batch"}):
        config.write_text(good)
        edit_json(config, **changes)
        with pytest.raises(EncoderError, match="cannot build") as error:
            load_huggingface(folder)
        assert "\n" not in str(error.value)
    config.write_text(good)
    edit_json(folder / "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(EncoderError, match="16000 Hz, got 8000 Hz"):
        load_huggingface(folder)
    with pytest.raises(EncoderError, match="unknown option colour .*weights"):
        load_huggingface(folder, colour="red")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_repository_that_names_code_is_refused(folder, file):
    edit_json(folder / file, auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit('code was run')")
    with pytest.raises(EncoderError, match=rf"{file} names code to run \('auto_map'\)"):
        load_huggingface(folder)


@torch.no_grad()
def test_random_init_is_a_repeatable_floor(folder):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    trained = load_huggingface(folder)
    (folder / "model.safetensors").unlink()
    one, same, other = (load_huggingface(folder, random_init=True, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.name == "model-random0" and other.name == "model-random1"
    assert [spec.dim for spec in one.layers] == [spec.dim for spec in trained.layers]
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, other.fingerprint, trained.fingerprint}) == 3
    waveforms = speechlike(4000)[0][None]
    assert torch.equal(one(waveforms).last_hidden_state, same(waveforms).last_hidden_state)
    assert float(one(waveforms).last_hidden_state.std()) > 0.1


def test_the_fingerprint_leaves_heads_out_and_sees_weights_and_normalisation(folder):
    encoder = load_huggingface(folder, name="a")
    first = encoder.fingerprint
    assert load_huggingface(folder, name="b").fingerprint == first
    encoder.ctc.weight.data.add_(1.0)
    assert encoder.fingerprint == first
    assert load_huggingface(folder, do_normalize=False).fingerprint != first
    encoder.model.encoder.layers[0].final_layer_norm.bias.data[0] += 1.0
    assert encoder.fingerprint != first


@torch.no_grad()
def test_normalisation_follows_the_folder(built, folder):
    waveforms = speechlike(5000)[0][None]
    preprocessor = folder / "preprocessor_config.json"
    assert load_huggingface(folder).do_normalize
    edit_json(preprocessor, do_normalize=False)
    raw = load_huggingface(folder)
    expected = built.body(waveforms).last_hidden_state
    assert not raw.do_normalize and torch.equal(raw(waveforms).last_hidden_state, expected)
    # Processors of transformers 5 save the extractor's settings inside their own.
    settings = json.loads(preprocessor.read_text()) | {"do_normalize": True}
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": settings}))
    assert load_huggingface(folder).do_normalize
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "Wav2Vec2Processor"}))
    assert not load_huggingface(folder).do_normalize
    assert load_huggingface(folder, do_normalize=True).do_normalize


@torch.no_grad()
def test_transcribe_follows_the_logits(built, folder):
    waveforms = speechlike(16000, 5000, 9000)
    batch, lengths = pad(waveforms)
    with pytest.raises(EncoderError, match="tokenizer beside .*vocab.json"):
        load_huggingface(folder).transcribe(batch, lengths)
    write_vocabulary(folder)
    texts = load_huggingface(folder).transcribe(batch, lengths)
    symbols = ["", "", "", "", " ", *"ABCDEFG"]
    for waveform, text in zip(waveforms, texts, strict=True):
        best = built.run(waveform)[1].argmax(dim=-1).tolist()
        merged = [index for i, index in enumerate(best) if i == 0 or index != best[i - 1]]
        plain = "".join(symbols[index] for index in merged).strip()
        # Sentence marks are spelled out or dropped, as the tokenizer has it.
        for mark in ("<s>", "</s>", "<unk>"):
            text = text.replace(mark, "")
        assert text.split() == plain.split() and plain
    (folder / "tokenizer_config.json").unlink()
    assert load_huggingface(folder).transcribe(batch, lengths) == texts


def test_without_a_head_there_is_no_text(tmp_path):
    build_stock(tmp_path, "whisper")
    encoder = load_huggingface(tmp_path)
    assert encoder.ctc is None
    # Only the encoder's weights are in memory.
    assert not any("decoder" in name for name, _ in encoder.named_parameters())
    with pytest.raises(EncoderError, match="no recognition head"):
        encoder.transcribe(torch.zeros(1, 1600))
    with pytest.raises(EncoderError, match="do_normalize is for models that read waveforms"):
        load_huggingface(tmp_path, do_normalize=True)
    edit_json(tmp_path / "preprocessor_config.json", feature_size=128)
    with pytest.raises(EncoderError, match="80 mel bins .*got 128"):
        load_huggingface(tmp_path)


@torch.no_grad()
def test_other_parakeets(tmp_path):
    torch.manual_seed(0)
    options = dict(VARIANTS["parakeet-ctc"][1]["encoder_config"])
    model = transformers.ParakeetEncoder(transformers.ParakeetEncoderConfig(**options)).eval()
    enliven(model)
    model.save_pretrained(tmp_path)
    encoder = load_huggingface(tmp_path)
    waveform = speechlike(7000)[0]
    inputs = transformers.ParakeetFeatureExtractor()(waveform.numpy(), sampling_rate=16000, return_tensors="pt")
    expected = model(**inputs).last_hidden_state
    state = encoder(waveform[None]).last_hidden_state
    assert encoder.ctc is None and peak_error(state, expected[:, : state.shape[1]]) < 1e-5
