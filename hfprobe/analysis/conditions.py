"""Test conditions: ``clean``, or noise at a fixed SNR, drawn once per utterance and seed.

The same files and starting points are drawn for an utterance at every SNR and for every encoder, so that differences
between layers, encoders and SNRs are never differences between draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hfprobe.data.noise import NoiseCorpus, NoiseDraw, NoiseRecipe
from hfprobe.data.stream import utterance_seed
from hfprobe.errors import ConfigError

CATEGORIES = ("any", "noise", "music", "speech")


@dataclass(frozen=True)
class Condition:
    """One test condition.

    Attributes:
        snr_db: Signal-to-noise ratio in dB, ``None`` for clean.
        category: Noise category; ``any`` draws one per utterance.
    """

    snr_db: float | None = None
    category: str = "any"

    @property
    def name(self) -> str:
        """``clean``, ``noise@10dB`` (any category) or e.g. ``music@10dB``.

        Example:
            >>> Condition().name, Condition(10.0).name, Condition(0, "music").name
            ('clean', 'noise@10dB', 'music@0dB')
        """
        if self.snr_db is None:
            return "clean"
        return f"{'noise' if self.category == 'any' else self.category}@{self.snr_db:g}dB"


def parse_conditions(words: Sequence[str], category: str = "any") -> tuple[Condition, ...]:
    """Conditions from words such as ``["clean", "20", "10", "0"]`` (SNRs in dB).

    Raises:
        ConfigError: A word is neither ``clean`` nor a number of decibels, or is given twice.

    Example:
        >>> [condition.name for condition in parse_conditions(["clean", "10"])]
        ['clean', 'noise@10dB']
    """
    if category not in CATEGORIES:
        raise ConfigError(f"unknown noise category {category!r}; choose from {', '.join(CATEGORIES)}")
    conditions = []
    for word in words:
        try:
            condition = Condition(category=category) if word == "clean" else Condition(float(word), category)
        except ValueError:
            raise ConfigError(f"condition {word!r} is neither 'clean' nor an SNR in dB such as 10") from None
        if condition.snr_db is not None and not abs(condition.snr_db) <= 100:
            raise ConfigError(f"condition {word!r}: an SNR must lie between -100 and 100 dB")
        if condition in conditions:
            raise ConfigError(f"condition {word!r} is given twice; give each once")
        conditions.append(condition)
    if not conditions:
        raise ConfigError("no condition given; use 'clean' and SNRs in dB such as 20 10 0")
    return tuple(conditions)


def apply_condition(
    waveform: np.ndarray, utterance: str, condition: Condition, noise: NoiseCorpus | None, seed: int
) -> np.ndarray:
    """The waveform under a condition; the draw depends on the seed and the utterance alone.

    Args:
        waveform: float32 ``(samples,)`` at 16 kHz, not changed.
        utterance: Utterance id.
        condition: What to add.
        noise: Where noise comes from; not needed for ``clean``.
        seed: Seed of the draw.

    Returns:
        float32 ``(samples,)``.
    """
    snr_db = condition.snr_db
    if snr_db is None:
        return waveform
    if noise is None:
        raise ConfigError(f"condition {condition.name} needs a noise corpus; give --noise")
    rng = utterance_seed(seed, 0, utterance)

    def draw() -> NoiseDraw:
        # Drawn at one SNR and then set, so that all SNRs have the same noise.
        return replace(NoiseRecipe().draw_at(noise, rng, 0.0, condition.category), snr_db=snr_db)

    return noise.mix(waveform, draw)[0]
