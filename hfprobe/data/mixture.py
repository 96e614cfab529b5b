"""One stream of rows from one corpus, or from several in proportion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hfprobe.data.corpora import load_corpus
from hfprobe.errors import DatasetError


def weighted_corpora(names: Sequence[str]) -> str | list[tuple[str, float]]:
    """Words of a command line, each ``NAME`` or ``NAME@WEIGHT``, as :class:`SpeechStream` takes them.

    Args:
        names: Words, each ``NAME`` or ``NAME@WEIGHT``.

    Returns:
        The name where there is one, else ``(name, weight)`` pairs.

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


def open_corpora(corpus, seed: int = 0):
    """A stream of rows.

    Args:
        corpus: Name as :func:`hfprobe.data.load_corpus` takes it, or a dataset of its rows, or a list of
            ``(corpus, weight)`` to be interleaved in that proportion (it ends with the first that ends).
        seed: Of the choice among several.
    """
    if isinstance(corpus, str):
        return load_corpus(corpus)
    if not isinstance(corpus, list):
        return corpus
    if not corpus:
        raise DatasetError("no corpus is given; name at least one, e.g. espeak:train")
    from datasets import interleave_datasets

    from hfprobe.data.rows import as_rows

    parts = [load_corpus(name) if isinstance(name, str) else name for name, _ in corpus]
    weights = np.array([weight for _, weight in corpus], dtype=float)
    mixed = interleave_datasets(parts, probabilities=list(weights / weights.sum()), seed=seed)
    return as_rows(mixed, "the mixture of datasets", any(getattr(part, "remote", False) for part in parts))
