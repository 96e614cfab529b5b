"""Names, widths and time axis of the layers of ESPnet's recurrent encoders."""

from __future__ import annotations

from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from torch import nn

from hfprobe.encoders.base import LayerSpec
from hfprobe.errors import EncoderError


def layer_specs(encoder: RNNEncoder | VGGRNNEncoder, input_dim: int, hop: int) -> list[LayerSpec]:
    """List the layers from the input to the encoder's output.

    Args:
        encoder: ESPnet's encoder.
        input_dim: Width of the feature frames.
        hop: Samples from one feature frame to the next; the first is centred on sample 0.

    Returns:
        Specifications in the order of the network.

    Raises:
        EncoderError: If the features do not divide into the convolutions' channels, or a subsampling factor
            is neither 1 nor 2.
    """
    specs = _vgg_specs(encoder.enc[0], input_dim, hop) if isinstance(encoder, VGGRNNEncoder) else []
    stride, offset = (specs[-1].stride, specs[-1].offset) if specs else (hop, 0)
    place = f"encoder.enc.{len(encoder.enc) - 1}"
    stack = encoder.enc[-1]
    if hasattr(stack, "nbrnn"):
        return specs + _plain_specs(stack, place, stride, offset)
    return specs + _projected_specs(stack, place, stride, offset)


def _vgg_specs(vgg: nn.Module, input_dim: int, hop: int) -> list[LayerSpec]:
    """The two convolution blocks of ``VGG2L``, read after their first convolution and after their pooling."""
    if input_dim % vgg.in_channel:
        raise EncoderError(
            f"expected features that divide into in_channel {vgg.in_channel}, got width {input_dim}: "
            "frontend and encoder_conf do not fit"
        )
    specs = []
    stride, offset, freq = hop, 0, input_dim // vgg.in_channel
    for block, channels in ((1, vgg.conv1_1.out_channels), (2, vgg.conv2_1.out_channels)):
        tap = f"relu(encoder.enc.0.conv{block}_1)"
        specs.append(LayerSpec(f"cnn{2 * block - 1}", channels * freq, stride, offset, tap))
        # A pooled frame covers two: its centre lies half a stride after that of the first one.
        stride, offset, freq = 2 * stride, offset + stride // 2, -(-freq // 2)
        tap = f"max_pool(relu(encoder.enc.0.conv{block}_2))"
        specs.append(LayerSpec(f"cnn{2 * block}", channels * freq, stride, offset, tap))
    return specs


def _projected_specs(stack: nn.Module, place: str, stride: int, offset: int) -> list[LayerSpec]:
    """Layers of ``RNNP``, read where the next layer reads them."""
    factors = [int(factor) for factor in stack.subsample[1:]]
    if not set(factors) <= {1, 2}:
        raise EncoderError(f"expected subsampling factors of 1 or 2, got {factors}: others are not supported")
    specs = []
    for layer, factor in enumerate(factors):
        # Every second frame is taken, beginning with the first: the centre of the first frame stays.
        stride *= factor
        tap = f"{place}.bt{layer}" if layer == len(factors) - 1 else f"tanh({place}.bt{layer})"
        width = getattr(stack, f"bt{layer}").out_features
        specs.append(LayerSpec(f"{stack.typ}{layer + 1}", width, stride, offset, tap))
    return specs


def _plain_specs(stack: nn.Module, place: str, stride: int, offset: int) -> list[LayerSpec]:
    """Layers of ``RNN``: one fused network with a projection at its end, no subsampling."""
    count = stack.nbrnn.num_layers
    width = stack.nbrnn.hidden_size * (2 if stack.nbrnn.bidirectional else 1)
    specs = [
        LayerSpec(f"{stack.typ}{layer + 1}", width, stride, offset, f"layer {layer} of {place}.nbrnn")
        for layer in range(count - 1)
    ]
    tap = f"tanh({place}.l_last)"
    return [*specs, LayerSpec(f"{stack.typ}{count}", stack.l_last.out_features, stride, offset, tap)]
