"""The contract that every speech encoder in hfprobe keeps, and the input checks they share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from hfprobe.errors import EncoderError, LayerError

# Samples or frames: of one utterance, or of each of a batch.
Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True)
class LayerSpec:
    """Where a layer is read and how its frames lie on the time axis.

    Frame ``i`` is centred on sample ``offset + i * stride`` of the waveform.

    Args:
        name: Name of the layer, e.g. ``"blstm3"``.
        dim: Width of a frame.
        stride: Samples (16 kHz) from one frame to the next.
        offset: Sample (16 kHz) on which the first frame is centred.
        tap: The exact point, in words: after which activation, normalisation or pooling.

    Example:
        >>> LayerSpec("cnn2", 2560, 320, 80, "max_pool(relu(conv1_2))").stride
        320
    """

    name: str
    dim: int
    stride: int
    offset: int
    tap: str


@dataclass
class SpeechEncoderOutput(ModelOutput):
    """What an encoder returns.

    Args:
        last_hidden_state: ``(batch, frames, dim)`` output of the last layer, zero past each utterance.
        hidden_states: One ``(batch, frames, dim)`` tensor per entry of ``encoder.layers``, zero past each
            utterance; None unless asked for.
        hidden_lengths: One ``(batch,)`` int64 tensor of valid frames per entry of ``encoder.layers``.
        logits: ``(batch, frames, tokens)`` unnormalised CTC scores on the last layer's frames (apply
            ``log_softmax`` for log-probabilities); None without a CTC head.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    hidden_lengths: tuple[Tensor, ...] | None = None
    logits: Tensor | None = None


def kept_states(states: Iterable[Tensor | None]) -> tuple[Tensor, ...]:
    """``hidden_states`` for `SpeechEncoder._encode` to return.

    Args:
        states: One entry per layer, None for those that are not kept.

    Returns:
        The same entries. `SpeechEncoder.forward` takes only kept layers out of them, so that whoever reads an
        output meets tensors alone: that is the type they are given here.
    """
    return cast("tuple[Tensor, ...]", tuple(states))


class SpeechEncoder(nn.Module):
    """Base class of all encoders. Subclasses set the attributes and write `_encode` and `hidden_lengths_for`.

    An utterance gives the same valid frames alone and in a padded batch, in any order of lengths; ``eval()``
    is deterministic; the number of layers never changes; inputs are not edited.

    Attributes:
        name: Short name for results and model cards.
        layers: Tuple of `LayerSpec`, from the input to the last layer.
        sampling_rate: Of the waveforms, in Hz.
        padding_sensitive: True where the original model's own batched forward would let padding change valid
            frames; the adapter then computes what the model gives for each utterance alone.
        min_samples: Shortest utterance that can be encoded.
    """

    sampling_rate: int = 16000
    padding_sensitive: bool = False
    min_samples: int = 1
    # Parameters that are not part of the layers under study, by prefix: they leave the fingerprint alone.
    _outside_fingerprint: tuple[str, ...] = ("ctc.",)

    def __init__(self, name: str, layers: Sequence[LayerSpec]):
        super().__init__()
        self.name = name
        self.layers = tuple(layers)

    def layer(self, name: str) -> LayerSpec:
        """Look up a layer.

        Args:
            name: Name of a layer.

        Returns:
            Its specification.

        Raises:
            LayerError: If there is no such layer; the message lists those there are.
        """
        for spec in self.layers:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.layers)
        raise LayerError(f"encoder {self.name} has no layer {name!r}: choose one of {known}")

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        output_hidden_states: bool = True,
        layers: Sequence[str] | None = None,
        *,
        sampling_rate: int | None = None,
    ) -> SpeechEncoderOutput:
        """Encode a batch of utterances.

        Args:
            waveforms: ``(batch, samples)`` float32 in [-1, 1] at ``sampling_rate``, padded at the end with
                anything.
            lengths: ``(batch,)`` samples of each utterance; all samples where None.
            output_hidden_states: Whether to return every layer, not just the last.
            layers: Names of the layers to keep, in the order wanted; the others are freed as soon as the next
                layer has read them. All layers where None.
            sampling_rate: Rate of the waveforms in Hz, to be checked; not checked where None, since samples do not
                tell their rate.

        Returns:
            The hidden states and their lengths (of every layer, or of those in ``layers``, in that order) and, with
            a CTC head, the logits.

        Raises:
            EncoderError: If the input is of the wrong shape, type, device or rate, holds NaN, or is too short.
            LayerError: If ``layers`` names one that does not exist, or one twice.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise EncoderError(
                f"encoder {self.name} expected audio at {self.sampling_rate} Hz, got {sampling_rate} Hz: "
                f"resample it, as hfprobe.audio.load_audio(path, sampling_rate={self.sampling_rate}) does"
            )
        wanted = self._positions(layers)
        waveforms, lengths = self.check_input(waveforms, lengths)
        keep = frozenset(self.layers[i].name for i in wanted) if output_hidden_states else frozenset()
        output = self._encode(waveforms, lengths, keep)
        states, counts = output.hidden_states or (), self.hidden_lengths_for(lengths)
        output.hidden_states = tuple(states[i] for i in wanted) if output_hidden_states else None
        output.hidden_lengths = tuple(counts[i] for i in wanted)
        return output

    def _positions(self, layers: Sequence[str] | None) -> list[int]:
        """Indices of the named layers."""
        if layers is None:
            return list(range(len(self.layers)))
        if isinstance(layers, str) or not layers:
            example = self.layers[-1].name
            raise LayerError(f"expected a list of layer names, got {layers!r}: give at least one, as in [{example!r}]")
        chosen = [self.layers.index(self.layer(name)) for name in layers]
        if len(set(chosen)) < len(chosen):
            raise LayerError(f"expected each layer once, got {', '.join(layers)}")
        return chosen

    def _encode(self, waveforms: Tensor, lengths: Tensor, keep: frozenset[str]) -> SpeechEncoderOutput:
        """Encode checked input.

        Args:
            waveforms: ``(batch, samples)``, zeros past each utterance.
            lengths: ``(batch,)`` int64 samples.
            keep: Names of the layers whose states are wanted; may be empty.

        Returns:
            ``last_hidden_state``, ``logits`` where there is a CTC head, and ``hidden_states`` with one entry per
            layer, None for those that are not kept. ``hidden_lengths`` are filled in by `forward`.
        """
        raise NotImplementedError

    def hidden_lengths_for(self, samples: Count) -> tuple[Count, ...]:
        """Frames that each layer gives for utterances of so many samples.

        Args:
            samples: Length of an utterance, or a tensor of lengths.

        Returns:
            One entry per layer, of the type of ``samples``.
        """
        raise NotImplementedError

    def transcribe(self, waveforms: Tensor, lengths: Tensor | Sequence[int] | None = None) -> list[str]:
        """Recognise the words, where the encoder has a recognition head.

        Args:
            waveforms: ``(batch, samples)`` as for `forward`.
            lengths: ``(batch,)`` samples of each utterance.

        Returns:
            One text per utterance.

        Raises:
            EncoderError: If the encoder has no recognition head.
        """
        raise EncoderError(f"encoder {self.name} has no recognition head: it cannot transcribe")

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change when a layer's place or a weight below it changes.

        SHA-256 over the layer specifications and the weights of frontend and encoder as float32, in the order
        of their names; independent of device and of the encoder's name.
        """
        digest = hashlib.sha256(json.dumps([asdict(spec) for spec in self.layers]).encode())
        for key, value in sorted(self.state_dict().items()):
            if not key.startswith(self._outside_fingerprint):
                digest.update(f"{key}{tuple(value.shape)}".encode())
                digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def check_input(self, waveforms: Tensor, lengths: Tensor | Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Check a batch and bring it into the form that `_encode` expects.

        Args:
            waveforms: ``(batch, samples)`` float32.
            lengths: ``(batch,)`` samples of each utterance, or None.

        Returns:
            ``(batch, longest)`` waveforms with zeros past each utterance, and ``(batch,)`` int64 lengths.

        Raises:
            EncoderError: If anything is wrong; the message says what came and what to do.
        """
        if not isinstance(waveforms, Tensor):
            kind = type(waveforms).__name__
            raise EncoderError(f"expected waveforms as a torch tensor, got {kind}: use torch.from_numpy")
        if waveforms.dim() != 2 or 0 in waveforms.shape:
            raise EncoderError(
                f"expected waveforms of shape (batch, samples), got {tuple(waveforms.shape)}: "
                "add the batch axis with unsqueeze(0), mix channels down, drop empty clips"
            )
        if waveforms.dtype != torch.float32:
            raise EncoderError(f"expected float32 waveforms in [-1, 1], got {waveforms.dtype}: convert and scale them")
        home = next((parameter.device for parameter in self.parameters()), waveforms.device)
        if waveforms.device != home:
            raise EncoderError(
                f"expected waveforms on {home}, got {waveforms.device}: call waveforms.to({str(home)!r})"
            )
        lengths = self._check_lengths(waveforms, lengths)
        longest, shortest = int(lengths.max()), int(lengths.min())
        if shortest < self.min_samples:
            raise EncoderError(
                f"expected at least {self.min_samples} samples per utterance "
                f"({1000 * self.min_samples / self.sampling_rate:.1f} ms), got {shortest}: "
                "drop or extend short clips"
            )
        waveforms = waveforms[:, :longest]
        if shortest < longest:
            inside = torch.arange(longest, device=home) < lengths[:, None]
            waveforms = waveforms.masked_fill(~inside, 0.0)
        if not bool(torch.isfinite(waveforms).all()):
            bad = (~torch.isfinite(waveforms)).any(dim=1).nonzero().flatten().tolist()
            raise EncoderError(
                f"expected finite waveforms, got NaN or infinity in utterance(s) {bad}: repair the audio"
            )
        return waveforms, lengths

    def _check_lengths(self, waveforms: Tensor, lengths: Tensor | Sequence[int] | None) -> Tensor:
        """Lengths as int64 on the waveforms' device, each within the batch."""
        batch, samples = waveforms.shape
        if lengths is None:
            return torch.full((batch,), samples, dtype=torch.int64, device=waveforms.device)
        lengths = torch.as_tensor(lengths, device=waveforms.device)
        if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise EncoderError(
                f"expected {batch} lengths as whole numbers of samples, got {lengths.dtype} of shape "
                f"{tuple(lengths.shape)}: give one per utterance"
            )
        if int(lengths.min()) < 1 or int(lengths.max()) > samples:
            raise EncoderError(
                f"expected lengths between 1 and {samples} samples, got {int(lengths.min())} to "
                f"{int(lengths.max())}: give lengths in samples, not frames or fractions"
            )
        return lengths.to(torch.int64)
