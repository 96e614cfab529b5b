"""Runs: their result files and kept sounds, read, checked against one another, and sorted by what they measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hfprobe.plain import read_json, reason
from hfprobe.reports.kept_sounds import FOLDER, INDEX, read_index, read_sounds
from hfprobe.reports.model import (
    REFERENCE_LAYERS,
    Measurement,
    ReportError,
    UtteranceView,
    as_number,
    measurements,
)
from hfprobe.reports.tables import metric_info
from hfprobe.results import Results, ResultsError

NAMED_BY = {
    **dict.fromkeys(("accuracy", "control_accuracy", "selectivity", "mdl", "compression"), ("target", "probe")),
    **{
        name + suffix: ("by", "pool")
        for name in ("capacity", "radius", "dimension", "center_correlation", "separability", "class_variance")
        for suffix in ("", "_shuffled")
    },
}
NOBODY = ("", "-")  # whose rows need no encoder, such as the input
_PAIR = "~"


@dataclass(frozen=True)
class Measure:
    """What a number is: its metric, of what (``phone``), and how it was taken (``linear``).

    Example:
        >>> Measure("accuracy", "phone", "linear").label, Measure("capacity", "word").label
        ('phone accuracy', 'capacity by word')
    """

    metric: str
    subject: str = ""
    how: str = ""

    @property
    def label(self) -> str:
        """Name without a unit."""
        name = metric_info(self.metric).label
        if not self.subject:
            return name
        return f"{self.subject} {name}" if NAMED_BY[self.metric][0] == "target" else f"{name} by {self.subject}"

    @property
    def axis(self) -> str:
        """Name with its unit."""
        return f"{self.label} (%)" if metric_info(self.metric).percent else self.label


@dataclass(frozen=True)
class Run:
    """One result file, kept sounds, or both.

    Attributes:
        name: Short, different from that of the other runs.
        results: As read; without rows where a run only holds sounds.
        rows: Those that belong to one layer; a row of a layer against itself is one, too.
        pairs: Those that compare two layers.
        repeated: How many rows an earlier run holds with the same values; they are left out here.
        sounds: Utterances to listen to.
        differences: Paired differences, as ``differences.json`` has them.
        folder: Where it was read, None if it was not.
    """

    name: str
    results: Results
    rows: tuple[Measurement, ...]
    pairs: tuple[Measurement, ...] = ()
    repeated: int = 0
    sounds: tuple[UtteranceView, ...] = ()
    differences: tuple[Mapping[str, Any], ...] = ()
    folder: Path | None = None

    @property
    def command(self) -> str:
        """The name of the command, e.g. ``evaluate``; empty if another program made it."""
        words = str(self.results.environment.get("command") or "").split()
        return words[1] if len(words) > 1 and Path(words[0]).name == "hfprobe" else ""

    def measure(self, metric: str) -> Measure:
        """What a metric of this run measures."""
        if metric in NAMED_BY:
            return Measure(metric, *(_text(self.results.config.get(key)) for key in NAMED_BY[metric]))
        # CKA of clean and noisy: two commands measure it, on other frames.
        return Measure(metric, "", "similarity" if self.command == "similarity" else "")

    def of(self, measure: Measure) -> tuple[Measurement, ...]:
        """The rows of one measure."""
        return tuple(row for row in self.rows if row.metric == measure.metric and self.measure(row.metric) == measure)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def run_of(
    name: str,
    results: Results,
    sounds: Sequence[UtteranceView] = (),
    differences: Iterable[Mapping[str, Any]] = (),
    folder: Path | None = None,
) -> Run:
    """A run from what is in memory.

    Args:
        name: Short; shown where several runs are on one page.
        results: Rows, possibly none, with environment and configuration.
        sounds: Utterances to listen to.
        differences: Paired differences as mappings.
        folder: Where files of the run lie.

    Returns:
        The run.

    Example:
        >>> run_of("mine", Results(())).rows
        ()
    """
    rows, pairs = split_pairs(measurements(results.rows))
    return Run(name, results, rows, pairs, 0, tuple(sounds), tuple(differences), folder)


def load_runs(paths: Sequence[str | Path]) -> tuple[Run, ...]:
    """Read runs.

    Args:
        paths: Folders with a ``results.json`` or kept sounds, or result files under any name.

    Returns:
        The runs in the order given.

    Raises:
        ReportError: One is no run, is broken, is given twice or empty; no run has a layer; or two runs hold the same
            row with different values.
    """
    files = [_file(path) for path in paths]
    runs: list[Run] = []
    for index, (path, file) in enumerate(zip(paths, files, strict=True)):
        if file.resolve() in [other.resolve() for other in files[:index]]:
            raise ReportError(f"run {str(path)!r} is given twice; give each once")
        folder, kept = (None, None) if Path(path).is_file() else (Path(path), read_index(path))
        try:
            if kept is not None and file.name == INDEX:
                results = Results((), kept["environment"], kept["config"])
            else:
                results = Results.from_json(file)
        except ResultsError as error:
            raise ReportError(f"run {str(path)!r}: {error}") from error
        sounds = read_sounds(path) if kept is not None else ()
        if not results.rows and not sounds:
            raise ReportError(f"run {str(path)!r} holds no rows; measure something first")
        runs.append(run_of(_name(file, files), results, sounds, _differences(folder), folder))
    if not any(run.sounds or run.pairs or any(row.layer not in REFERENCE_LAYERS for row in run.rows) for run in runs):
        raise ReportError(
            f"no row of {', '.join(repr(str(path)) for path in paths)} is about a layer (only "
            f"{', '.join(REFERENCE_LAYERS)}); give a run of hfprobe evaluate, classify, untangle or others"
        )
    return without_repeats(runs)


def _file(path: str | Path) -> Path:
    place = Path(path)
    if place.is_file():
        return place
    if not place.exists():
        raise ReportError(f"run {str(path)!r} does not exist; give a folder with results.json, or a results file")
    if not (place / "results.json").is_file() and read_index(place) is not None:
        return place / FOLDER / INDEX
    if not (place / "results.json").is_file():
        found = ", ".join(sorted(file.name for file in place.glob("*.json"))[:5])
        hint = f"it has {found}: give the file of results" if found else "give one that hfprobe evaluate wrote"
        raise ReportError(f"run {str(path)!r} is a folder without results.json; {hint}")
    return place / "results.json"


def _name(file: Path, files: Iterable[Path]) -> str:
    """The shortest end of a path that no other file has.

    Example:
        >>> files = [Path("a/x/results.json"), Path("b/x/results.json"), Path("b/y.json")]
        >>> [_name(file, files) for file in files]
        ['a/x', 'b/x', 'y']
    """

    def parts(path: Path) -> tuple[str, ...]:
        path = path.resolve()
        if path.name == INDEX and path.parent.name == FOLDER:
            return path.parent.parent.parts
        return path.parent.parts if path.name == "results.json" else (*path.parent.parts, path.stem)

    own = parts(file)
    others = [parts(other) for other in files if other != file]
    for count in range(1, len(own)):
        if all(other[-count:] != own[-count:] for other in others):
            return "/".join(own[-count:])
    return file.name


def _differences(folder: Path | None) -> tuple[Mapping[str, Any], ...]:
    """Paired differences that ``hfprobe evaluate`` wrote beside its results; none where there are none.

    Raises:
        ReportError: The file is there and broken.
    """
    path = None if folder is None else folder / "differences.json"
    if path is None or not path.is_file():
        return ()
    try:
        content = read_json(path, "paired differences", ReportError)
        return tuple(_difference(line) for line in content["differences"])
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise ReportError(
            f"differences.json of run {str(folder)!r} is not as hfprobe evaluate writes it ({reason(error)}); "
            "make it again"
        ) from error


def _difference(line: Mapping[str, Any]) -> dict[str, Any]:
    names = ("encoder", "layer", "other_encoder", "other_layer", "condition", "metric")
    if not all(isinstance(line[name], str) for name in names):
        raise TypeError("a name is no text")
    numbers = {name: as_number(line[name], name) for name in ("difference", "ci_low", "ci_high", "p_value")}
    return {name: line[name] for name in names} | numbers | {name: int(line[name]) for name in ("n", "n_dropped")}


def split_pairs(rows: Iterable[Measurement]) -> tuple[tuple[Measurement, ...], tuple[Measurement, ...]]:
    """Rows of one layer, and rows that compare two.

    ``hfprobe similarity`` names two layers ``x~y``. Where both are one (clean against noisy input, or two encoders) the
    row belongs to that layer, and to the comparison, too, if that has other rows.

    Example:
        >>> rows = [Measurement("e", name, "clean", "pwcca", 0.5) for name in ("a~b", "c~c", "d")]
        >>> [[row.layer for row in part] for part in split_pairs(rows)]
        [['c', 'd'], ['a~b', 'c~c']]
    """
    rows = tuple(rows)
    two = {row: row.layer.partition(_PAIR)[::2] for row in rows if _PAIR in row.layer}
    maps = {(row.encoder, row.condition, row.metric) for row, (left, right) in two.items() if left != right}
    single = [
        replace(row, layer=two[row][0]) if row in two else row
        for row in rows
        if row not in two or two[row][0] == two[row][1]
    ]
    return tuple(single), tuple(row for row in two if (row.encoder, row.condition, row.metric) in maps)


def without_repeats(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs without the rows of encoders that an earlier run holds, too.

    Raises:
        ReportError: The values differ; the message names both runs and the row.
    """
    first: dict[tuple, tuple[str, Measurement]] = {}
    kept_runs = []
    for run in runs:
        parts: dict[str, tuple[Measurement, ...]] = {}
        for part in ("rows", "pairs"):
            kept = []
            for row in getattr(run, part):
                key = (part, run.measure(row.metric), row.encoder, row.layer, row.condition)
                name, known = first.get(key, (run.name, row))
                if known != row and row.encoder not in NOBODY:
                    what = " / ".join((run.measure(row.metric).label, row.encoder, row.layer, row.condition))
                    raise ReportError(
                        f"runs {name!r} and {run.name!r} hold different values for {what}: {_value(known)} and "
                        f"{_value(row)}; report them apart, or rename the encoder in one"
                    )
                if name == run.name or row.encoder in NOBODY:
                    first.setdefault(key, (run.name, row))
                    kept.append(row)
            parts[part] = tuple(kept)
        # A layer against itself stands in both parts.
        lost = len(run.rows) - len(parts["rows"]) or len(run.pairs) - len(parts["pairs"])
        kept_runs.append(replace(run, rows=parts["rows"], pairs=parts["pairs"], repeated=lost))
    return tuple(kept_runs)


def _value(row: Measurement) -> str:
    bounds = "" if row.ci_low is None else f" ({row.ci_low:.6g} to {row.ci_high:.6g})"
    value = "no value" if row.value is None else f"{row.value:.6g}"
    return f"{value}{bounds}, n {row.n}, failed {row.n_failed}"
