"""ESPnet's attention encoders (Transformer, Conformer, Branchformer, E-Branchformer) as `SpeechEncoder`.

As for the recurrent ones, ESPnet's modules and weights are run here rather than through ESPnet's
``forward``, so that every utterance of a padded batch gets exactly what it gets alone, without running one
at a time. For an utterance alone the values are ESPnet's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from espnet.nets.pytorch_backend.transformer.attention import LegacyRelPositionMultiHeadedAttention
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor, nn

from hfprobe.encoders.base import Count
from hfprobe.encoders.espnet.adapter import EspnetEncoder
from hfprobe.encoders.espnet.attention import RELATIVE
from hfprobe.encoders.espnet.blocks import run_block
from hfprobe.encoders.espnet.decoding import CTCText
from hfprobe.encoders.espnet.extent import Extent
from hfprobe.encoders.espnet.layers import AttentionEncoder
from hfprobe.encoders.espnet.normalize import PerUtteranceMVN, StoredMVN
from hfprobe.encoders.espnet.positions import ENCODINGS, embed_positions
from hfprobe.encoders.espnet.subsampling import (
    convolutions,
    convolved_maps,
    fewest_frames,
    frames_after,
    positional_encoding,
    project,
)
from hfprobe.errors import EncoderError

if TYPE_CHECKING:
    from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder


class EspnetAttentionEncoder(EspnetEncoder):
    """An attention encoder of ESPnet with its frontend, normalisation and CTC head.

    Layers: ``cnn1`` and so on, the convolutions of the input layer after their ReLU, flattened; then
    ``transformer1``, ``conformer1``, ``branchformer1`` or ``ebranchformer1`` to the last block, each the
    block's output (what a hook on ``encoder.encoders.{i}`` sees), the last one after ``after_norm`` where
    the encoder has it (what ESPnet's ``encoder`` returns). `LayerSpec.tap` says what a block ends on.

    In ``train()`` dropout acts and batch norm learns from the valid frames, but no block is skipped: LayerDrop,
    stochastic depth and branch drop are disabled. Flash attention is never used. Where ``padding_sensitive``
    is set, masks in front of the convolutions are all that exactness costs.

    With self-conditioning (``interctc_use_conditioning``) the posteriors of the CTC head are fed back after
    the blocks of ``interctc_layer_idx``, as in ESPnet; those layers are read before that.

    Args:
        name: Short name for results.
        frontend: A stock frontend of ESPnet or a `DeltaFrontend`, at 16 kHz, as for `EspnetEncoder`.
        normalize: Feature normaliser, or None.
        encoder: ESPnet's ``TransformerEncoder``, ``ConformerEncoder``, ``BranchformerEncoder`` or
            ``EBranchformerEncoder``.
        ctc: Linear layer from the encoder's output to token scores, or None.
        text: How tokens become text, or None; needs ``ctc``.
        preencoder: ESPnet's ``LinearProjection`` or ``LightweightSincConvs`` between features and encoder, or None.

    Raises:
        EncoderError: If the parts are of a kind that is not supported or do not fit one another.

    Example:
        >>> from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
        >>> from espnet2.asr.frontend.default import DefaultFrontend
        >>> network = ConformerEncoder(80, 8, 2, linear_units=8, num_blocks=2, rel_pos_type="latest")
        >>> encoder = EspnetAttentionEncoder("tiny", DefaultFrontend(hop_length=160), None, network)
        >>> [(spec.name, spec.stride, spec.offset) for spec in encoder.layers]
        [('cnn1', 320, 160), ('cnn2', 640, 480), ('conformer1', 640, 480), ('conformer2', 640, 480)]
    """

    def __init__(
        self,
        name: str,
        frontend: AbsFrontend,
        normalize: StoredMVN | PerUtteranceMVN | None,
        encoder: AttentionEncoder,
        ctc: nn.Linear | None = None,
        text: CTCText | None = None,
        preencoder: AbsPreEncoder | None = None,
    ):
        _check_encoder(encoder, (frontend if preencoder is None else preencoder).output_size(), ctc)
        super().__init__(name, frontend, normalize, encoder, ctc, text, preencoder)
        self.min_samples = max(self.min_samples, self.axis.samples_for(fewest_frames(convolutions(encoder.embed))))
        # Where ESPnet itself would let padding in: convolutions over time, and the legacy relative positions.
        self.padding_sensitive = self.padding_sensitive or any(
            isinstance(module, LegacyRelPositionMultiHeadedAttention) or _reads_neighbours(module)
            for module in encoder.modules()
        )
        if _conditioned(encoder):
            # The CTC head is then a part of the network below the later layers.
            self._outside_fingerprint = ()

    def hidden_lengths_for(self, samples: Count) -> tuple[Count, ...]:
        """Frames of each layer: those of the frontend, less what each convolution takes."""
        frames = self.axis.frames(samples)
        counts: list[Count] = []
        for convolution in convolutions(self.encoder.embed):
            frames = frames_after([convolution], frames)
            counts.append(frames)
        counts += [frames] * len(self.encoder.encoders)
        return tuple(counts)

    def _run(self, waveforms: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """One layer's output after the other, zero past each utterance, so that unwanted ones can be freed."""
        features, own = self.features(waveforms, lengths)
        embed, places, x, frames = self.encoder.embed, None, features, own
        stack = convolutions(embed)
        tail: Iterable[nn.Module]
        if stack:
            for x, frames in convolved_maps(stack, features, own):
                yield Extent.of(frames, x.shape[1]).clear(x)
            x = project(embed, x)
            tail = [positional_encoding(embed)]
        else:
            tail = [] if embed is None else embed if isinstance(embed, nn.Sequential) else [embed]
        extent = Extent.of(frames, x.shape[1])
        for module in tail:
            if isinstance(module, ENCODINGS):
                x, places = embed_positions(module, x, extent)
            else:
                x = module(x)
        x = extent.clear(x)
        for index, block in enumerate(self.encoder.encoders):
            x = run_block(block, x, places, extent)
            if index == len(self.encoder.encoders) - 1 and hasattr(self.encoder, "after_norm"):
                x = self.encoder.after_norm(x)
            x = extent.clear(x)
            yield x
            if index + 1 in _conditioned(self.encoder):
                x = extent.clear(x + self._condition(x))

    def _condition(self, x: Tensor) -> Tensor:
        """What self-conditioning adds to a block's output."""
        # The E-Branchformer alone does not normalise here.
        normed = hasattr(self.encoder, "after_norm") and not isinstance(self.encoder, EBranchformerEncoder)
        assert self.ctc is not None, "self-conditioning without a CTC head is refused when the encoder is made"
        scores = self.ctc["ctc_lo"](self.encoder.after_norm(x) if normed else x)
        return self.encoder.conditioning_layer(scores.softmax(dim=-1))


def _conditioned(encoder: AttentionEncoder) -> list[int]:
    """Blocks, counted from 1, after which the CTC head's posteriors are fed back."""
    return encoder.interctc_layer_idx if getattr(encoder, "interctc_use_conditioning", False) else []


def _reads_neighbours(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d) and module.kernel_size[0] > 1


def _check_encoder(encoder: AttentionEncoder, input_dim: int, ctc: nn.Linear | None) -> None:
    """Refuse what ESPnet's constructors accept but its ``forward`` could not run, or what is not rebuilt here."""
    embed, width = encoder.embed, encoder.output_size()
    modules = list(encoder.modules())
    kind = type(encoder).__name__
    if any(isinstance(module, nn.Embedding) for module in modules):
        raise EncoderError(f"expected an input layer for features, got 'embed' in {kind}: it reads tokens")
    bare = embed is None or (isinstance(embed, nn.Sequential) and isinstance(embed[0], ENCODINGS))
    if bare and input_dim != width:
        raise EncoderError(
            f"expected features as wide as the output_size {width} of {kind} without a projection, got {input_dim}: "
            "frontend_conf and encoder_conf do not fit"
        )
    if any(isinstance(m, RELATIVE) for m in modules) and not any(isinstance(m, ENCODINGS) for m in modules):
        raise EncoderError(f"expected positions for the relative attention of {kind}, got none: choose an input_layer")
    for name, module in encoder.encoders.named_modules():
        if _reads_neighbours(module) and module.kernel_size[0] % 2 == 0:
            size = module.kernel_size[0]
            raise EncoderError(f"expected odd kernels in the blocks of {kind}, got {size} in encoders.{name}")
    if getattr(encoder, "ctc_trim", False) and encoder.interctc_layer_idx:
        raise EncoderError(f"expected ctc_trim: false in {kind}, got true: trimmed encoders are not supported")
    if _conditioned(encoder) and (ctc is None or encoder.conditioning_layer is None):
        raise EncoderError(f"expected a CTC head for the self-conditioning of {kind}, got none: it is not supported")
