"""From magnitudes to sound: Griffin-Lim and its faster kin, batched.

All of them go to and fro between two sets of spectrograms: those with the given magnitudes, and those that some
signal has. Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984, projects on one
and then on the other; Perraudin, Balazs and Søndergaard, "A fast Griffin-Lim algorithm", 2013, adds momentum; relaxed
averaged alternating reflections (Luke, "Relaxed averaged alternating reflections for diffraction imaging", Inverse
Problems 21, 2005, equation 22) reflect instead and so leave the shallow minima where the others stay. With its
relaxation lowered from 1 as it goes, 16 iterations of it sound like 32 of the fast Griffin-Lim
(`tests/benchmarks/bench_vocoder.py`).

The first phases are not random: they integrate the instantaneous frequency that the slope of the log-magnitude over
frequency gives for a nearly Gaussian window (Průša, Balazs and Søndergaard, "A noniterative method for reconstruction
of phase from STFT magnitude", 2017), which is worth about 0.1 wideband PESQ. Only the phase that each bin starts from
is drawn at random.
"""

from __future__ import annotations

import math

import torch

from hfprobe.audio.inversion import invert_mel
from hfprobe.audio.mel import MelConfig, hann_window
from hfprobe.errors import AudioError

HANN_GAMMA = 0.25645  # time-frequency ratio of the Gaussian closest to a Hann window of M samples, over M^2
CACHE_FRAMES = 1024  # frames handled at once on a CPU; with 4096 it was 10 to 15 % slower (cache)
INITS = ("gradient", "random")
ALGORITHMS = ("raar", "fgla")
RELAXATION = (1.0, 0.85)  # of "raar", from the first iteration to the last; best of those tried on LibriSpeech


@torch.no_grad()
def griffin_lim(
    magnitude: torch.Tensor,
    config: MelConfig | None = None,
    n_iter: int = 32,
    momentum: float = 0.99,
    seed: int = 0,
    length: int | torch.Tensor | None = None,
    init: str = "gradient",
    algorithm: str = "raar",
) -> torch.Tensor:
    """Sound whose STFT magnitudes come close to the given ones.

    An item's result depends on its own magnitudes, length and the seed alone, whatever else is in the batch.

    Args:
        magnitude: Linear STFT magnitudes ``(..., frames, n_fft // 2 + 1)``, not negative.
        config: Settings of the STFT; the defaults when None.
        n_iter: Iterations; 32 are enough, 64 a little better.
        momentum: For ``"fgla"``, weight of the step beyond the last estimate; 0 is the algorithm of 1984.
        seed: Seed of the first phases; they are the same on every device.
        length: Samples wanted: a number, or one for each item ``(...)``. Frames behind
            ``config.frames(length)`` are not used; where frames are missing, zeros follow. ``max(1, frames -
            1) * hop_length`` when None.
        init: ``"gradient"`` for phases estimated from the magnitudes, ``"random"`` for uniform ones.
        algorithm: ``"raar"`` (relaxed averaged alternating reflections) or ``"fgla"`` (fast Griffin-Lim).

    Returns:
        Waveforms ``(..., samples)``, float32, as long as the longest, zero behind each item's own length.

    Raises:
        AudioError: Wrong shape, negative or non-finite magnitudes, or a length, iteration count, momentum or
            start that is out of range.

    Example:
        >>> griffin_lim(torch.ones(2, 11, 257), n_iter=2, length=[1600, 900]).shape
        torch.Size([2, 1600])
    """
    config = config or MelConfig()
    if magnitude.ndim < 2 or magnitude.shape[-1] != config.n_freqs or magnitude.shape[-2] == 0:
        raise AudioError(
            f"magnitude must be (..., frames, {config.n_freqs}) with frames > 0, got {tuple(magnitude.shape)}"
        )
    if n_iter < 0 or not 0 <= momentum < 2:
        raise AudioError(f"need n_iter >= 0 and 0 <= momentum < 2, got n_iter={n_iter}, momentum={momentum}")
    for what, name, known in (("init", init, INITS), ("algorithm", algorithm, ALGORITHMS)):
        if name not in known:
            raise AudioError(f"{what} must be one of {', '.join(known)}, got {name!r}")
    shape, frames = magnitude.shape[:-2], magnitude.shape[-2]
    flat = magnitude.reshape(-1, frames, config.n_freqs).to(torch.float32)
    if len(flat) and not (bool(torch.isfinite(flat).all()) and float(flat.min()) >= 0):
        raise AudioError("magnitude must be finite and not negative; clamp it or look for NaN before")
    lengths = _lengths(length, shape, frames, config).to(flat.device)
    samples = int(lengths.max()) if len(lengths) else 0
    waveforms = flat.new_zeros(len(flat), samples)
    at_once = len(flat) if flat.device.type != "cpu" else max(1, CACHE_FRAMES // frames)
    for start in range(0, len(flat), max(1, at_once)):
        part = slice(start, start + at_once)
        first = _first_phases(flat[part], config, seed, init)
        step = None if algorithm == "raar" else momentum
        waveforms[part] = _iterate(flat[part], first, lengths[part], samples, config, n_iter, step)
    return waveforms.reshape(*shape, samples)


def vocode(
    mel: torch.Tensor,
    config: MelConfig | None = None,
    n_iter: int = 32,
    lengths: int | torch.Tensor | None = None,
    method: str = "nnls",
    momentum: float = 0.99,
    seed: int = 0,
    algorithm: str = "raar",
) -> torch.Tensor:
    """Sound from a log-mel spectrogram: `invert_mel`, then `griffin_lim`.

    Args:
        mel: Log-mel power ``(..., frames, n_mels)`` as `mel_spectrogram` makes it.
        config: Mel settings; the defaults when None.
        n_iter: Iterations of Griffin-Lim.
        lengths: Samples wanted, a number or one for each item ``(...)``; see `griffin_lim`.
        method: Inversion of the mel filters, see `invert_mel`.
        momentum: Momentum of ``"fgla"``.
        seed: Seed of the first phases.
        algorithm: See `griffin_lim`.

    Returns:
        Waveforms ``(..., samples)``, float32.

    Raises:
        AudioError: See `invert_mel` and `griffin_lim`.

    Example:
        >>> from hfprobe.audio.mel import mel_spectrogram
        >>> tone = torch.sin(torch.arange(1600) * 0.2)
        >>> vocode(mel_spectrogram(tone), lengths=1600).shape
        torch.Size([1600])
    """
    config = config or MelConfig()
    return griffin_lim(invert_mel(mel, config, method), config, n_iter, momentum, seed, lengths, algorithm=algorithm)


def _lengths(length, shape: torch.Size, frames: int, config: MelConfig) -> torch.Tensor:
    if length is None:
        length = max(1, frames - 1) * config.hop_length
    lengths = torch.as_tensor(length)
    if lengths.is_floating_point() or lengths.ndim and lengths.shape != shape:
        raise AudioError(
            f"length must be a whole number or one for each of {tuple(shape)} items, got {lengths.dtype} "
            f"of shape {tuple(lengths.shape)}"
        )
    lengths = lengths.expand(shape).reshape(-1)
    if len(lengths) and int(lengths.min()) < 1:
        raise AudioError(f"length must be at least 1 sample, got {int(lengths.min())}")
    return lengths


def _first_phases(magnitude: torch.Tensor, config: MelConfig, seed: int, init: str) -> torch.Tensor:
    """Phases (batch, frames, freqs) to start from, radians."""
    # Drawn on the CPU, so that every device starts alike; one draw for all items, so that their order is of
    # no account.
    generator = torch.Generator().manual_seed(seed)
    rows = 1 if init == "gradient" else magnitude.shape[1]
    start = 2 * math.pi * torch.rand(rows, config.n_freqs, generator=generator).to(magnitude.device)
    if init == "random":
        return start.expand_as(magnitude)
    floor = magnitude.amax(dim=(1, 2), keepdim=True) * 1e-6 + 1e-20
    log_magnitude = magnitude.maximum(floor).log()
    slope = torch.zeros_like(magnitude)
    slope[..., 1:-1] = (log_magnitude[..., 2:] - log_magnitude[..., :-2]) / 2
    bins = torch.arange(config.n_freqs, device=magnitude.device)
    advance = bins * (2 * math.pi * config.hop_length / config.n_fft)
    advance = advance + slope * (config.hop_length * config.n_fft / (HANN_GAMMA * config.win_length**2))
    steps = torch.cat([start.expand(len(magnitude), 1, -1), (advance[:, 1:] + advance[:, :-1]) / 2], dim=1)
    # Whole turns are dropped before the sum: in float32 they would eat the digits of long utterances.
    return torch.remainder(steps, 2 * math.pi).cumsum(dim=1)


def _iterate(magnitude, phases, lengths, samples, config, n_iter, momentum) -> torch.Tensor:
    """Sound of (batch, frames, freqs); the signal is free beyond its ends, so no padding enters."""
    frames = magnitude.shape[1]
    hop, win = config.hop_length, config.win_length
    blocks = -(-win // hop)
    window = hann_window(config, magnitude.device)
    used = torch.arange(frames, device=magnitude.device) < config.frames(lengths).unsqueeze(1)
    magnitude, all_used = magnitude * used.unsqueeze(-1), bool(used.all())

    def overlap_add(pieces: torch.Tensor) -> torch.Tensor:
        pieces = torch.nn.functional.pad(pieces, (0, blocks * hop - win))
        pieces = pieces.view(len(pieces), frames, blocks, hop)
        out = pieces.new_zeros(len(pieces), frames + blocks - 1, hop)
        for block in range(blocks):
            out[:, block : block + frames] += pieces[:, :, block]
        return out.view(len(pieces), -1)

    envelope = overlap_add(window.square() * used.unsqueeze(-1))
    # The floor fades the outermost samples, which only one window's tail reaches, instead of blowing them up.
    weight = torch.where(envelope > 0, 1 / envelope.clamp(min=0.02), 0.0)

    def synthesise(spectrum: torch.Tensor) -> torch.Tensor:
        pieces = torch.fft.irfft(spectrum, n=config.n_fft)[..., :win] * window
        return overlap_add(pieces).mul_(weight)

    def consistent(spectrum: torch.Tensor) -> torch.Tensor:
        """The spectrogram of the signal that comes closest."""
        rebuilt = torch.fft.rfft(synthesise(spectrum).unfold(1, win, hop)[:, :frames] * window, n=config.n_fft)
        return rebuilt if all_used else rebuilt.mul_(used.unsqueeze(-1))

    def with_magnitude(spectrum: torch.Tensor) -> torch.Tensor:
        """The given magnitudes with these phases."""
        real, imaginary = spectrum.real, spectrum.imag
        # Half the time of a sum over pairs: a reduction over two values is not vectorised.
        gain = torch.addcmul(real * real, imaginary, imaginary).add_(1e-20).rsqrt_().mul_(magnitude)
        return torch.view_as_complex(torch.view_as_real(spectrum) * gain.unsqueeze(-1))

    spectrum = torch.polar(magnitude, phases)
    iterate = _reflect if momentum is None else _accelerate
    signal = synthesise(iterate(spectrum, consistent, with_magnitude, n_iter, momentum))
    # Frame 0 is centred on sample 0: its window begins before the signal.
    before = config.n_fft // 2 - (config.n_fft - win) // 2
    waveforms = signal[:, before : before + samples]
    waveforms = torch.nn.functional.pad(waveforms, (0, samples - waveforms.shape[1]))
    inside = torch.arange(samples, device=signal.device) < lengths.unsqueeze(1)
    return waveforms * inside


def _accelerate(spectrum, consistent, with_magnitude, n_iter: int, momentum: float) -> torch.Tensor:
    """Fast Griffin-Lim: alternating projections with momentum."""
    previous = None
    for _ in range(n_iter):
        rebuilt = consistent(spectrum)
        ahead = rebuilt if previous is None else torch.sub(rebuilt, previous, alpha=momentum / (1 + momentum))
        previous, spectrum = rebuilt, with_magnitude(ahead)
    return spectrum


def _reflect(spectrum, consistent, with_magnitude, n_iter: int, _) -> torch.Tensor:
    """Relaxed averaged alternating reflections: x <- b / 2 (R_c R_m x + x) + (1 - b) P_m x, for R = 2 P - 1."""
    start, end = RELAXATION
    for step in range(n_iter):
        b = start + (end - start) * step / max(1, n_iter - 1)
        projected = with_magnitude(spectrum)
        rebuilt = consistent(torch.sub(2 * projected, spectrum))
        # As both reflections are linear in their projections, this is b (x + P_c R_m x) + (1 - 2 b) P_m x.
        spectrum = rebuilt.add_(spectrum).mul_(b).add_(projected, alpha=1 - 2 * b)
    return with_magnitude(spectrum)
