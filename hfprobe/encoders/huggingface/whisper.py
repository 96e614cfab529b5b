"""Whisper's encoder, without its silent half minute of padding in what it returns.

Source: Radford et al., Robust speech recognition via large-scale weak supervision (2022), and the modelling code
of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hfprobe.encoders.base import Count, LayerSpec, SpeechEncoderOutput
from hfprobe.encoders.huggingface.adapter import Axis, HuggingFaceEncoder, time_axis
from hfprobe.encoders.huggingface.features import whisper_log_mel
from hfprobe.encoders.huggingface.passes import Hook, Recorder, hooked
from hfprobe.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class WhisperOutput(SpeechEncoderOutput):
    """What `WhisperEncoder` returns.

    Args:
        windows: ``(batch,)`` int64 windows in which each utterance was encoded; more than 1 means that it was
            longer than one window and that no state of one window has seen another.
    """

    windows: Tensor | None = None


class WhisperEncoder(HuggingFaceEncoder):
    """The encoder of Whisper.

    Layers: ``cnn1`` and ``cnn2``, after the GELU of each convolution; ``embed``, cnn2 plus the positions
    (``hidden_states[0]`` of transformers); ``transformer1..N``, the output of each block, before the encoder's
    last LayerNorm (the last of them is missing from the library's ``hidden_states``); ``final``, after that
    LayerNorm (``hidden_states[-1]``).

    The model takes windows of 30 seconds (``window_samples``) and cannot mask: each utterance is padded with
    silence to a full window, as Whisper itself does, and the frames past the utterance are cut off.
    An utterance of one second costs as much as one of thirty. A longer one is cut at whole windows, without
    overlap; each window is encoded as an utterance of its own, with its own loudness limit and positions,
    and the frames are put one after the other. The output's ``windows`` says how many there were.

    Args:
        name: Short name for results.
        model: ``transformers``' ``WhisperEncoder``.
        extractor: ``WhisperFeatureExtractor`` for the mel filters and the hop; its dither is not applied.

    Raises:
        EncoderError: If the extractor makes other features than the model takes.
    """

    _pads_to_longest = False  # every utterance fills a window

    def __init__(self, name: str, model: PreTrainedModel, extractor: Any):
        if extractor.feature_size != model.config.num_mel_bins:
            raise EncoderError(
                f"expected {model.config.num_mel_bins} mel bins as in config.json, got {extractor.feature_size} in "
                "preprocessor_config.json: use the files that belong together"
            )
        super().__init__(name, _layer_specs(model, extractor.hop_length), model)
        self._extractor = extractor
        convolutions = model.conv1.stride[0] * model.conv2.stride[0]
        self.window_samples = model.config.max_source_positions * convolutions * extractor.hop_length

    def hidden_lengths_for(self, samples: Count) -> tuple[Count, ...]:
        """Frames whose centre lies inside the utterance: ``ceil(n / stride)``."""
        # Windows are whole multiples of every stride: cutting changes nothing.
        return tuple(-(-samples // spec.stride) for spec in self.layers)

    def _encode(self, waveforms: Tensor, lengths: Tensor, keep: frozenset[str]) -> SpeechEncoderOutput:
        output = super()._encode(waveforms, lengths, keep)
        windows = -(-lengths // self.window_samples)
        return WhisperOutput(output.last_hidden_state, output.hidden_states, None, None, windows)

    def _run(self, waveforms: Tensor, lengths: Tensor, recorder: Recorder) -> None:
        pieces: list[dict[str, Tensor]] = []
        for start in range(0, waveforms.shape[1], self.window_samples):
            rows = (lengths > start).nonzero().flatten()
            piece = waveforms[rows, start : start + self.window_samples]
            part = Recorder(recorder.keep, self.layers[-1].name)
            self._run_window(piece, (lengths[rows] - start).clamp(max=self.window_samples), part)
            for name, state in part.states.items():
                # Utterances that have ended get empty frames.
                empty = state.new_zeros(len(lengths), *state.shape[1:])
                part.states[name] = empty.index_copy(0, rows, state) if len(rows) < len(lengths) else state
            pieces.append(part.states)
        for name in list(pieces[0]):
            parts = [piece.pop(name) for piece in pieces]
            recorder.states[name] = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _run_window(self, waveforms: Tensor, lengths: Tensor, recorder: Recorder) -> None:
        """One window of each utterance."""
        counts = dict(zip((spec.name for spec in self.layers), self.hidden_lengths_for(lengths), strict=True))
        window = F.pad(waveforms, (0, self.window_samples - waveforms.shape[1]))
        mel = whisper_log_mel(window, self._extractor).to(self.dtype)
        model = self.model
        hooks: list[tuple[nn.Module, Hook]] = [
            (model.conv1, _gelu_of("cnn1", counts["cnn1"], recorder)),
            (model.conv2, _gelu_of("cnn2", counts["cnn2"], recorder)),
            (model.layers[0], recorder.input_of("embed", counts["embed"])),
            (model.layer_norm, recorder.output_of("final", counts["final"])),
        ]
        for number, block in enumerate(model.layers, start=1):
            name = f"transformer{number}"
            hooks.append((block, recorder.output_of(name, counts[name])))
        with hooked(hooks):
            model(mel)


def _gelu_of(name: str, lengths: Tensor, recorder: Recorder) -> Hook:
    """Hook on a convolution; the model applies its activation outside any module."""

    def hook(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        if name in recorder.keep:
            recorder.put(name, F.gelu(output[..., : int(lengths.max())]).transpose(1, 2), lengths)

    return hook


def _layer_specs(model: PreTrainedModel, hop: int) -> tuple[LayerSpec, ...]:
    """The layers in the order in which they are computed."""
    axis, dim, specs = Axis(hop), model.config.d_model, []
    seconds = model.config.max_source_positions * model.conv1.stride[0] * model.conv2.stride[0] * hop / 16000
    for number, layer in enumerate((model.conv1, model.conv2), start=1):
        axis = axis.convolve(*time_axis(layer))
        source = "cnn1" if number == 2 else f"the log-mel spectrogram of windows of {seconds:g} s without overlap"
        specs.append(axis.spec(f"cnn{number}", dim, f"gelu(conv{number}) of {source}"))
    specs.append(axis.spec("embed", dim, "cnn2 + positions within the window; what the first block reads"))
    for number in range(1, len(model.layers) + 1):
        tap = f"output of block {number}, residual sum, before the next block's LayerNorm and before layer_norm"
        specs.append(axis.spec(f"transformer{number}", dim, tap))
    specs.append(axis.spec("final", dim, f"layer_norm of transformer{len(model.layers)}"))
    return tuple(specs)
