"""Endless, resumable batches of speech with noise drawn on the fly.

Rows flow through in three steps, so that little is held at a time: the corpus is read in a shuffled order, a pool
of rows is sorted by length and cut into batches, and only then are the rows of one batch decoded and mixed. What is
drawn for an utterance depends on (seed, epoch, utterance) alone, so neither the order of batches, nor a restart,
nor the number of processes changes the noise that an utterance gets.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from hfprobe.data.batch import SpeechBatch, pad_waveforms
from hfprobe.data.corpora import decode_row, load_corpus, row_samples
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
        failures: How many utterances were left out, by reason.

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
        self.failures: Counter[str] = Counter()
        self.epoch, self.position = 0, 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches already given in it."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved state; the skipped rows are read again but not decoded."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def __iter__(self) -> Iterator[SpeechBatch]:
        while True:
            given = False
            for batch in self.one_epoch(self.epoch, self.position):
                given = True
                self.position += 1
                yield batch
            if not given and self.position == 0:
                raise DatasetError(f"the dataset gave no usable utterance (left out: {dict(self.failures)}); check it")
            self.epoch, self.position = self.epoch + 1, 0

    def one_epoch(self, epoch: int, start: int = 0) -> Iterator[SpeechBatch]:
        """The batches of one epoch from number ``start`` on."""
        self.dataset.set_epoch(epoch)
        for index, rows in enumerate(self._row_batches(epoch)):
            if index % self.world != self.rank or index // self.world < start:
                continue
            batch = self._collate(rows, epoch)
            if batch is not None:
                yield batch

    def _row_batches(self, epoch: int) -> Iterator[list[dict]]:
        rng = np.random.default_rng([self.seed, epoch])
        pool: list[dict] = []
        # A first pool of random size, so that an epoch does not sort the same rows together as the last one did.
        size = int(rng.integers(self.pool // 2, self.pool)) + 1 if self.shuffle else self.pool
        for row in self.dataset:
            if row_samples(row) > self.max_seconds * SAMPLING_RATE:
                self.failures["too long"] += 1
                continue
            pool.append(row)
            if len(pool) == size:
                yield from self._cut(pool, rng)
                pool, size = [], self.pool
        yield from self._cut(pool, rng)

    def _cut(self, pool: list[dict], rng: np.random.Generator) -> list[list[dict]]:
        """Sort roughly by length, cut, and put the batches in random order."""
        if self.shuffle:
            jitter = rng.uniform(0.9, 1.1, len(pool))  # neighbours change from epoch to epoch
            order = np.argsort([-row_samples(row) * factor for row, factor in zip(pool, jitter, strict=True)])
            pool = [pool[i] for i in order]
        batches = [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))] if self.shuffle else batches

    def _collate(self, rows: list[dict], epoch: int) -> SpeechBatch | None:
        kept, clean, mixed, conditions = [], [], [], []
        for row in rows:
            rng = utterance_seed(self.seed, epoch, row["id"])
            try:
                waveform = decode_row(row, rng)
            except (AudioError, DatasetError) as error:
                self.failures[type(error).__name__] += 1
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
        )


def _open(corpus, seed: int):
    if isinstance(corpus, str):
        return load_corpus(corpus)
    if isinstance(corpus, list):
        from datasets import interleave_datasets

        parts = [load_corpus(name) if isinstance(name, str) else name for name, _ in corpus]
        weights = np.array([weight for _, weight in corpus], dtype=float)
        return interleave_datasets(parts, probabilities=list(weights / weights.sum()), seed=seed)
    return corpus
