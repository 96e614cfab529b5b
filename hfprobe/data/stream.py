"""Endless, resumable batches of speech with noise drawn on the fly.

Rows flow through in three steps, so that little is held at a time: the corpus is read in a shuffled order, a pool
of rows is sorted by length and cut into batches, and only then are the rows of one batch decoded and mixed. What is
drawn for an utterance depends on (seed, epoch, utterance) alone, so neither the order of batches, nor a restart,
nor the number of processes changes the noise that an utterance gets.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from hfprobe.data.batch import SpeechBatch, pad_waveforms
from hfprobe.data.corpora import decode_row, load_corpus, row_samples, row_words
from hfprobe.data.noise import NoiseCorpus, NoiseRecipe
from hfprobe.errors import AudioError, ConfigError, DatasetError

SAMPLING_RATE = 16000


def utterance_seed(seed: int, epoch: int, utterance: str) -> np.random.Generator:
    """The generator of one utterance in one epoch."""
    return np.random.default_rng([seed, epoch, zlib.crc32(utterance.encode())])


class SpeechStream:
    """Batches of a corpus, for ever, epoch after epoch.

    Args:
        corpus: Name as :func:`hfprobe.data.load_corpus` takes it, or a dataset of its rows, or a list of
            ``(corpus, weight)`` to be interleaved in that proportion (an epoch ends with the first that ends).
        batch_size: Utterances per batch; the last batch of an epoch may be smaller.
        noise: Noise corpus, or ``None`` for clean speech.
        recipe: Ranges from which noise is drawn.
        seed: Seed of order and noise.
        shuffle: Whether to read in a new order each epoch.
        pool: Rows that are sorted by length together.
        max_seconds: Longer utterances are left out and counted.
        limit: Use only the first ``limit`` rows of the corpus.
        rank: This process among ``world`` processes; each gets its own share of the batches.
        world: Number of processes.

    Attributes:
        failures: How many different utterances this process has left out so far, by reason: ``"too long"`` (known to
            every process), ``"unreadable"`` and ``"not speakable"`` (known to the process whose share they were in).
            An utterance counts once, however many epochs it comes back in.

    Example:
        >>> batch = next(iter(SpeechStream("espeak:test", batch_size=2)))
        >>> len(batch), batch.waveforms.shape[0]
        (2, 2)
    """

    def __init__(
        self,
        corpus,
        batch_size: int = 8,
        noise: NoiseCorpus | None = None,
        recipe: NoiseRecipe | None = None,
        seed: int = 0,
        shuffle: bool = True,
        pool: int = 256,
        max_seconds: float = 30.0,
        limit: int | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        if batch_size < 1 or pool < 1:
            raise ConfigError(f"batch_size and pool must be at least 1, not {batch_size} and {pool}")
        if not 0 <= rank < world or seed < 0:
            raise ConfigError(f"need 0 <= rank < world and seed >= 0, not rank {rank}, world {world}, seed {seed}")
        self.dataset = _open(corpus, seed)
        if limit is not None:
            self.dataset = self.dataset.take(limit)
        if shuffle:
            # Only the order of shards is left to `datasets`: its reading of several shards at once starts threads and
            # sleeps five seconds whenever an iterator is dropped. Rows are mixed in `_row_batches`.
            self.dataset = self.dataset.shuffle(seed=seed, buffer_size=1, max_buffer_input_shards=1)
        self.batch_size, self.noise, self.recipe = batch_size, noise, recipe or NoiseRecipe()
        self.seed, self.shuffle, self.pool, self.max_seconds = seed, shuffle, pool, max_seconds
        self.rank, self.world = rank, world
        self._left_out: dict[str, str] = {}
        self._first_error = ""
        self.epoch, self.position = 0, 0

    @property
    def failures(self) -> Counter[str]:
        """Utterances left out so far, by reason."""
        return Counter(self._left_out.values())

    def state_dict(self) -> dict[str, int]:
        """Epoch, and how many of this process's batches in it are over, unusable ones included."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved state; the skipped rows are read again but not decoded."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def __iter__(self) -> Iterator[SpeechBatch]:
        while True:
            for number, batch in self._numbered(self.epoch, self.position):
                self.position = number + 1
                yield batch
            if self.position == 0:
                raise DatasetError(self._why_empty())
            self.epoch, self.position = self.epoch + 1, 0

    def one_epoch(self, epoch: int, start: int = 0) -> Iterator[SpeechBatch]:
        """This process's batches of one epoch, without the first ``start`` (counted as `state_dict` counts)."""
        return (batch for _, batch in self._numbered(epoch, start))

    def _numbered(self, epoch: int, start: int) -> Iterator[tuple[int, SpeechBatch]]:
        """Batches with their number; a batch without any usable utterance leaves a gap in the numbers."""
        self.dataset.set_epoch(epoch)
        for index, rows in enumerate(self._row_batches(epoch)):
            number = index // self.world
            if index % self.world != self.rank or number < start:
                continue
            batch = self._collate(rows, epoch)
            if batch is not None:
                yield number, batch

    def _why_empty(self) -> str:
        if self.world > 1 and not self._left_out:
            return f"an epoch has fewer batches than the {self.world} processes; use fewer, or smaller batches"
        reason = f"; the first: {self._first_error}" if self._first_error else ""
        return f"the dataset gave no usable utterance (left out: {dict(self.failures)}{reason}); check it"

    def _leave_out(self, row: dict, reason: str, error: str = "") -> None:
        self._left_out[row["id"]] = reason
        self._first_error = self._first_error or error

    def _row_batches(self, epoch: int) -> Iterator[list[dict]]:
        rng = np.random.default_rng([self.seed, epoch])
        pool: list[tuple[int, dict]] = []
        # A first pool of random size, so that an epoch does not sort the same rows together as the last one did.
        size = int(rng.integers(self.pool // 2, self.pool)) + 1 if self.shuffle else self.pool
        for row in self.dataset:
            samples = row_samples(row)
            if samples > self.max_seconds * SAMPLING_RATE:
                self._leave_out(row, "too long")
                continue
            pool.append((samples, row))
            if len(pool) == size:
                yield from self._cut(pool, rng)
                pool, size = [], self.pool
        yield from self._cut(pool, rng)

    def _cut(self, pool: list[tuple[int, dict]], rng: np.random.Generator) -> list[list[dict]]:
        """Sort roughly by length, cut, and put the batches in random order."""
        rows = [row for _, row in pool]
        if self.shuffle:
            jitter = rng.uniform(0.9, 1.1, len(pool))  # neighbours change from epoch to epoch
            order = np.argsort([-samples * factor for (samples, _), factor in zip(pool, jitter, strict=True)])
            rows = [rows[i] for i in order]
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))] if self.shuffle else batches

    def _collate(self, rows: list[dict], epoch: int) -> SpeechBatch | None:
        kept, clean, mixed, conditions = [], [], [], []
        for row in rows:
            rng = utterance_seed(self.seed, epoch, row["id"])
            try:
                waveform = decode_row(row, rng)
            except (AudioError, DatasetError) as error:
                self._leave_out(row, "unreadable" if isinstance(error, AudioError) else "not speakable", str(error))
                continue
            draw = None
            if self.noise is not None:
                draw = self.recipe.draw(self.noise, rng)
            kept.append(row)
            clean.append(waveform)
            mixed.append(waveform if draw is None else self.noise.apply(waveform, draw))
            conditions.append("clean" if draw is None else draw.condition)
        if not kept:
            return None
        waveforms, lengths = pad_waveforms(mixed)
        return SpeechBatch(
            ids=[row["id"] for row in kept],
            waveforms=waveforms,
            lengths=lengths,
            clean=waveforms if self.noise is None else pad_waveforms(clean)[0],
            texts=[row["text"] for row in kept],
            speakers=[row["speaker"] for row in kept],
            conditions=conditions,
            genders=[row.get("gender") or "" for row in kept],
            words=[row_words(row) for row in kept],
        )


def weighted_corpora(names: Sequence[str]) -> str | list[tuple[str, float]]:
    """Words of a command line, each ``NAME`` or ``NAME@WEIGHT``, as :class:`SpeechStream` takes them.

    Raises:
        DatasetError: No name is given, or a weight is not a positive number.

    Example:
        >>> weighted_corpora(["espeak:train", "kaldi:data/train@0.5"])
        [('espeak:train', 1.0), ('kaldi:data/train', 0.5)]
        >>> weighted_corpora(["espeak:train@0.5"])
        'espeak:train'
    """
    pairs = []
    for name in names:
        head, at, last = name.rpartition("@")
        try:
            weight = float(last) if at else 1.0
        except ValueError:
            head, at, weight = "", "", 1.0  # an @ inside a path
        if not (math.isfinite(weight) and weight > 0) or (at and not head):
            raise DatasetError(f"corpus {name!r} must be NAME or NAME@WEIGHT with a positive weight")
        pairs.append((head if at else name, weight))
    if not pairs:
        raise DatasetError("no corpus is given; name at least one, e.g. espeak:train")
    return pairs[0][0] if len(pairs) == 1 else pairs


def _open(corpus, seed: int):
    if isinstance(corpus, str):
        return load_corpus(corpus)
    if isinstance(corpus, list):
        if not corpus:
            raise DatasetError("no corpus is given; name at least one, e.g. espeak:train")
        from datasets import interleave_datasets

        parts = [load_corpus(name) if isinstance(name, str) else name for name, _ in corpus]
        weights = np.array([weight for _, weight in corpus], dtype=float)
        return interleave_datasets(parts, probabilities=list(weights / weights.sum()), seed=seed)
    return corpus
