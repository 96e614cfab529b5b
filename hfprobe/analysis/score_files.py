"""Which degraded file belongs to which reference and to which system, by names alone.

A *system* is one way in which all references were degraded, e.g. one layer under one condition; it becomes a layer and
a condition of the results. Nothing is dropped in silence: what has no partner is listed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hfprobe.data.corpora import SUFFIXES
from hfprobe.errors import ConfigError, DatasetError
from hfprobe.results import CONDITION

HELP = "use --match-pattern REGEX with a group (?P<name>...), and (?P<layer>...) or (?P<condition>...) if it tells them"


@dataclass
class System:
    """One folder (or kind of file name) of degraded files.

    Attributes:
        condition: Condition in results.
        layer: Layer in results.
        files: Position of the reference to the degraded file.
    """

    condition: str
    layer: str
    files: dict[int, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Condition and layer in one word."""
        return f"{self.condition}/{self.layer}"


@dataclass
class FilePairs:
    """References with the systems that degraded them.

    Attributes:
        names: Names of the references that some system has: relative paths without suffix.
        references: Their files.
        systems: The systems, in natural order.
        lonely_references: Names of references that no system has.
        lonely_degraded: Degraded files (relative paths) that belong to no reference.
    """

    names: list[str]
    references: list[Path]
    systems: list[System]
    lonely_references: list[str]
    lonely_degraded: list[str]


def sound_files(folder: str | Path, without: Path | None = None) -> dict[str, Path]:
    """Sound files below a folder by their relative path without suffix, hidden ones left out, in order.

    Args:
        folder: Where to look.
        without: A folder inside it whose files do not count.

    Raises:
        DatasetError: The folder does not exist, holds no sound file, or two files differ by their suffix only.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatasetError(f"{str(folder)!r} is not a folder; give a folder of sound files")
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in relative.parts):
            continue
        if not path.is_file() or (without is not None and path.resolve().is_relative_to(without)):
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise DatasetError(f"{found[name].name} and {path.name} have one name in {str(folder)!r}; keep one")
        found[name] = path
    if not found:
        raise DatasetError(f"no sound file below {str(folder)!r}; suffixes looked for: {', '.join(SUFFIXES)}")
    return found


def natural(text: str) -> list:
    """A key that sorts numbers in names by value.

    Example:
        >>> sorted(["layer10", "layer9"], key=natural)
        ['layer9', 'layer10']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def match_files(
    reference: str | Path, degraded: str | Path, pattern: str | None = None, condition: str = "clean"
) -> FilePairs:
    """Find the reference of every degraded file.

    A degraded file belongs to the reference with the same relative path without suffix; folders in front of that path,
    or in front of a file name that only one reference has, name the system: ``<layer>/`` or ``<condition>/<layer>/``.

    Args:
        reference: Folder of references.
        degraded: Folder of degraded files.
        pattern: Regular expression that is searched for in a degraded file's relative path without suffix, where names
            are not equal. Its group ``name`` is the reference's name; with a group ``layer`` or ``condition``, those
            name the system, and folders do not.
        condition: Condition where nothing names one.

    Returns:
        The pairs, and what is left over.

    Raises:
        ConfigError: The pattern is wrong, two files are the same clip of the same system, or nothing matches.
        DatasetError: See `sound_files`.
    """
    inner, outer = Path(reference).resolve(), Path(degraded).resolve()
    references = sound_files(reference, outer if outer != inner and outer.is_relative_to(inner) else None)
    others = sound_files(degraded, inner if outer != inner and inner.is_relative_to(outer) else None)
    expression = _compiled(pattern)
    names = {name: index for index, name in enumerate(references)}
    lookup = _Lookup(names, expression, outer.name or "degraded", condition)
    systems: dict[tuple[str, str], System] = {}
    lonely = []
    for name, path in others.items():
        found = lookup(name)
        if found is None:
            lonely.append(path.relative_to(degraded).as_posix())
            continue
        index, of, layer = found
        system = systems.setdefault((of, layer), System(of, layer))
        if index in system.files:
            first = system.files[index].relative_to(degraded).as_posix()
            raise ConfigError(
                f"{first!r} and {path.relative_to(degraded).as_posix()!r} are both {list(references)[index]!r} of "
                f"{system.name}; {HELP}"
            )
        system.files[index] = path
    if not systems:
        raise ConfigError(_no_match(list(references), list(others), pattern))
    used = sorted({index for system in systems.values() for index in system.files})
    place = {index: position for position, index in enumerate(used)}
    for system in systems.values():
        system.files = {place[index]: path for index, path in sorted(system.files.items())}
    ordered = sorted(systems.values(), key=lambda s: (s.condition != "clean", natural(s.condition), natural(s.layer)))
    every, paths = list(references), list(references.values())
    return FilePairs(
        [every[i] for i in used],
        [paths[i] for i in used],
        ordered,
        [name for index, name in enumerate(every) if index not in place],
        lonely,
    )


def _compiled(pattern: str | None) -> re.Pattern | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--match-pattern {pattern!r} is not a regular expression: {error}") from error
    unknown = set(expression.groupindex) - {"name", "layer", "condition"}
    if "name" not in expression.groupindex or unknown:
        raise ConfigError(
            f"--match-pattern needs a group (?P<name>...) and may have layer and condition, got {pattern!r}"
        )
    return expression


class _Lookup:
    """From the name of a degraded file to its reference, condition and layer."""

    def __init__(self, names: dict[str, int], expression: re.Pattern | None, layer: str, condition: str):
        self.names, self.expression, self.layer, self.condition = names, expression, layer, condition
        self.stems: dict[str, int | None] = {}
        for name, index in names.items():
            stem = name.rpartition("/")[2]
            self.stems[stem] = None if stem in self.stems else index  # two references: the file name does not tell

    def __call__(self, name: str) -> tuple[int, str, str] | None:
        if self.expression is None:
            parts = name.split("/")
            for cut in range(len(parts)):
                index = self.names.get("/".join(parts[cut:]))
                if index is not None:
                    return index, *self._system(parts[:cut])
            index = self.stems.get(parts[-1])
            return None if index is None else (index, *self._system(parts[:-1]))
        match = self.expression.search(name)
        wanted = match["name"] if match else None
        index = None if wanted is None else self.names.get(wanted, self.stems.get(wanted))
        if match is None or index is None:
            return None
        groups = match.groupdict()
        if len(groups) == 1:
            return index, *self._system(name[: match.start("name")].split("/")[:-1])
        return index, _condition(groups.get("condition") or self.condition), groups.get("layer") or self.layer

    def _system(self, folders: Sequence[str]) -> tuple[str, str]:
        """Condition and layer that the folders in front of a name say."""
        if len(folders) < 2:
            return self.condition, folders[0] if folders else self.layer
        return _condition("-".join(folders[:-1])), folders[-1]


def _condition(text: str) -> str:
    return text if CONDITION.fullmatch(text) else re.sub(r"[^A-Za-z0-9_.+\-]+", "-", text)


def _no_match(references: list[str], degraded: list[str], pattern: str | None) -> str:
    """Why nothing matches, with a pattern that would do where one name holds another."""
    what = "no degraded file matches a reference"
    for name in degraded[:10]:
        for reference in references:
            stem, (folder, _, file) = reference.rpartition("/")[2], name.rpartition("/")
            if stem in file and stem != file:
                before, _, after = file.partition(stem)
                advice = _pattern(before, after, whole=not folder)
                return f"{what}: {name!r} against {reference!r}; use --match-pattern '{advice}'"
    end = f" (the pattern was {pattern!r})" if pattern else ""
    return f"{what}: e.g. {degraded[0]!r} against {references[0]!r}{end}; {HELP}"


def _pattern(before: str, after: str, whole: bool) -> str:
    """A pattern for names with something around them, which becomes the layer where no folder tells that.

    Example:
        >>> _pattern("musan-layer-4-", "", True), _pattern("", "_gen", False)
        ('^(?P<layer>musan-layer-\\\\d+)-(?P<name>.+)$', '(?P<name>[^/]+)_gen$')
    """

    def general(text: str) -> str:
        return re.sub(r"\d+", lambda _: r"\d+", re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text))

    if whole and before[-1:] in ("-", "_", ".") and len(before) > 1:
        return f"^(?P<layer>{general(before[:-1])}){general(before[-1])}(?P<name>.+){general(after)}$"
    if whole and after[:1] in ("-", "_", ".") and len(after) > 1:
        return f"^{general(before)}(?P<name>.+){general(after[0])}(?P<layer>{general(after[1:])})$"
    return f"{general(before)}(?P<name>[^/]+){general(after)}$"
