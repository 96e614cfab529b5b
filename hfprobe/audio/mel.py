"""Log-mel spectrograms: the one representation that every probe is trained to rebuild.

The numbers are those of ESPnet's ``DefaultFrontend`` before normalisation (``espnet2.layers.stft.Stft``,
then ``espnet2.layers.log_mel.LogMel``): a centred STFT with reflection at both ends, power, Slaney mel
filters with Slaney normalisation (Slaney, "Auditory Toolbox", 1998, as in ``librosa.filters.mel``), natural
logarithm with a floor.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch

from hfprobe.errors import AudioError, ConfigError
from hfprobe.plain import short

MEL_SCALES = ("slaney", "htk")
Count = TypeVar("Count", int, torch.Tensor)


@dataclass(frozen=True)
class MelConfig:
    """How a mel-spectrogram is computed; it travels inside every probe's config.

    Args:
        sampling_rate: Samples per second, in Hz.
        n_fft: Length of the Fourier transform, in samples (even).
        win_length: Length of the Hann window, in samples; at most ``n_fft``.
        hop_length: Step between frames, in samples; at most half the window, so that sound can be rebuilt.
        n_mels: Number of mel bands.
        f_min: Lower edge of the lowest band, in Hz.
        f_max: Upper edge of the highest band, in Hz; at most half the sampling rate.
        mel_scale: ``"slaney"`` (linear below 1 kHz, logarithmic above) or ``"htk"``.
        log_floor: Mel power below this is raised to it before the logarithm.

    Raises:
        ConfigError: A value is out of range.

    Example:
        >>> MelConfig().frames(16000)
        101
        >>> MelConfig.from_dict(MelConfig(n_mels=40).to_dict()).n_mels
        40
    """

    sampling_rate: int = 16000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0
    mel_scale: str = "slaney"
    log_floor: float = 1e-10

    def __post_init__(self):
        for name in ("sampling_rate", "n_fft", "win_length", "hop_length", "n_mels"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"mel {name} must be a positive whole number, got {short(value)}")
        if self.n_fft % 2:
            raise ConfigError(f"mel n_fft must be even, got {self.n_fft}")
        if self.win_length > self.n_fft:
            raise ConfigError(f"mel win_length must be at most n_fft={self.n_fft}, got {self.win_length}")
        if 2 * self.hop_length > self.win_length:
            raise ConfigError(
                f"mel hop_length must be at most half of win_length={self.win_length}, got {self.hop_length}"
            )
        if not 0 <= self.f_min < self.f_max <= self.sampling_rate / 2:
            raise ConfigError(
                f"mel bands need 0 <= f_min < f_max <= {self.sampling_rate / 2:g} Hz, "
                f"got f_min={short(self.f_min)}, f_max={short(self.f_max)}"
            )
        if self.mel_scale not in MEL_SCALES:
            raise ConfigError(f"mel_scale must be one of {', '.join(MEL_SCALES)}, got {short(self.mel_scale)}")
        if not 0 < self.log_floor < 1:
            raise ConfigError(f"mel log_floor must lie between 0 and 1, got {short(self.log_floor)}")

    @property
    def n_freqs(self) -> int:
        """Number of STFT bins, ``n_fft // 2 + 1``."""
        return self.n_fft // 2 + 1

    def frames(self, n_samples: Count) -> Count:
        """Number of mel frames of a signal.

        Args:
            n_samples: Length of the signal in samples (an int or an integer tensor).

        Returns:
            ``1 + n_samples // hop_length``.
        """
        return 1 + n_samples // self.hop_length

    def to_dict(self) -> dict:
        """All values as a plain dictionary, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> MelConfig:
        """The configuration that `to_dict` wrote.

        Args:
            values: All values by name, or some; the others are the defaults.

        Returns:
            The configuration.

        Raises:
            ConfigError: A key is unknown or a value is out of range.
        """
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ConfigError(f"unknown mel setting {short(unknown[0])}; valid settings: {', '.join(names)}")
        return cls(**values)


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    # Slaney: 3 mels per 200 Hz up to 1 kHz, then 27 mels per factor 6.4.
    high = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4)
    return np.where(hz < 1000.0, hz * 3 / 200, high)


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    high = 1000.0 * np.exp(np.log(6.4) * (np.maximum(mel, 15.0) - 15.0) / 27.0)
    return np.where(mel < 15.0, mel * 200 / 3, high)


@lru_cache(maxsize=16)
def _filters_numpy(config: MelConfig) -> np.ndarray:
    ends = _hz_to_mel(np.array([config.f_min, config.f_max]), config.mel_scale)
    edges = _mel_to_hz(np.linspace(ends[0], ends[1], config.n_mels + 2), config.mel_scale)
    bins = np.arange(config.n_freqs) * (config.sampling_rate / config.n_fft)
    widths = np.diff(edges)
    rising = (bins - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - bins) / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters = triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]  # Slaney: every band has the same area
    filters.setflags(write=False)
    return filters


@lru_cache(maxsize=64)
def _constants(config: MelConfig, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Mel filters (n_freqs, n_mels) and the Hann window (win_length,) on one device."""
    # A tensor first made under inference_mode could never be used in training afterwards.
    with torch.inference_mode(False):
        filters = torch.from_numpy(_filters_numpy(config).T.copy()).to(device=device, dtype=dtype)
        return filters, torch.hann_window(config.win_length, dtype=dtype, device=device)


def hann_window(
    config: MelConfig, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The Hann window ``(win_length,)``; cached, so it must not be edited in place."""
    return _constants(config, torch.device(device), dtype)[1]


def mel_filters(
    config: MelConfig | None = None, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The mel filter bank; cached, so it must not be edited in place.

    Args:
        config: Mel settings; the defaults when None.
        device: Where the result shall lie.
        dtype: Its floating-point type.

    Returns:
        Weights ``(n_fft // 2 + 1, n_mels)``: ``power @ mel_filters(config)`` is the mel power.

    Example:
        >>> mel_filters(MelConfig()).shape
        torch.Size([257, 80])
    """
    return _constants(config or MelConfig(), torch.device(device), dtype)[0]


def _reflected(waveforms: torch.Tensor, lengths: torch.Tensor | None, pad: int) -> torch.Tensor:
    """Pad (batch, samples) by reflection at both ends of every item's own length."""
    batch, samples = waveforms.shape
    minimum = pad + 1  # a reflection by `pad` samples needs one sample more
    if samples < minimum:
        waveforms = torch.nn.functional.pad(waveforms, (0, minimum - samples))
        samples = minimum
    if lengths is None:
        return torch.nn.functional.pad(waveforms.unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
    ends = lengths.to(waveforms.device).unsqueeze(1)
    inside = torch.arange(samples, device=waveforms.device) < ends
    waveforms = waveforms.masked_fill(~inside, 0.0)
    ends = ends.clamp(min=minimum)
    index = torch.arange(-pad, samples + pad, device=waveforms.device).abs().expand(batch, -1)
    index = torch.where(index >= ends, 2 * (ends - 1) - index, index)
    # What lies beyond the reflection belongs to no valid frame; any index will do there.
    return torch.gather(waveforms, 1, index.clamp(0, samples - 1))


def mel_spectrogram(
    waveforms: torch.Tensor, config: MelConfig | None = None, lengths: torch.Tensor | None = None
) -> torch.Tensor:
    """Natural-log power mel-spectrogram, equal to ESPnet's ``DefaultFrontend`` before normalisation.

    A signal shorter than ``n_fft // 2 + 1`` samples is extended with zeros to that length first (reflection
    needs it); the number of frames is ``config.frames(samples)`` always.

    Args:
        waveforms: Signals ``(..., samples)``, float, at ``config.sampling_rate``.
        config: Mel settings; the defaults when None.
        lengths: Valid samples ``(batch,)`` of a padded batch ``(batch, samples)``; every item is then
            reflected at its own end, so that it gives the same frames as alone; those behind it are
            ``log(log_floor)``.

    Returns:
        Log-mel power ``(..., frames, n_mels)`` on the device of the input, differentiable.

    Raises:
        AudioError: No samples, not floating point, or lengths that do not fit.

    Example:
        >>> mel_spectrogram(torch.zeros(2, 1600)).shape
        torch.Size([2, 11, 80])
    """
    config = config or MelConfig()
    if not isinstance(waveforms, torch.Tensor) or not waveforms.is_floating_point():
        kind = getattr(waveforms, "dtype", type(waveforms).__name__)
        raise AudioError(f"waveforms must be a floating-point tensor, got {kind}; convert it first")
    if waveforms.ndim < 1 or waveforms.shape[-1] == 0:
        raise AudioError(f"waveforms must be (..., samples), not empty, got shape {tuple(waveforms.shape)}")
    if waveforms.dtype not in (torch.float32, torch.float64):
        waveforms = waveforms.float()  # no complex half precision on most devices
    shape, samples = waveforms.shape[:-1], waveforms.shape[-1]
    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=waveforms.device)
        if waveforms.ndim != 2 or lengths.shape != shape:
            raise AudioError(
                f"lengths need waveforms (batch, samples) and one length each, got shapes "
                f"{tuple(waveforms.shape)} and {tuple(lengths.shape)}"
            )
        if int(lengths.min()) < 1 or int(lengths.max()) > samples:
            raise AudioError(f"lengths must lie between 1 and {samples} samples, got {lengths.tolist()}")
    filters, window = _constants(config, waveforms.device, waveforms.dtype)
    padded = _reflected(waveforms.reshape(-1, samples), lengths, config.n_fft // 2)
    spectrum = torch.stft(
        padded, config.n_fft, config.hop_length, config.win_length, window, center=False, return_complex=True
    )
    power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)[:, : config.frames(samples)]
    log_mel = torch.matmul(power, filters).clamp(min=config.log_floor).log()
    if lengths is not None:
        valid = torch.arange(log_mel.shape[1], device=log_mel.device) < config.frames(lengths).unsqueeze(1)
        log_mel = log_mel.masked_fill(~valid.unsqueeze(-1), float(np.log(config.log_floor)))
    return log_mel.reshape(*shape, *log_mel.shape[1:])
