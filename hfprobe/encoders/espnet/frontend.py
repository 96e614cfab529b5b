"""Log-mel features, with deltas for the paper's encoders, computed within each utterance's own length.

ESPnet's own ``DefaultFrontend`` reflects at the end of the padded batch, so the last frames of a padded
utterance differ from those of the same utterance alone. Here the reflection, the deltas and the mask follow
each utterance's length; for an utterance alone the numbers are ESPnet's.

Sources: log-mel as in ``espnet2.asr.frontend.default``; deltas are the regression formula of Young et al.,
"The HTK Book" (3.4), section 5.9, as in ``torchaudio.functional.compute_deltas`` (replicate padding).
"""

from __future__ import annotations

import torch
from espnet2.asr.frontend.default import DefaultFrontend
from torch import Tensor

from hfprobe.errors import EncoderError

FRONTEND_NAME = "delta"


def valid_frames(lengths: Tensor, size: int) -> Tensor:
    """Mask of the frames that belong to an utterance.

    Args:
        lengths: ``(batch,)`` frames of each utterance.
        size: Frames of the padded batch.

    Returns:
        ``(batch, size)`` bool, true on valid frames.

    Example:
        >>> valid_frames(torch.tensor([1, 3]), 3).int().tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def reflect_pad(waveforms: Tensor, lengths: Tensor, pad: int) -> Tensor:
    """Reflect each utterance at its own first and last sample; zeros follow.

    Args:
        waveforms: ``(batch, samples)``.
        lengths: ``(batch,)`` samples of each utterance, each above ``pad``.
        pad: Samples to add on either side.

    Returns:
        ``(batch, samples + 2 * pad)``; utterance ``b`` occupies the first ``lengths[b] + 2 * pad``.

    Example:
        >>> reflect_pad(torch.tensor([[1., 2., 3., 9.]]), torch.tensor([3]), 2).tolist()
        [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]]
    """
    position = torch.arange(-pad, waveforms.shape[1] + pad, device=waveforms.device).abs()
    last = (lengths - 1)[:, None]
    # Positions past the last sample run back from it; those past the reflection are masked below.
    index = torch.where(position > last, 2 * last - position, position).clamp_min(0)
    inside = valid_frames(lengths + 2 * pad, index.shape[1])
    return waveforms.gather(1, index).masked_fill(~inside, 0.0)


def log_mel(frontend: DefaultFrontend, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Natural-log power mel-spectrogram of each utterance as if it were alone.

    Args:
        frontend: Frontend whose STFT and mel filters are used (centred STFT, no enhancement).
        waveforms: ``(batch, samples)`` float, in [-1, 1].
        lengths: ``(batch,)`` samples of each utterance.

    Returns:
        Features ``(batch, frames, n_mels)``, zero past each utterance, and ``(batch,)`` frames of each,
        ``1 + samples // hop``.

    Raises:
        EncoderError: If an utterance is too short to be reflected (``n_fft // 2`` samples or fewer).
    """
    stft = frontend.stft
    pad = stft.n_fft // 2
    shortest = int(lengths.min())
    if shortest <= pad:
        raise EncoderError(f"expected at least {pad + 1} samples each, got {shortest}: drop short clips")
    window = None
    if stft.window is not None:
        make_window = getattr(torch, f"{stft.window}_window")
        window = make_window(stft.win_length, dtype=waveforms.dtype, device=waveforms.device)
    spectrum = torch.stft(
        reflect_pad(waveforms, lengths, pad),
        n_fft=stft.n_fft,
        hop_length=stft.hop_length,
        win_length=stft.win_length,
        window=window,
        center=False,
        normalized=stft.normalized,
        onesided=stft.onesided,
        return_complex=True,
    ).transpose(1, 2)
    power = spectrum.real.square() + spectrum.imag.square()
    features = torch.matmul(power, frontend.logmel.melmat.to(power.dtype)).clamp_min(1e-10).log()
    frames = torch.div(lengths, stft.hop_length, rounding_mode="floor") + 1
    padding = ~valid_frames(frames, features.shape[1])
    return features.masked_fill(padding[..., None], 0.0), frames


def deltas(features: Tensor, lengths: Tensor, window: int = 5) -> Tensor:
    """First-order regression over time, the edge frames of each utterance replicated.

    ``d[t] = sum_k k * (x[t + k] - x[t - k]) / (2 * sum_k k^2)`` for ``k = 1 .. (window - 1) / 2``.

    Args:
        features: ``(batch, frames, dim)``.
        lengths: ``(batch,)`` valid frames of each utterance.
        window: Frames that the regression sees, odd, at least 3.

    Returns:
        ``(batch, frames, dim)``; values past an utterance's length mean nothing.

    Example:
        >>> ramp = torch.arange(5.0).reshape(1, 5, 1)
        >>> deltas(ramp, torch.tensor([5])).flatten().tolist()[2]
        1.0
    """
    reach = (window - 1) // 2
    frames = features.shape[1]
    position = torch.arange(-reach, frames + reach, device=features.device)
    index = torch.minimum(position.clamp_min(0), (lengths - 1)[:, None])
    held = features.gather(1, index[..., None].expand(-1, -1, features.shape[2]))
    total = torch.zeros_like(features)
    for k in range(1, reach + 1):
        ahead = held[:, reach + k : reach + k + frames]
        behind = held[:, reach - k : reach - k + frames]
        total = total + k * (ahead - behind)
    return total / (reach * (reach + 1) * (2 * reach + 1) / 3)


class DeltaFrontend(DefaultFrontend):
    """Log-mel features with deltas and accelerations, the 240-wide input of the paper's recognisers.

    Args:
        fs: Sampling rate in Hz, or a string such as ``"16k"``.
        n_fft: FFT size in samples.
        win_length: Window length in samples.
        hop_length: Hop in samples.
        window: Name of a torch window function, or None for a rectangle.
        n_mels: Mel bands.
        fmin: Lowest frequency in Hz (0 if None).
        fmax: Highest frequency in Hz (half the sampling rate if None).
        htk: HTK mel scale instead of Slaney's.
        delta_window: Frames of the delta regression, odd, at least 3.

    Example:
        >>> frontend = DeltaFrontend()
        >>> features, lengths = frontend(torch.randn(2, 16000), torch.tensor([16000, 8000]))
        >>> tuple(features.shape), lengths.tolist()
        ((2, 101, 240), [101, 51])
    """

    def __init__(
        self,
        fs: int | str = 16000,
        n_fft: int = 512,
        win_length: int | None = 400,
        hop_length: int = 160,
        window: str | None = "hann",
        n_mels: int = 80,
        fmin: int | None = None,
        fmax: int | None = None,
        htk: bool = False,
        delta_window: int = 5,
    ):
        if delta_window < 3 or delta_window % 2 == 0:
            raise EncoderError(f"expected an odd delta_window of at least 3, got {delta_window}")
        super().__init__(
            fs=fs,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            window=window,
            n_mels=n_mels,
            fmin=fmin,
            fmax=fmax,
            htk=htk,
            frontend_conf=None,
        )
        self.delta_window = delta_window

    def output_size(self) -> int:
        """Width of a feature frame: static, delta and delta-delta bands (240 for 80 bands)."""
        return 3 * self.n_mels

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of a batch; each utterance gets what it would get alone.

        Args:
            input: ``(batch, samples)`` waveforms.
            input_lengths: ``(batch,)`` samples of each utterance.

        Returns:
            ``(batch, frames, 3 * n_mels)`` as ``[static | delta | delta-delta]`` (channel-major, as VGG2L
            reads them), zero past each utterance, and ``(batch,)`` frames.

        Raises:
            EncoderError: If the waveforms are not two-dimensional or too short for the STFT.
        """
        if input.dim() != 2:
            raise EncoderError(
                f"expected waveforms of shape (batch, samples), got {tuple(input.shape)}: pick one channel"
            )
        input_lengths = input_lengths.to(input.device)
        static, frames = log_mel(self, input.float(), input_lengths)
        first = deltas(static, frames, self.delta_window)
        second = deltas(first, frames, self.delta_window)
        features = torch.cat([static, first, second], dim=-1)
        padding = ~valid_frames(frames, features.shape[1])
        return features.masked_fill(padding[..., None], 0.0), frames


def register() -> None:
    """Make ``frontend: delta`` known to ESPnet's ASR task.

    Imports ``espnet2.tasks.asr`` (about 8 s); call it before a parser or ``build_model`` is made. Rebuilding
    an encoder from an experiment folder does not need it.
    """
    from espnet2.tasks.asr import frontend_choices

    frontend_choices.classes[FRONTEND_NAME] = DeltaFrontend
