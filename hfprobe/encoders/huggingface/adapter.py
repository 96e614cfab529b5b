"""What the adapters for transformers have in common: batches, heads and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from hfprobe.encoders.base import LayerSpec, SpeechEncoder, SpeechEncoderOutput, kept_states
from hfprobe.encoders.huggingface.passes import Recorder, full_precision
from hfprobe.encoders.huggingface.text import CTCTokens
from hfprobe.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Axis:
    """Frames of a layer on the time axis, and how another convolution lays its own over them.

    Args:
        stride: Samples from one frame to the next.
        centre: Sample on which the first frame is centred; a half where the window is even.
    """

    stride: int = 1
    centre: float = 0.0

    def convolve(self, kernel: int, stride: int, padding: int = 0) -> Axis:
        """The axis after a convolution.

        Args:
            kernel: Width of its window, in frames.
            stride: Frames that it moves on.
            padding: Frames put before the first.

        Returns:
            The new axis.

        Example:
            >>> Axis().convolve(10, 5)
            Axis(stride=5, centre=4.5)
        """
        return Axis(self.stride * stride, self.centre + self.stride * ((kernel - 1) / 2 - padding))

    def spec(self, name: str, dim: int, tap: str) -> LayerSpec:
        """Specification of a layer on this axis; a centre between two samples goes to the later one.

        Args:
            name: Of the layer.
            dim: Width of a frame.
            tap: The exact point, in words.

        Returns:
            The specification.
        """
        return LayerSpec(name, dim, self.stride, int(self.centre + 0.5), tap)


def time_axis(convolution: nn.Conv1d | nn.Conv2d) -> tuple[int, int, int]:
    """Kernel, stride and padding of a convolution along time, its first axis.

    Args:
        convolution: Made with a number as its padding, not with a word.

    Returns:
        The three sizes, in frames.

    Example:
        >>> time_axis(nn.Conv1d(1, 1, 10, 5))
        (10, 5, 0)
    """
    padding = cast("tuple[int, ...]", convolution.padding)
    return convolution.kernel_size[0], convolution.stride[0], padding[0]


# Padded samples for each valid one from which a CPU is better off with one pass for each length: it gains nothing from
# a batch, and the large maps of one leave its cache (measured: 6 utterances of 1 to 5 s, 1.1 s against 2.4 s).
PADDED_TOO_MUCH = 1.1
# Networks of fewer parameters cost what their calls cost: each further pass has to save this many padded samples
# (measured with 32 units: a pass more takes 1 ms, a second of padding 0.65 ms).
SMALL_NETWORK = 1_000_000
PAYS_FOR_A_PASS = 32_000


class HuggingFaceEncoder(SpeechEncoder):
    """An encoder of transformers, run module by module from the library's own classes and weights.

    LayerDrop and SpecAugment are off, in ``train()`` too: the number of layers never changes and every frame
    is the utterance's own. Dropout acts in ``train()``.

    Args:
        name: Short name for results.
        layers: Specifications of the layers.
        model: The library's encoder.
        ctc: Linear layer from the last layer to token scores, or None.
        text: How tokens become text, or None.

    Attributes:
        alike_only: True where only utterances of one length can be encoded in one pass; a batch of several
            lengths is then encoded in as many passes.
    """

    model: PreTrainedModel
    alike_only: bool = False
    _pads_to_longest = True  # how much a batch costs follows its longest utterance
    _reads_padding = True  # frames of an utterance may read the states past its end
    _outside_fingerprint = ("ctc.",)

    def __init__(
        self,
        name: str,
        layers: Sequence[LayerSpec],
        model: PreTrainedModel,
        ctc: nn.Linear | None = None,
        text: CTCTokens | None = None,
    ):
        super().__init__(name, layers)
        self.model = model
        self._small = sum(parameter.numel() for parameter in model.parameters()) < SMALL_NETWORK
        self.ctc = ctc
        self.text = text

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the model computes."""
        return next(self.model.parameters()).dtype

    def _run(self, waveforms: Tensor, lengths: Tensor, recorder: Recorder) -> None:
        """Put the state of every layer into the recorder, zero past each utterance.

        Args:
            waveforms: ``(batch, samples)``, zeros past each utterance; the longest fills the batch.
            lengths: ``(batch,)`` samples.
            recorder: Takes the states in the order of the layers.
        """
        raise NotImplementedError

    def _encode(self, waveforms: Tensor, lengths: Tensor, keep: frozenset[str]) -> SpeechEncoderOutput:
        names = [spec.name for spec in self.layers]
        with full_precision(waveforms.device):
            states = self._states(waveforms, lengths, keep)
            logits = self.ctc(states[names[-1]]) if self.ctc is not None else None
        return SpeechEncoderOutput(
            last_hidden_state=states[names[-1]],
            hidden_states=kept_states(states[name] if name in keep else None for name in names),
            logits=logits,
        )

    def _states(self, waveforms: Tensor, lengths: Tensor, keep: frozenset[str]) -> dict[str, Tensor]:
        """States by name, in one pass or in one for each length."""
        sizes = lengths.unique().tolist()
        speech, whole = int(lengths.sum()), len(lengths) * sizes[-1]
        worth = not self._small or whole - speech > PAYS_FOR_A_PASS * (len(sizes) - 1)
        costly = self._pads_to_longest and whole > PADDED_TOO_MUCH * speech and worth
        costly = costly and waveforms.device.type == "cpu"
        apart = self.alike_only or costly
        if not apart or len(sizes) == 1:
            recorder = Recorder(keep, self.layers[-1].name, in_place=not self._reads_padding)
            self._run(waveforms, lengths, recorder)
            return recorder.states
        # Each pass is copied once and let go, so that the next one gets its memory.
        counts = self.hidden_lengths_for(sizes[-1])
        frames = {spec.name: count for spec, count in zip(self.layers, counts, strict=True)}
        merged: dict[str, Tensor] = {}
        for size in sizes:
            rows = (lengths == size).nonzero().flatten()
            recorder = Recorder(keep, self.layers[-1].name, in_place=not self._reads_padding)
            self._run(waveforms[rows, :size], lengths[rows], recorder)
            for name, part in recorder.states.items():
                if name not in merged:
                    merged[name] = _room_like(part, len(lengths), frames[name])
                for row, values in zip(rows.tolist(), part, strict=True):
                    merged[name][row, : len(values)] = values
                    merged[name][row, len(values) :] = 0.0
        return merged

    @torch.no_grad()
    def transcribe(self, waveforms: Tensor, lengths: Tensor | Sequence[int] | None = None) -> list[str]:
        """Recognise by the best token of each frame (greedy CTC).

        Args:
            waveforms: ``(batch, samples)`` float32 in [-1, 1].
            lengths: ``(batch,)`` samples of each utterance.

        Returns:
            One text per utterance.

        Raises:
            EncoderError: If there is no CTC head or no tokenizer beside it, or the input is wrong.
        """
        if self.ctc is None:
            return super().transcribe(waveforms, lengths)
        if self.text is None:
            raise EncoderError(
                f"expected a tokenizer beside encoder {self.name}, found none: copy vocab.json and "
                "tokenizer_config.json (or tokenizer.json) of the recogniser into its folder"
            )
        output = self(waveforms, lengths, output_hidden_states=False)
        best = output.logits.argmax(dim=-1).tolist()
        sizes = output.hidden_lengths[-1].tolist()
        return [self.text.decode(row[:size]) for row, size in zip(best, sizes, strict=True)]


def _room_like(part: Tensor, batch: int, frames: int) -> Tensor:
    """Room for ``(batch, frames, dim)`` states, in memory as those of a part: convolutions have the frames last."""
    dim = part.shape[2]
    if part.stride(1) == 1:
        return part.new_empty(batch, dim, frames).transpose(1, 2)
    return part.new_empty(batch, frames, dim)
