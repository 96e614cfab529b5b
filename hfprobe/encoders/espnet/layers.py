"""Names, widths and time axis of the layers of ESPnet's encoders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from espnet2.asr.encoder.branchformer_encoder import BranchformerEncoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from torch import nn

from hfprobe.encoders.base import LayerSpec
from hfprobe.encoders.espnet.subsampling import convolution_specs, convolutions
from hfprobe.errors import EncoderError

if TYPE_CHECKING:
    from espnet.nets.pytorch_backend.rnn.encoders import RNN, RNNP, VGG2L

RecurrentEncoder: TypeAlias = RNNEncoder | VGGRNNEncoder
AttentionEncoder: TypeAlias = TransformerEncoder | ConformerEncoder | BranchformerEncoder | EBranchformerEncoder
BLOCK_NAMES: dict[type[nn.Module], str] = {
    TransformerEncoder: "transformer",
    ConformerEncoder: "conformer",
    BranchformerEncoder: "branchformer",
    EBranchformerEncoder: "ebranchformer",
}


def layer_specs(
    encoder: RecurrentEncoder | AttentionEncoder, input_dim: int, hop: int, start: int = 0
) -> list[LayerSpec]:
    """List the layers from the input to the encoder's output.

    Args:
        encoder: ESPnet's encoder.
        input_dim: Width of the feature frames.
        hop: Samples from one feature frame to the next.
        start: Sample on which the first feature frame is centred.

    Returns:
        Specifications in the order of the network.

    Raises:
        EncoderError: If the features do not divide into the convolutions' channels or are too narrow for
            them, or a subsampling factor is neither 1 nor 2.
    """
    specs = _specs_from_zero(encoder, input_dim, hop)
    return [replace(spec, offset=spec.offset + start) for spec in specs]


def _specs_from_zero(encoder: RecurrentEncoder | AttentionEncoder, input_dim: int, hop: int) -> list[LayerSpec]:
    """The layers where the first feature frame is centred on sample 0."""
    if isinstance(encoder, AttentionEncoder):
        specs = convolution_specs(convolutions(encoder.embed), input_dim, hop)
        return specs + _block_specs(encoder, *((specs[-1].stride, specs[-1].offset) if specs else (hop, 0)))
    specs = _vgg_specs(encoder.enc[0], input_dim, hop) if isinstance(encoder, VGGRNNEncoder) else []
    stride, offset = (specs[-1].stride, specs[-1].offset) if specs else (hop, 0)
    place = f"encoder.enc.{len(encoder.enc) - 1}"
    stack = encoder.enc[-1]
    if hasattr(stack, "nbrnn"):
        return specs + _plain_specs(stack, place, stride, offset)
    return specs + _projected_specs(stack, place, stride, offset)


def _vgg_specs(vgg: VGG2L, input_dim: int, hop: int) -> list[LayerSpec]:
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


def _projected_specs(stack: RNNP, place: str, stride: int, offset: int) -> list[LayerSpec]:
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


def _plain_specs(stack: RNN, place: str, stride: int, offset: int) -> list[LayerSpec]:
    """Layers of ``RNN``: one fused network with a projection at its end, no subsampling."""
    count = stack.nbrnn.num_layers
    width = stack.nbrnn.hidden_size * (2 if stack.nbrnn.bidirectional else 1)
    specs = [
        LayerSpec(f"{stack.typ}{layer + 1}", width, stride, offset, f"layer {layer} of {place}.nbrnn")
        for layer in range(count - 1)
    ]
    tap = f"tanh({place}.l_last)"
    return [*specs, LayerSpec(f"{stack.typ}{count}", stack.l_last.out_features, stride, offset, tap)]


def _block_specs(encoder: AttentionEncoder, stride: int, offset: int) -> list[LayerSpec]:
    """Blocks of the attention encoders: each block's output, the last one after the encoder's own last norm."""
    name, count = BLOCK_NAMES[type(encoder)], len(encoder.encoders)
    specs = []
    for index, block in enumerate(encoder.encoders):
        tap = f"encoder.encoders.{index}, {_block_end(block)}"
        if index == count - 1 and hasattr(encoder, "after_norm"):
            tap = f"encoder.after_norm({tap})"
        specs.append(LayerSpec(f"{name}{index + 1}", encoder.output_size(), stride, offset, tap))
    return specs


def _block_end(block: nn.Module) -> str:
    """What a block ends on, in words."""
    if hasattr(block, "norm_final"):
        return "after its norm_final"
    if block.normalize_before:
        return "residual sum after the feed-forward, no norm after it"
    return f"after its {'norm_ff' if hasattr(block, 'norm_ff') else 'norm2'}"
