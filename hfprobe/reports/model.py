"""What a report shows, as frozen dataclasses: sounds by condition, encoder and layer, and rows of results.

These objects are checked when they are made, so that the writers below can rely on them: waveforms of one
utterance have one length (switching layers while a sound plays needs that) and a number that is not there is
``None``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hfprobe.errors import HfprobeError
from hfprobe.plain import short

REFERENCE_LAYERS = ("input", "ceiling", "floor")
_ROW_KEYS = ("encoder", "layer", "condition", "metric", "value", "ci_low", "ci_high", "n", "n_failed")


class ReportError(HfprobeError):
    """A report cannot be made from what was given."""


def as_number(value: Any, what: str) -> float | None:
    """A finite float; None for None, and for NaN, by which a speaker encoder marks what it cannot embed."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ReportError(f"{what} must be a number or None, got {short(value)}") from None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, eq=False)
class Clip:
    """One sound with its picture and what was measured on it.

    Args:
        waveform: Float waveform `(samples,)`, nominally in [-1, 1].
        mel: Natural-log power mel-spectrogram `(frames, n_mels)`, low frequencies first.
        stoi: Intelligibility against the clean original, or None where it could not be computed (NaN becomes
            None).
        similarity: Cosine of the speaker embeddings of this sound and of the original, or None.
        text: What the recogniser reads from this sound; ``""`` means that it read nothing, None that it was
            not asked.
        note: One sentence shown under the sound; with a missing number, the reason why it is missing.

    Raises:
        ReportError: If the arrays are empty, not finite or of the wrong shape.
    """

    waveform: np.ndarray
    mel: np.ndarray
    stoi: float | None = None
    similarity: float | None = None
    text: str | None = None
    note: str | None = None

    def __post_init__(self):
        for name, shape, ndim in (("waveform", "(samples,)", 1), ("mel", "(frames, n_mels)", 2)):
            array = np.asarray(getattr(self, name), dtype=np.float32)
            if array.ndim != ndim or array.size == 0:
                raise ReportError(f"{name} must be a non-empty array of shape {shape}, got shape {array.shape}")
            if not np.isfinite(array).all():
                raise ReportError(f"{name} must be finite, but it holds NaN or infinity: mend it before showing it")
            object.__setattr__(self, name, array)
        for name in ("stoi", "similarity"):
            object.__setattr__(self, name, as_number(getattr(self, name), name))

    @property
    def samples(self) -> int:
        """How long the sound is."""
        return len(self.waveform)


class ClipLike(Protocol):
    """A sound that a page shows, in memory or on disk; for the attributes see `Clip`."""

    @property
    def waveform(self) -> np.ndarray:
        """float32 ``(samples,)``."""
        ...

    @property
    def mel(self) -> np.ndarray:
        """Natural-log power ``(frames, n_mels)``."""
        ...

    @property
    def samples(self) -> int:
        """How long the sound is."""
        ...

    @property
    def stoi(self) -> float | None:
        """Intelligibility."""
        ...

    @property
    def similarity(self) -> float | None:
        """Likeness of the voice."""
        ...

    @property
    def text(self) -> str | None:
        """What was read."""
        ...

    @property
    def note(self) -> str | None:
        """What is to be said of it."""
        ...


@dataclass(frozen=True, eq=False)
class ConditionView:
    """One utterance under one condition, as it went in and as each layer gives it back.

    Args:
        name: ``"clean"`` or e.g. ``"noise@10dB"``.
        input: The sound that the encoders heard.
        ceiling: The vocoded true mel of the input: what no probe can beat. None if it was not made.
        encoders: Encoder name -> layer name -> sound, layers from shallow to deep.
    """

    name: str
    input: ClipLike
    ceiling: ClipLike | None = None
    encoders: Mapping[str, Mapping[str, ClipLike]] = field(default_factory=dict)

    def clips(self) -> Iterator[tuple[str | None, str, ClipLike]]:
        """Yield `(encoder or None, layer, clip)`, input and ceiling first."""
        yield None, "input", self.input
        if self.ceiling is not None:
            yield None, "ceiling", self.ceiling
        for encoder, layers in self.encoders.items():
            for layer, clip in layers.items():
                yield encoder, layer, clip


@dataclass(frozen=True, eq=False)
class UtteranceView:
    """One utterance under all its conditions.

    Args:
        id: Short identifier, used in download names.
        title: Heading shown to the reader.
        transcript: What was said, if known.
        notes: Sentences such as "resampled from 8000 Hz to 16000 Hz".
        conditions: At least one condition.
        sampling_rate: Of every waveform, in Hz.

    Raises:
        ReportError: If there is no condition, two share a name, or a sound has another length than the first.
    """

    id: str
    title: str
    transcript: str | None = None
    notes: tuple[str, ...] = ()
    conditions: tuple[ConditionView, ...] = ()
    sampling_rate: int = 16000

    def __post_init__(self):
        if not self.conditions:
            raise ReportError(f"utterance {short(self.id)} must have at least one condition, got none")
        names = [condition.name for condition in self.conditions]
        if len(set(names)) != len(names):
            raise ReportError(f"conditions of utterance {self.id!r} must have different names, got {names}")
        samples = self.conditions[0].input.samples
        for condition in self.conditions:
            for encoder, layer, clip in condition.clips():
                if clip.samples != samples:
                    where = " / ".join(part for part in (self.id, condition.name, encoder, layer) if part)
                    raise ReportError(
                        f"all sounds of an utterance must have {samples} samples, {where} has "
                        f"{clip.samples}: pad or cut it to the input's length"
                    )

    @property
    def seconds(self) -> float:
        """Duration of every sound, in seconds."""
        return self.conditions[0].input.samples / self.sampling_rate


@dataclass(frozen=True)
class Measurement:
    """One row of a result file: a metric of an encoder, layer and condition, with interval and counts."""

    encoder: str
    layer: str
    condition: str
    metric: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    n_failed: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any] | Any) -> Measurement:
        """Read a mapping, or an object with attributes of these names, such as a row of `hfprobe.results`.

        Args:
            row: The mapping or object.

        Returns:
            The measurement.

        Raises:
            ReportError: If encoder, layer, condition or metric is missing, or a number is not one.

        Example:
            >>> Measurement.of({"encoder": "e", "layer": "cnn1", "condition": "clean", "metric": "eer",
            ...                 "value": 0.05, "n": 200}).value
            0.05
        """
        if isinstance(row, cls):
            return row
        missing = object()
        given = {
            key: row.get(key, missing) if isinstance(row, Mapping) else getattr(row, key, missing) for key in _ROW_KEYS
        }
        absent = [key for key in _ROW_KEYS[:5] if given[key] is missing]
        if absent:
            needed, lacking = ", ".join(_ROW_KEYS[:5]), ", ".join(absent)
            raise ReportError(f"a result row needs {needed}; this one lacks {lacking}")
        encoder, layer, condition, metric = ("" if given[key] is None else str(given[key]) for key in _ROW_KEYS[:4])
        value, low, high, n, n_failed = (
            None if given[key] is missing else as_number(given[key], key) for key in _ROW_KEYS[4:]
        )
        return cls(encoder, layer, condition, metric, value, low, high, int(n or 0), int(n_failed or 0))


def measurements(rows: Iterable[Any] | None) -> tuple[Measurement, ...]:
    """All rows as `Measurement`, in their order; None gives none.

    Args:
        rows: Mappings or result objects, or None.

    Returns:
        One `Measurement` per row.

    Raises:
        ReportError: If two rows are for the same encoder, layer, condition and metric.

    Example:
        >>> row = {"encoder": "e", "layer": "cnn1", "condition": "clean", "metric": "eer", "value": 0.05, "n": 200}
        >>> len(measurements([row])), measurements(None)
        (1, ())
    """
    found = tuple(Measurement.of(row) for row in rows or ())
    seen = set()
    for row in found:
        key = (row.encoder, row.layer, row.condition, row.metric)
        if key in seen:
            raise ReportError(f"result rows must be unique, but there are two for {' / '.join(key)}")
        seen.add(key)
    return found


def merge_orders(orders: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """One order of names that agrees with the given orders as far as they agree with one another.

    The longest order leads; a new name is put right after its predecessor.

    Example:
        >>> merge_orders([["blstm1", "blstm2"], ["cnn1", "cnn2", "blstm1"]])
        ('cnn1', 'cnn2', 'blstm1', 'blstm2')
    """
    merged: list[str] = []
    for order in sorted((list(order) for order in orders), key=len, reverse=True):
        place = 0
        for name in order:
            if name in merged:
                place = merged.index(name) + 1
            else:
                merged.insert(place, name)
                place += 1
    return tuple(merged)
