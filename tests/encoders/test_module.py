"""Any network as an encoder: layouts, measured lengths, exactness where padding leaks, and clear refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchaudio.models import wav2vec2_model

from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.encoders.capture import Tap, capture
from hfprobe.encoders.frames import to_frames
from hfprobe.encoders.measure import FrameRule, measure_rules
from hfprobe.errors import EncoderError, LayerError
from hfprobe.testing import check_encoder


class Mixed(nn.Module):
    """A map of a spectrogram, a convolution that sees the padding, a recurrent layer with time first, attention."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.GroupNorm(1, 3)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.squeeze = nn.Conv1d(3 * 21, 16, 3, padding=1, stride=2)
        self.rnn = nn.LSTM(16, 6, bidirectional=True)
        self.block = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.1)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        window = torch.hann_window(160)
        x = torch.stft(x, 160, 80, window=window, return_complex=True).abs()[:, :40].log1p()  # (b, f, t)
        x = self.pool(torch.relu(self.norm(self.map(x[:, None]))))  # (b, c, f, t)
        x = nn.functional.pad(x, (0, 0, 0, 1)).flatten(1, 2)
        x = self.squeeze(x).permute(2, 0, 1)
        return self.block(self.rnn(x)[0])


LAYERS = {"map": "map", "pool": "pool", "squeeze": Tap("rnn", "input", 0), "lstm": "rnn", "block": "block"}
STRIDES = {"map": 80, "pool": 160, "squeeze": 320, "lstm": 320, "block": 320}
OFFSETS = {"map": 0, "pool": 40, "squeeze": 40, "lstm": 40, "block": 40}
LAYOUTS = {"map": "bcft", "pool": "bcft", "squeeze": "tbd", "lstm": "tbd", "block": "tbd"}


def mixed(**options):
    options = {"stride": STRIDES, "offset": OFFSETS, "layout": LAYOUTS, **options}
    return AutoSpeechEncoder.from_module(Mixed(), LAYERS, **options)


def mixed_reference(waveform):
    net = Mixed().eval()
    seen = {}
    net.map.register_forward_hook(lambda m, i, o: seen.update(map=o[0].permute(2, 0, 1).flatten(1)))
    net.pool.register_forward_hook(lambda m, i, o: seen.update(pool=o[0].permute(2, 0, 1).flatten(1)))
    net.rnn.register_forward_hook(lambda m, i, o: seen.update(squeeze=i[0][:, 0], lstm=o[0][:, 0]))
    with torch.no_grad():
        seen["block"] = net(waveform[None])[:, 0]
    return [seen[name] for name in LAYERS]


def test_a_network_of_many_layouts_keeps_the_contract():
    encoder = mixed()
    assert [spec.dim for spec in encoder.layers] == [120, 60, 16, 12, 12]
    assert encoder.name == "mixed" and encoder.padding_sensitive and not encoder.training
    assert (
        encoder.layer("squeeze").tap == "input 0 of module 'rnn'"
        and encoder.layer("map").tap == "output of module 'map'"
    )
    assert encoder.hidden_lengths_for(16000) == (201, 101, 51, 51, 51)
    assert encoder.min_samples == 81  # the STFT reflects half a window
    check_encoder(encoder, reference=mixed_reference, longest=5.0, lengths=(8000, 800, 3001, 800))


def test_torchaudio_wav2vec2_with_group_norm():
    torch.manual_seed(0)
    net = wav2vec2_model(
        extractor_mode="group_norm",
        extractor_conv_layer_config=[(12, 10, 5), *[(12, 3, 2)] * 4, *[(12, 2, 2)] * 2],
        extractor_conv_bias=False,
        encoder_embed_dim=24,
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=4,
        encoder_num_layers=2,
        encoder_num_heads=2,
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=32,
        encoder_ff_interm_dropout=0.1,
        encoder_dropout=0.1,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    layers = {f"conv{i + 1}": f"feature_extractor.conv_layers.{i}" for i in range(7)}
    layers |= {f"layer{i + 1}": f"encoder.transformer.layers.{i}" for i in range(2)}
    strides, places = [5, 10, 20, 40, 80, 160, 320, 320, 320], [5, 10, 20, 40, 80, 120, 200, 200, 200]
    encoder = AutoSpeechEncoder.from_module(
        net,
        layers,
        stride=dict(zip(layers, strides, strict=True)),
        offset=dict(zip(layers, places, strict=True)),
        layout={name: "bct" if name.startswith("conv") else "btd" for name in layers},
        name="w2v2",
    )
    assert encoder.hidden_lengths_for(16000)[-1] == 49 and encoder.min_samples == 400

    def reference(waveform):
        taps = {name: Tap(path) for name, path in layers.items()}
        with torch.no_grad(), capture(net, taps) as seen:
            net(waveform[None])
        values = [seen[name][0] if isinstance(seen[name], tuple) else seen[name] for name in layers]
        return [value[0].T if name.startswith("conv") else value[0] for name, value in zip(layers, values, strict=True)]

    report = check_encoder(encoder, reference=reference, longest=3.0, lengths=(8000, 800, 5123), raise_on_failure=False)
    assert report.passed, str(report)


class Summed(nn.Module):
    """One number per 320 samples, times a weight; with mask, zero past the end."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(1, 4)

    def forward(self, x, mask=None):
        x = x[:, : x.shape[1] // 320 * 320].unflatten(1, (-1, 320)).sum(-1, keepdim=True)
        return {"states": self.weight(x), "mask": mask}


def test_padded_batches_and_preprocessing():
    calls = []

    def preprocess(waveforms, lengths):
        calls.append((tuple(waveforms.shape), lengths.tolist()))
        return {"x": waveforms, "mask": lengths}

    options = {"stride": 320, "offset": 160, "preprocess": preprocess, "name": "sums"}
    padded = AutoSpeechEncoder.from_module(Summed(), {"sum": ""}, batch="padded", **options)
    assert padded.layer("sum").tap == "output of the network" and not padded.padding_sensitive
    check_encoder(padded, longest=2.0)
    calls.clear()
    batch, lengths = torch.rand(3, 3200), [3200, 640, 3200]
    together = padded(batch, lengths)
    assert calls == [((3, 3200), lengths)]
    exact = AutoSpeechEncoder.from_module(padded.module, {"sum": Tap("", "output", "states")}, **options)
    calls.clear()
    apart = exact(batch, lengths)
    assert calls == [((1, 640), [640]), ((2, 3200), [3200, 3200])]
    assert torch.allclose(together.last_hidden_state, apart.last_hidden_state, atol=1e-6)


def test_lengths_can_be_given():
    class Thirty(nn.Module):
        """Like Whisper: always 100 frames."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 4, 320, 320)

        def forward(self, x):
            return self.conv(nn.functional.pad(x, (0, 32000 - x.shape[1]))[:, None])

    options = {"stride": 320, "offset": 160, "layout": "bct"}
    with pytest.raises(EncoderError, match="stride 320 does not fit: 320 samples more give 0 frames more instead of 1"):
        AutoSpeechEncoder.from_module(Thirty(), {"conv": "conv"}, **options)
    for lengths in ("ratio", lambda samples: -(-samples // 320), lambda samples: {"conv": -(-samples // 320)}):
        encoder = AutoSpeechEncoder.from_module(Thirty(), {"conv": "conv"}, lengths=lengths, **options)
        output = encoder(torch.rand(2, 6400), [6400, 3100])
        assert output.last_hidden_state.shape == (2, 20, 4) and output.hidden_lengths[0].tolist() == [20, 10]
    encoder = AutoSpeechEncoder.from_module(
        Thirty(), {"conv": "conv"}, lengths=lambda samples: samples, min_samples=1, **options
    )
    with pytest.raises(EncoderError, match="layer conv: expected 6400 frames, got 100: give lengths="):
        encoder(torch.rand(1, 6400))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": {"a": "rn"}}, LayerError, "no module 'rn' to read in Mixed: the nearest are rnn"),
        ({"layers": {}}, LayerError, "at least one layer"),
        ({"layers": {"a": "unused"}, "stride": 80}, EncoderError, "a at 'unused' never ran in mixed"),
        ({"layout": "btd"}, EncoderError, r"layer map: expected 3 axes for layout 'btd', got shape \(1, 3, 40, 201\)"),
        ({"layout": "bt"}, EncoderError, "layer map: expected a layout such as 'btd'"),
        ({"layout": {**LAYOUTS, "lstm": "btd"}}, EncoderError, "layer lstm: stride 320 does not fit"),
        ({"stride": {**STRIDES, "pool": 80}}, EncoderError, "layer pool: stride 80 does not fit"),
        ({"stride": {"map": 80}}, EncoderError, "stride has no entry for layer pool: it has map"),
        ({"stride": {**STRIDES, "pol": 80}}, LayerError, "stride names no layer: pol; the layers are map, pool"),
        ({"stride": 0}, EncoderError, "stride as a whole number of at least 1, got 0"),
        ({"offset": -1}, EncoderError, "offset as a whole number"),
        ({"dims": 7}, EncoderError, "layer map: expected frames of width 7, got 120"),
        ({"batch": "fast"}, EncoderError, "batch='exact' or 'padded', got 'fast'"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, message):
    options = {"layers": LAYERS, "stride": STRIDES, "layout": LAYOUTS, "offset": OFFSETS, **options}
    if set(options["layers"]) == {"a"}:
        options.update(layout="btd", stride=80, offset=0)
    with pytest.raises(error, match=message) as caught:
        AutoSpeechEncoder.from_module(Mixed(), **options)
    assert "\n" not in str(caught.value)


def test_only_networks_are_taken():
    with pytest.raises(EncoderError, match="expected a torch.nn.Module, got function"):
        AutoSpeechEncoder.from_module(lambda x: x, {"a": ""}, stride=1)


def test_layouts():
    value = torch.arange(24).reshape(1, 2, 3, 4)
    assert torch.equal(to_frames(value, "bcft", "x")[0, 1], value[0, :, :, 1].flatten())
    assert torch.equal(to_frames(value, "btfc", "x")[0, 1], value[0, 1].T.flatten())
    assert torch.equal(to_frames(value[0], "tbd", "x"), value[0].transpose(0, 1))


@pytest.mark.parametrize("first", [-80, 0, 1, 159, 160, 400, 1000])
def test_rules_are_found(first):
    hidden = FrameRule(160, first)
    assert measure_rules(lambda samples: {"x": hidden(samples)}, {"x": 160}, 16000) == {"x": hidden}
