"""What the batches of an evaluation are measured with: the models, and every way of hearing a batch through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hfprobe.analysis.pairs import trained_name
from hfprobe.analysis.pieces import weights_digest
from hfprobe.analysis.systems import ANY
from hfprobe.analysis.test_set import TestSet
from hfprobe.analysis.words import Reader, can_transcribe
from hfprobe.audio import MelConfig, mel_spectrogram
from hfprobe.data import pad_waveforms
from hfprobe.errors import ConfigError, EncoderError
from hfprobe.vocoders import Vocoder

VOCODE_SAMPLES = 16000 * 160


@dataclass
class Session:
    """What every batch is measured with; for the fields see `hfprobe.analysis.evaluate.measure_systems`."""

    encoders: Sequence[tuple[Any, Any]]
    test: TestSet
    verifier: Any
    vocoder: Vocoder
    mel_config: MelConfig
    readers: dict[str, list[Reader]]
    quality: tuple[str, ...]
    layers: Sequence[str] | None
    against: Sequence[str]
    seed: int
    device: str
    keep: Callable[..., Any] | None

    def settings(self) -> dict[str, Any]:
        """What the numbers of a batch depend on besides its sounds, as plain values."""
        banks = [bank[name] for _, bank in self.encoders for name in (*bank, "floor") if name in bank]
        models = {reader.key: reader.model for readers in self.readers.values() for reader in readers}
        # An encoder's fingerprint is that of its layers; what it reads depends on its head too.
        return {
            "encoders": [(encoder.name, encoder.fingerprint, list(bank)) for encoder, bank in self.encoders],
            "probes": weights_digest(*banks),
            "mel": self.mel_config.to_dict(),
            "verifier": (self.verifier.name, weights_digest(self.verifier)),
            "vocoder": weights_digest(self.vocoder),
            "readers": [(*key, weights_digest(model)) for key, model in models.items()],
            "quality": self.quality,
            "layers": None if self.layers is None else sorted(self.layers),
            "against": sorted(self.against),
            "seed": self.seed,
        }

    @torch.no_grad()
    def sounds(
        self, items: Sequence[tuple[int, np.ndarray]]
    ) -> Iterator[tuple[str, str, list[np.ndarray], torch.Tensor]]:
        """All ways of hearing one batch.

        Args:
            items: Index of each utterance, and what is heard of it ``(samples,)``.

        Yields:
            Encoder, layer, waveforms ``(samples,)``, and their mel ``(batch, frames, n_mels)``.
        """
        encoders, mel_config, layers, device = self.encoders, self.mel_config, self.layers, self.device
        waveforms, lengths = pad_waveforms([w for _, w in items])
        waveforms, lengths = waveforms.to(device), lengths.to(device)
        mels = [(ANY, "ceiling", mel_spectrogram(waveforms, mel_config, lengths=lengths))]
        yield ANY, "input", [w for _, w in items], mels[0][2]
        every = [encoder.name for encoder, _ in encoders]
        for encoder, bank in encoders:
            # The mean mel knows no encoder: one line for it is enough for an encoder and its random twin.
            floor = () if trained_name(encoder.name, every) else ("floor",)
            names = [n for n in (*(spec.name for spec in encoder.layers), *floor) if n in bank]
            names = [n for n in names if layers is None or n in layers or n == "floor"]
            mels += [(encoder.name, n, mel) for n, mel in bank.mels(encoder, waveforms, lengths, layers=names).items()]
        group = max(1, VOCODE_SAMPLES // waveforms.numel())  # several layers go through one Griffin-Lim call
        for start in range(0, len(mels), group):
            part = mels[start : start + group]
            stacked = torch.cat([mel for _, _, mel in part])
            made = self.vocoder(stacked, mel_config, lengths.repeat(len(part)), self.seed)
            for (encoder_name, layer, mel), sound in zip(part, made.split(len(items)), strict=True):
                heard = [s[:n].cpu().numpy() for s, n in zip(sound, lengths.tolist(), strict=True)]
                yield encoder_name, layer, heard, mel


def readers_of(encoders: Sequence[Any], words: bool, others: Sequence[Any], device: str) -> dict[str, list[Reader]]:
    """By encoder, who reads its sounds: its own recogniser where there is one, then the others.

    Args:
        encoders: The encoders under study.
        words: Whether each reads the sounds of its own layers.
        others: Recognisers that read every sound.
        device: Where they run.

    Raises:
        ConfigError: Two recognisers have one name.
        EncoderError: Nothing can transcribe.
    """
    second = [Reader(model.to(device).eval(), model.name, second=True) for model in others]
    for reader in second:
        if not can_transcribe(reader.model):
            raise EncoderError(f"recogniser {reader.name!r} cannot transcribe: give one with a CTC head")
    if len({reader.name for reader in second}) < len(second):
        raise ConfigError(f"two recognisers have one name (got {', '.join(r.name for r in second)}); give each once")
    names = [encoder.name for encoder in encoders]
    able = {encoder.name: encoder for encoder in encoders if words and can_transcribe(encoder)}
    if words and not able and not second:
        raise EncoderError(f"none of {', '.join(names)} can transcribe: give a recogniser, or leave words out")
    able.update({reader.name: reader.model for reader in second if reader.name not in names})
    readers = {}
    for name in names:
        # Random weights recognise nothing: the trained recogniser says which words its random twin passes on, also
        # where it is not under study itself and was given to read along.
        own = able.get(trained_name(name, (*names, *able)) or name)
        along = [reader for reader in second if own is None or own is not reader.model]
        readers[name] = [*([Reader(own, own.name)] if own is not None else []), *along]
    return readers
