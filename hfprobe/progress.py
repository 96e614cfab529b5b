"""Progress bars that are silent where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress_bar(items: Iterable[T], description: str, unit: str = "it") -> Iterator[T]:
    """Iterate over ``items`` with a bar on standard error if that is a terminal.

    Example:
        >>> list(progress_bar([1, 2], "counting"))
        [1, 2]
    """
    from tqdm import tqdm

    return iter(tqdm(items, desc=description, unit=unit, disable=not sys.stderr.isatty(), leave=False))
