"""Strides and offsets, found by planting an impulse in the waveform and looking which frames move."""

from __future__ import annotations

import pytest
import torch
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet_stock import RNN, STFT, build_stock, speechlike

from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.encoders.espnet.adapter import EspnetEncoder
from hfprobe.encoders.espnet.frontend import DeltaFrontend
from hfprobe.errors import EncoderError


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    return AutoSpeechEncoder.from_pretrained(build_stock(tmp_path_factory.mktemp("vgg"), "vgg-delta").folder)


def test_the_paper_s_strides(vgg):
    axis = {spec.name: (spec.stride, spec.offset) for spec in vgg.layers}
    assert axis == {
        "cnn1": (160, 0),
        "cnn2": (320, 80),
        "cnn3": (320, 80),
        "cnn4": (640, 240),
        "blstm1": (640, 240),
        "blstm2": (640, 240),
        "blstm3": (640, 240),
    }


@torch.no_grad()
@pytest.mark.parametrize("layer", ["cnn1", "cnn2", "cnn3", "cnn4"])
def test_an_impulse_moves_the_frames_around_it(vgg, layer):
    spec = vgg.layer(layer)
    # Positions that cover one stride of the slowest layer evenly: the errors of rounding to frames cancel.
    positions = torch.arange(8000, 8640, 20)
    background = 0.01 * speechlike(16000)[0].repeat(len(positions), 1)
    struck = background.clone()
    struck[torch.arange(len(positions)), positions] = 0.5
    index = [s.name for s in vgg.layers].index(layer)
    change = (vgg(struck).hidden_states[index] - vgg(background).hidden_states[index]).abs().amax(dim=-1)
    middles = []
    for row in change:
        moved = (row > 1e-3 * row.max()).nonzero().flatten()
        middles.append(float(moved.min() + moved.max()) / 2 * spec.stride + spec.offset)
    drift = torch.tensor(middles) - positions
    # A wrong offset would be off by 80 samples or more; each impulse alone may be off by a frame.
    assert abs(float(drift.mean())) < 25
    assert float(drift.abs().max()) <= spec.stride


@torch.no_grad()
def test_recurrent_subsampling_takes_every_second_frame_from_the_first():
    frontend = DeltaFrontend(**STFT)
    torch.manual_seed(0)
    options = {**RNN, "hidden_size": 8, "num_layers": 3}
    full = RNNEncoder(240, **options, subsample=[1, 1, 1])
    halved = RNNEncoder(240, **options, subsample=[1, 2, 1])
    halved.load_state_dict(full.state_dict())
    every, second = (EspnetEncoder("x", frontend, None, e).eval() for e in (full, halved))
    assert [(s.stride, s.offset) for s in second.layers] == [(160, 0), (320, 0), (320, 0)]
    for samples in (16000, 16160):
        waveforms = speechlike(samples)[0][None]
        expected = every(waveforms).hidden_states[1][:, ::2]
        assert torch.allclose(second(waveforms).hidden_states[1], expected, atol=1e-6)


def test_other_subsampling_is_refused():
    encoder = RNNEncoder(240, **{**RNN, "hidden_size": 8, "num_layers": 2}, subsample=[3, 1])
    with pytest.raises(EncoderError, match=r"factors of 1 or 2, got \[3, 1\]"):
        EspnetEncoder("x", DeltaFrontend(**STFT), None, encoder)
