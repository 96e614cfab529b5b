"""The unit start: every layer of a fresh recogniser passes on what it gets."""

from types import SimpleNamespace

import pytest
import torch
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from torch.nn.utils.rnn import PackedSequence

from hfprobe.asr.start import VGG_OUTPUT_SIZE, start_recogniser

RNN = {
    "bidirectional": True,
    "use_projection": True,
    "num_layers": 5,
    "hidden_size": 32,
    "output_size": 32,
    "dropout": 0.0,
}
MAKE = {
    "blstm": lambda bands=80: RNNEncoder(input_size=3 * bands, rnn_type="lstm", subsample=[1, 2, 2, 2, 1], **RNN),
    "vgg-blstm": lambda bands=80: VGGRNNEncoder(input_size=3 * bands, rnn_type="lstm", in_channel=3, **RNN),
    "gru": lambda bands=80: RNNEncoder(input_size=3 * bands, rnn_type="gru", subsample=[1, 1, 1, 1, 1], **RNN),
}


@torch.no_grad()
def sizes(encoder, bands=80):
    """Root mean square of the projection of each recurrent layer, and of the VGG block's output."""
    seen = {}

    def note(name):
        def hook(module, inputs, output):
            value = output[0] if isinstance(output, tuple) else output
            value = value.data if isinstance(value, PackedSequence) else value
            seen[name] = float(value.square().mean().sqrt())

        return hook

    hooks = [m.register_forward_hook(note(n)) for n, m in encoder.named_modules() if isinstance(m, torch.nn.Linear)]
    if isinstance(encoder, VGGRNNEncoder):
        hooks.append(encoder.enc[0].register_forward_hook(note("vgg")))
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(2, 168, 3 * bands, generator=generator).unfold(1, 9, 1).mean(-1) * 3
    encoder.eval()(noise, torch.tensor([160, 130]))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_layer_has_outputs_of_unit_size(kind, seed):
    torch.manual_seed(seed)
    encoder = MAKE[kind]()
    before = sizes(encoder)
    start_recogniser(SimpleNamespace(encoder=encoder))
    after = sizes(encoder)
    assert 0.5 * VGG_OUTPUT_SIZE < after.pop("vgg", VGG_OUTPUT_SIZE) < 2 * VGG_OUTPUT_SIZE
    assert len(after) == 5 and all(0.3 < size < 3 for size in after.values()), after
    # Varying part of the default start's last layer: its biases alone make up most of what is left.
    assert before["enc.0.bt4" if kind != "vgg-blstm" else "enc.1.bt4"] < 0.2


@pytest.mark.parametrize("bands", [16, 40])
def test_any_number_of_bands(bands):
    encoder = MAKE["vgg-blstm"](bands)
    start_recogniser(SimpleNamespace(encoder=encoder))
    seen = sizes(encoder, bands)
    seen.pop("vgg")
    assert all(0.3 < size < 3 for size in seen.values())


def test_fused_networks_keep_their_start():
    encoder = RNNEncoder(input_size=24, rnn_type="lstm", **{**RNN, "use_projection": False, "num_layers": 2})
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    start_recogniser(SimpleNamespace(encoder=encoder))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
