"""ESPnet's recurrent encoders (``rnn`` and ``vgg_rnn``) under the contract of `SpeechEncoder`.

The networks are run here, from ESPnet's own modules and weights, rather than through ESPnet's ``forward``:
this way every utterance of a padded batch gets exactly what it gets alone, in any order of lengths, and a
CPU is several times faster. For an utterance alone the values are ESPnet's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.frontend.default import DefaultFrontend
from torch import Tensor, nn

from hfprobe.encoders.base import Count, SpeechEncoder, SpeechEncoderOutput, kept_states
from hfprobe.encoders.espnet.decoding import CTCText
from hfprobe.encoders.espnet.frame_axis import frame_axis
from hfprobe.encoders.espnet.frontend import DeltaFrontend, log_mel, valid_frames
from hfprobe.encoders.espnet.frontends import SAMPLING_RATE, check_frontend, check_preencoder
from hfprobe.encoders.espnet.layers import layer_specs
from hfprobe.encoders.espnet.normalize import PerUtteranceMVN, StoredMVN
from hfprobe.encoders.espnet.recurrent import run_recurrent_layer
from hfprobe.encoders.espnet.stock import preencode, stock_features
from hfprobe.encoders.espnet.vgg import halve, vgg_states

if TYPE_CHECKING:
    from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder


class EspnetEncoder(SpeechEncoder):
    """A recurrent ESPnet encoder with its frontend, normalisation and CTC head.

    Layers of ``vgg_rnn``: ``cnn1`` relu(conv1_1), ``cnn2`` after pool 1, ``cnn3`` relu(conv2_1), ``cnn4``
    after pool 2, then the recurrent layers. A recurrent layer is named after its type (``blstm1``,
    ``lstm1``, ``bgru1``, ``gru1``) and read where the next layer reads it: with projections,
    tanh(projection(subsampled output)), the last without tanh; without projections, the output itself, the
    last as tanh(projection).

    Args:
        name: Short name for results.
        frontend: A stock frontend of ESPnet (no enhancement) or a `DeltaFrontend`, at 16 kHz. All but these two and
            ``DefaultFrontend`` run as in ``eval()``, always: no dropout, masking or LayerDrop.
        normalize: Feature normaliser, or None.
        encoder: ESPnet's ``RNNEncoder`` or ``VGGRNNEncoder``.
        ctc: Linear layer from the encoder's output to token scores, or None.
        text: How tokens become text, or None; needs ``ctc``.
        preencoder: ESPnet's ``LinearProjection`` or ``LightweightSincConvs`` between features and encoder, or None.

    Raises:
        EncoderError: If the parts are of a kind that is not supported or do not fit one another.
    """

    def __init__(
        self,
        name: str,
        frontend: AbsFrontend,
        normalize: StoredMVN | PerUtteranceMVN | None,
        encoder: RNNEncoder | VGGRNNEncoder,
        ctc: nn.Linear | None = None,
        text: CTCText | None = None,
        preencoder: AbsPreEncoder | None = None,
    ):
        check_frontend(frontend)
        if preencoder is not None:
            check_preencoder(preencoder, frontend)
        axis = frame_axis(frontend)
        width = (frontend if preencoder is None else preencoder).output_size()
        super().__init__(name, layer_specs(encoder, width, axis.stride, axis.offset))
        self.axis = axis
        self.frontend = frontend
        self.normalize = normalize
        self.preencoder = preencoder
        self.encoder = encoder
        self.ctc = nn.ModuleDict({"ctc_lo": ctc}) if ctc is not None else None
        self.text = text
        self.sampling_rate = SAMPLING_RATE
        self.min_samples = axis.fewest
        # Where ESPnet itself would let padding in: unmasked convolutions, the STFT's reflection, padded
        # variance.
        padded_variance = isinstance(normalize, PerUtteranceMVN) and normalize.norm_vars
        self.padding_sensitive = (
            isinstance(encoder, VGGRNNEncoder) or not isinstance(frontend, DeltaFrontend) or padded_variance
        )

    def hidden_lengths_for(self, samples: Count) -> tuple[Count, ...]:
        """Frames of each layer: those of the frontend (``1 + samples // hop`` mel frames), halved, rounded up."""
        hop = self.axis.stride
        frames = self.axis.frames(samples)
        # Rounding up at every halving is the same as rounding up once.
        return tuple(-(-frames // (spec.stride // hop)) for spec in self.layers)

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder reads: features of each utterance, normalised and preencoded.

        Args:
            waveforms: ``(batch, samples)``, zeros past each utterance.
            lengths: ``(batch,)`` samples.

        Returns:
            ``(batch, frames, dim)``, zero past each utterance, and ``(batch,)`` frames.
        """
        # Deltas are small differences of logarithms: a caller's autocast to bfloat16 would round them off.
        with torch.autocast(waveforms.device.type, enabled=False):
            if isinstance(self.frontend, DeltaFrontend):
                features, frames = self.frontend(waveforms, lengths)
            elif isinstance(self.frontend, DefaultFrontend):
                features, frames = log_mel(self.frontend, waveforms, lengths)
            else:
                features, frames = stock_features(self.frontend, self.axis.frames, waveforms, lengths)
            if self.normalize is not None:
                features = self.normalize(features, frames)
        return (features if self.preencoder is None else preencode(self.preencoder, features, frames)), frames

    def train(self, mode: bool = True) -> EspnetEncoder:
        """Switch dropout and batch norm; stock frontends other than the default one stay in ``eval()``."""
        super().train(mode)
        if not isinstance(self.frontend, DefaultFrontend):
            self.frontend.eval()
        return self

    def _encode(self, waveforms: Tensor, lengths: Tensor, keep: frozenset[str]) -> SpeechEncoderOutput:
        states: list[Tensor | None] = []
        with _full_precision(waveforms.device):
            last = None
            for spec, last in zip(self.layers, self._run(waveforms, lengths), strict=True):
                states.append(last if spec.name in keep else None)
            logits = self.ctc["ctc_lo"](last) if self.ctc is not None else None
        return SpeechEncoderOutput(last_hidden_state=last, hidden_states=kept_states(states), logits=logits)

    def _run(self, waveforms: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """One layer's output after the other, zero past each utterance, so that unwanted ones can be freed."""
        x, frames = self.features(waveforms, lengths)
        if isinstance(self.encoder, VGGRNNEncoder):
            for states, counts in vgg_states(self.encoder.enc[0], x, frames):
                x, frames = states, counts
                yield x
        stack = self.encoder.enc[-1]
        plain = hasattr(stack, "nbrnn")
        count = stack.nbrnn.num_layers if plain else stack.elayers
        for layer in range(count):
            last = layer == count - 1
            if plain:
                x = run_recurrent_layer(stack.nbrnn, layer, x, frames)
                x = torch.tanh(stack.l_last(x)) if last else F.dropout(x, stack.nbrnn.dropout, self.training)
            else:
                rnn = getattr(stack, f"{'birnn' if stack.bidir else 'rnn'}{layer}")
                x = run_recurrent_layer(rnn, 0, x, frames)
                if stack.subsample[layer + 1] == 2:
                    x, frames = x[:, ::2], halve(frames)
                x = getattr(stack, f"bt{layer}")(x)
                # ESPnet drops out in eval() too; here only in training.
                x = x if last else torch.tanh(F.dropout(x, stack.dropout, self.training))
            x = x.masked_fill(~valid_frames(frames, x.shape[1])[..., None], 0.0)
            yield x

    @torch.no_grad()
    def transcribe(self, waveforms: Tensor, lengths: Tensor | Sequence[int] | None = None) -> list[str]:
        """Recognise by the best token of each frame (greedy CTC).

        Args:
            waveforms: ``(batch, samples)`` float32 in [-1, 1].
            lengths: ``(batch,)`` samples of each utterance.

        Returns:
            One text per utterance.

        Raises:
            EncoderError: If the model was trained without CTC, or the input is wrong.
        """
        if self.ctc is None or self.text is None:
            return super().transcribe(waveforms, lengths)
        output = self(waveforms, lengths, output_hidden_states=False)
        best = output.logits.argmax(dim=-1).tolist()
        return [
            self.text.decode(row[:size]) for row, size in zip(best, output.hidden_lengths[-1].tolist(), strict=True)
        ]


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Keep a GPU from rounding convolutions and recurrences to TF32, which depends on the batch."""
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
        yield
