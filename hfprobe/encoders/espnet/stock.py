"""Features of ESPnet's stock frontends and preencoders, each utterance as if it were alone.

Most of them let padding in: a norm over the whole batch, group norm, attention, a spectrogram's maximum. So every
utterance runs alone, through ESPnet's own modules and weights, and zeros follow its features. Parts whose gradient
ESPnet cuts off (``no_grad``, NumPy) are called one by one instead, with the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.frontend.fused import FusedFrontends
from espnet2.asr.frontend.huggingface import HuggingFaceFrontend
from espnet2.asr.frontend.whisper import WhisperFrontend
from espnet2.asr.preencoder.sinc import LightweightSincConvs
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hfprobe.encoders.espnet.frontend import valid_frames
from hfprobe.errors import EncoderError

if TYPE_CHECKING:
    from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder


def stock_features(
    frontend: AbsFrontend, count: Callable[[Any], Any], waveforms: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Features of each utterance alone.

    Args:
        frontend: Stock frontend.
        count: Frames for a number of samples or a tensor of them, as `FrameAxis.frames`.
        waveforms: ``(batch, samples)``.
        lengths: ``(batch,)`` samples of each utterance.

    Returns:
        ``(batch, frames, dim)``, zero past each utterance, and ``(batch,)`` frames.

    Raises:
        EncoderError: If an utterance gives another number of frames than ``count`` says.
    """
    rows = []
    for waveform, samples in zip(waveforms, lengths.tolist(), strict=True):
        row = features_alone(frontend, waveform[None, :samples])[0]
        if len(row) != count(samples):
            raise EncoderError(
                f"expected {count(samples)} frames of {type(frontend).__name__} for {samples} samples, got "
                f"{len(row)}: give shorter utterances"
            )
        rows.append(row)
    return pad_sequence(rows, batch_first=True), count(lengths)


def features_alone(frontend: AbsFrontend, waveform: Tensor) -> Tensor:
    """``(1, frames, dim)`` features of one ``(1, samples)`` utterance."""
    samples = torch.tensor([waveform.shape[1]], device=waveform.device)
    frames = None
    if isinstance(frontend, HuggingFaceFrontend):
        values, frames = _pretrained(frontend, waveform, samples)
    elif isinstance(frontend, FusedFrontends):
        values = _fused(frontend, waveform)
    elif isinstance(frontend, WhisperFrontend):
        values, _ = frontend.whisper_encode(*frontend.log_mel_spectrogram(waveform, samples))
    elif getattr(frontend, "frontend_type", None) == "espnet_ssl":
        _, layers, frames = frontend.upstream.inference_encode(waveform, samples, False, frontend.use_final_output)
        values = frontend.featurizer(layers) if frontend.multilayer_feature else layers[frontend.layer]
    else:
        values, frames = frontend(waveform, samples)
    # A sliding window gives (1, frames, channels, size).
    values = values.flatten(2)
    if frames is not None and frames.shape == (1,) and 0 < int(frames[0]) < values.shape[1]:
        values = values[:, : int(frames[0])]
    return values


def _pretrained(frontend: HuggingFaceFrontend, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor | None]:
    """Output of a model of transformers; its frames where the processor makes frames (no gradient goes past those)."""
    from transformers import Wav2Vec2FeatureExtractor

    if not isinstance(frontend.processor, Wav2Vec2FeatureExtractor):
        return frontend(waveform.detach(), samples)
    if frontend.processor.do_normalize:
        # As the processor does in NumPy.
        spread = waveform.var(dim=1, keepdim=True, unbiased=False)
        waveform = (waveform - waveform.mean(dim=1, keepdim=True)) / (spread + 1e-7).sqrt()
    return frontend.encoder(waveform).last_hidden_state, None


def _fused(frontend: FusedFrontends, waveform: Tensor) -> Tensor:
    """Projections of all parts at their common rate, side by side."""
    parts = []
    for part, project, factor in zip(frontend.frontends, frontend.projection_layers, frontend.factors, strict=True):
        values = project(features_alone(part, waveform))
        parts.append(values.reshape(1, values.shape[1] * int(factor), -1))
    shortest = min(part.shape[1] for part in parts)
    return torch.cat([part[:, :shortest] for part in parts], dim=-1)


def preencode(preencoder: AbsPreEncoder, features: Tensor, frames: Tensor) -> Tensor:
    """Apply a preencoder to the valid frames only, so that padding does not count in its batch norm.

    Args:
        preencoder: ESPnet's ``linear`` or ``sinc``, which look at one frame at a time.
        features: ``(batch, frames, dim)``.
        frames: ``(batch,)`` frames of each utterance.

    Returns:
        ``(batch, frames, dim)``, zero past each utterance.
    """
    valid = valid_frames(frames, features.shape[1])
    chosen = features[valid][None]
    if isinstance(preencoder, LightweightSincConvs):
        chosen = chosen.unsqueeze(2)
    values, _ = preencoder(chosen, torch.tensor([chosen.shape[1]], device=features.device))
    for module in preencoder.modules():
        # The filters of the last pass, with their graph.
        if hasattr(module, "sinc_filters"):
            module.sinc_filters = None
    result = values.new_zeros(*valid.shape, values.shape[-1])
    return result.index_put(valid.nonzero(as_tuple=True), values[0])
