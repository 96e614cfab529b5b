"""Which rows come together in a batch: shuffled, of similar length, and found again in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hfprobe.data.corpora import row_samples

SAMPLING_RATE = 16000


@dataclass(frozen=True)
class Mark:
    """The beginning of a pool: enough to read on from there.

    Attributes:
        pools: Pools of the epoch before it.
        batches: Batches of all processes before it.
        rows: Where the corpus is read on, as its ``state_dict`` says; None for its beginning.
    """

    pools: int = 0
    batches: int = 0
    rows: dict | None = None


@dataclass
class Planned:
    """A batch before it is decoded.

    Attributes:
        index: Its number in the epoch among those of all processes.
        rows: Its rows.
        mark: The pool that it is cut from.
        left_out: Rows left out since the last one: ``(id, reason)``.
    """

    index: int
    rows: list[dict]
    mark: Mark
    left_out: list[tuple[str, str]]


@dataclass(frozen=True)
class BatchPlan:
    """How a stream of rows is cut into batches; see `SpeechStream` for the settings.

    Attributes:
        dataset: Rows; has ``set_epoch``, ``state_dict`` and ``load_state_dict``.
        batch_size: Rows per batch.
        seed: Of the order.
        shuffle: Whether batches are in random order, and their rows of similar length.
        pool: Rows that are sorted by length together.
        max_seconds: Longer rows are left out.
    """

    dataset: Any
    batch_size: int
    seed: int
    shuffle: bool
    pool: int
    max_seconds: float

    def batches(self, epoch: int, mark: Mark) -> Iterator[Planned]:
        """All batches of an epoch from a mark on; the last one may be empty and only say what was left out."""
        rng = np.random.default_rng([self.seed, epoch])
        # A first pool of random size, so that an epoch does not sort the same rows together as the last one did.
        size = int(rng.integers(self.pool // 2, self.pool)) + 1 if self.shuffle else self.pool
        for _ in range(mark.pools):
            self._draw_order(size, rng)  # as it was drawn when those pools were cut
            size = self.pool
        pool: list[tuple[int, dict]] = []
        left_out: list[tuple[str, str]] = []
        self.dataset.set_epoch(epoch)
        for row in self._rows_from(mark):
            samples = row_samples(row)
            if samples > self.max_seconds * SAMPLING_RATE:
                left_out.append((row["id"], "too long"))
                continue
            pool.append((samples, row))
            if len(pool) == size:
                after = self.dataset.state_dict() if hasattr(self.dataset, "state_dict") else None
                count = 0
                for count, rows in enumerate(self._cut(pool, rng), 1):
                    yield Planned(mark.batches + count - 1, rows, mark, left_out)
                    left_out = []
                mark = Mark(mark.pools + 1, mark.batches + count, after)
                pool, size = [], self.pool
        count = 0
        for count, rows in enumerate(self._cut(pool, rng), 1):
            yield Planned(mark.batches + count - 1, rows, mark, left_out)
            left_out = []
        if left_out:
            yield Planned(mark.batches + count, [], mark, left_out)

    def _rows_from(self, mark: Mark) -> Iterator[dict]:
        if mark.rows is None:
            yield from self.dataset
            return
        self.dataset.load_state_dict(mark.rows)
        try:
            yield from self.dataset
        finally:
            self.dataset.load_state_dict(None)  # `datasets` would begin the next pass of this epoch there too

    def _draw_order(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What is drawn for a pool: factors for its rows' lengths, and the order of its batches."""
        count = -(-rows // self.batch_size)
        if not self.shuffle:
            return np.ones(rows), np.arange(count)
        return rng.uniform(0.9, 1.1, rows), rng.permutation(count)

    def _cut(self, pool: list[tuple[int, dict]], rng: np.random.Generator) -> list[list[dict]]:
        """Sort roughly by length, cut, and put the batches in random order."""
        jitter, order = self._draw_order(len(pool), rng)  # neighbours change from epoch to epoch
        rows = [row for _, row in pool]
        if self.shuffle:
            ranks = np.argsort([-samples * factor for (samples, _), factor in zip(pool, jitter, strict=True)])
            rows = [rows[i] for i in ranks]
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        return [batches[i] for i in order]
