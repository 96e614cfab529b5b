"""Unpacked LSTMs give ESPnet's packed outputs and gradients."""

import copy

import numpy as np
import pytest
import torch
from espnet.nets.pytorch_backend.rnn.encoders import RNNP
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hfprobe.asr.unpacked import channels_last, drop_in_training_only, unpack_lstms

RNN = {
    "rnn_type": "lstm",
    "bidirectional": True,
    "use_projection": True,
    "hidden_size": 12,
    "output_size": 10,
    "dropout": 0.0,
}
MAKE = {
    "blstm": lambda: RNNEncoder(input_size=24, num_layers=3, subsample=[1, 2, 1], **RNN),
    "vgg-blstm": lambda: VGGRNNEncoder(input_size=24, num_layers=2, in_channel=3, **RNN),
}


@pytest.mark.parametrize("kind", MAKE)
def test_outputs_and_gradients_are_those_of_espnet(kind):
    torch.manual_seed(0)
    packed = MAKE[kind]()
    unpacked = copy.deepcopy(packed)
    assert unpack_lstms(unpacked) == {"blstm": 3, "vgg-blstm": 2}[kind]
    channels_last(unpacked)
    assert unpacked.state_dict().keys() == packed.state_dict().keys()
    features, lengths = torch.randn(4, 37, 24), torch.tensor([37, 30, 11, 3])
    results = []
    for encoder in (packed, unpacked):
        output, counts, _ = encoder(features.clone(), lengths)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        results.append((output.detach(), list(map(int, counts)), {n: p.grad for n, p in encoder.named_parameters()}))
    (one, counts, gradients), (other, other_counts, other_gradients) = results
    assert counts == other_counts and torch.allclose(one, other, atol=1e-6)
    for name, gradient in gradients.items():
        scale = gradient.abs().max().clamp_min(1e-6)
        assert (gradient - other_gradients[name]).abs().max() / scale < 1e-5, name


def test_unsorted_batches_and_other_lstms():
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    other = copy.deepcopy(lstm)
    assert unpack_lstms(other) == 1
    x, lengths = torch.randn(3, 9, 5), torch.tensor([4, 9, 6])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, got = (pad_packed_sequence(m(packed)[0], batch_first=True)[0] for m in (lstm, other))
    assert torch.allclose(expected, got, atol=1e-6)
    plain = [torch.nn.LSTM(5, 4, num_layers=2, bidirectional=True), torch.nn.LSTM(5, 4), torch.nn.GRU(5, 4)]
    assert unpack_lstms(torch.nn.ModuleList(plain)) == 0


def test_projected_layers_drop_out_in_training_only():
    stack = RNNP(6, 2, 5, 5, np.ones(3, dtype=int), 0.5, typ="blstm")
    x, lengths = torch.randn(2, 9, 6), torch.tensor([9, 7])
    stack.eval()
    noisy = [stack(x, lengths)[0] for _ in range(2)]
    assert not torch.equal(*noisy)  # what ESPnet does by itself
    drop_in_training_only(stack)
    assert torch.equal(stack(x, lengths)[0], stack(x, lengths)[0]) and stack.dropout == 0.0
    stack.train()
    assert stack.dropout == 0.5 and not torch.equal(stack(x, lengths)[0], stack(x, lengths)[0])
