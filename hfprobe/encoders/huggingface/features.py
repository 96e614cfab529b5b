"""Features as the extractors of transformers compute them, in torch: batched, on any device, with gradients.

The extractors themselves work in NumPy or on one utterance; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfprobe.encoders.base import Count
from hfprobe.encoders.huggingface.passes import zero_padding

# Constants of SeamlessM4TFeatureExtractor, which has no options for them.
KALDI_WINDOW, KALDI_HOP, KALDI_FFT = 400, 160, 512
_PREEMPHASIS = 0.97
_INT16 = 2.0**15
_KALDI_FLOOR = 1.192092955078125e-07
# Constants of ParakeetFeatureExtractor.
_LOG_GUARD, _STD_GUARD = 2.0**-24, 1e-5


def _in_float32(features: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Features are not the model: under autocast they keep the precision that the extractor gives them."""

    @wraps(features)
    def wrapped(waveforms: Tensor, *rest: Any) -> Tensor:
        with torch.autocast(waveforms.device.type, enabled=False):
            return features(waveforms, *rest)

    return wrapped


@_in_float32
def whisper_log_mel(windows: Tensor, extractor: Any) -> Tensor:
    """Log-mel spectrogram of full windows as ``WhisperFeatureExtractor`` computes it.

    Args:
        windows: ``(batch, samples)`` float32, each as long as the model's window, zeros past the speech.
        extractor: ``WhisperFeatureExtractor``; its dither is not applied.

    Returns:
        ``(batch, mels, samples // hop)``, each clipped to 8 decades below its maximum.
    """
    window = torch.hann_window(extractor.n_fft, device=windows.device)
    spectrum = torch.stft(windows, extractor.n_fft, extractor.hop_length, window=window, return_complex=True)
    mel = _filters(extractor, windows.device).T @ _power(spectrum[..., :-1])
    log_mel = mel.clamp(min=1e-10).log10()
    log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (log_mel + 4.0) / 4.0


def kaldi_frames(samples: Count) -> Count:
    """Frames of 25 ms every 10 ms that lie inside an utterance.

    Args:
        samples: Length, or a tensor of lengths.

    Returns:
        Frames, of the type of ``samples``.

    Example:
        >>> kaldi_frames(16000)
        98
    """
    return 1 + (samples - KALDI_WINDOW) // KALDI_HOP


@_in_float32
def kaldi_fbank(waveforms: Tensor, lengths: Tensor, extractor: Any) -> Tensor:
    """Filterbank features as ``SeamlessM4TFeatureExtractor`` computes them, before frames are stacked.

    Args:
        waveforms: ``(batch, samples)`` float32 in [-1, 1], zeros past each utterance.
        lengths: ``(batch,)`` samples, at least two frames each.
        extractor: ``SeamlessM4TFeatureExtractor``.

    Returns:
        ``(batch, frames, mels)`` float32, each mel band with zero mean and unit variance over the utterance's
        own frames; zero past each utterance.
    """
    frames = kaldi_frames(lengths)
    # As in the extractor, types and all: in float32 throughout, faint bands would be rounding noise.
    x = waveforms.double().unfold(1, KALDI_WINDOW, KALDI_HOP) * _INT16
    x = x - x.mean(dim=2, keepdim=True)
    x = torch.cat([x[..., :1] * (1 - _PREEMPHASIS), x[..., 1:] - _PREEMPHASIS * x[..., :-1]], dim=2)
    x = x * torch.from_numpy(np.asarray(extractor.window, dtype=np.float64)).to(x.device)
    power = _power(torch.fft.rfft(x, KALDI_FFT).to(torch.complex64).to(torch.complex128))
    log_mel = (power @ _filters(extractor, x.device, torch.float64)).clamp(min=_KALDI_FLOOR).log().float()
    mean, variance = time_statistics(log_mel, frames, ddof=1)
    return zero_padding((log_mel - mean) / (variance + 1e-7).sqrt(), frames)


@_in_float32
def parakeet_log_mel(waveforms: Tensor, lengths: Tensor, extractor: Any) -> Tensor:
    """Log-mel features as ``ParakeetFeatureExtractor`` computes them, valid frames only.

    Args:
        waveforms: ``(batch, samples)`` float32 in [-1, 1], zeros past each utterance.
        lengths: ``(batch,)`` samples, at least two hops each.
        extractor: ``ParakeetFeatureExtractor``.

    Returns:
        ``(batch, longest // hop, mels)`` float32, each band with zero mean and unit variance over the
        utterance's own frames; zero past each utterance.
    """
    frames = lengths // extractor.hop_length
    x = waveforms
    if extractor.preemphasis is not None:
        x = torch.cat([x[:, :1], x[:, 1:] - extractor.preemphasis * x[:, :-1]], dim=1)
        x = zero_padding(x, lengths)
    window = torch.hann_window(extractor.win_length, periodic=False, device=x.device)
    spectrum = torch.stft(
        x,
        extractor.n_fft,
        hop_length=extractor.hop_length,
        win_length=extractor.win_length,
        window=window,
        return_complex=True,
        pad_mode="constant",
    )
    mel = extractor.mel_filters.to(x.device) @ _power(spectrum)
    log_mel = (mel + _LOG_GUARD).log().transpose(1, 2)[:, : int(frames.max())]
    mean, variance = time_statistics(log_mel, frames, ddof=1)
    return zero_padding((log_mel - mean) / (variance.sqrt() + _STD_GUARD), frames)


def stack_frames(features: Tensor, count: int) -> Tensor:
    """Lay neighbouring frames side by side.

    Args:
        features: ``(batch, frames, dim)``.
        count: Frames that become one.

    Returns:
        ``(batch, frames // count, dim * count)``.

    Example:
        >>> stack_frames(torch.zeros(1, 5, 80), 2).shape
        torch.Size([1, 2, 160])
    """
    frames = features.shape[1] // count
    return features[:, : frames * count].reshape(features.shape[0], frames, count * features.shape[2])


def _power(spectrum: Tensor) -> Tensor:
    """Squared magnitude; unlike ``abs() ** 2`` with a gradient at zero."""
    return spectrum.real.square() + spectrum.imag.square()


def _filters(extractor: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """``(frequencies, mels)`` filters of an extractor that keeps them in NumPy."""
    return torch.from_numpy(np.asarray(extractor.mel_filters)).to(device, dtype)


def time_statistics(values: Tensor, frames: Tensor, ddof: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and variance over each utterance's own frames, whatever the padding is.

    On the CPU the numbers are NumPy's in float32, as in the extractors: the rounding of its sums reaches 4e-6
    on a log-mel scale, and the blocks of a model amplify that. Elsewhere sums are in float64.

    Args:
        values: ``(batch, frames, dim)`` float32, zeros past each utterance or not.
        frames: ``(batch,)`` frames of each utterance.
        ddof: What is taken from the count for the variance.

    Returns:
        Two tensors ``(batch, 1, dim)``.

    Example:
        >>> time_statistics(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2]))
        (tensor([[[2.]]]), tensor([[[1.]]]))
    """
    if values.device.type != "cpu":
        return _statistics(values, frames, ddof)
    means, variances = [], []
    for row, length in zip(values.detach(), frames.tolist(), strict=True):
        bands = np.ascontiguousarray(row[:length].numpy().T)
        means.append(bands.mean(axis=1))
        variances.append(bands.var(axis=1, ddof=ddof))
    found = torch.from_numpy(np.stack(means))[:, None], torch.from_numpy(np.stack(variances))[:, None]
    if not (values.requires_grad and torch.is_grad_enabled()):
        return found
    # The value is NumPy's, the gradient torch's.
    mean, variance = _statistics(values, frames, ddof)
    return found[0] + (mean - mean.detach()), found[1] + (variance - variance.detach())


def _statistics(values: Tensor, frames: Tensor, ddof: int) -> tuple[Tensor, Tensor]:
    """As `time_statistics`, with sums in float64."""
    count = frames[:, None, None].double()
    mean = zero_padding(values, frames).sum(dim=1, keepdim=True, dtype=torch.float64) / count
    mean = mean.to(values.dtype)
    squares = zero_padding(values - mean, frames).square()
    return mean, (squares.sum(dim=1, keepdim=True, dtype=torch.float64) / (count - ddof)).to(values.dtype)
