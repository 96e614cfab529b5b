"""ESPnet's attention encoders against ESPnet's own forward on one utterance."""

from __future__ import annotations

import logging
import weakref

import pytest
import torch
import yaml
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet_attention_stock import AttentionStock, build_attention
from espnet_attention_variants import ATTENTION_VARIANTS, GATED
from espnet_stock import pad, peak_error, speechlike
from torch.utils._python_dispatch import TorchDispatchMode

from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.encoders.espnet.attentive import EspnetAttentionEncoder
from hfprobe.encoders.espnet.loading import load_espnet
from hfprobe.errors import EncoderError

TOLERANCE = 1e-5
LENGTHS = (12345, 2400, 16000, 5123)


@pytest.fixture(scope="module", params=ATTENTION_VARIANTS)
def stock(request, tmp_path_factory) -> AttentionStock:
    return build_attention(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def encoder(stock):
    return AutoSpeechEncoder.from_pretrained(stock.folder)


@torch.no_grad()
def test_hidden_states_are_those_of_espnet(stock, encoder):
    assert isinstance(encoder, EspnetAttentionEncoder)
    for waveform in speechlike(*LENGTHS, encoder.min_samples):
        output = encoder(waveform[None])
        states, logits = stock.run(waveform)
        assert len(states) == len(output.hidden_states) == len(encoder.layers)
        for spec, value, reference in zip(encoder.layers, output.hidden_states, states, strict=True):
            assert value.shape[2] == spec.dim
            assert peak_error(value[0], reference) < TOLERANCE, spec
        assert peak_error(output.logits[0], logits) < TOLERANCE
        assert torch.equal(output.last_hidden_state, output.hidden_states[-1])
        assert tuple(len(state) for state in states) == encoder.hidden_lengths_for(len(waveform))


@torch.no_grad()
def test_alone_in_a_batch_and_shuffled_are_equal_whatever_the_padding_holds(encoder):
    waveforms = speechlike(*LENGTHS)
    alone = [encoder(waveform[None]) for waveform in waveforms]
    for order, padding in (((0, 1, 2, 3), 0.0), ((1, 3, 2, 0), float("nan")), ((1, 0, 3), 5.0)):
        batch, lengths = pad([waveforms[i] for i in order], padding)
        output = encoder(batch, lengths)
        for row, one in enumerate(order):
            for layer, spec in enumerate(encoder.layers):
                valid = int(output.hidden_lengths[layer][row])
                reference = alone[one].hidden_states[layer][0]
                assert valid == len(reference) == int(alone[one].hidden_lengths[layer][0])
                assert peak_error(output.hidden_states[layer][row, :valid], reference) < TOLERANCE, (spec, order)
                assert not output.hidden_states[layer][row, valid:].any()
            assert peak_error(output.logits[row, :valid], alone[one].logits[0]) < TOLERANCE


@torch.no_grad()
def test_padding_sensitive_says_what_espnet_does(stock, encoder):
    waveforms = speechlike(16000, 7000)
    batch, lengths = pad(waveforms)
    _, frames = stock.forward(stock.encoder, batch, lengths)
    output, _ = stock.forward(stock.encoder, batch, lengths)
    states, _ = stock.run(waveforms[1])
    own = len(states[-1])
    moved = frames[1] != own or peak_error(output[1, :own], states[-1]) > 1e-4
    assert encoder.padding_sensitive or not moved
    # Neither convolution nor reflection: these ESPnet itself batches exactly.
    exact = stock.folder.name.startswith(("transformer-none-wide", "transformer-post-linear"))
    assert encoder.padding_sensitive != exact


def test_training_keeps_every_layer_and_backward_reaches_all_weights(encoder):
    batch, lengths = pad(speechlike(4800, 3200))
    reference = encoder(batch, lengths)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.train()
    try:
        batch.requires_grad_()
        output = encoder(batch, lengths)
        other = encoder(batch, lengths)
        sum(state.square().mean() for state in (*output.hidden_states, output.logits)).backward()
    finally:
        encoder.eval()
        encoder.load_state_dict(before)
    assert [state.shape for state in output.hidden_states] == [state.shape for state in reference.hidden_states]
    # Blocks with a rate of 0.9 would repeat their input if they were skipped.
    blocks = [state for state in output.hidden_states if state.shape[2] == encoder.layers[-1].dim][
        -len(encoder.encoder.encoders) :
    ]
    assert all(not torch.equal(a, b) for a, b in zip(blocks, blocks[1:], strict=False))
    assert not torch.equal(output.last_hidden_state, other.last_hidden_state)
    assert bool(torch.isfinite(batch.grad).all()) and bool(batch.grad[0].any()) and not batch.grad[1, 3200:].any()
    unused = {
        n for n, weight in encoder.named_parameters() if weight.grad is None or not torch.isfinite(weight.grad).all()
    }
    assert unused == set()
    encoder.zero_grad()


@torch.no_grad()
def test_no_state_is_left_behind(encoder):
    waveforms = speechlike(3300)[0][None]
    first = encoder(waveforms)
    encoder(speechlike(24000)[0][None])
    second = encoder(waveforms)
    assert all(torch.equal(a, b) for a, b in zip(first.hidden_states, second.hidden_states, strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())
    assert not any(
        getattr(module, "attn", None) is not None and isinstance(module.attn, torch.Tensor)
        for module in encoder.modules()
    )
    with pytest.raises(EncoderError, match=f"at least {encoder.min_samples} samples"):
        encoder(torch.ones(1, encoder.min_samples - 1))
    chosen = encoder(waveforms, layers=[encoder.layers[1].name])
    assert torch.equal(chosen.hidden_states[0], first.hidden_states[1])


@pytest.mark.parametrize(
    ("variant", "axis"),
    [
        ("transformer-conv2d", {"cnn1": (320, 160), "cnn2": (640, 480), "transformer3": (640, 480)}),
        ("transformer-none", {"transformer1": (160, 0)}),
        ("transformer-conv1d2", {"cnn1": (160, 160), "cnn2": (320, 320)}),
        ("transformer-conv2d6", {"cnn1": (320, 160), "cnn2": (960, 800), "transformer1": (960, 800)}),
        ("conformer-latest", {"cnn1": (320, 160), "cnn2": (320, 480), "conformer3": (320, 480)}),
        ("conformer-post", {"cnn1": (160, 160), "cnn2": (160, 320), "conformer1": (160, 320)}),
        ("conformer-conditioned", {"cnn1": (320, 160), "cnn2": (640, 480), "cnn3": (1280, 1120)}),
        ("e_branchformer-conv1d3", {"cnn1": (160, 160), "cnn2": (480, 480), "ebranchformer1": (480, 480)}),
    ],
)
@torch.no_grad()
def test_an_impulse_moves_the_frames_around_it(tmp_path, variant, axis):
    encoder = load_espnet(build_attention(tmp_path, variant, steps=0).folder)
    # The mean of the utterance would carry the impulse everywhere.
    encoder.normalize = None
    assert {name: (encoder.layer(name).stride, encoder.layer(name).offset) for name in axis} == axis
    # Positions that cover a stride of the slowest layer evenly, so that rounding to frames cancels.
    positions = torch.arange(8000, 8000 + encoder.layers[-1].stride, 40)
    background = 0.01 * speechlike(17600)[0].repeat(len(positions), 1)
    struck = background.clone()
    struck[torch.arange(len(positions)), positions] = 0.5
    for index, spec in enumerate(encoder.layers):
        if not spec.name.startswith("cnn"):
            continue
        change = (encoder(struck).hidden_states[index] - encoder(background).hidden_states[index]).abs().amax(dim=-1)
        middles = []
        for row in change:
            moved = (row > 1e-3 * row.max()).nonzero().flatten()
            middles.append(float(moved.min() + moved.max()) / 2 * spec.stride + spec.offset)
        drift = torch.tensor(middles) - positions
        assert abs(float(drift.mean())) < 50, spec
        assert float(drift.abs().max()) <= spec.stride, spec


class Peak(TorchDispatchMode):
    """Most bytes of new tensors that were alive at once, weights not counted."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.now = self.most = 0
        self.known = weakref.WeakSet(value.untyped_storage() for value in model.state_dict().values())

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor) and value.untyped_storage() not in self.known:
                storage = value.untyped_storage()
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
                self.most = max(self.most, self.now)
        return result

    def _free(self, size: int) -> None:
        self.now -= size


@torch.no_grad()
def test_peak_memory_follows_the_chosen_layers(tmp_path):
    stock = build_attention(tmp_path, "e_branchformer-wide", steps=0)
    conf = {**GATED, "output_size": 256, "input_layer": "linear"}
    waveforms = speechlike(48000)[0][None]
    size = {}
    for blocks in (4, 12):
        encoder = EBranchformerEncoder(input_size=20, **{**conf, "num_blocks": blocks})
        encoder = EspnetAttentionEncoder("deep", stock.frontend, None, encoder).eval()
        for layers in (None, [f"ebranchformer{blocks}"], ["ebranchformer1"]):
            with Peak(encoder) as peak:
                output = encoder(waveforms, layers=layers)
            size[blocks, "all" if layers is None else "last" if layers[0][-1] != "1" else "first"] = peak.most
    block = output.last_hidden_state.nbytes
    # Depth costs a state for every block that is kept, and nothing otherwise.
    assert size[12, "all"] - size[4, "all"] == 8 * block
    assert size[12, "last"] == size[4, "last"] <= size[4, "all"] - 2 * block
    assert size[12, "first"] == size[4, "first"] <= size[4, "last"] + block


def test_transcripts_follow_the_logits(tmp_path):
    stock = build_attention(tmp_path, "e_branchformer-macaron")
    encoder = load_espnet(stock.folder)
    waveforms = speechlike(16000, 9000)
    texts = encoder.transcribe(*pad(waveforms))
    for waveform, text in zip(waveforms, texts, strict=True):
        assert text == encoder.text.decode(stock.run(waveform)[1].argmax(dim=-1).tolist())
    silent = {**stock.config, "model_conf": {"ctc_weight": 0.0}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(silent))
    state = {key: value for key, value in stock.state_dict().items() if not key.startswith("ctc.")}
    torch.save(state, tmp_path / "valid.acc.ave_10best.pth")
    assert load_espnet(tmp_path)(waveforms[0][None]).logits is None


def test_missing_and_surplus_weights_are_named_and_old_tables_dropped(tmp_path):
    stock = build_attention(tmp_path, "conformer-conditioned", steps=0)
    state = stock.state_dict()
    torch.save(
        {**state, "encoder.embed.pos_enc.pe": torch.zeros(1, 9, 16), "decoder.x": torch.zeros(1)},
        tmp_path / "valid.acc.ave_10best.pth",
    )
    assert load_espnet(tmp_path).fingerprint
    state["encoder.encoders.0.norm.weight"] = state.pop("encoder.encoders.1.conv_module.norm.running_mean")
    del state["encoder.conditioning_layer.bias"]
    torch.save(state, tmp_path / "valid.acc.ave_10best.pth")
    with pytest.raises(EncoderError) as caught:
        load_espnet(tmp_path)
    message = str(caught.value)
    assert "2 missing: encoder.conditioning_layer.bias, encoder.encoders.1.conv_module.norm.running_mean" in message
    assert "1 surplus: encoder.encoders.0.norm.weight" in message and "\n" not in message


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("conformer-latest", {"rel_pos_type": "newest"}, "does not fit ConformerEncoder: unknown rel_pos_type: newest"),
        ("conformer-latest", {"selfattention_layer_type": "legacy_rel_selfattn"}, "AssertionError at `assert selfatt"),
        ("conformer-latest", {"attention_heads": 3}, "AssertionError at `assert n_feat % n_head == 0`"),
        ("conformer-latest", {"activation_type": "gelu"}, "unknown value 'gelu'"),
        ("conformer-latest", {"input_layer": "conv3d"}, "unknown input_layer: conv3d"),
        ("conformer-latest", {"input_layer": "embed", "padding_idx": 0}, "an input layer for features, got 'embed'"),
        ("conformer-latest", {"input_layer": None}, "as wide as the output_size 16 .*, got 24"),
        ("conformer-latest", {"input_layer": "conv2d8", "output_size": "big"}, "does not fit ConformerEncoder"),
        ("conformer-latest", {"interctc_layer_idx": [1], "ctc_trim": True}, "ctc_trim: false"),
        ("branchformer-concat", {"input_layer": None}, "positions for the relative attention of BranchformerEncoder"),
        ("branchformer-concat", {"cgmlp_conv_kernel": 6}, "odd kernels .* got 6 in encoders.0.cgmlp.csgu.conv"),
        ("transformer-conv2d", {"macaron_style": True}, "does not fit TransformerEncoder: .*macaron_style"),
    ],
)
def test_what_cannot_be_built_or_run_is_refused(tmp_path, variant, changes, message):
    stock = build_attention(tmp_path, variant, steps=0)
    config = {**stock.config, "encoder_conf": {**stock.config["encoder_conf"], **changes}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(EncoderError, match=message) as caught:
        load_espnet(tmp_path)
    assert "\n" not in str(caught.value)


def test_too_few_bands_for_the_convolutions(tmp_path):
    stock = build_attention(tmp_path, "transformer-conv2d", steps=0)
    config = {**stock.config, "frontend_conf": {**stock.config["frontend_conf"], "n_mels": 5}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(EncoderError, match="wide enough for 2 convolutions, got 5 bands"):
        load_espnet(tmp_path)


@torch.no_grad()
def test_thirty_seconds_and_no_warning_about_old_options(tmp_path, caplog):
    folder = build_attention(tmp_path, "conformer-legacy", steps=0).folder
    caplog.clear()
    handlers = list(logging.root.handlers)
    encoder = load_espnet(folder)
    assert caplog.records == [] and logging.root.handlers == handlers and logging.root.manager.disable == 0
    output = encoder(speechlike(480000)[0][None])
    assert tuple(state.shape[1] for state in output.hidden_states) == encoder.hidden_lengths_for(480000)
    assert all(bool(torch.isfinite(state).all()) for state in output.hidden_states)
