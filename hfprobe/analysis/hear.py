"""One recording, heard through every layer of some encoders, with what can be measured on a single recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hfprobe.analysis.pairs import check_pairs
from hfprobe.audio import mel_spectrogram
from hfprobe.data import pad_waveforms
from hfprobe.errors import MeasureError
from hfprobe.metrics import stoi
from hfprobe.vocoders import GriffinLim, Vocoder


@dataclass(frozen=True, eq=False)
class Heard:
    """A sound and its measures.

    Attributes:
        encoder: Encoder name, ``None`` for the input and the ceiling.
        layer: Layer name, ``input`` or ``ceiling``.
        waveform: float32 ``(samples,)``.
        mel: Natural-log mel-spectrogram ``(frames, n_mels)`` that the sound was made from (of the sound itself for
            the input).
        stoi: Intelligibility against the clean original, ``None`` where it cannot be computed.
        similarity: Cosine of the speaker embeddings of this sound and the clean original, or ``None``.
        text: What the encoder's recogniser reads from this sound, or ``None``.
        note: Why a number is missing.
    """

    encoder: str | None
    layer: str
    waveform: np.ndarray
    mel: np.ndarray
    stoi: float | None
    similarity: float | None
    text: str | None
    note: str | None


@torch.no_grad()
def hear(
    clean: np.ndarray,
    heard: np.ndarray,
    encoders: Sequence[tuple[Any, Any]],
    verifier: Any | None = None,
    n_iter: int = 60,
    seed: int = 0,
    device: str = "cpu",
    vocoder: Vocoder | None = None,
    made: Callable[[Heard], object] | None = None,
) -> list[Heard]:
    """Rebuild a recording from every layer of every encoder.

    Args:
        clean: Original ``(samples,)`` float32 at 16 kHz, the reference of STOI and speaker similarity.
        heard: What the encoders hear: ``clean``, or ``clean`` with noise, of the same length.
        encoders: Pairs of an encoder and its probe bank.
        verifier: Speaker encoder, or ``None`` for no similarity.
        n_iter: Griffin-Lim iterations.
        seed: Seed of the phases.
        device: Where to run.
        vocoder: What makes sound of mel-spectrograms; `GriffinLim` with ``n_iter`` if None.
        made: Called with every sound before the first is measured, so that it can be heard meanwhile; its measures are
            None.

    Returns:
        The input, the ceiling, then each encoder's layers from shallow to deep.
    """
    waveforms, lengths = pad_waveforms([heard])
    waveforms, lengths = waveforms.to(device), lengths.to(device)
    mel_config = check_pairs(encoders)
    true_mel = mel_spectrogram(waveforms, mel_config)
    mels: list[tuple[str | None, str, torch.Tensor]] = [(None, "ceiling", true_mel)]
    for encoder, bank in encoders:
        encoder.to(device).eval()
        names = [spec.name for spec in encoder.layers if spec.name in bank]
        rebuilt = bank.to(device).mels(encoder, waveforms, lengths, layers=names)
        mels += [(encoder.name, name, mel) for name, mel in rebuilt.items()]
    stacked = torch.cat([mel for _, _, mel in mels])
    sounds = (vocoder or GriffinLim(n_iter))(stacked, mel_config, lengths.repeat(len(mels)), seed).cpu()
    named: list[tuple[str | None, str, torch.Tensor, torch.Tensor]] = [
        (None, "input", waveforms[0].cpu(), true_mel[0].cpu())
    ]
    named += [(e, n, s[: len(heard)], m[0].cpu()) for (e, n, m), s in zip(mels, sounds, strict=True)]
    unmeasured = [Heard(e, n, s.numpy(), m.numpy(), None, None, None, None) for e, n, s, m in named]
    if made is not None:
        for sound in unmeasured:
            made(sound)
    similarities = _similarities(clean, [sound.waveform for sound in unmeasured], verifier)
    texts = _texts(unmeasured, encoders, device)
    result = []
    for sound, (similarity, note), text in zip(unmeasured, similarities, texts, strict=True):
        quality = None
        try:
            quality = stoi(clean, sound.waveform)
        except MeasureError as error:
            note = f"no STOI: {error.reason}" + (f"; {note}" if note else "")
        result.append(replace(sound, stoi=quality, similarity=similarity, text=text, note=note))
    return result


def _similarities(
    clean: np.ndarray, sounds: list[np.ndarray], verifier: Any | None
) -> list[tuple[float | None, str | None]]:
    """Cosine with the clean original for each sound, with a note where there is none."""
    if verifier is None:
        return [(None, None)] * len(sounds)
    padded, lengths = pad_waveforms([clean, *sounds])
    embeddings = np.asarray(verifier.embed(padded, lengths), dtype=np.float64)
    norms = np.linalg.norm(embeddings, axis=1)
    cosines = embeddings[1:] @ embeddings[0] / (norms[1:] * norms[0])
    missing = "no speaker similarity: no voice was found in this sound"
    return [(float(c), None) if np.isfinite(c) else (None, missing) for c in cosines]


def _texts(sounds: list[Heard], encoders: Sequence[tuple[Any, Any]], device: str) -> list[str | None]:
    """Each encoder's reading of its own layers' sounds; the first encoder also reads the input and the ceiling."""
    texts: list[str | None] = [None] * len(sounds)
    for index, (encoder, _) in enumerate(encoders):
        own = [i for i, s in enumerate(sounds) if s.encoder == encoder.name or (s.encoder is None and index == 0)]
        batch, lengths = pad_waveforms([sounds[i].waveform for i in own])
        for i, text in zip(own, encoder.transcribe(batch.to(device), lengths.to(device)), strict=True):
            texts[i] = text
    return texts
