"""What a benchmark found, as Markdown and JSON: tables, ratios, and goals with what was measured for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hfprobe.bench.floors import Floor
from hfprobe.bench.machine import Machine
from hfprobe.bench.measure import Timing
from hfprobe.errors import ConfigError
from hfprobe.files import write_whole

RELATIONS = ("at least", "at most")


@dataclass(frozen=True)
class Goal:
    """A number that something is to reach, and what was measured.

    Args:
        text: What is measured.
        measured: The number found.
        relation: ``"at least"`` or ``"at most"``.
        limit: The number wanted.

    Example:
        >>> Goal("times faster", 7.5, "at least", 6.0).met
        True
    """

    text: str
    measured: float
    relation: str
    limit: float

    def __post_init__(self):
        if self.relation not in RELATIONS:
            raise ConfigError(f"expected a relation of {', '.join(RELATIONS)}, got {self.relation!r}")

    @property
    def met(self) -> bool:
        """Whether the number found is on the right side of the one wanted."""
        if self.relation == "at least":
            return self.measured >= self.limit
        return self.measured <= self.limit

    def row(self) -> dict:
        """Plain values, for JSON."""
        return {**asdict(self), "met": self.met}

    def line(self) -> str:
        """One line of Markdown."""
        verdict = "met" if self.met else "**missed**"
        return f"- {self.text}: {self.measured:.3g} ({self.relation} {self.limit:g}): {verdict}"


@dataclass
class Section:
    """One benchmark.

    Args:
        name: What the command line calls it.
        title: Heading.
        rows: Table; every row has ``name``, and values of which those in `COLUMNS` are printed.
        goals: Goals.
        notes: Sentences under the table.
    """

    name: str
    title: str
    rows: list[dict] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self, name: str, timing: Timing, floor: Floor | None = None, machine: Machine | None = None, **more: Any
    ) -> None:
        """Add a row.

        Args:
            name: Of the contender.
            timing: Its times.
            floor: Its floor, with the machine that gives the floor's seconds.
            machine: The machine.
            **more: Further columns.
        """
        least = floor.row(machine) if floor is not None and machine is not None else {}
        self.rows.append({"name": name, **timing.row(), **least, **more})

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        goals = [goal.row() for goal in self.goals]
        return {"title": self.title, "rows": self.rows, "goals": goals, "notes": self.notes}

    def to_markdown(self) -> str:
        """Heading, table, goals and notes."""
        parts = [f"## {self.title}"]
        columns = [(key, *how) for key, how in COLUMNS.items() if any(row.get(key) is not None for row in self.rows)]
        if self.rows:
            lines = ["| | " + " | ".join(head for _, head, _ in columns) + " |", "| :--- |" + " ---: |" * len(columns)]
            for row in self.rows:
                cells = [show(row[key]) if row.get(key) is not None else "" for key, _, show in columns]
                lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
            parts.append("\n".join(lines))
        if self.goals:
            parts.append("\n".join(goal.line() for goal in self.goals))
        parts += self.notes
        return "\n\n".join(parts) + "\n"


def _seconds(value: dict) -> str:
    """Median, and in brackets the extremes of the rounds."""
    return f"{_number(value['median'])} ({_number(value['low'])} to {_number(value['high'])})"


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


COLUMNS = {
    "cpu_s": ("CPU s: median (rounds)", _seconds),
    "wall_s": ("wall s: median (rounds)", _seconds),
    "operations": ("Gflop", lambda value: _number(value / 1e9)),
    "bytes": ("MB", lambda value: _number(value / 1e6)),
    "floor_s": ("floor s", _number),
    "times": ("times as long", _seconds),
    "difference": ("outputs differ by", lambda value: f"{value:.1e}"),
    "stoi": ("STOI", lambda value: f"{value:.4f}"),
    "pesq": ("PESQ wb", lambda value: f"{value:.3f}"),
    "hours_per_hour": ("hours of speech per hour and core", _number),
}


def write_report(sections: Sequence[Section], machine: Machine, environment: dict, folder: Path) -> str:
    """Write ``benchmarks.md`` and ``benchmarks.json``.

    Args:
        sections: What was measured.
        machine: Where.
        environment: See `hfprobe.results.environment_stamp`.
        folder: Where to write.

    Returns:
        The Markdown.
    """
    text = to_markdown(sections, machine, environment)
    content = {
        "machine": machine.row(),
        "environment": environment,
        "sections": {section.name: section.to_dict() for section in sections},
    }
    write_whole(folder / "benchmarks.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_whole(folder / "benchmarks.md", text)
    return text


def to_markdown(sections: Sequence[Section], machine: Machine, environment: dict) -> str:
    """The whole report as Markdown."""
    per = "CPU second" if machine.clock == "cpu" else "second"
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items() if version)
    head = [
        "# Benchmarks",
        f"{machine.model}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, {machine.threads} thread(s) of "
        f"torch, load {machine.load:.1f} before; {environment['date']}; {versions}.",
        f"Measured here: {machine.matmul / 1e9:.0f} Gflop per {per} in a float32 matrix product, "
        f"{machine.bandwidth / 1e9:.1f} GB per {per} copied. A floor is the time of the products at that peak or of "
        "the bytes at that bandwidth, whichever is longer. All contenders of a table took turns in one run.",
    ]
    return "\n\n".join(head + [section.to_markdown() for section in sections])
