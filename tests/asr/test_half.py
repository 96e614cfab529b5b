"""Training in bfloat16 is training in float32 within bfloat16's precision, and eval() is float32 to the bit."""

import copy

import pytest
import torch
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder

from hfprobe.asr.half import train_in_bfloat16, wants_bfloat16
from hfprobe.asr.unpacked import channels_last, unpack_lstms
from hfprobe.errors import ConfigError

RNN = {"rnn_type": "lstm", "bidirectional": True, "use_projection": True, "num_layers": 2, "dropout": 0.0}
MAKE = {
    "blstm": lambda: RNNEncoder(input_size=24, hidden_size=12, output_size=10, subsample=[1, 2], **RNN),
    "vgg-blstm": lambda: VGGRNNEncoder(input_size=24, hidden_size=12, output_size=10, in_channel=3, **RNN),
}


def passed(encoder, features, lengths):
    """Output, lengths and all gradients of one pass."""
    output, counts, _ = encoder(features, lengths)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return output.detach(), counts, {name: p.grad for name, p in encoder.named_parameters()}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("unpacked", [False, True])
def test_outputs_and_gradients_are_near_those_of_float32(kind, unpacked):
    torch.manual_seed(0)
    exact = MAKE[kind]().train()
    if unpacked:
        unpack_lstms(exact)
        channels_last(exact)
    half = copy.deepcopy(exact)
    train_in_bfloat16(half)
    features, lengths = torch.randn(4, 37, 24), torch.tensor([37, 30, 11, 5])
    (one, counts, gradients), (other, other_counts, other_gradients) = (
        passed(encoder, features, lengths) for encoder in (exact, half)
    )
    assert list(map(int, counts)) == list(map(int, other_counts))
    assert other.dtype == torch.float32 and all(p.dtype == torch.float32 for p in half.parameters())
    # bfloat16 has 8 bits: not the same numbers, and not far from them.
    assert 0 < (one - other).abs().max() < 0.05 * one.abs().max()
    for name, gradient in gradients.items():
        assert other_gradients[name].dtype == torch.float32
        assert torch.cosine_similarity(gradient.flatten(), other_gradients[name].flatten(), 0) > 0.95, name


@torch.no_grad()
def test_evaluation_is_float32_to_the_bit():
    torch.manual_seed(0)
    exact = MAKE["vgg-blstm"]()
    half = copy.deepcopy(exact)
    train_in_bfloat16(half)
    features, lengths = torch.randn(2, 37, 24), torch.tensor([37, 30])
    assert torch.equal(exact.eval()(features, lengths)[0], half.eval()(features, lengths)[0])
    assert exact.state_dict().keys() == half.state_dict().keys()


@pytest.mark.parametrize("name", ["amx_bf16", "avx512_bf16"])
def test_auto_is_for_cpus_with_instructions(monkeypatch, name):
    for there in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda there=there: {"avx512_f": True, name: there})
        assert wants_bfloat16("auto") is there
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # other architectures name other things
    assert wants_bfloat16("auto") is False
    with pytest.raises(ConfigError, match="one of true, false, auto, got 'yes'"):
        wants_bfloat16("yes")
