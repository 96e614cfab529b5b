"""Sounds of an evaluation that are to be heard afterwards: which utterances, and what is known of each sound.

Sounds are handed on as they are made and not held; only numbers and texts stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hfprobe.analysis.pairs import trained_name
from hfprobe.analysis.systems import ANY, Measured
from hfprobe.analysis.test_set import TestSet
from hfprobe.analysis.words import Reader, can_transcribe
from hfprobe.data import pad_waveforms

UNHEARD = "floor"  # the mean mel sounds the same for every utterance


def chosen_utterances(speakers: Sequence[str], count: int) -> list[int]:
    """Indices of utterances to keep, from as many speakers as there are: the first of each, then the second, ...

    Example:
        >>> chosen_utterances(["a", "a", "b", "b", "c"], 4)
        [0, 1, 2, 4]
    """
    nth: dict[str, int] = {}
    rounds = []
    for index, speaker in enumerate(speakers):
        nth[speaker] = nth.get(speaker, 0) + 1
        rounds.append((nth[speaker], index))
    return sorted(index for _, index in sorted(rounds)[:count])


class SoundKeeper:
    """What `measure_systems` calls with every sound, and which passes on those of some utterances.

    Args:
        test: The utterances.
        count: How many of them are kept.
        encoders: Pairs of encoder and bank, as they are measured; encoders that can transcribe read their own sounds,
            the first of them also input and ceiling.
        write: Called with utterance id, condition, encoder (None for input and ceiling), layer, waveform, mel, and the
            text that was read as ``text``; may return what it knows of the sound.
        device: Where recognisers run.
        writer: A `hfprobe.reports.kept.Keeper`, where sounds that were written before are to be taken up.
    """

    def __init__(
        self,
        test: TestSet,
        count: int,
        encoders: Sequence[tuple[Any, Any]],
        write: Callable[..., Any],
        device: str = "cpu",
        writer: Any = None,
    ):
        self.test, self.write, self.device, self.writer = test, write, device, writer
        self.indices = chosen_utterances(test.speakers, count)
        names = [encoder.name for encoder, _ in encoders]
        able = {encoder.name: Reader(encoder, encoder.name) for encoder, _ in encoders if can_transcribe(encoder)}
        # Random weights read nothing: the trained recogniser says which words they pass on.
        self.readers = {name: able.get(trained_name(name, names) or name) for name in names}
        self.readers[ANY] = next((self.readers[name] for name in names if self.readers[name]), None)
        self.kept: list[tuple[int, str, str, str]] = []

    def __call__(
        self,
        condition: str,
        encoder: str,
        layer: str,
        indices: Sequence[int],
        waveforms: Sequence[np.ndarray],
        mels: Sequence[np.ndarray],
    ) -> dict[int, Any]:
        """Pass on what is to be kept of one batch; returns what is known of each sound, by utterance."""
        places = [place for place, index in enumerate(indices) if index in self.indices]
        if layer == UNHEARD or not places:
            return {}
        reader = self.readers[encoder]
        texts = reader.read([waveforms[p] for p in places], self.device) if reader else [None] * len(places)
        kept: dict[int, Any] = {}
        for place, text in zip(places, texts, strict=True):
            index = indices[place]
            who = None if encoder == ANY else encoder
            known = self.write(self.test.ids[index], condition, who, layer, waveforms[place], mels[place], text=text)
            kept[index] = known
            self._note(index, condition, encoder, layer)
        return kept

    def _note(self, *place) -> None:
        if place not in self.kept:  # a batch that is done again in halves
            self.kept.append(place)

    def begin_again(self) -> None:
        """Forget what was kept, before all of it is taken up in order."""
        self.kept = []
        if self.writer is not None:
            self.writer.clips.clear()

    def is_there(self, known: Any) -> bool:
        """Whether a sound that was written before can be taken up."""
        return self.writer is not None and self.writer.is_there(known)

    def take_up(self, system: tuple[str, str, str], kept: dict[int, Any]) -> None:
        """Go on with sounds that were written before, or by another process.

        Args:
            system: Condition, encoder and layer.
            kept: As the call for them returned it.
        """
        condition, encoder, layer = system
        for index, known in kept.items():
            who = None if encoder == ANY else encoder
            if self.writer is not None:
                self.writer.take_up(self.test.ids[index], condition, who, layer, known)
            self._note(index, condition, encoder, layer)

    def numbers(self, measured: Measured, verifier: Any) -> list[tuple[tuple, dict[str, Any]]]:
        """STOI and likeness of the voice of every kept sound, against the clean original.

        Args:
            measured: Of the evaluation that called this object.
            verifier: Its speaker encoder.

        Returns:
            For each sound its id, condition, encoder (None for input and ceiling) and layer, and ``stoi``,
            ``similarity`` and, where one is missing, ``note``.
        """
        clean: dict[int, np.ndarray] = {}
        for start in range(0, len(self.indices), 16):
            part = self.indices[start : start + 16]
            embedded = verifier.embed(*pad_waveforms([self.test.waveforms[i] for i in part]))
            clean.update(zip(part, np.asarray(embedded, dtype=np.float64), strict=True))
        found = []
        for index, condition, encoder, layer in self.kept:
            system = measured.systems[condition, encoder, layer]
            one, two = clean[index], np.asarray(system.embeddings[index], dtype=np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):
                cosine = float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))
            notes = [] if np.isfinite(cosine) else ["no speaker similarity: no voice was found in this sound"]
            values = system.quality.get("stoi")
            stoi = values.get(index) if values else None
            if stoi is None:
                notes.append("STOI could not be computed" if values else "STOI was not measured")
            facts = {
                "stoi": stoi,
                "similarity": cosine if np.isfinite(cosine) else None,
                "note": "; ".join(notes) or None,
            }
            who = None if encoder == ANY else encoder
            found.append(((self.test.ids[index], condition, who, layer), facts))
        return found
