"""Where the frames of ESPnet's frontends lie on the waveform: by arithmetic where the class tells, else by trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.frontend.cnn import CNNFrontend
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.asr.frontend.fused import FusedFrontends
from espnet2.asr.frontend.huggingface import HuggingFaceFrontend
from espnet2.asr.frontend.whisper import WhisperFrontend
from espnet2.asr.frontend.windowing import SlidingWindow
from torch import Tensor

from hfprobe.encoders.base import Count
from hfprobe.encoders.espnet.stock import features_alone
from hfprobe.encoders.measure import FrameRule, measure_rules, shortest_input

# Models of transformers that read a waveform by unpadded convolutions and keep their frames.
_CONVOLVED = {
    *("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", "wav2vec2-conformer"),
}


@dataclass(frozen=True)
class FrameAxis:
    """Where the feature frames lie on the waveform, and how many there are.

    Args:
        stride: Samples from one frame to the next.
        offset: Sample on which the first frame is centred.
        rules: ``(factor, rule)`` of each part: it gives ``factor * rule(samples)`` frames, and the part with the
            fewest ends all.
        fewest: Shortest utterance in samples.

    Example:
        >>> axis = FrameAxis(160, 200, ((1, FrameRule(160, 400)),), 400)
        >>> axis.frames(16000), axis.samples_for(98)
        (98, 15920)
    """

    stride: int
    offset: int
    rules: tuple[tuple[int, FrameRule], ...]
    fewest: int

    def frames(self, samples: Count) -> Count:
        """Frames of an utterance of so many samples, of the type of ``samples``."""
        counts = [factor * rule(samples) for factor, rule in self.rules]
        fewest = counts[0]
        for count in counts[1:]:
            fewest = torch.minimum(fewest, count) if isinstance(fewest, Tensor) else min(fewest, count)
        return fewest

    def samples_for(self, frames: int) -> int:
        """Shortest utterance in samples that gives at least so many frames."""
        return max(rule.first + (-(-frames // factor) - 1) * rule.stride for factor, rule in self.rules)


def frame_axis(frontend: AbsFrontend) -> FrameAxis:
    """Frames of a frontend: by arithmetic where its class tells, else by trial runs.

    Args:
        frontend: A frontend that `check_frontend` accepts.

    Returns:
        Stride, offset and number of frames.

    Raises:
        EncoderError: If trial runs show no constant stride.

    Example:
        >>> frame_axis(SlidingWindow(win_length=400, hop_length=160)).offset
        200
    """
    if isinstance(frontend, DefaultFrontend):
        hop = frontend.hop_length
        return FrameAxis(hop, 0, ((1, FrameRule(hop, 0)),), frontend.stft.n_fft // 2 + 1)
    if isinstance(frontend, SlidingWindow):
        return _convolved([(frontend.win_length, frontend.hop_length)])
    if isinstance(frontend, CNNFrontend):
        return _convolved([(layer.kernel_size, layer.stride) for layer in frontend.layers])
    if isinstance(frontend, WhisperFrontend):
        # As many mel frames as whole hops; a convolution of stride 2, padded, begins on the first.
        hop = frontend.hop_length
        return FrameAxis(2 * hop, 0, ((1, FrameRule(2 * hop, hop)),), max(frontend.n_fft // 2 + 1, hop))
    if isinstance(frontend, FusedFrontends):
        parts = [frame_axis(part) for part in frontend.frontends]
        stride = math.gcd(*[axis.stride for axis in parts])
        rules = tuple((axis.stride // stride * factor, rule) for axis in parts for factor, rule in axis.rules)
        # A slower part spreads a frame over several of the common rate, the first of them at its centre or before.
        offset = sum(axis.offset for axis in parts) // len(parts)
        return FrameAxis(stride, offset, rules, max(axis.fewest for axis in parts))
    if isinstance(frontend, HuggingFaceFrontend):
        config = frontend.encoder.config
        if config.model_type in _CONVOLVED and not getattr(config, "add_adapter", False):
            return _convolved(list(zip(config.conv_kernel, config.conv_stride, strict=True)))
    return _measured(frontend)


def _convolved(steps: Sequence[tuple[int, int]]) -> FrameAxis:
    """Axis after unpadded windows, each ``(size, hop)``."""
    field, stride = 1, 1
    for size, hop in steps:
        field, stride = field + (size - 1) * stride, stride * hop
    return FrameAxis(stride, field // 2, ((1, FrameRule(stride, field)),), field)


@torch.no_grad()
def _measured(frontend: AbsFrontend, start: int = 16000) -> FrameAxis:
    """Axis by trial: where one frame more appears, and which frame an impulse moves most."""
    home = next((value.device for value in frontend.state_dict().values()), torch.device("cpu"))
    noise = 0.1 * torch.randn(1, 4 * start, generator=torch.Generator().manual_seed(0)).to(home)
    modes = [(module, module.training) for module in frontend.modules()]
    frontend.eval()

    def counts(samples: int) -> dict[str, int]:
        return {"frontend": features_alone(frontend, noise[:, :samples]).shape[1]}

    def until(more: int) -> int:
        """Smallest number of further samples that gives so many further frames."""
        wanted = counts(start)["frontend"] + more
        low, high = 1, start
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if counts(start + middle)["frontend"] >= wanted else (middle + 1, high)
        return low

    try:
        stride = max(until(2) - until(1), 1)
        rules = measure_rules(counts, {"frontend": stride}, start)
        rule = rules["frontend"]
        fewest = shortest_input(counts, rules, start)
        still, drifts = features_alone(frontend, noise[:, :start]), []
        # Every phase of the stride alike, so that rounding to frames cancels.
        for phase in range(8):
            position = start // 2 + phase * stride // 8
            struck = noise[:, :start].clone()
            struck[0, position] += 1.0
            change = (features_alone(frontend, struck) - still).norm(dim=-1)[0]
            change = change * (change > 0.5 * change.max())
            centre = float((change * torch.arange(len(change), device=home)).sum() / change.sum())
            drifts.append(position - centre * stride)
    finally:
        for module, training in modes:
            module.training = training
    return FrameAxis(stride, _offset(torch.tensor(drifts), rule), ((1, rule),), fewest)


def _offset(drifts: Tensor, rule: FrameRule) -> int:
    """Centre of the first frame, the same whatever the weights were in the trial."""
    window = max(rule.first // 2, 0)
    drift, step = float(drifts.mean()), rule.stride / 8
    # Where no frame stands out, or the middle of the samples that the first frame needs is as good, that middle.
    if not float((drifts - drift).abs().max()) <= 2 * rule.stride or abs(drift - window) <= 2 * step:
        return window
    return max(round(round(drift / step) * step), 0)
