"""GE2E d-vectors: who speaks, as 256 numbers.

Sources: Wan et al., "Generalized end-to-end loss for speaker verification" (arXiv 1710.10467); network,
weights and preprocessing of resemble-ai/Resemblyzer (Apache-2.0), whose PyPI package carries the
weights. The results equal that package's (a test compares them); the difference is that the partials of all
clips pass the LSTM in one batch.

Shape letters: B clips, S samples, P partials of 160 frames, F mel frames.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hfprobe.errors import EncoderError
from hfprobe.hub.pickled import read_pickled
from hfprobe.plain import line
from hfprobe.speakers.base import SAMPLING_RATE, SpeakerEncoder
from hfprobe.speakers.vad import raise_volume, shorten_pauses

N_MELS = 40
N_FFT = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
PARTIAL = 160  # mel frames in one partial: 1.6 s
STEP = round(SAMPLING_RATE / 1.3 / HOP)  # mel frames between partials: 77, for 1.3 partials per second
MIN_COVERAGE = 0.75  # the last partial needs this much sound, unless it is the only one
WIDTH = 256
# Partials per pass of the LSTM: enough for full speed, little enough to stay below 100 MB.
CHUNK = 128
# Parameters of the training loss, which the weights file carries and an encoder has no use for.
LOSS_KEYS = frozenset({"similarity_weight", "similarity_bias"})


def partial_starts(n_samples: int) -> list[int]:
    """First mel frames of a clip's partials.

    Args:
        n_samples: Length of the clip in samples, at least 1.

    Returns:
        Multiples of 77, at least one.

    Example:
        >>> partial_starts(16000), partial_starts(48000)
        ([0], [0, 77, 154])
    """
    n_frames = math.ceil((n_samples + 1) / HOP)
    starts = list(range(0, max(1, n_frames - PARTIAL + STEP + 1), STEP))
    coverage = (n_samples - starts[-1] * HOP) / (PARTIAL * HOP)
    return starts[:-1] if coverage < MIN_COVERAGE and len(starts) > 1 else starts


class GE2E(SpeakerEncoder):
    """The GE2E speaker encoder: three LSTM layers of 256, a linear layer, ReLU, length 1.

    Args:
        vad: Shorten pauses by voice activity detection, as the weights expect; off for signals that are not
            speech.
    """

    name = "ge2e"
    dim = WIDTH
    filters: torch.Tensor
    window: torch.Tensor

    def __init__(self, vad: bool = True):
        super().__init__()
        self.vad = vad
        self.lstm = nn.LSTM(N_MELS, WIDTH, num_layers=3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)
        from torchaudio.functional import melscale_fbanks

        filters = melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLING_RATE / 2, N_MELS, SAMPLING_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, partials: torch.Tensor) -> torch.Tensor:
        """Embed partials.

        Args:
            partials: Mel power `(P, 160, 40)`.

        Returns:
            Embeddings `(P, 256)`, non-negative, of length 1.
        """
        _, (hidden, _) = self.lstm(partials)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / raw.norm(dim=1, keepdim=True)

    def embed(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Embed clips; see `SpeakerEncoder.embed`.

        Args:
            waveforms: Clips `(B, S)` in [-1, 1] at 16,000 Hz, padded at the end.
            lengths: Valid samples `(B,)`; all if None.

        Returns:
            Embeddings `(B, 256)`, non-negative, of length 1; NaN where `last_failures` gives a reason.

        Raises:
            ConfigError: If shapes or lengths do not fit.
        """
        n_samples = self.check_clips(waveforms, lengths)
        self.last_failures = {}
        clips = {}
        for index, (clip, length) in enumerate(zip(waveforms.detach().cpu().numpy(), n_samples, strict=True)):
            prepared, reason = self._prepare(clip[:length].astype(np.float32, copy=False))
            if reason:
                self.last_failures[index] = reason
            else:
                clips[index] = prepared
        embeddings = torch.full((len(waveforms), WIDTH), torch.nan, device=self.filters.device)
        if clips:
            with torch.inference_mode():
                rows = torch.tensor(list(clips), device=embeddings.device)
                embeddings[rows] = self._embed_prepared(list(clips.values()))
        for index in clips:
            if not torch.isfinite(embeddings[index]).all():
                embeddings[index] = torch.nan
                self.last_failures[index] = "the network gave no direction"
        return embeddings

    def _prepare(self, clip: np.ndarray) -> tuple[np.ndarray, str]:
        """The clip as the network expects it, or the reason why there is nothing to embed."""
        if len(clip) == 0:
            return clip, "empty"
        if not np.isfinite(clip).all():
            return clip, "not finite"
        if not clip.any():
            return clip, "silent"
        clip = raise_volume(clip)
        if not self.vad:
            return clip, ""
        voiced = shorten_pauses(clip)
        return voiced, "" if len(voiced) else "no speech found"

    def _embed_prepared(self, clips: Sequence[np.ndarray]) -> torch.Tensor:
        starts = [partial_starts(len(clip)) for clip in clips]
        # The LSTM is three quarters of the work, the spectrograms a tenth: it is the LSTM that gets full
        # batches. All partials have one length and simply queue up for it.
        owners, waiting, done = [], [], []
        for index, clip in enumerate(clips):
            mel = self._mel(clip, starts[index][-1] + PARTIAL)
            waiting.append(mel.unfold(0, PARTIAL, STEP).transpose(1, 2))
            owners += [index] * len(starts[index])
            if sum(map(len, waiting)) >= CHUNK:
                done.append(self(torch.cat(waiting)))
                waiting = []
        if waiting:
            done.append(self(torch.cat(waiting)))
        partials, owner = torch.cat(done), torch.tensor(owners, device=self.filters.device)
        sums = partials.new_zeros(len(clips), WIDTH).index_add_(0, owner, partials)
        counts = torch.bincount(owner, minlength=len(clips)).unsqueeze(1)
        means = sums / counts
        return means / means.norm(dim=1, keepdim=True)

    def _mel(self, clip: np.ndarray, n_frames: int) -> torch.Tensor:
        """Mel power of the first frames `(F, 40)`; zeros before and behind the clip, as librosa pads."""
        # Frame f is centred on sample f * HOP, so the last one ends N_FFT / 2 behind its centre.
        n_samples = (n_frames - 1) * HOP + N_FFT // 2
        signal = torch.as_tensor(clip[:n_samples], dtype=torch.float32, device=self.filters.device)
        signal = nn.functional.pad(signal, (N_FFT // 2, n_samples - len(signal)))
        spectrum = torch.stft(signal, N_FFT, HOP, window=self.window, center=False, return_complex=True)
        return torch.view_as_real(spectrum).square().sum(-1).T @ self.filters


def packaged_weights() -> Path:
    """The weights file inside the installed `resemblyzer` package, found without importing the package.

    Raises:
        EncoderError: If the package is not installed, or has no weights.
    """
    spec = importlib.util.find_spec("resemblyzer")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (path := Path(folder) / "pretrained.pt").is_file():
            return path
    raise EncoderError(
        "expected GE2E's weights in the package resemblyzer, found none; run pip install resemblyzer, "
        "or give a file: ge2e:pretrained.pt"
    )


def load_ge2e(weights: str | None = None, vad: bool = True) -> GE2E:
    """Load GE2E with its weights.

    Args:
        weights: File in Resemblyzer's format; that of the installed package if None.
        vad: As for `GE2E`.

    Returns:
        The encoder in eval mode.

    Raises:
        EncoderError: If the file is missing, broken, or holds other weights.
    """
    path = Path(weights) if weights else packaged_weights()
    content = read_pickled(path, "GE2E weights", advice="install resemblyzer again")
    state = content.get("model_state") if isinstance(content, dict) else None
    encoder = GE2E(vad=vad)
    wanted = {name: value.shape for name, value in encoder.state_dict().items()}
    state = state if isinstance(state, dict) else {}
    found = {name: getattr(value, "shape", None) for name, value in state.items() if name not in LOSS_KEYS}
    if found != wanted:
        differing = sorted(str(name) for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise EncoderError(
            f"expected the weights of GE2E in {path}, these differ or are missing: {line(', '.join(differing))}; "
            "use Resemblyzer's pretrained.pt"
        )
    encoder.load_state_dict({name: value for name, value in state.items() if name not in LOSS_KEYS})
    return encoder.eval()
