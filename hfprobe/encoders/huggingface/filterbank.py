"""Conformers over mel features: w2v-BERT 2.0 and Parakeet.

Sources: Chung et al., w2v-BERT (2021); Seamless Communication (2023); Rekesh et al., Fast Conformer (2023); and the
modelling code of transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hfprobe.encoders.base import Count, LayerSpec
from hfprobe.encoders.huggingface.adapter import Axis, HuggingFaceEncoder, time_axis
from hfprobe.encoders.huggingface.features import (
    KALDI_HOP,
    KALDI_WINDOW,
    kaldi_fbank,
    kaldi_frames,
    parakeet_log_mel,
    stack_frames,
)
from hfprobe.encoders.huggingface.passes import Hook, Recorder, hooked, valid_frames
from hfprobe.encoders.huggingface.text import CTCTokens
from hfprobe.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Wav2Vec2BertEncoder(HuggingFaceEncoder):
    """w2v-BERT 2.0.

    Layers: ``embed``, the feature projection of two stacked 80-band frames (``hidden_states[0]`` of
    transformers); ``conformer1..N``, each block after its final_layer_norm; ``final``, where a feed-forward
    follows the blocks (``use_intermediate_ffn_before_adapter``); ``adapter1..A`` with ``add_adapter``. Where
    an utterance has an odd number of 10 ms frames, the last one has no partner and gives no frame.

    The library's adapters let padding in. With them a batch is encoded in one pass for each length, and an
    odd last frame goes in with the extractor's padding beside it, as in the library.

    Args:
        name: Short name for results.
        model: ``Wav2Vec2BertModel``.
        extractor: ``SeamlessM4TFeatureExtractor``.
        ctc: Linear layer from the last layer to token scores, or None.
        text: How tokens become text, or None.

    Raises:
        EncoderError: If the extractor makes other features than the model takes.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        extractor: Any,
        ctc: nn.Linear | None = None,
        text: CTCTokens | None = None,
    ):
        width, wanted = extractor.num_mel_bins * extractor.stride, model.config.feature_projection_input_dim
        if width != wanted:
            raise EncoderError(
                f"expected features of width {wanted} as in config.json, got {width} in preprocessor_config.json: "
                "use the files that belong together"
            )
        super().__init__(name, _bert_specs(model, extractor.stride), model, ctc, text)
        self._extractor = extractor
        # One stacked frame; a variance over time needs two 10 ms frames.
        self.min_samples = KALDI_WINDOW + KALDI_HOP * (max(extractor.stride, 2) - 1)
        self.alike_only = self.padding_sensitive = model.adapter is not None

    def hidden_lengths_for(self, samples: Count) -> tuple[Count, ...]:
        """Frames of each layer: stacked 10 ms frames, then the library's count at each adapter."""
        frames = kaldi_frames(samples) // self._extractor.stride
        counts = []
        for spec in self.layers:
            if spec.name.startswith("adapter"):
                frames = _adapter_frames(self.model.config, frames)
            counts.append(frames)
        return tuple(counts)

    def _run(self, waveforms: Tensor, lengths: Tensor, recorder: Recorder) -> None:
        counts = dict(zip((spec.name for spec in self.layers), self.hidden_lengths_for(lengths), strict=True))
        features = kaldi_fbank(waveforms, lengths, self._extractor)
        if self.alike_only:
            odd = -features.shape[1] % self._extractor.stride
            features = F.pad(features, (0, 0, 0, odd), value=self._extractor.padding_value)
        features = stack_frames(features, self._extractor.stride).to(self.dtype)
        frames = counts["embed"]
        mask = None
        if int(frames.min()) < features.shape[1]:
            mask = valid_frames(frames, features.shape[1])
        model = self.model
        hooks: list[tuple[nn.Module, Hook]] = [(model.encoder.layers[0], recorder.input_of("embed", frames))]
        for number, block in enumerate(model.encoder.layers, start=1):
            hooks.append((block, recorder.output_of(f"conformer{number}", frames)))
        if model.adapter is not None:
            for number, layer in enumerate(model.adapter.layers, start=1):
                name = f"adapter{number}"
                hooks.append((layer, recorder.output_of(name, counts[name])))
        with hooked(hooks):
            x = model.feature_projection(features)[0]
            x = model.encoder(x, attention_mask=mask).last_hidden_state
            if model.intermediate_ffn is not None:
                x = x + 0.5 * model.intermediate_ffn(x)
                recorder.put("final", x, frames)
            if model.adapter is not None:
                model.adapter(x, attention_mask=None if mask is None else mask.long())


class ParakeetEncoder(HuggingFaceEncoder):
    """The Fast Conformer encoder of Parakeet.

    Layers: ``cnn1..cnnK``, each subsampling stage after its ReLU, ``(frames, channels * freq)``; ``embed``,
    their projection, scaled (``hidden_states[0]`` of transformers); ``conformer1..N``, each block after its
    norm_out.

    Args:
        name: Short name for results.
        model: ``transformers``' ``ParakeetEncoder``.
        extractor: ``ParakeetFeatureExtractor``.
        ctc: Linear layer from the last layer to token scores, or None.
        text: How tokens become text, or None.

    Raises:
        EncoderError: If the extractor makes other features than the model takes.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        extractor: Any,
        ctc: nn.Linear | None = None,
        text: CTCTokens | None = None,
    ):
        if extractor.feature_size != model.config.num_mel_bins:
            raise EncoderError(
                f"expected {model.config.num_mel_bins} mel bins as in config.json, got {extractor.feature_size} in "
                "preprocessor_config.json: use the files that belong together"
            )
        super().__init__(name, _parakeet_specs(model, extractor.hop_length), model, ctc, text)
        self._extractor = extractor
        # A variance over time needs two mel frames.
        self.min_samples = 2 * extractor.hop_length

    def hidden_lengths_for(self, samples: Count) -> tuple[Count, ...]:
        """Frames of each layer: whole hops, then ``(t + 2 * padding - kernel) // stride + 1`` at each stage."""
        frames = samples // self._extractor.hop_length
        counts = []
        for convolution, _ in _stages(self.model):
            kernel, stride, padding = time_axis(convolution)
            frames = (frames + 2 * padding - kernel) // stride + 1
            counts.append(frames)
        return tuple(counts + [frames] * (len(self.layers) - len(counts)))

    def _run(self, waveforms: Tensor, lengths: Tensor, recorder: Recorder) -> None:
        counts = dict(zip((spec.name for spec in self.layers), self.hidden_lengths_for(lengths), strict=True))
        features = parakeet_log_mel(waveforms, lengths, self._extractor).to(self.dtype)
        frames = lengths // self._extractor.hop_length
        mask = valid_frames(frames, features.shape[1]) if int(frames.min()) < features.shape[1] else None
        hooks: list[tuple[nn.Module, Hook]] = [
            (self.model.layers[0], recorder.input_of("embed", counts["embed"])),
        ]
        for number, (_, activation) in enumerate(_stages(self.model), start=1):
            name = f"cnn{number}"
            hooks.append((activation, _map_of(name, counts[name], recorder)))
        for number, block in enumerate(self.model.layers, start=1):
            name = f"conformer{number}"
            hooks.append((block, recorder.output_of(name, counts[name])))
        with hooked(hooks):
            self.model(features, attention_mask=mask)


def _map_of(name: str, lengths: Tensor, recorder: Recorder) -> Hook:
    """Hook that lays a map ``(batch, channels, frames, freq)`` out as frames."""

    def hook(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        if name in recorder.keep:
            recorder.put(name, output.transpose(1, 2).flatten(2), lengths)

    return hook


def _stages(model: PreTrainedModel) -> list[tuple[nn.Conv2d, nn.Module]]:
    """The convolution over time and the activation of each subsampling stage."""
    stages: list[tuple[nn.Conv2d, nn.Module]] = []
    first: nn.Conv2d | None = None
    for layer in model.subsampling.layers:
        if isinstance(layer, nn.Conv2d):
            first = layer if first is None else first
        elif first is not None:
            stages.append((first, layer))
            first = None
    return stages


def _adapter_frames(config: Any, frames: Count) -> Count:
    """Valid frames after an adapter of w2v-BERT, as the library counts them, and no more than it gives."""
    kernel, stride = config.adapter_kernel_size, config.adapter_stride
    counted = (frames + 2 * (kernel // 2) - kernel) // stride + 1
    given = (frames + 2 * (stride // 2) - kernel) // stride + 1
    return torch.minimum(counted, given) if isinstance(frames, Tensor) else min(counted, given)


def _bert_specs(model: PreTrainedModel, stacked: int) -> tuple[LayerSpec, ...]:
    """The layers of w2v-BERT in the order in which they are computed."""
    config = model.config
    axis = Axis(KALDI_HOP, KALDI_WINDOW / 2).convolve(stacked, stacked)
    dim, count = config.hidden_size, len(model.encoder.layers)
    tap = f"feature projection of {stacked} stacked filterbank frames; what the first block reads"
    specs = [axis.spec("embed", dim, tap)]
    for number in range(1, count + 1):
        specs.append(axis.spec(f"conformer{number}", dim, f"output of block {number}, after its final_layer_norm"))
    if model.intermediate_ffn is not None:
        specs.append(axis.spec("final", dim, f"conformer{count} + 0.5 * intermediate_ffn(conformer{count})"))
    for number in range(1, config.num_adapter_layers + 1 if model.adapter is not None else 1):
        axis = axis.convolve(config.adapter_kernel_size, config.adapter_stride, config.adapter_stride // 2)
        tap = f"output of adapter layer {number}, residual sum after its feed-forward"
        specs.append(axis.spec(f"adapter{number}", config.output_hidden_size, tap))
    return tuple(specs)


def _parakeet_specs(model: PreTrainedModel, hop: int) -> tuple[LayerSpec, ...]:
    """The layers of Parakeet in the order in which they are computed."""
    config, axis, bins, specs = model.config, Axis(hop), model.config.num_mel_bins, []
    for number, (convolution, activation) in enumerate(_stages(model), start=1):
        kernel, stride, padding = time_axis(convolution)
        axis = axis.convolve(kernel, stride, padding)
        bins = (bins + 2 * padding - kernel) // stride + 1
        source = "the log-mel features" if number == 1 else f"cnn{number - 1}"
        inner = "conv" if number == 1 else "pointwise(depthwise)"
        tap = f"{type(activation).__name__}({inner}) of {source}, channels * freq"
        specs.append(axis.spec(f"cnn{number}", convolution.out_channels * bins, tap))
    tap = "linear of the last subsampling stage, scaled where scale_input is set; what the first block reads"
    specs.append(axis.spec("embed", config.hidden_size, tap))
    for number in range(1, len(model.layers) + 1):
        tap = f"output of block {number}, after its norm_out"
        specs.append(axis.spec(f"conformer{number}", config.hidden_size, tap))
    return tuple(specs)
