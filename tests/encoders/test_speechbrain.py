"""SpeechBrain recognisers made from real hyperparams.yaml text, against hooks on the stock model."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.encoders.speechbrain import is_speechbrain, load_speechbrain
from hfprobe.errors import EncoderError
from hfprobe.testing import check_encoder

HEAD = """
sample_rate: 16000
n_mels: 20
pretrained_path: someone/somewhere-on-the-hub
compute_features: !new:speechbrain.lobes.features.Fbank
    sample_rate: !ref <sample_rate>
    n_fft: 400
    n_mels: !ref <n_mels>
normalizer: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
"""
CRDNN = (
    HEAD
    + """
enc: !new:speechbrain.lobes.models.CRDNN.CRDNN
    input_shape: [null, null, !ref <n_mels>]
    activation: !name:torch.nn.LeakyReLU
    dropout: 0.15
    cnn_blocks: 2
    cnn_channels: [4, 6]
    cnn_kernelsize: [3, 3]
    inter_layer_pooling_size: [2, 2]
    time_pooling: {time_pooling}
    using_2d_pooling: {two}
    time_pooling_size: 4
    rnn_class: !name:speechbrain.nnet.RNN.{rnn}
    rnn_layers: 2
    rnn_neurons: 9
    rnn_bidirectional: True
    dnn_blocks: 2
    dnn_neurons: 11
encoder: !new:speechbrain.nnet.containers.LengthsCapableSequential
    input_shape: [null, null, !ref <n_mels>]
    compute_features: !ref <compute_features>
    normalize: !ref <normalizer>
    model: !ref <enc>
asr_model: !new:torch.nn.ModuleList
    - [!ref <enc>]
modules:
    encoder: !ref <encoder>
"""
)
TRANSFORMER = (
    HEAD
    + """
CNN: !new:speechbrain.lobes.models.convolution.ConvolutionFrontEnd
    input_shape: [8, 10, 20]
    num_blocks: 2
    num_layers_per_block: 1
    out_channels: [5, 4]
    kernel_sizes: [3, 3]
    strides: [2, 2]
    residuals: [False, False]
Transformer: !new:speechbrain.lobes.models.transformer.TransformerASR.TransformerASR
    input_size: 20
    tgt_vocab: 12
    d_model: 16
    nhead: 2
    num_encoder_layers: 3
    num_decoder_layers: 1
    d_ffn: 24
    dropout: 0.1
    activation: !name:torch.nn.GELU
    encoder_module: {kind}
    attention_type: {attention}
    layerdrop_prob: {drop}
    normalize_before: True
    causal: False
asr_model: !new:torch.nn.ModuleList
    - [!ref <CNN>, !ref <Transformer>]
{wiring}
"""
)
WRAPPED = """
Tencoder: !new:speechbrain.lobes.models.transformer.TransformerASR.EncoderWrapper
    transformer: !ref <Transformer>
encoder: !new:speechbrain.nnet.containers.LengthsCapableSequential
    input_shape: [null, null, !ref <n_mels>]
    compute_features: !ref <compute_features>
    normalize: !ref <normalizer>
    CNN: !ref <CNN>
    transformer_encoder: !ref <Tencoder>
modules:
    encoder: !ref <encoder>
"""
SEPARATE = """
transformer_beam_search: True
encoder: !new:speechbrain.nnet.containers.LengthsCapableSequential
    input_shape: [null, null, !ref <n_mels>]
    compute_features: !ref <compute_features>
    normalize: !ref <normalizer>
    CNN: !ref <CNN>
modules:
    encoder: !ref <encoder>
    transformer: !ref <Transformer>
"""
PRETRAINER = """
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        asr: !ref <asr_model>
        normalizer: !ref <normalizer>
    paths:
        asr: !ref <pretrained_path>/asr.ckpt
        normalizer: !ref <pretrained_path>/normalizer.ckpt
"""
VARIANTS = {
    "crdnn": CRDNN.format(time_pooling=True, two=False, rnn="LSTM"),
    "crdnn-2d": CRDNN.format(time_pooling=False, two=True, rnn="LiGRU"),
    "conformer": TRANSFORMER.format(kind="conformer", attention="RelPosMHAXL", drop=0.0, wiring=WRAPPED),
    "transformer": TRANSFORMER.format(kind="transformer", attention="regularMHA", drop=0.5, wiring=SEPARATE),
}
# Layers, strides and offsets, worked out by hand: hop 160; pooling by p puts the centre (p - 1) / 2 frames later.
AXES = {
    "crdnn": {"cnn1": (160, 0), "cnn2": (160, 0), "rnn": (640, 240), "dnn1": (640, 240), "dnn2": (640, 240)},
    "crdnn-2d": {"cnn1": (320, 80), "cnn2": (640, 240), "rnn": (640, 240), "dnn1": (640, 240), "dnn2": (640, 240)},
    "conformer": {"cnn1": (320, 0), "cnn2": (640, 0), **{f"layer{i}": (640, 0) for i in (1, 2, 3)}, "norm": (640, 0)},
}
AXES["transformer"] = AXES["conformer"]


def make(folder, variant):
    """A model folder, and the stock modules with the same weights."""
    text = VARIANTS[variant] + PRETRAINER
    (folder / "hyperparams.yaml").write_text(text)
    torch.manual_seed(3)
    hparams = load_hyperpyyaml(text)
    for parameter in hparams["asr_model"].parameters():
        # Norm weights of one and biases of zero would hide where a layer is read.
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    for module in hparams["asr_model"].modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    normalizer = hparams["normalizer"].train()
    normalizer(torch.randn(4, 50, 20) * 3 - 1, torch.ones(4), epoch=0)
    torch.save(hparams["asr_model"].state_dict(), folder / "asr.ckpt")
    normalizer._save(folder / "normalizer.ckpt")
    for module in hparams["modules"].values():
        module.eval()
    return hparams


@pytest.fixture(scope="module", params=VARIANTS)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, make(folder, request.param)


def reference_of(hparams, crdnn):
    """Hooks of the test's own on the stock modules, which run as in SpeechBrain's encode_batch."""

    def flat(value):
        value = (value[0] if isinstance(value, tuple) else value)[0]
        # (time, frequency, channel) becomes channels x frequency.
        return value.transpose(1, 2).flatten(1) if value.dim() == 3 else value

    def reference(waveform):
        seen, handles = [], []
        if crdnn:
            net = hparams["enc"]
            watched = [*net["CNN"].values(), net["RNN"], *net["DNN"].values()]
        else:
            stack = hparams["Transformer"].encoder
            watched = [*hparams["CNN"].values(), *stack.layers, stack.norm]
        for module in watched:
            handles.append(module.register_forward_hook(lambda m, i, output: seen.append(flat(output).clone())))
        with torch.no_grad():
            output = hparams["encoder"](waveform[None], torch.ones(1))
            if hparams.get("transformer_beam_search"):
                hparams["Transformer"].encode(output, torch.ones(1))
        for handle in handles:
            handle.remove()
        return seen

    return reference


def test_layers_are_those_of_the_stock_model_and_the_contract_is_kept(model):
    variant, folder, hparams = model
    assert is_speechbrain(folder)
    encoder = AutoSpeechEncoder.from_pretrained(folder, trust_remote_code=True)
    assert {spec.name: (spec.stride, spec.offset) for spec in encoder.layers} == AXES[variant]
    assert encoder.padding_sensitive and encoder.name == folder.name
    report = check_encoder(
        encoder,
        reference=reference_of(hparams, "crdnn" in variant),
        lengths=(8000, 800, 5123),
        longest=4.0,
        raise_on_failure=False,
    )
    assert report.passed, str(report)


def test_random_weights_keep_the_normalisation(model):
    _, folder, _ = model
    options = {"trust_remote_code": True, "random_init": True}
    first, again = (load_speechbrain(folder, seed=1, **options) for _ in range(2))
    other = load_speechbrain(folder, seed=2, **options)
    trained = load_speechbrain(folder, trust_remote_code=True)
    assert first.name == f"{folder.name}-random1"
    assert first.fingerprint == again.fingerprint != other.fingerprint != trained.fingerprint
    statistics = [e.module.encoder["normalize"].glob_mean for e in (first, trained)]
    assert torch.equal(*statistics) and bool(statistics[0].any())


def test_code_must_be_trusted_and_files_must_be_there(tmp_path):
    with pytest.raises(EncoderError, match="expected hyperparams.yaml in"):
        load_speechbrain(tmp_path, trust_remote_code=True)
    make(tmp_path, "crdnn")
    (tmp_path / "touched").write_text("no")
    (tmp_path / "hyperparams.yaml").write_text(f"a: !apply:os.remove ['{tmp_path / 'touched'}']\n" + VARIANTS["crdnn"])
    with pytest.raises(EncoderError, match="can run any Python code .* trust_remote_code=True"):
        AutoSpeechEncoder.from_pretrained(tmp_path)
    assert (tmp_path / "touched").exists()
    (tmp_path / "hyperparams.yaml").write_text(VARIANTS["crdnn"])
    with pytest.raises(EncoderError, match="SpeechBrain cannot load .*pretrainer"):
        load_speechbrain(tmp_path, trust_remote_code=True)
    (tmp_path / "hyperparams.yaml").write_text(VARIANTS["crdnn"] + PRETRAINER)
    (tmp_path / "asr.ckpt").unlink()
    with pytest.raises(EncoderError, match="SpeechBrain cannot load .*asr.ckpt") as caught:
        load_speechbrain(tmp_path, trust_remote_code=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(EncoderError, match="unknown option weights for a SpeechBrain encoder"):
        load_speechbrain(tmp_path, trust_remote_code=True, weights="x")


def test_no_placeholder_is_left_that_breaks_who_looks_at_all_modules():
    code = (
        "import sys\nfrom hfprobe.encoders.speechbrain import forget_lazy_modules\n"
        "import speechbrain.inference.interfaces\nforget_lazy_modules()\n"
        "for module in list(sys.modules.values()):\n    getattr(module, '__file__', None)\n"
        "import speechbrain.utils.importutils, speechbrain.lobes.models.CRDNN\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-1000:]
