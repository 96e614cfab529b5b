"""What was measured on every way of hearing a test set, and the result rows that follow from it.

A system is one condition heard one way: the input, the vocoded ceiling, a layer of an encoder, the floor. All systems
hold values for the same utterances and go through the same trials, so that rows can be compared pair by pair.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from hfprobe.analysis.test_set import TestSet
from hfprobe.analysis.words import Reader, error_rows, plain_words, reading_name
from hfprobe.metrics import Trials, bootstrap_eer, bootstrap_mean, bootstrap_min_dcf
from hfprobe.results import ResultRow

ANY = "-"  # the encoder of rows that no encoder enters: input and ceiling
AGAINST_INPUT = "_input"  # ends the name of a measure whose reference is the sound that went in, not the clean original


@dataclass
class System:
    """What was measured so far on one way of hearing the test set, e.g. (vgg-blstm-robust, cnn1) at 10 dB.

    Attributes:
        embeddings: Speaker embedding ``(dim,)`` by utterance.
        quality: Measure to value by utterance; None where it failed.
        texts: `Reader.key` to text by utterance.
    """

    embeddings: dict[int, np.ndarray] = field(default_factory=dict)
    quality: dict[str, dict[int, float | None]] = field(default_factory=lambda: defaultdict(dict))
    texts: dict[tuple[str, bool], dict[int, str]] = field(default_factory=lambda: defaultdict(dict))


@dataclass
class Measured:
    """Everything that an evaluation measured.

    Attributes:
        test: The utterances.
        trials: Pairs of utterances, the same for every system.
        encoders: Names of the encoders, in order.
        readers: By encoder, who reads its sounds.
        seed: Of the bootstrap.
        convention: Of the EER: ``roc`` or ``speechbrain``.
        systems: By condition, encoder (`ANY` for input and ceiling) and layer.
        failures: Quality measures that failed, by condition, measure and reason.
    """

    test: TestSet
    trials: Trials
    encoders: tuple[str, ...]
    readers: dict[str, list[Reader]]
    seed: int = 0
    convention: str = "roc"
    systems: dict[tuple[str, str, str], System] = field(default_factory=lambda: defaultdict(System))
    failures: Counter = field(default_factory=Counter)
    _scores: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)

    def scores(self, key: tuple[str, str, str]) -> np.ndarray:
        """Score of every trial ``(trials,)`` for a system, NaN where a clip could not be embedded."""
        if key not in self._scores:
            embeddings = self.systems[key].embeddings
            self._scores[key] = self.trials.scores(np.stack([embeddings[i] for i in range(len(self.test))]))
        return self._scores[key]

    def values(self, key: tuple[str, str, str], measure: str) -> list[float | None]:
        """Value of every utterance for a system and quality measure."""
        return [self.systems[key].quality[measure][i] for i in range(len(self.test))]

    def rows(self) -> list[ResultRow]:
        """One row per system and metric, in the order of measurement."""
        rows: list[ResultRow] = []
        for key in self.systems:
            rows += [*self._verification_rows(key), *self._quality_rows(key), *self._word_rows(key)]
        return rows

    def _verification_rows(self, key: tuple[str, str, str]) -> list[ResultRow]:
        condition, encoder, layer = key
        scores = self.scores(key)
        usable = np.isfinite(scores)
        used, left_out = int(usable.sum()), int((~usable).sum())
        kept, scores = self.trials.keep(usable), scores[usable]
        if not 0 < kept.labels.sum() < len(kept):
            return [
                ResultRow(encoder, layer, condition, metric, None, n=used, n_failed=left_out)
                for metric in ("eer", "mindcf")
            ]
        # Arrays do here what sequences do.
        sides = cast("tuple[Sequence[int], Sequence[int]]", (kept.left_speakers, kept.right_speakers))
        rate = bootstrap_eer(scores, kept.labels, *sides, seed=self.seed, convention=self.convention)
        cost = bootstrap_min_dcf(scores, kept.labels, *sides, seed=self.seed)
        return [
            ResultRow(encoder, layer, condition, "eer", *rate, used, left_out),
            ResultRow(encoder, layer, condition, "mindcf", *cost, used, left_out),
        ]

    def _quality_rows(self, key: tuple[str, str, str]) -> list[ResultRow]:
        condition, encoder, layer = key
        rows = []
        for name in self.systems[key].quality:
            values = self.values(key, name)
            there = {i: value for i, value in enumerate(values) if value is not None}
            interval: tuple[float | None, float | None, float | None] = (None, None, None)
            if there:
                speakers = [self.test.speakers[i] for i in there]
                interval = bootstrap_mean(list(there.values()), speakers, seed=self.seed)
            counts = len(there), len(values) - len(there)
            rows.append(ResultRow(encoder, layer, condition, name, *interval, *counts))
        return rows

    def _word_rows(self, key: tuple[str, str, str]) -> list[ResultRow]:
        condition, encoder, layer = key
        rows = []
        # What no encoder enters was read once, and stands under the name of every encoder and reader.
        for name in self.encoders if encoder == ANY else (encoder,):
            for reader in self.readers.get(name, ()):
                read = self.systems[key].texts[reader.key]
                texts, references = [read[i] for i in range(len(self.test))], self.test.texts
                if reader.second:
                    texts, references = ([plain_words(text) for text in each] for each in (texts, references))
                shown = reading_name(name, reader)
                rows += error_rows(shown, layer, condition, texts, references, self.test.speakers, self.seed)
        return rows
