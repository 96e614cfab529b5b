"""How untangled the classes of a corpus are in every layer: manifold geometry and cheap measures, with controls.

Stephenson et al., "Untangling in invariant speech recognition", NeurIPS 2019. Controls on every curve: the same points
with shuffled labels, the log-mel spectrogram (layer ``input``), and an encoder with random weights where one is given.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hfprobe.analysis.manifolds_of import GIBIBYTE, Collection, Key
from hfprobe.errors import ConfigError, MeasureError
from hfprobe.manifold import ManifoldGeometry, class_variance, manifold_geometry, separability
from hfprobe.metrics.bootstrap import Interval
from hfprobe.results import ResultRow

GEOMETRY = ("capacity", "radius", "dimension", "center_correlation")
CHEAP = ("separability", "class_variance")
SHUFFLED = "_shuffled"


@dataclass(frozen=True)
class UntangleSettings:
    """How manifolds are measured.

    Attributes:
        kappa: Margin.
        n_t: Gaussian vectors for each manifold.
        n_restarts: Starts of the search for centre directions.
        shuffled: Whether to measure with shuffled labels, too.
        replicates: Bootstrap draws of classes.
        memory_limit: Bytes for the analysis of one layer.
        seed: Of all that is drawn.

    Raises:
        ConfigError: A number makes no sense.
    """

    kappa: float = 0.0
    n_t: int = 300
    n_restarts: int = 10
    shuffled: bool = True
    replicates: int = 1000
    memory_limit: float = 4 * GIBIBYTE
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.kappa < float("inf") or min(self.n_t, self.n_restarts, self.replicates) < 1:
            raise ConfigError(
                "expected a margin of 0 or more, and one vector, start and bootstrap draw at the least, got "
                f"{self.kappa}, {self.n_t}, {self.n_restarts} and {self.replicates}"
            )


@dataclass(frozen=True, eq=False)
class LayerResult:
    """What was measured of one layer.

    Attributes:
        key: Encoder, condition and layer.
        rows: Result rows; those with shuffled labels have metrics that end in ``_shuffled``.
        classes: Names of the classes, in the order of the geometry's arrays.
        geometry: With the true labels; None where it could not be computed.
        error: Why it could not.
    """

    key: Key
    rows: tuple[ResultRow, ...]
    classes: tuple[str, ...]
    geometry: ManifoldGeometry | None
    error: str = ""


def untangle(
    points: Collection,
    by: str,
    settings: UntangleSettings | None = None,
    progress: Callable[[Any], Any] = iter,
) -> list[LayerResult]:
    """Measure every layer.

    Args:
        points: Vectors of `hfprobe.analysis.manifolds_of.collect`.
        by: Kind of class. Held-out points of the linear classifier are of other speakers where classes are words or
            phones, of other utterances where they are speakers.
        settings: How to measure.
        progress: Wraps the list of layers, e.g. ``tqdm``.

    Returns:
        One result per encoder, condition and layer, in the order of the vectors.
    """
    settings = settings or UntangleSettings()
    groups = points.utterances if by == "speaker" else points.speakers
    shuffle = np.random.default_rng([settings.seed, 0x73]).permutation(len(points.labels))
    return [_layer(points, key, groups, shuffle, settings) for key in progress(list(points.vectors))]


def _layer(points: Collection, key: Key, groups: np.ndarray, shuffle: np.ndarray, settings) -> LayerResult:
    encoder, condition, layer = key
    total, names = len(points.labels), np.unique(points.labels)
    kept, first_error, rows = None, "", []
    for suffix, order in (("", None), (SHUFFLED, shuffle)) if settings.shuffled else (("", None),):
        manifolds = points.manifolds(key, order)
        moved = groups if order is None else groups[order]
        parts = [moved[points.labels == name] for name in names]
        found, geometry, error = _measure(manifolds, parts, settings)
        for metric in (*GEOMETRY, *CHEAP):
            value, low, high = found.get(metric, (None, None, None))
            counts = (0, total + points.lost) if value is None else (total, points.lost)
            rows.append(ResultRow(encoder, layer, condition, metric + suffix, value, low, high, *counts))
        if order is None:
            kept, first_error = geometry, error
    return LayerResult(key, tuple(rows), tuple(map(str, names)), kept, first_error)


def _measure(
    manifolds: list[np.ndarray], groups: list[np.ndarray], settings: UntangleSettings
) -> tuple[dict[str, tuple], ManifoldGeometry | None, str]:
    """Values with intervals by metric, the geometry, and why something is missing."""
    found: dict[str, tuple] = {}
    geometry, errors = None, []
    try:
        geometry = manifold_geometry(
            manifolds, settings.kappa, settings.n_t, n_restarts=settings.n_restarts, memory_limit=settings.memory_limit,
            n_replicates=settings.replicates, seed=settings.seed,
        )  # fmt: skip
        for name in GEOMETRY:
            found[name] = (getattr(geometry, name), *(geometry.intervals[name] or (None, None)))
    except MeasureError as error:
        errors.append(str(error))
    cheap: dict[str, Callable[..., Interval]] = {
        "separability": partial(separability, groups=groups),
        "class_variance": class_variance,
    }
    for name, measure in cheap.items():
        try:
            found[name] = tuple(measure(manifolds, n_replicates=settings.replicates, seed=settings.seed))
        except MeasureError as error:
            errors.append(str(error))
    return found, geometry, "; ".join(dict.fromkeys(errors))


def class_csv(results: Sequence[LayerResult]) -> str:
    """One line per class and layer: its points, capacity, radius and dimension."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("encoder", "condition", "layer", "class", "points", "capacity", "radius", "dimension"))
    writer.writerows(_class_lines(results))
    return buffer.getvalue()


def _class_lines(results: Sequence[LayerResult]) -> Iterator[tuple]:
    for item in results:
        found = item.geometry
        if found is not None:
            columns = (item.classes, found.points, found.capacities, found.radii, found.dimensions)
            for name, count, *values in zip(*columns, strict=True):
                yield (*item.key, name, count, *(f"{value:.6g}" for value in values))
