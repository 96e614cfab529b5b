"""Waveforms of which only the first megabytes are held in memory; the others wait in a nameless temporary file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import IO, overload

import numpy as np

LIMIT = 32_000_000  # bytes held in memory: eight minutes of speech


class SpooledWaveforms(Sequence[np.ndarray]):
    """A list of waveforms to append to and to read from, in memory that does not grow with it.

    Args:
        limit: Bytes to hold; what comes later goes to a file that vanishes with the process.

    Example:
        >>> sounds = SpooledWaveforms(limit=10)
        >>> for samples in (2, 3, 1):
        ...     sounds.append(np.arange(samples, dtype=np.float32))
        >>> [sound.tolist() for sound in sounds.taken([2, 1, 0])]
        [[0.0], [0.0, 1.0, 2.0], [0.0, 1.0]]
        >>> len(sounds), len(sounds[1:])
        (3, 2)
    """

    def __init__(self, limit: int = LIMIT):
        self._room = limit
        self._items: list[np.ndarray | tuple[int, int]] = []  # held, or where it begins and how long it is
        self._file: IO[bytes] | None = None
        self._end = 0

    def append(self, waveform: np.ndarray) -> None:
        """Take one more, float32 ``(samples,)``."""
        waveform = np.ascontiguousarray(waveform, dtype=np.float32)
        if waveform.nbytes <= self._room:
            self._room -= waveform.nbytes
            self._items.append(waveform)
            return
        self._room = 0  # from here on all go to the file
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="hfprobe-")
        self._file.write(waveform.tobytes())
        self._file.flush()
        self._items.append((self._end, len(waveform)))
        self._end += waveform.nbytes

    def taken(self, places: Iterable[int]) -> SpooledWaveforms:
        """Some of them in another order; the same file."""
        other = SpooledWaveforms(0)
        other._items, other._file, other._end = [self._items[place] for place in places], self._file, self._end
        return other

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        item = self._items[place]
        if isinstance(item, np.ndarray):
            return item
        start, samples = item
        assert self._file is not None
        # Without a position in the file that processes and threads would share.
        data = os.pread(self._file.fileno(), 4 * samples, start)
        return np.frombuffer(data, dtype=np.float32).copy()
