"""One line of Python from a recording to what every layer of an encoder keeps of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hfprobe.analysis.hear import Heard, hear
from hfprobe.audio import load_audio, save_audio
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.encoders.base import SpeechEncoder
from hfprobe.errors import AudioError, BankError, LayerError
from hfprobe.probes import ProbeBank
from hfprobe.probes.bank_source import shipped_banks

SAMPLING_RATE = 16000


class Hearing(Mapping[str, Heard]):
    """A recording through the layers of an encoder: ``input``, ``ceiling``, then the layers from shallow to deep.

    Each value has ``waveform`` (float32 ``(samples,)``, 16 kHz), ``stoi`` and ``text``; printed, it is a table.

    Args:
        title: What was heard through what.
        sounds: Name to sound.
    """

    def __init__(self, title: str, sounds: dict[str, Heard]):
        self.title, self._sounds = title, sounds

    def __getitem__(self, layer: str) -> Heard:
        if layer not in self._sounds:
            raise LayerError(f"nothing was heard through {layer!r}; there are {', '.join(self)}")
        return self._sounds[layer]

    def __contains__(self, layer: object) -> bool:
        return layer in self._sounds  # Mapping's own relies on KeyError; ours is a LayerError

    def get(self, layer: str, default: Any = None) -> Any:
        """The sound of a layer, or ``default``."""
        return self._sounds.get(layer, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sounds)

    def __len__(self) -> int:
        return len(self._sounds)

    def __repr__(self) -> str:
        width = max(len("layer"), *map(len, self))
        lines = [self.title, f"{'layer':<{width}}  STOI  what the recogniser reads"]
        for name, sound in self._sounds.items():
            stoi = "   -" if sound.stoi is None else f"{sound.stoi:4.2f}"
            lines.append(f"{name:<{width}}  {stoi}  {' '.join((sound.text or '').split())}".rstrip())
        return "\n".join(lines)

    def save(self, folder: str | Path) -> list[Path]:
        """Write every sound as ``<layer>.flac``; returns the files."""
        paths = [Path(folder) / f"{name}.flac" for name in self]
        for path, sound in zip(paths, self._sounds.values(), strict=True):
            save_audio(path, sound.waveform)
        return paths


def listen(
    audio: Any,
    encoder: str | Path | SpeechEncoder = "blstm-robust",
    probes: str | Path | ProbeBank | None = None,
    *,
    layers: Sequence[str] | None = None,
    revision: str | None = None,
    n_iter: int = 32,
    device: str = "cpu",
) -> Hearing:
    """Hear, and measure, what every layer of an encoder keeps of a recording.

    Args:
        audio: Audio file, or samples ``(samples,)`` at 16 kHz.
        encoder: Shipped name, folder or Hub id; or an encoder.
        probes: Its probe bank: shipped name, folder or Hub id, or a bank; that which ships with the encoder where None.
        layers: Which layers; all that have a probe where None.
        revision: Branch, tag or commit of ``probes`` on the Hub.
        n_iter: Griffin-Lim iterations.
        device: Where to run.

    Returns:
        What was heard, by layer; print it.

    Raises:
        AudioError: The recording cannot be used.
        BankError: There are no probes for this encoder.
        LayerError: A layer has no probe.

    Example:
        >>> tone = 0.1 * np.sin(np.arange(8000) * 0.1 + 5 * np.sin(np.arange(8000) * 0.003))
        >>> heard = listen(tone, "blstm-robust", layers=["blstm1"], n_iter=1)
        >>> list(heard), heard["blstm1"].waveform.shape
        (['input', 'ceiling', 'blstm1'], (8000,))
    """
    if isinstance(audio, (str, Path)) or hasattr(audio, "read"):
        loaded = load_audio(audio, SAMPLING_RATE)
        waveform, name = loaded.waveform, Path(str(getattr(audio, "name", audio))).name
    else:
        waveform, name = np.asarray(audio, dtype=np.float32), "samples"
        if waveform.ndim != 1 or waveform.size < SAMPLING_RATE // 20 or not np.isfinite(waveform).all():
            raise AudioError(f"expected finite samples (samples,) of at least 50 ms at 16 kHz, got {waveform.shape}")
    if not isinstance(encoder, SpeechEncoder):
        encoder = AutoSpeechEncoder.from_pretrained(encoder)
    bank = _bank(encoder, probes, revision, layers)
    bank.check(encoder)
    heard = hear(waveform, waveform, [(encoder, bank)], n_iter=n_iter, device=device)
    title = f"{name} ({len(waveform) / SAMPLING_RATE:.1f} s) through {encoder.name}"
    return Hearing(title, {sound.layer: sound for sound in heard})


def _bank(encoder: SpeechEncoder, probes: Any, revision: str | None, layers: Sequence[str] | None) -> ProbeBank:
    if probes is None:
        if encoder.name not in shipped_banks():
            raise BankError(
                f"no probes ship for encoder {encoder.name!r}: give probes=..., a bank's folder or Hub id (shipped: "
                f"{', '.join(shipped_banks())})"
            )
        probes = encoder.name
    if not isinstance(probes, ProbeBank):
        return ProbeBank.from_pretrained(probes, revision, layers=layers)
    if layers is None:
        return probes
    chosen = {name: probes[name] for name in layers}
    return ProbeBank(chosen, probes.floor, probes.encoder, probes.fingerprint, probes.training, probes.environment)
