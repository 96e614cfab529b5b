"""One block of ESPnet's Transformer, Conformer, Branchformer or E-Branchformer over a padded batch.

The steps are those of ESPnet's own ``forward``, with zeros past each utterance in front of every convolution
over time: ESPnet does not mask there, so that in its padded batches the filters carry padding back into an
utterance. Blocks are never skipped in training (no stochastic depth, no dropped branch); dropout acts.

Sources: Gulati et al., "Conformer" (2020); Peng et al., "Branchformer" (2022); Kim et al., "E-Branchformer"
(2022).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from espnet.nets.pytorch_backend.conformer.convolution import ConvolutionModule
from espnet.nets.pytorch_backend.conformer.encoder_layer import EncoderLayer as ConformerLayer
from espnet.nets.pytorch_backend.transformer.encoder_layer import EncoderLayer as TransformerLayer
from espnet.nets.pytorch_backend.transformer.multi_layer_conv import Conv1dLinear, MultiLayeredConv1d
from espnet2.asr.encoder.branchformer_encoder import BranchformerEncoderLayer
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoderLayer
from espnet2.asr.layers.cgmlp import ConvolutionalGatingMLP
from torch import Tensor, nn

from hfprobe.encoders.espnet.attention import attend
from hfprobe.encoders.espnet.extent import Extent


def run_block(block: nn.Module, x: Tensor, places: Tensor | None, extent: Extent) -> Tensor:
    """Apply one block.

    Args:
        block: Entry of ESPnet's ``encoder.encoders``.
        x: ``(batch, frames, dim)``.
        places: Vectors of the relative positions, or None.
        extent: Which frames are an utterance's.

    Returns:
        ``(batch, frames, dim)``; values past an utterance mean nothing.
    """
    if isinstance(block, EBranchformerEncoderLayer):
        return _e_branchformer(block, x, places, extent)
    if isinstance(block, BranchformerEncoderLayer):
        return _branchformer(block, x, places, extent)
    if isinstance(block, ConformerLayer):
        return _conformer(block, x, places, extent)
    return _transformer(block, x, places, extent)


def _residual(x: Tensor, norm: nn.Module, before: bool, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Add what a function makes of ``x``, normalised before it or after the sum."""
    return x + function(norm(x)) if before else norm(x + function(x))


def _attended(block: TransformerLayer | ConformerLayer, x: Tensor, places: Tensor | None, extent: Extent) -> Tensor:
    """What the self-attention adds to the residual path."""
    result = attend(block.self_attn, x, places, extent)
    return block.concat_linear(torch.cat([x, result], dim=-1)) if block.concat_after else block.dropout(result)


def _transformer(block: TransformerLayer, x: Tensor, places: Tensor | None, extent: Extent) -> Tensor:
    before = block.normalize_before
    x = _residual(x, block.norm1, before, lambda y: _attended(block, y, places, extent))
    return _residual(x, block.norm2, before, lambda y: block.dropout(_feed_forward(block.feed_forward, y, extent)))


def _conformer(block: ConformerLayer, x: Tensor, places: Tensor | None, extent: Extent) -> Tensor:
    before, half = block.normalize_before, block.ff_scale

    def feed(module: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda y: half * block.dropout(_feed_forward(module, y, extent))

    if block.feed_forward_macaron is not None:
        x = _residual(x, block.norm_ff_macaron, before, feed(block.feed_forward_macaron))
    x = _residual(x, block.norm_mha, before, lambda y: _attended(block, y, places, extent))
    if block.conv_module is not None:
        x = _residual(x, block.norm_conv, before, lambda y: block.dropout(_convolve(block.conv_module, y, extent)))
    x = _residual(x, block.norm_ff, before, feed(block.feed_forward))
    return x if block.conv_module is None else block.norm_final(x)


def _branchformer(block: BranchformerEncoderLayer, x: Tensor, places: Tensor | None, extent: Extent) -> Tensor:
    branches = []
    if block.attn is not None:
        branches.append(block.dropout(attend(block.attn, block.norm_mha(x), places, extent)))
    if block.cgmlp is not None:
        branches.append(block.dropout(_gated(block.cgmlp, block.norm_mlp(x), extent)))
    if not block.use_two_branches:
        merged = branches[0]
    elif block.merge_method == "concat":
        merged = torch.cat(branches, dim=-1)
    else:
        attended, gated = branches
        merged = _average(block, attended, gated, extent)
    return block.norm_final(x + block.dropout(block.merge_proj(merged)))


def _average(block: BranchformerEncoderLayer, attended: Tensor, gated: Tensor, extent: Extent) -> Tensor:
    """Mean of the two branches under fixed weights, or under weights learned from the whole utterance."""
    if block.merge_method == "fixed_ave":
        return (1.0 - block.cgmlp_weight) * attended + block.cgmlp_weight * gated
    votes = []
    for branch, pooling, vote in (
        (attended, block.pooling_proj1, block.weight_proj1),
        (gated, block.pooling_proj2, block.weight_proj2),
    ):
        scores = pooling(branch) / block.size**0.5
        if extent.valid is not None:
            scores = scores.masked_fill(~extent.valid[..., None], torch.finfo(scores.dtype).min)
        votes.append(vote(scores.softmax(dim=1).mT @ branch))
    # Each (batch, 1, 1), as the frames that they weight want it.
    first, second = torch.cat(votes, dim=-1).softmax(dim=-1).split(1, dim=-1)
    return first * attended + second * gated


def _e_branchformer(block: EBranchformerEncoderLayer, x: Tensor, places: Tensor | None, extent: Extent) -> Tensor:
    if block.feed_forward_macaron is not None:
        x = x + block.ff_scale * block.dropout(block.feed_forward_macaron(block.norm_ff_macaron(x)))
    attended = block.dropout(attend(block.attn, block.norm_mha(x), places, extent))
    gated = block.dropout(_gated(block.cgmlp, block.norm_mlp(x), extent))
    both = extent.clear(torch.cat([attended, gated], dim=-1))
    mixed = block.depthwise_conv_fusion(both.mT).mT
    x = x + block.dropout(block.merge_proj(both + mixed))
    if block.feed_forward is not None:
        x = x + block.ff_scale * block.dropout(block.feed_forward(block.norm_ff(x)))
    return block.norm_final(x)


def _feed_forward(module: nn.Module, x: Tensor, extent: Extent) -> Tensor:
    """Position-wise network, or one of its forms that read the neighbouring frames."""
    if not isinstance(module, MultiLayeredConv1d | Conv1dLinear):
        return module(x)
    hidden = module.dropout(torch.relu(module.w_1(extent.clear(x).mT)).mT)
    if isinstance(module, Conv1dLinear):
        return module.w_2(hidden)
    return module.w_2(extent.clear(hidden).mT).mT


def _convolve(module: ConvolutionModule, x: Tensor, extent: Extent) -> Tensor:
    """Convolution module of the Conformer."""
    x = F.glu(module.pointwise_conv1(x.mT), dim=1)
    x = module.depthwise_conv(extent.clear(x.mT).mT)
    if module.training and extent.valid is not None:
        # In training the statistics of the batch count: those of the utterances, not of their padding.
        x = x.mT.masked_scatter(extent.valid[..., None], module.norm(x.mT[extent.valid])).mT
    else:
        x = module.norm(x)
    return module.pointwise_conv2(module.activation(x)).mT


def _gated(module: ConvolutionalGatingMLP, x: Tensor, extent: Extent) -> Tensor:
    """Convolutional gating network of the Branchformers."""
    unit = module.csgu
    passed, gate = module.channel_proj1(x).chunk(2, dim=-1)
    gate = unit.conv(extent.clear(unit.norm(gate)).mT).mT
    if unit.linear is not None:
        gate = unit.linear(gate)
    return module.channel_proj2(unit.dropout(passed * unit.act(gate)))
