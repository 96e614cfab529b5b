"""What every speaker encoder promises, and the registry of those that can be loaded by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn

from hfprobe.errors import ConfigError, EncoderError

SAMPLING_RATE = 16000  # Hz, of every speaker encoder's input

# Name to "module:callable", so that only the one that is asked for is imported. The callable takes the text
# behind the colon of "name:argument" (a weights file), or None.
_REGISTRY: dict[str, str | Callable[[str | None], SpeakerEncoder]] = {
    "ecapa": "hfprobe.speakers.speechbrain:load_ecapa",
    "ge2e": "hfprobe.speakers.ge2e:load_ge2e",
    "hf": "hfprobe.speakers.xvector:load_xvector",
    "thinresnet": "hfprobe.speakers.weights:load_thinresnet",
    "unispeech-sat-sv": "hfprobe.speakers.xvector:load_unispeech_sat_sv",
    "wav2vec2-sv": "hfprobe.speakers.xvector:load_wav2vec2_sv",
    "wavlm-sv": "hfprobe.speakers.xvector:load_wavlm_sv",
    "xvector": "hfprobe.speakers.speechbrain:load_xvector_tdnn",
}


class SpeakerEncoder(nn.Module):
    """Base class: waveforms in, one embedding per clip out.

    A clip that cannot be embedded (silence, no speech found) gets a row of NaN and a reason, never zeros: a
    score against zeros would look like a measurement.

    Attributes:
        name: Name in results.
        dim: Width of an embedding.
        last_failures: Row to reason, for the clips of the last call that could not be embedded.
    """

    name: str = ""
    dim: int = 0

    def __init__(self):
        super().__init__()
        self.last_failures: dict[int, str] = {}

    def embed(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Embed clips.

        Args:
            waveforms: Clips `(B, S)` in [-1, 1] at 16,000 Hz, padded at the end.
            lengths: Valid samples `(B,)`; all if None.

        Returns:
            Embeddings `(B, dim)` of length 1, float32; NaN rows are listed in `last_failures`.

        Raises:
            ConfigError: If shapes or lengths do not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define embed")

    @staticmethod
    def check_clips(waveforms: torch.Tensor, lengths: torch.Tensor | None) -> list[int]:
        """Check the arguments of `embed`.

        Args:
            waveforms: What was given as waveforms.
            lengths: What was given as lengths.

        Returns:
            Valid samples of each clip.

        Raises:
            ConfigError: If shapes or lengths do not fit.
        """
        if not isinstance(waveforms, torch.Tensor) or waveforms.dim() != 2 or not waveforms.is_floating_point():
            found = tuple(waveforms.shape) if hasattr(waveforms, "shape") else type(waveforms).__name__
            raise ConfigError(
                f"expected waveforms as a float tensor (batch, samples), got {found}; pad and stack clips"
            )
        n_clips, n_samples = waveforms.shape
        if lengths is None:
            return [n_samples] * n_clips
        given = [int(length) for length in lengths]
        if len(given) != n_clips or any(not 0 <= length <= n_samples for length in given):
            raise ConfigError(
                f"expected {n_clips} lengths between 0 and {n_samples} samples, got {given}; pass lengths in samples"
            )
        return given


def speaker_encoders() -> tuple[str, ...]:
    """Names that `load_speaker_encoder` knows.

    Example:
        >>> "ge2e" in speaker_encoders()
        True
    """
    return tuple(sorted(_REGISTRY))


def register_speaker_encoder(name: str, factory: str | Callable[[str | None], SpeakerEncoder]) -> None:
    """Make a speaker encoder loadable by name.

    Args:
        name: Name, without a colon.
        factory: Callable from the text behind the colon (or None) to a `SpeakerEncoder`; or
            ``"module:callable"``.

    Raises:
        ConfigError: If the name has a colon or is empty.

    Example:
        >>> register_speaker_encoder("mine", "my_package.speakers:load")  # imported when it is asked for
        >>> "mine" in speaker_encoders(), _REGISTRY.pop("mine")
        (True, 'my_package.speakers:load')
    """
    if not name or ":" in name:
        raise ConfigError(f"expected a name without a colon for a speaker encoder, got {name!r}; choose another name")
    _REGISTRY[name] = factory


def load_speaker_encoder(name: str) -> SpeakerEncoder:
    """Load a speaker encoder.

    Args:
        name: One of `speaker_encoders()`, with an argument behind a colon where it takes one: ``"ge2e"``,
            ``"ge2e:weights.pt"``, ``"thinresnet:weights.h5"``, ``"ecapa"``, ``"ecapa:FOLDER"``, ``"xvector"``,
            ``"wavlm-sv"``, ``"hf:FOLDER"``, ``"hf:user/name@revision"``.

    Returns:
        The encoder in eval mode.

    Raises:
        EncoderError: If the name is unknown, or weights are missing or do not fit.

    Example:
        >>> encoder = load_speaker_encoder("ge2e")
        >>> encoder.embed(0.1 * torch.randn(2, 32000)).shape
        torch.Size([2, 256])
    """
    key, _, argument = str(name).partition(":")
    if key not in _REGISTRY:
        raise EncoderError(
            f"unknown speaker encoder {name!r}; choose from {', '.join(speaker_encoders())} "
            "(thinresnet:FILE and hf:MODEL need what stands behind the colon)"
        )
    factory = _REGISTRY[key]
    if isinstance(factory, str):
        module, _, attribute = factory.partition(":")
        factory = getattr(importlib.import_module(module), attribute)
    return factory(argument or None).eval()
