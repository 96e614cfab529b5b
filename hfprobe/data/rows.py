"""A stream of rows that goes on after a network error at the row where it was.

`datasets` reads and remembers its position; what is added here is asking again for longer than the libraries do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from typing import Any

import pyarrow as pa
from datasets import IterableDataset

from hfprobe.data.closing import closed_at_exit
from hfprobe.errors import DatasetError
from hfprobe.network import READING, passes, short, status_of
from hfprobe.plain import line

logger = logging.getLogger(__name__)

_DERIVING = ("map", "filter", "take", "skip", "shuffle", "shard", "cast_column", "select_columns", "remove_columns")


class _BufferRemarks(logging.Filter):
    """`datasets` says at each resumption that a shuffle buffer is refilled; the buffers here hold one row or none."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "shuffle buffer" not in str(record.msg)


logging.getLogger("datasets.iterable_dataset").addFilter(_BufferRemarks())


class Rows(IterableDataset):
    """A `datasets.IterableDataset` that is patient with the network. Make one with `as_rows`.

    Attributes:
        source: What is read, for messages.
        remote: Whether it comes over the network: then a short answer counts as a broken connection.
    """

    source = "the dataset"
    remote = False
    _starting_state_dict: Any
    retry = READING
    sleep = staticmethod(time.sleep)

    def __iter__(self) -> Iterator[dict]:
        return closed_at_exit(self._patient_rows())

    def _patient_rows(self) -> Generator[dict, None, None]:
        state = started = self._starting_state_dict  # None: from the beginning
        iterator, read, waits = super().__iter__(), 0, self.retry.waits()
        try:
            while True:
                try:
                    row = next(iterator)
                except StopIteration:
                    return
                except Exception as error:
                    broken = isinstance(error, (OSError, pa.ArrowException))
                    # Over the network, a table that does not fit together may have come in parts.
                    in_parts = broken and self.remote and status_of(error) is None
                    if not passes(error) and not in_parts:
                        if broken:
                            raise self._broken_off(error, read) from error
                        raise
                    # `datasets` says this when it has asked twenty times, which takes ten minutes.
                    wait = None if str(error) == "Server Disconnected" else next(waits, None)
                    if wait is None:
                        raise self._broken_off(error, read) from error
                    logger.warning("%s broke off (%s); going on in %g s", self.source, short(error), wait)
                    self.sleep(wait)
                    iterator.close()
                    self._starting_state_dict = state
                    iterator = super().__iter__()
                    continue
                # The position is noted after each row: after an error it may already be the next one's.
                state, read, waits = self.state_dict(), read + 1, self.retry.waits()
                yield row
        finally:
            iterator.close()
            self._starting_state_dict = started

    def _broken_off(self, error: BaseException, read: int) -> DatasetError:
        advice = "check the network" if self.remote else "check or replace the file"
        return DatasetError(f"{self.source} cannot be read on after {read} rows: {line(short(error))}; {advice}")


def _deriving(name: str):
    def method(self, *args, **kwargs):
        return as_rows(getattr(IterableDataset, name)(self, *args, **kwargs), self.source, self.remote)

    method.__name__ = name
    method.__doc__ = getattr(IterableDataset, name).__doc__ and f"As `datasets.IterableDataset.{name}`."
    return method


for _name in _DERIVING:
    setattr(Rows, _name, _deriving(_name))


def as_rows(dataset: IterableDataset, source: str = "the dataset", remote: bool = False) -> Rows:
    """The same dataset, patient with the network.

    Args:
        dataset: Any streaming dataset whose state is exact (no shuffle buffer of more than one row).
        source: What is read, for messages.
        remote: Whether it comes over the network.

    Example:
        >>> from datasets import IterableDataset
        >>> rows = as_rows(IterableDataset.from_generator(lambda n: ({"x": i} for i in n), gen_kwargs={"n": [1, 2]}))
        >>> list(rows.take(1))
        [{'x': 1}]
    """
    dataset.__class__ = Rows
    dataset.source, dataset.remote = source, remote
    return dataset
