"""Every combination of options of ESPnet's recurrent encoders, against ESPnet on one utterance."""

from __future__ import annotations

import itertools

import espnet_stock
import pytest
import torch
from espnet_stock import RNN, build_stock, pad, peak_error, speechlike

from hfprobe.encoders.espnet.loading import load_espnet

COMBINATIONS = list(itertools.product(("rnn", "vgg_rnn"), ("lstm", "gru"), (True, False), (True, False), (1, 2, 4)))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "rnn_type", "bidirectional", "use_projection", "num_layers"), COMBINATIONS)
def test_equal_to_espnet_alone_and_in_a_batch(
    tmp_path, monkeypatch, kind, rnn_type, bidirectional, use_projection, num_layers
):
    conf = {
        **RNN,
        "rnn_type": rnn_type,
        "bidirectional": bidirectional,
        "use_projection": use_projection,
        "num_layers": num_layers,
        "hidden_size": 6,
    }
    # ESPnet ignores subsampling without projections.
    conf |= {"in_channel": 1} if kind == "vgg_rnn" else {"subsample": [2, 1, 2, 2][:num_layers]}
    monkeypatch.setitem(espnet_stock.VARIANTS, "kind", (kind, conf, "default", 12, "global_mvn"))
    stock = build_stock(tmp_path, "kind")
    encoder = load_espnet(stock.folder)
    name = f"{'b' if bidirectional else ''}{rnn_type}"
    names = [f"cnn{i}" for i in range(1, 5)] if kind == "vgg_rnn" else []
    assert [spec.name for spec in encoder.layers] == names + [f"{name}{i + 1}" for i in range(num_layers)]
    halvings = sum(conf["subsample"]) - num_layers if kind == "rnn" and use_projection else 2 * (kind == "vgg_rnn")
    assert encoder.layers[-1].stride == 160 * 2**halvings
    waveforms = speechlike(4000, 9000)
    batch = encoder(*pad(waveforms))
    for row, waveform in enumerate(waveforms):
        states, logits = stock.run(waveform)
        for spec, value, reference in zip(encoder.layers, batch.hidden_states, states, strict=True):
            assert peak_error(value[row, : len(reference)], reference) < 2e-5, spec
            assert not value[row, len(reference) :].any()
        assert peak_error(batch.logits[row, : len(logits)], logits) < 2e-5
