"""A start from which small VGG-BLSTM and BLSTM recognisers learn CTC at all.

With PyTorch's default initialisation each projected BLSTM layer passes on about a tenth of its input's size, and each
convolution less than half, so after nine layers the loss hardly depends on the sound and training stays on the
all-blank plateau for thousands of steps. Here every layer starts with outputs of unit size, measured on noise shaped
like normalised features (layer-sequential unit variance, Mishkin and Matas, ICLR 2016).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from espnet.nets.pytorch_backend.rnn.encoders import RNNP, VGG2L
from torch import nn

if TYPE_CHECKING:
    from espnet2.asr.encoder.rnn_encoder import RNNEncoder
    from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
    from espnet2.asr.espnet_model import ESPnetASRModel

FRAMES = 200
# Size of what the last convolution hands to the first LSTM. Adam moves every weight by the learning rate at once; with
# 2560 positive inputs of unit size one step would move a gate from closed to open.
VGG_OUTPUT_SIZE = 0.3
NOISE = 0.2  # share of He's initialisation around filters that pass their input on


def start_recogniser(model: ESPnetASRModel) -> None:
    """Initialise the encoder of an ESPnet model in place.

    Convolutions: filters that pass their input on (`_start_convolution`). LSTMs: orthogonal recurrent matrices, zero
    biases with a forget-gate bias of 1 (Jozefowicz et al., ICML 2015), input matrices scaled to their input.
    Projections: unit output variance.

    Args:
        model: ESPnet model with an encoder made of ``VGG2L`` and ``RNNP`` blocks; other blocks keep their start.
    """
    encoder = model.encoder
    # Noise with the slow drift of speech features, so that LSTMs are measured on something they can integrate.
    noise = torch.randn(4, FRAMES + 8, _input_size(encoder))
    features = noise.unfold(1, 9, 1).mean(-1) * 3
    lengths = torch.full((4,), features.shape[1])
    with torch.no_grad():
        for block in encoder.enc:
            if isinstance(block, VGG2L):
                _start_vgg(block, features)
                features, lengths, _ = block(features, lengths)
            elif isinstance(block, RNNP):
                _start_rnnp(block, features)


def _input_size(encoder: RNNEncoder | VGGRNNEncoder) -> int:
    first = encoder.enc[0]
    width = next(m.input_size for m in encoder.modules() if isinstance(m, nn.RNNBase))
    if isinstance(first, VGG2L):
        # Two poolings leave a quarter of the bands, in as many maps as the last convolution has.
        return first.in_channel * 4 * (width // first.conv2_2.out_channels)
    return width


def _start_vgg(block: VGG2L, features: torch.Tensor) -> None:
    """Each convolution is scaled so that what leaves its ReLU (or pool) has unit size.

    Max-pooling makes values larger, so without the measured scale the LSTMs start, and stay, saturated.
    """
    maps = features.unflatten(-1, (block.in_channel, -1)).transpose(1, 2)
    for name in ("conv1_1", "conv1_2", "conv2_1", "conv2_2"):
        conv = getattr(block, name)
        _start_convolution(conv)
        pool = name.endswith("_2")
        size = _after(conv, maps, pool).square().mean().sqrt()
        conv.weight *= (VGG_OUTPUT_SIZE if name == "conv2_2" else 1.0) / size
        maps = _after(conv, maps, pool)


def _start_convolution(conv: nn.Conv2d) -> None:
    """Filters that keep what they get.

    Random mixtures of many positive maps are all alike, so each layer of them says less. The first convolution has
    orthogonal filters, each with its negative (so that ReLU loses nothing); a later one passes its input maps on, with
    a little of He's noise, and fills the maps that it has more than inputs with random filters. In the first 200 steps
    it learnt no faster than from He's filters alone; it stays because the shipped models began with it.
    """
    assert conv.bias is not None, "the convolutions of VGG2L have biases"
    nn.init.zeros_(conv.bias)
    inputs, outputs = conv.in_channels, conv.out_channels
    if inputs < 8:
        half = torch.empty(-(-outputs // 2), conv.weight[0].numel())
        nn.init.orthogonal_(half)
        conv.weight.copy_(torch.cat([half, -half])[:outputs].view_as(conv.weight))
        return
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    conv.weight[:inputs] *= NOISE
    for index in range(min(inputs, outputs)):
        conv.weight[index, index, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] += 1.0


def _after(conv: nn.Conv2d, maps: torch.Tensor, pool: bool) -> torch.Tensor:
    out = torch.relu(conv(maps))
    return nn.functional.max_pool2d(out, 2, stride=2, ceil_mode=True) if pool else out


def _start_rnnp(block: RNNP, features: torch.Tensor) -> None:
    prefix = "birnn" if block.bidir else "rnn"
    for index in range(block.elayers):
        rnn, projection = getattr(block, f"{prefix}{index}"), getattr(block, f"bt{index}")
        mean = features.mean(dim=(0, 1))
        size = (features - mean).square().mean().sqrt().clamp_min(1e-3)
        inputs = {}
        for name, weight in rnn.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.normal_(weight, std=float(1 / (size * weight.shape[1] ** 0.5)))
                inputs[name.removeprefix("weight_ih")] = weight
            elif name.startswith("weight_hh"):
                for gate in weight.chunk(weight.shape[0] // rnn.hidden_size):
                    nn.init.orthogonal_(gate)
            else:
                nn.init.zeros_(weight)
                if name.startswith("bias_ih"):  # ReLU outputs have a mean, which must not decide what a gate does
                    weight -= inputs[name.removeprefix("bias_ih")] @ mean
                    if isinstance(rnn, nn.LSTM):
                        weight[rnn.hidden_size : 2 * rnn.hidden_size] += 1.0
        hidden = rnn(features)[0][:, :: block.subsample[index + 1]]
        nn.init.zeros_(projection.bias)
        projection.weight *= 1 / projection(hidden).std()
        features = torch.tanh(projection(hidden))
