"""A fixed test set: chosen utterances of a corpus, balanced over speakers, decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hfprobe.analysis.spooled import SpooledWaveforms
from hfprobe.data.corpora import decode_row, load_corpus, row_samples
from hfprobe.data.left_out import LeftOut
from hfprobe.errors import AudioError, DatasetError

SAMPLING_RATE = 16000


@dataclass
class TestSet:
    """Utterances to evaluate on.

    Attributes:
        ids: Utterance ids.
        waveforms: float32 ``(samples,)`` each, at 16 kHz; of `load_test_set` not all are held in memory.
        texts: Transcripts.
        speakers: Speaker ids.
        failures: Utterances that could not be used, by reason, with the first names.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    ids: list[str] = field(default_factory=list)
    waveforms: Sequence[np.ndarray] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    failures: LeftOut = field(default_factory=LeftOut)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        """Total duration."""
        return sum(map(len, self.waveforms)) / SAMPLING_RATE


def load_test_set(
    corpus: str, speakers: int | None = None, per_speaker: int | None = None, max_seconds: float = 20.0
) -> TestSet:
    """Choose the first ``per_speaker`` usable utterances of the first ``speakers`` speakers, in corpus order.

    Args:
        corpus: Name as :func:`hfprobe.data.load_corpus` takes it.
        speakers: How many speakers (``None``: all).
        per_speaker: How many utterances of each (``None``: all).
        max_seconds: Longer utterances are counted as failures.

    Raises:
        DatasetError: Nothing usable was found.

    Example:
        >>> chosen = load_test_set("espeak:test", speakers=2, per_speaker=3)
        >>> len(chosen), len(set(chosen.speakers))
        (6, 2)
    """
    chosen = TestSet()
    rows: dict[str, list] = {}
    decoded = SpooledWaveforms()
    most = max_seconds * SAMPLING_RATE
    for row in load_corpus(corpus):
        speaker = row["speaker"] or row["id"]  # a corpus without speakers: every utterance its own
        if speaker not in rows and len(rows) == speakers:
            if per_speaker is not None and all(len(items) == per_speaker for items in rows.values()):
                break
            continue
        if len(rows.get(speaker, ())) == per_speaker:
            continue
        if not row.get("voice") and row_samples(row) > most:  # for synthetic speech this is a guess
            chosen.failures.add("too long", row["id"])
            continue
        try:
            waveform = decode_row(row)
        except (AudioError, DatasetError) as error:
            chosen.failures.add(getattr(error, "reason", "not speakable"), row["id"], str(error))
            continue
        if len(waveform) > most:
            chosen.failures.add("too long", row["id"])
            continue
        rows.setdefault(speaker, []).append((row["id"], len(decoded), row["text"]))
        decoded.append(waveform)
    chosen.waveforms = decoded.taken(place for items in rows.values() for _, place, _ in items)
    for speaker, items in rows.items():
        for utterance, _, text in items:
            chosen.ids.append(utterance)
            chosen.texts.append(text)
            chosen.speakers.append(speaker)
    if not chosen.ids:
        first = f"; the first: {chosen.failures.first_error}" if chosen.failures.first_error else ""
        left_out = chosen.failures.sentence() or "nothing was read"
        raise DatasetError(f"no usable utterance in {corpus!r} (left out: {left_out}{first}); check the dataset")
    return chosen


def length_batches(lengths: list[int], batch_samples: int) -> list[list[int]]:
    """Indices grouped into batches of similar length with at most ``batch_samples`` padded samples each.

    Example:
        >>> length_batches([10, 90, 11, 80], 200)
        [[1, 3], [2, 0]]
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_samples:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
