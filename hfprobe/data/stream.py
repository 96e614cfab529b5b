"""Endless, resumable batches of speech with noise drawn on the fly.

Rows flow through in three steps, so that little is held at a time: the corpus is read in a shuffled order, a pool
of rows is sorted by length and cut into batches, and only then are the rows of one batch decoded and mixed. What is
drawn for an utterance depends on (seed, epoch, utterance) alone, so neither the order of batches, nor a restart,
nor the number of processes or workers changes the noise that an utterance gets.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from hfprobe.data.ahead import ahead
from hfprobe.data.batch import SpeechBatch, empty_batch, pad_waveforms
from hfprobe.data.closing import closed_at_exit
from hfprobe.data.corpora import decode_row, row_words
from hfprobe.data.left_out import LeftOut, by_reason
from hfprobe.data.mixture import open_corpora
from hfprobe.data.noise import NoiseCorpus, NoiseRecipe
from hfprobe.data.plan import BatchPlan, Mark, Planned
from hfprobe.errors import AudioError, ConfigError, DatasetError

if TYPE_CHECKING:
    from datasets import IterableDataset as Rows


def utterance_seed(seed: int, epoch: int, utterance: str) -> np.random.Generator:
    """The generator of one utterance in one epoch."""
    return np.random.default_rng([seed, epoch, zlib.crc32(utterance.encode())])


def _called(corpus: Any) -> Any:
    """A corpus for `SpeechStream.identity`: a folder by its last name, as it may lie elsewhere the next time."""
    if isinstance(corpus, str):
        kind, colon, rest = corpus.partition(":")
        return f"{kind}:{Path(rest).resolve().name}" if colon and os.path.exists(rest) else corpus
    if isinstance(corpus, list | tuple):
        return [[_called(one), weight] for one, weight in corpus]
    return type(corpus).__name__


def _with_lists(value: Any) -> Any:
    """The same with lists for tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _suits_shards(dataset, world: int, limit: int | None) -> bool:
    return getattr(dataset, "remote", False) and limit is None and dataset.num_shards >= world


@dataclass
class _Made:
    """A batch, None where no row of it is usable, and what was left out of it: ``(name, reason, error)``."""

    batch: SpeechBatch | None = None
    left_out: list[tuple[str, str, str]] = field(default_factory=list)


class SpeechStream(IterableDataset):
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
        share: What is shared out among processes. ``"batches"``: each reads all rows and decodes its part, and the
            batches are the same for any number of processes. ``"shards"``: each reads some files only, as suits what
            comes over a network; epochs then differ in length. ``"rows"``: each decodes its part of every batch, which
            may be empty, and all have the same number of batches: together they see the batches of one process.
            ``"auto"``: shards, with batches smaller by the number of processes, where the corpus comes from the Hub,
            has one for each process and is not limited; rows elsewhere.
        workers: Threads that read, decode and mix ahead; the batches are the same for any number. (In a worker process
            of torch's ``DataLoader(stream, batch_size=None, num_workers=N)`` a stream reads that worker's shards: every
            utterance comes once, in other batches.)
        epochs: Stop after so many epochs.

    Attributes:
        failures: How many different utterances this process has left out so far, by reason, with the first names:
            ``"too long"`` (known to every process), ``"not speakable"``, or an `AudioError`'s reason (known to the
            process whose share they were in). An utterance counts once, however many epochs it comes back in.
        noise_failures: The same for files of the noise corpus, where others were drawn instead.

    Example:
        >>> batch = next(iter(SpeechStream("espeak:test", batch_size=2)))
        >>> len(batch), batch.waveforms.shape[0]
        (2, 2)
    """

    def __init__(
        self,
        corpus: str | Rows | Sequence[tuple[Any, float]],
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
        workers: int = 0,
        epochs: int | None = None,
        share: str = "batches",
    ):
        if batch_size < 1 or pool < 1:
            raise ConfigError(f"batch_size and pool must be at least 1, not {batch_size} and {pool}")
        if not 0 <= rank < world or seed < 0 or workers < 0:
            raise ConfigError(
                f"need 0 <= rank < world, seed >= 0 and workers >= 0, not rank {rank}, world {world}, seed {seed}, "
                f"workers {workers}"
            )
        if share not in ("batches", "shards", "rows", "auto"):
            raise ConfigError(f"share must be batches, shards, rows or auto, not {share!r}")
        self._corpus, self._limit = _called(corpus), limit
        dataset = open_corpora(corpus, seed)
        if share == "auto" and _suits_shards(dataset, world, limit):
            share, batch_size = "shards", -(-batch_size // world)
        elif share == "auto":
            share = "rows"
        if world == 1:
            share = "batches"
        self.by_rows = share == "rows"
        if limit is not None:
            dataset = dataset.take(limit)
        if share == "shards":
            if dataset.num_shards < world:
                raise ConfigError(f"{world} processes cannot share {dataset.num_shards} shards; share batches")
            dataset, rank, world = dataset.shard(world, rank, contiguous=False), 0, 1
        if shuffle:
            # Only the order of shards is left to `datasets`: its reading of several shards at once starts threads and
            # sleeps five seconds whenever an iterator is dropped. Rows are mixed in `BatchPlan`.
            dataset = dataset.shuffle(seed=seed, buffer_size=1, max_buffer_input_shards=1)
        self.plan = BatchPlan(dataset, batch_size, seed, shuffle, pool, max_seconds)
        self.noise, self.recipe, self.seed, self.shuffle = noise, recipe or NoiseRecipe(), seed, shuffle
        self.rank, self.world, self.workers, self.epochs = rank, world, workers, epochs
        self._left_out: dict[str, str] = {}
        self._first_error = ""
        self.epoch, self.position, self._mark = 0, 0, Mark()

    @property
    def shards(self) -> int:
        """Files, or other parts of the corpus, that this process reads."""
        return getattr(self.plan.dataset, "num_shards", 1)

    @property
    def failures(self) -> LeftOut:
        """Utterances left out so far, by reason."""
        return by_reason(self._left_out, self._first_error)

    @property
    def noise_failures(self) -> LeftOut:
        """Noise files that could not be used so far, by reason."""
        return by_reason({} if self.noise is None else self.noise.refused)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: plain values.

        ``epoch``; ``position``, how many of this process's batches in it are over, unusable ones included; the pool
        that is being cut, so that no more than that is read again; what was left out; and the settings that all this
        depends on.
        """
        mark = {"pools": self._mark.pools, "batches": self._mark.batches, "rows": self._mark.rows}
        return {
            "epoch": self.epoch,
            "position": self.position,
            "pool": mark,
            "left_out": dict(self._left_out),
            "noise_left_out": {} if self.noise is None else dict(self.noise.refused),
            "settings": self._settings(),
        }

    def _settings(self) -> dict[str, Any]:
        names = ("batch_size", "seed", "shuffle", "pool", "max_seconds")
        own = {"rank": self.rank, "world": self.world, "shards": self.shards}
        return {**{name: getattr(self.plan, name) for name in names}, **own}

    def identity(self) -> dict[str, Any]:
        """What the batches depend on, as plain JSON values, wherever the corpora lie on this machine.

        A training may only go on where all of it is the same.
        """
        noise = None
        if self.noise is not None:
            files = json.dumps({kind: list(names) for kind, names in sorted(self.noise.files.items())})
            noise = {"files": f"{zlib.crc32(files.encode()):08x}", **asdict(self.recipe)}
        names = ("batch_size", "seed", "shuffle", "pool", "max_seconds")
        own = {"corpus": self._corpus, "limit": self._limit, "noise": noise}
        return _with_lists({**{name: getattr(self.plan, name) for name in names}, **own})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        No more than a pool of rows is read again. Where settings differ, or the state is from before pools were saved,
        the epoch is read from its beginning and ``position`` batches are passed over.

        Args:
            state: What `state_dict` gave.
        """
        self.epoch, self.position, self._mark = int(state["epoch"]), int(state["position"]), Mark()
        if state.get("settings") == self._settings():
            self._mark = Mark(**state["pool"])
        self._left_out = dict(state.get("left_out", {}))
        if self.noise is not None:
            self.noise.refused.update(state.get("noise_left_out", {}))

    def __iter__(self) -> Iterator[SpeechBatch]:
        while self.epochs is None or self.epoch < self.epochs:
            for number, mark, batch in self._numbered(self.epoch, self.position, self._mark):
                self.position, self._mark = number + 1, mark
                yield batch
            if self.position == 0:
                if get_worker_info() is not None:
                    return  # a worker of a DataLoader that got no shard
                raise DatasetError(self._why_empty())
            self.epoch, self.position, self._mark = self.epoch + 1, 0, Mark()

    def one_epoch(self, epoch: int, start: int = 0) -> Generator[SpeechBatch, None, None]:
        """This process's batches of one epoch.

        Args:
            epoch: Number of the epoch.
            start: Batches to leave out at the beginning, counted as `state_dict` counts.

        Returns:
            An iterator of batches.
        """
        for _, _, batch in self._numbered(epoch, start, Mark()):
            yield batch

    def _numbered(self, epoch: int, start: int, mark: Mark) -> Iterator[tuple[int, Mark, SpeechBatch]]:
        """Batches with their number; a batch without any usable utterance leaves a gap in the numbers.

        Where rows are shared out, it does not: the other processes may have something.
        """
        step = 1 if self.by_rows else self.world

        def make(planned: Planned) -> _Made:
            if planned.index // step < start or not (self.by_rows or planned.index % self.world == self.rank):
                return _Made()
            rows = planned.rows
            if self.by_rows:
                rows = rows[len(rows) * self.rank // self.world : len(rows) * (self.rank + 1) // self.world]
            made = self._collate(rows, epoch) if rows else _Made()
            if self.by_rows and planned.rows and made.batch is None:
                made.batch = empty_batch()
            return made

        depth = 2 * self.workers * step
        made_ahead = closed_at_exit(ahead(self.plan.batches(epoch, mark), make, self.workers, depth))
        try:
            for planned, made in made_ahead:
                self._left_out.update(planned.left_out)
                self._left_out.update((name, reason) for name, reason, _ in made.left_out)
                self._first_error = self._first_error or next((error for *_, error in made.left_out), "")
                if made.batch is not None:
                    yield planned.index // step, planned.mark, made.batch
        finally:
            made_ahead.close()

    def _why_empty(self) -> str:
        if self.world > 1 and not self._left_out:
            return f"an epoch has fewer batches than the {self.world} processes; use fewer, or smaller batches"
        reason = f"; the first: {self._first_error}" if self._first_error else ""
        return f"the dataset gave no usable utterance (left out: {dict(self.failures)}{reason}); check it"

    def _collate(self, rows: list[dict], epoch: int) -> _Made:
        made = _Made()
        kept, clean, mixed, conditions = [], [], [], []
        for row in rows:
            rng = utterance_seed(self.seed, epoch, row["id"])
            try:
                waveform = decode_row(row, rng)
            except (AudioError, DatasetError) as error:
                reason = error.reason if isinstance(error, AudioError) else "not speakable"
                made.left_out.append((row["id"], reason, str(error)))
                continue
            heard, draw = waveform, None
            if self.noise is not None:
                heard, draw = self.noise.mix(waveform, partial(self.recipe.draw, self.noise, rng))
            kept.append(row)
            clean.append(waveform)
            mixed.append(heard)
            conditions.append("clean" if draw is None else draw.condition)
        if not kept:
            return made
        waveforms, lengths = pad_waveforms(mixed)
        made.batch = SpeechBatch(
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
        return made
