"""The number that every measure returns: a float that knows how it came about."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SAMPLES_PER_DIMENSION = 10


class SimilarityWarning(UserWarning):
    """A similarity was computed from too few samples to mean much."""


@dataclass(frozen=True)
class Facts:
    """What a `Similarity` carries beside its value; see there."""

    measure: str
    n: int
    dims: tuple[int, int]
    directions: tuple[int, int] | None = None
    correlations: np.ndarray | None = None
    left: float | None = None
    right: float | None = None
    null: float | None = None
    warning: str | None = None
    compat: str = "exact"
    interval: tuple[float, float] | None = None
    replicates: np.ndarray | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Similarity(float):
    """A similarity of two sets of features; use it as a float.

    Attributes:
        measure: Name of the measure, e.g. ``"pwcca"``.
        n: Samples (frames) that it was computed from.
        dims: Features of the two sides.
        directions: Directions that entered on each side, for CCA measures: the dims, or fewer after an SVD.
        correlations: Canonical correlations ``(min(directions),)``, largest first; None for other measures.
        left: PWCCA weighted by the first view; None for other measures.
        right: PWCCA weighted by the second view.
        null: What independent data of the same n and dims would give on average.
        samples_per_dimension: n by the larger number of directions (CCA) or features (others).
        warning: Why the value means little, or None.
        compat: Whose definition it follows.
        interval: ``(low, high)``, 95 % by bootstrap over groups of utterances, where there are groups.
        replicates: The bootstrap draws behind it, moved so that their mean is the value and widened as
            `hfprobe.similarity.groups` says; NaN where a draw has no value. Draw r of all scores of one call is of the
            same groups.
        extra: What else a measure reports, e.g. ``sigma`` of the RBF kernels.

    Example:
        >>> score = Similarity(0.5, Facts("linear_cka", 100, (3, 4), null=0.1))
        >>> score + 0.5, score.samples_per_dimension
        (1.0, 25.0)
    """

    facts: Facts

    def __new__(cls, value: float, facts: Facts) -> Similarity:
        self = super().__new__(cls, value)
        self.facts = facts
        return self

    def __getattr__(self, name: str) -> Any:
        # Only names that the instance lacks come here; `facts` itself does while unpickling.
        if name == "facts" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.facts, name)

    def __reduce__(self):
        return type(self), (float(self), self.facts)

    @property
    def samples_per_dimension(self) -> float:
        """Samples by the larger side's directions (or features)."""
        return self.facts.n / max(self.facts.directions or self.facts.dims)


def few_samples(n: int, width: int) -> str | None:
    """The warning for ``n`` samples of ``width`` dimensions, or None where there are enough.

    Example:
        >>> few_samples(100, 10) is None, few_samples(50, 10)
        (True, '5.0 samples per dimension (50 for 10): below 10, read the value against its null')
    """
    if n >= SAMPLES_PER_DIMENSION * width:
        return None
    return (
        f"{n / width:.1f} samples per dimension ({n} for {width}): below {SAMPLES_PER_DIMENSION}, "
        "read the value against its null"
    )


def make_score(value: float, facts: Facts, quiet: bool = False, depth: int = 1) -> Similarity:
    """A `Similarity`, with a Python warning where its facts hold one.

    Args:
        value: The number.
        facts: What comes with it.
        quiet: Whether to keep the warning to `Similarity.warning`.
        depth: Functions between this one and the caller whom the warning is for.
    """
    if facts.warning and not quiet:
        warnings.warn(f"{facts.measure}: {facts.warning}", SimilarityWarning, stacklevel=2 + depth)
    return Similarity(value, facts)
