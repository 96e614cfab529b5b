"""wav2vec2 and its kin: convolutions over the waveform, then Transformer or Conformer blocks.

Sources: Baevski et al., wav2vec 2.0 (2020); Hsu et al., HuBERT (2021); Chen et al., WavLM (2022); Baevski et
al., data2vec (2022); and the modelling code of transformers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from hfprobe.encoders.base import Count, LayerSpec
from hfprobe.encoders.huggingface.adapter import Axis, HuggingFaceEncoder, time_axis
from hfprobe.encoders.huggingface.features import time_statistics
from hfprobe.encoders.huggingface.passes import (
    Hook,
    Recorder,
    hooked,
    masking,
    valid_frames,
    zero_padding,
    zero_padding_,
)
from hfprobe.encoders.huggingface.text import CTCTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NORMALISED = "the waveform normalised to zero mean and unit variance"
RAW = "the waveform as it is"


class _ConvolutionLayer(Protocol):
    """What is read of a layer of the front end or an adapter; each family of the library has its own classes."""

    conv: nn.Conv1d

    def __call__(self, x: Tensor, /) -> Tensor: ...


class _FrontLayer(_ConvolutionLayer, Protocol):
    """A layer of the front end, where an activation follows the convolution."""

    activation: nn.Module


class WaveformEncoder(HuggingFaceEncoder):
    """wav2vec 2.0, HuBERT, WavLM, data2vec-audio, UniSpeech, UniSpeech-SAT, wav2vec2-conformer.

    Layers: ``cnn1..cnnK``, each convolution after its norm (where it has one) and activation; ``embed``, what
    the first block reads (``hidden_states[0]`` of transformers); ``transformer1..N`` (``conformer1..N``), the
    output of each block; ``final``, after the encoder's last LayerNorm, in models with pre-norm blocks
    (``do_stable_layer_norm`` and Conformers); ``adapter1..A``, where ``add_adapter`` is set.

    For an utterance alone the values are the library's. In a padded batch, where the library would let padding
    in, it is kept out: group norm takes each utterance's own statistics, and padding is zeroed between
    the positional convolutions (data2vec), after their batch norm (HuBERT) and before each adapter. That costs
    next to nothing. wav2vec2-conformer lets padding into every block: its batches are encoded in
    one pass for each length.

    Args:
        name: Short name for results.
        model: The library's model without a head, e.g. ``Wav2Vec2Model``.
        do_normalize: Whether each waveform is brought to zero mean and unit variance first.
        blocks: What a block is called.
        ctc: Linear layer from the last layer to token scores, or None.
        text: How tokens become text, or None.
    """

    # Convolutions without padding and masked attention: what is past an utterance is never read.
    _reads_padding = False

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        do_normalize: bool,
        blocks: str = "transformer",
        ctc: nn.Linear | None = None,
        text: CTCTokens | None = None,
    ):
        config = model.config
        convolutions = _convolutions(model)
        groups = isinstance(getattr(convolutions[0], "layer_norm", None), nn.GroupNorm)
        super().__init__(name, _layer_specs(model, do_normalize, blocks), model, ctc, text)
        self.do_normalize = do_normalize
        self.alike_only = blocks == "conformer"
        self.min_samples = _receptive_field(convolutions)
        if groups:
            # Group norm needs two frames to speak of a variance.
            first = convolutions[0].conv
            self.min_samples = max(self.min_samples, first.kernel_size[0] + first.stride[0])
        self.padding_sensitive = (
            groups
            or self.alike_only
            or config.model_type in ("data2vec-audio", "speecht5")
            or getattr(config, "conv_pos_batch_norm", False)
            or getattr(model, "adapter", None) is not None
        )

    def hidden_lengths_for(self, samples: Count) -> tuple[Count, ...]:
        """Frames of each layer: ``(n - kernel) // stride + 1`` at each convolution."""
        counts, frames = [], samples
        for layer in _convolutions(self.model):
            frames = _shorten(layer.conv, frames)
            counts.append(frames)
        rest = len(self.layers) - len(counts) - len(_adapters(self.model))
        counts += [frames] * rest
        for adapter in _adapters(self.model):
            frames = _shorten(adapter.conv, frames)
            counts.append(frames)
        return tuple(counts)

    def normalise(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Bring each utterance to zero mean and unit variance, as the library's feature extractor does.

        Args:
            waveforms: ``(batch, samples)``, zeros past each utterance.
            lengths: ``(batch,)`` samples.

        Returns:
            ``(batch, samples)``, zeros past each utterance; unchanged where ``do_normalize`` is off.
        """
        if not self.do_normalize:
            return waveforms
        mean, variance = time_statistics(waveforms[..., None], lengths)
        normalised = (waveforms - mean[:, 0]) / (variance[:, 0] + 1e-7).sqrt()
        return zero_padding_(normalised[..., None], lengths)[..., 0]

    def _run(self, waveforms: Tensor, lengths: Tensor, recorder: Recorder) -> None:
        x = self.normalise(waveforms, lengths).to(self.dtype)[:, None]
        padded = int(lengths.min()) < waveforms.shape[1]
        for number, layer in enumerate(_convolutions(self.model), start=1):
            lengths = _shorten(layer.conv, lengths)
            x = _convolve(layer, x, lengths) if padded else layer(x)
            recorder.put(f"cnn{number}", x.transpose(1, 2), lengths)
        x = self._project(x.transpose(1, 2))
        mask = None
        if int(lengths.min()) < x.shape[1]:
            mask = valid_frames(lengths, x.shape[1])
            x = zero_padding_(x, lengths)
        x = self._run_blocks(x, lengths, mask, recorder)
        self._run_adapters(x, lengths, recorder)

    def _project(self, x: Tensor) -> Tensor:
        """The feature projection; some families also return what it normalised."""
        projected = self.model.feature_projection(x)
        return projected[0] if isinstance(projected, tuple) else projected

    def _run_blocks(self, x: Tensor, lengths: Tensor, mask: Tensor | None, recorder: Recorder) -> Tensor:
        """The library's encoder under hooks, with padding kept out of its positional convolutions."""
        encoder = self.model.encoder
        hooks = self._block_hooks(encoder, lengths, recorder)
        if mask is not None:
            hooks += [(module, masking(lengths, axis=2)) for module in _leaks(encoder)]
        with hooked(hooks), warnings.catch_warnings():
            # WavLM's own call into torch, right but old-fashioned.
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
            x = encoder(x, attention_mask=mask).last_hidden_state
        if any(spec.name == "final" for spec in self.layers):
            recorder.put("final", x, lengths)
        return x

    def _block_hooks(
        self, encoder: PreTrainedModel, lengths: Tensor, recorder: Recorder
    ) -> list[tuple[nn.Module, Hook]]:
        """Hooks that take the input of the first block and the output of every one."""
        names = [spec.name for spec in self.layers]
        first = names.index("embed")
        hooks: list[tuple[nn.Module, Hook]] = [(encoder.layers[0], recorder.input_of("embed", lengths))]
        for name, block in zip(names[first + 1 :], encoder.layers, strict=False):
            hooks.append((block, recorder.output_of(name, lengths)))
        return hooks

    def _run_adapters(self, x: Tensor, lengths: Tensor, recorder: Recorder) -> None:
        """The convolutions after the blocks that wav2vec2 and WavLM may have."""
        adapters = _adapters(self.model)
        if not adapters:
            return
        if self.model.adapter.proj is not None:
            x = self.model.adapter.proj_layer_norm(self.model.adapter.proj(x))
        for number, layer in enumerate(adapters, start=1):
            x = layer(zero_padding(x, lengths).transpose(1, 2)).transpose(1, 2)
            lengths = _shorten(layer.conv, lengths)
            recorder.put(f"adapter{number}", x, lengths)


class SpeechT5Encoder(WaveformEncoder):
    """The speech encoder of SpeechT5 (Ao et al. 2022), without decoder and text.

    Layers: ``cnn1..cnnK``, ``embed`` (after the encoder's LayerNorm, which stands before the blocks) and
    ``transformer1..N``. The library lets padding into the positional convolution; here it is zeroed before.
    """

    def _project(self, x: Tensor) -> Tensor:
        return self.model.prenet.feature_projection(x)[0]

    def _run_blocks(self, x: Tensor, lengths: Tensor, mask: Tensor | None, recorder: Recorder) -> Tensor:
        prenet, encoder = self.model.prenet, self.model.wrapped_encoder
        x = x + prenet.pos_conv_embed(x)
        # The table of positions is asked with 1 for padding and 0 elsewhere.
        outside = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device) if mask is None else (~mask).long()
        x = x + prenet.pos_sinusoidal_embed(outside)
        with hooked(self._block_hooks(encoder, lengths, recorder)):
            return encoder(x, attention_mask=mask).last_hidden_state


def _convolutions(model: PreTrainedModel) -> Sequence[_FrontLayer]:
    """The convolutional layers of the front end."""
    prenet = getattr(model, "prenet", None)
    return prenet.feature_encoder.conv_layers if prenet is not None else model.feature_extractor.conv_layers


def _adapters(model: PreTrainedModel) -> Sequence[_ConvolutionLayer]:
    """The convolutions after the blocks."""
    adapter = getattr(model, "adapter", None)
    return () if adapter is None else adapter.layers


def _leaks(encoder: nn.Module) -> list[nn.Module]:
    """Modules before the blocks after which padding must be zeroed again, with time on axis 2."""
    embedding = getattr(encoder, "pos_conv_embed", None)
    stack = list(getattr(embedding, "layers", ()))
    norm = getattr(embedding, "batch_norm", None)
    return stack if norm is None else [*stack, norm]


def _shorten(convolution: nn.Conv1d, frames: Count) -> Count:
    """Frames after a convolution, of the type of ``frames``."""
    kernel, stride, padding = time_axis(convolution)
    return (frames + 2 * padding - kernel) // stride + 1


def _receptive_field(convolutions: Sequence[_FrontLayer]) -> int:
    """Samples that one frame after the last convolution sees: the shortest input that gives a frame."""
    field = 1
    for layer in reversed(convolutions):
        field = (field - 1) * layer.conv.stride[0] + layer.conv.kernel_size[0]
    return field


def _convolve(layer: _FrontLayer, x: Tensor, lengths: Tensor) -> Tensor:
    """A layer of the front end on a padded batch.

    The convolutions have no padding of their own: a valid frame sees valid samples only. Group norm,
    which spans all time, is given one utterance after the other.
    """
    norm = getattr(layer, "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        return layer(x)
    x = layer.conv(x)
    rows = []
    for row, frames in zip(x, lengths.tolist(), strict=True):
        normed = norm(row[None, :, :frames])
        rows.append(nn.functional.pad(normed, (0, x.shape[2] - frames)))
    return layer.activation(torch.cat(rows))


def _layer_specs(model: PreTrainedModel, do_normalize: bool, blocks: str) -> tuple[LayerSpec, ...]:
    """The layers of a model in the order in which they are computed."""
    config, axis, specs = model.config, Axis(), []
    activation = config.feat_extract_activation
    for number, layer in enumerate(_convolutions(model), start=1):
        convolution = layer.conv
        axis = axis.convolve(convolution.kernel_size[0], convolution.stride[0])
        kind = type(getattr(layer, "layer_norm", None)).__name__
        inner = "conv" if kind == "NoneType" else f"{kind}(conv)"
        source = (NORMALISED if do_normalize else RAW) if number == 1 else f"cnn{number - 1}"
        specs.append(axis.spec(f"cnn{number}", convolution.out_channels, f"{activation}({inner}) of {source}"))
    speecht5 = config.model_type == "speecht5"
    stack = model.wrapped_encoder if speecht5 else model.encoder
    pre_norm = blocks == "conformer" or bool(getattr(config, "do_stable_layer_norm", False)) and not speecht5
    dim = config.hidden_size
    if blocks == "conformer":
        embed = "feature projection, without positions (they act inside the blocks)"
    elif speecht5:
        embed = "after LayerNorm of feature projection + positional convolution + sinusoids"
    elif pre_norm:
        embed = "feature projection + positional convolution, before any LayerNorm of the encoder"
    else:
        embed = "after encoder.layer_norm of feature projection + positional convolution"
    specs.append(axis.spec("embed", dim, f"{embed}; what the first block reads"))
    if blocks == "conformer":
        block = "after its final_layer_norm, before encoder.layer_norm"
    elif pre_norm:
        block = "residual sum, before the next block's LayerNorm and before encoder.layer_norm"
    else:
        block = "after its final_layer_norm"
    for number in range(1, len(stack.layers) + 1):
        specs.append(axis.spec(f"{blocks}{number}", dim, f"output of block {number}, {block}"))
    if pre_norm:
        specs.append(axis.spec("final", dim, f"encoder.layer_norm of {blocks}{len(stack.layers)}"))
    for number, adapter in enumerate(_adapters(model), start=1):
        convolution = adapter.conv
        axis = axis.convolve(*time_axis(convolution))
        tap = f"GLU(conv) of {'adapter' + str(number - 1) if number > 1 else 'the last layer (projected)'}"
        specs.append(axis.spec(f"adapter{number}", config.output_hidden_size, tap))
    return tuple(specs)
