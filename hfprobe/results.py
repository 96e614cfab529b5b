"""Results: one row per encoder, layer, condition and metric, with an interval and what it was made with.

Rows are frozen and checked when made, so a file never holds NaN, an unknown metric or an interval upside
down. A measure that could not be computed has the value None and its clips in ``n_failed``.
"""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import io
import json
import math
import numbers
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from hfprobe import __version__
from hfprobe.errors import HfprobeError
from hfprobe.files import write_whole
from hfprobe.plain import line, parse_json, read_text, reason, short

METRICS = (
    "eer", "mindcf", "stoi", "estoi", "pesq", "pesq_nb", "si_sdr", "log_mel", "wer", "cer", "her", "mushra", "mel_l1",
    "stoi_input", "estoi_input", "pesq_input", "pesq_nb_input", "si_sdr_input", "log_mel_input",
    "mean_cca", "svcca", "pwcca", "linear_cka", "linear_cka_debiased", "rbf_cka", "minibatch_cka", "rsa",
    "accuracy", "control_accuracy", "selectivity", "mdl", "compression",
    "invariance", "cosine", "cosine_other", "distance", "distance_other", "si_sdr_clean", "si_sdr_noisy",
    "capacity", "radius", "dimension", "center_correlation", "separability", "class_variance",
    "capacity_shuffled", "radius_shuffled", "dimension_shuffled", "center_correlation_shuffled",
    "separability_shuffled", "class_variance_shuffled",
)  # fmt: skip
CONDITION = re.compile(r"[A-Za-z0-9_.+\-]+(@-?\d+(\.\d+)?dB)?")
PACKAGES = ("torch", "espnet", "transformers", "datasets")


class ResultsError(HfprobeError):
    """A result row or file is not valid."""


@dataclass(frozen=True)
class ResultRow:
    """One measured number.

    Args:
        encoder: Name of the encoder.
        layer: Layer name, or ``input``, ``ceiling``, ``floor``.
        condition: ``clean``, or e.g. ``noise@10dB``.
        metric: One of `METRICS`.
        value: The number, a fraction for error rates; None if it could not be computed on any clip.
        ci_low: Lower bound of the 95 % interval, or None.
        ci_high: Upper bound, or None.
        n: Clips (or trials) that count in the value.
        n_failed: Clips (or trials) on which the measure could not be computed.

    Raises:
        ResultsError: A field has the wrong type or is out of range.

    Example:
        >>> ResultRow("vgg", "blstm1", "noise@10dB", "stoi", 0.8, 0.7, 0.9, n=10).value
        0.8
    """

    encoder: str
    layer: str
    condition: str
    metric: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    n_failed: int = 0

    def __post_init__(self):
        for name in ("encoder", "layer", "condition", "metric"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text:
                raise ResultsError(f"result {name} must be a non-empty string, got {short(text)}")
        if self.metric not in METRICS:
            raise ResultsError(f"unknown metric {short(self.metric)}; known: {', '.join(METRICS)}")
        if not CONDITION.fullmatch(self.condition):
            raise ResultsError(f"condition must be like clean or noise@10dB, got {short(self.condition)}")
        for name in ("value", "ci_low", "ci_high"):
            number = getattr(self, name)
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, numbers.Real) or not _is_finite(number):
                raise ResultsError(f"{name} must be a finite number or None, got {short(number)}; use None")
            object.__setattr__(self, name, float(number))  # numpy scalars are not JSON
        for name in ("n", "n_failed"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < 0:
                raise ResultsError(f"result {name} must be a whole number, not negative, got {short(count)}")
            object.__setattr__(self, name, int(count))
        bounds = [bound for bound in (self.ci_low, self.ci_high) if bound is not None]
        if len(bounds) == 1 or bounds and self.value is None:
            raise ResultsError("a confidence interval needs a value and both bounds; give both or neither")
        if self.ci_low is not None and self.ci_low > self.ci_high:
            raise ResultsError(f"ci_low must not exceed ci_high, got {self.ci_low} and {self.ci_high}")


COLUMNS = tuple(column.name for column in fields(ResultRow))


@dataclass(frozen=True)
class Results:
    """Rows with the environment and configuration they were made in.

    Args:
        rows: The rows, in order.
        environment: See `environment_stamp`.
        config: The resolved configuration of the run, ready for JSON.

    Raises:
        ResultsError: Something else than rows is given, or two rows have the same key.

    Example:
        >>> row = ResultRow("vgg", "blstm1", "clean", "eer", 0.2, n=100)
        >>> Results([row]).select(metric="eer").rows[0].value
        0.2
    """

    rows: tuple[ResultRow, ...]
    environment: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "rows", tuple(self.rows))
        seen = set()
        for row in self.rows:
            if not isinstance(row, ResultRow):
                raise ResultsError(f"rows must be ResultRow, got {type(row).__name__}")
            key = (row.encoder, row.layer, row.condition, row.metric)
            if key in seen:
                raise ResultsError(f"two rows for {line(' / '.join(key))}; keep one")
            seen.add(key)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ResultRow]:
        return iter(self.rows)

    def select(self, **filters) -> Results:
        """The rows whose fields equal the given values, or are in the given list of values.

        Raises:
            ResultsError: A filter is not a column.
        """
        for name in filters:
            if name not in COLUMNS:
                raise ResultsError(f"unknown column {name!r}; columns: {', '.join(COLUMNS)}")
        wanted = {k: v if isinstance(v, (list, tuple, set, frozenset)) else (v,) for k, v in filters.items()}
        rows = [row for row in self.rows if all(getattr(row, k) in v for k, v in wanted.items())]
        return Results(tuple(rows), self.environment, self.config)

    def joined(self, *others: Results) -> Results:
        """All rows of several runs, for instance encoders and their random twins measured on the same trials.

        Args:
            *others: Runs whose rows are added. A row that is there already is dropped: its count must be the same and
                its value too, but for what rounding in batches of other sizes does to a few trials (0.005).

        Returns:
            The rows in order, with this one's environment and configuration.

        Raises:
            ResultsError: Two runs disagree on a row, so that they did not measure the same speech.

        Example:
            >>> natural = ResultRow("-", "input", "clean", "eer", 0.1, n=10)
            >>> one = Results([natural, ResultRow("vgg", "cnn1", "clean", "eer", 0.2, n=10)])
            >>> two = Results([natural, ResultRow("random:vgg", "cnn1", "clean", "eer", 0.1, n=10)])
            >>> [row.encoder for row in one.joined(two)]
            ['-', 'vgg', 'random:vgg']
        """
        rows = {(row.encoder, row.layer, row.condition, row.metric): row for row in self.rows}
        for row in (row for other in others for row in other):
            key = (row.encoder, row.layer, row.condition, row.metric)
            known = rows.setdefault(key, row)
            first, second = known.value, row.value
            same = first == second if first is None or second is None else abs(first - second) <= 0.005
            if not same or (known.n, known.n_failed) != (row.n, row.n_failed):
                raise ResultsError(
                    f"two runs disagree on {' / '.join(key)}: {known.value} of {known.n} and {row.value} of {row.n}; "
                    "join runs on the same speech, trials and seed"
                )
        return Results(tuple(rows.values()), self.environment, self.config)

    def to_json(self, path) -> None:
        """Write everything as strictly valid JSON; the file appears whole or not at all.

        Raises:
            ResultsError: The environment or configuration holds NaN or something that JSON cannot say.
        """
        content = {
            "rows": [asdict(row) for row in self.rows],
            "environment": self.environment,
            "config": self.config,
        }
        try:
            text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise ResultsError(f"results do not fit JSON ({error}); use plain finite values") from error
        write_whole(path, text + "\n")

    @classmethod
    def from_json(cls, path) -> Results:
        """Read what `to_json` wrote.

        Raises:
            ResultsError: The file is missing, is not JSON, or a key is missing, unknown or has a bad value.
        """
        path = Path(path)
        if not path.is_file():
            raise ResultsError(f"{path} is not a file; give a results JSON")
        try:
            content = parse_json(read_text(path, "results", ResultsError), parse_constant=_no_constant)
        except ResultsError:
            raise
        except ValueError as error:
            raise ResultsError(f"{path.name} is not valid JSON ({reason(error)}); write it again") from error
        _check_keys(path.name, content, ("rows", "environment", "config"))
        for name, kind in (("rows", list), ("environment", dict), ("config", dict)):
            if not isinstance(content[name], kind):
                got = type(content[name]).__name__
                raise ResultsError(f"{path.name}: {name} must be a {kind.__name__}, got {got}; repair it")
        rows = []
        for index, row in enumerate(content["rows"]):
            _check_keys(f"{path.name} row {index}", row, COLUMNS)
            try:
                rows.append(ResultRow(**row))
            except ResultsError as error:
                raise ResultsError(f"{path.name} row {index}: {error}") from error
        try:
            return cls(tuple(rows), content["environment"], content["config"])
        except ResultsError as error:
            raise ResultsError(f"{path.name}: {error}") from error

    def to_csv(self, path) -> None:
        """Write the rows as CSV with a header; None is an empty cell. It appears whole or not at all."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows:
            writer.writerow(["" if cell is None else cell for cell in asdict(row).values()])
        write_whole(path, buffer.getvalue())


def environment_stamp(seed: int, command: str) -> dict:
    """What a result was made with: versions, git hash, seed, date, command, machine (no path, no host name).

    Args:
        seed: Seed of the run.
        command: The command line as typed, kept as it is.

    Returns:
        A dictionary ready for JSON; the version of a package that is not installed is None.

    Example:
        >>> environment_stamp(3, "hfprobe demo")["seed"]
        3
    """
    versions: dict[str, str | None] = {"hfprobe": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "versions": versions,
        "git_hash": _git_hash(),
        "seed": int(seed),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _git_hash() -> str | None:
    folder = Path(__file__).resolve().parent
    # Installed as a package, the repository around it would be another's.
    if not (folder.parent / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _no_constant(name: str):
    raise ValueError(f"{name} is not JSON")


def _is_finite(number: numbers.Real) -> bool:
    """Whether it is a finite number as float, too."""
    try:
        return math.isfinite(float(number))
    except OverflowError:  # a whole number of 400 digits
        return False


def _check_keys(where: str, content, expected: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        got = type(content).__name__
        raise ResultsError(f"{where} must be an object with {', '.join(expected)}, got {got}")
    missing, unknown = set(expected) - set(content), set(content) - set(expected)
    if missing or unknown:
        wrong = f"lacks {sorted(missing)[0]!r}" if missing else f"has unknown {short(sorted(unknown)[0])}"
        raise ResultsError(f"{where} {wrong}; expected the keys {', '.join(expected)}")
