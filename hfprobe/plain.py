"""Text, JSON and YAML from files that somebody else may have written: plain data, or a clear error.

What a reader of such files must not do is run code, wait for ever, or fill the memory. So only regular files are read
(a named pipe would wait), up to a size; YAML is read by a safe loader after its events were counted, because aliases
(``&a [*b, *b]``, nine times nested) make a short file very long once somebody walks through it or prints it, and deep
nesting overflows the stack of whoever reads it. Sources: the YAML 1.1 specification for events and aliases, and the
"billion laughs" attack on entities of XML, which aliases repeat.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from hfprobe.errors import ConfigError, HfprobeError

TEXT_LIMIT = 50_000_000  # bytes; tables of a large corpus have some ten million
YAML_LIMIT = 5_000_000  # bytes; a configuration with a list of 5,000 tokens has 100 thousand
MOST_NODES = 1_000_000  # values in a YAML file once all its aliases are written out
MOST_LEVELS = 100  # of nesting
_LONG_NUMBER = re.compile(r"[-+]?[0-9_:.]{1000,}")  # YAML reads 1:1:1 to the base of 60, in time that grows squared


def read_bytes(
    path: str | Path, what: str = "a file", error: type[HfprobeError] = ConfigError, limit: int = TEXT_LIMIT
) -> bytes:
    """All bytes of a regular file.

    Args:
        path: The file.
        what: What is expected there, for messages.
        error: What is raised.
        limit: Largest size in bytes.

    Raises:
        HfprobeError: It is missing, no regular file, too large, or cannot be read.
    """
    check_file(path, what, error, limit)
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise error(f"expected {what} in {shown(path)}, cannot read it: {reason(problem)}; check the path") from problem


def check_file(
    path: str | Path, what: str = "a file", error: type[HfprobeError] = ConfigError, limit: int | None = None
) -> None:
    """Refuse what is no regular file, before somebody opens it: a named pipe would wait, a device never end.

    Args:
        path: The file.
        what: What is expected there, for messages.
        error: What is raised.
        limit: Largest size in bytes.

    Raises:
        HfprobeError: It is missing, no regular file, or too large.
    """
    try:
        # `stat` follows links; a name that holds a zero byte is a ValueError.
        found = os.stat(path)
    except (OSError, ValueError) as problem:
        raise error(f"expected {what} in {shown(path)}, cannot read it: {reason(problem)}; check the path") from problem
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise error(f"expected {what} in {shown(path)}, which is {kind}; give the file itself")
    if limit is not None and found.st_size > limit:
        raise error(f"expected {what} of at most {limit:,} bytes in {shown(path)}, got {found.st_size:,}; cut it")


def read_text(
    path: str | Path,
    what: str = "text",
    error: type[HfprobeError] = ConfigError,
    limit: int = TEXT_LIMIT,
    encoding: str = "utf-8",
) -> str:
    """A text file; line ends become ``\\n``.

    Args:
        path: The file.
        what: What is expected there, for messages.
        error: What is raised.
        limit: Largest size in bytes.
        encoding: How it is written.

    Raises:
        HfprobeError: As `read_bytes`, or it is not text in that encoding.
    """
    data = read_bytes(path, what, error, limit)
    try:
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as problem:
        name = encoding.upper().removesuffix("-SIG")
        raise error(
            f"expected {what} as {name} text in {shown(path)}, byte {problem.start} is none; save it as {name}"
        ) from problem


def read_json(
    path: str | Path,
    what: str = "JSON",
    error: type[HfprobeError] = ConfigError,
    limit: int = TEXT_LIMIT,
    encoding: str = "utf-8",
) -> Any:
    """The value in a JSON file.

    Args:
        path: The file.
        what: What is expected there, for messages.
        error: What is raised.
        limit: Largest size in bytes.
        encoding: ``utf-8`` or ``utf-8-sig``.

    Raises:
        HfprobeError: As `read_text`, or it is no JSON.
    """
    text = read_text(path, what, error, limit, encoding)
    try:
        return parse_json(text)
    except ValueError as problem:
        raise error(f"expected {what} in {shown(path)}, not valid JSON: {reason(problem)}; make it again") from problem


def read_yaml(
    path: str | Path, what: str = "YAML", error: type[HfprobeError] = ConfigError, limit: int = YAML_LIMIT
) -> Any:
    """The value in a YAML file.

    Args:
        path: The file.
        what: What is expected there, for messages.
        error: What is raised.
        limit: Largest size in bytes.

    Raises:
        HfprobeError: As `read_text`, or `parse_yaml` refuses it.
    """
    text = read_text(path, what, error, limit)
    try:
        return parse_yaml(text)
    except ValueError as problem:
        raise error(f"expected {what} in {shown(path)}, not valid YAML: {reason(problem)}; correct it") from problem


def parse_json(text: str, **options: Any) -> Any:
    """The value that JSON stands for; whatever is wrong with it is a ValueError.

    Example:
        >>> parse_json("[" * 100_000)
        Traceback (most recent call last):
        ...
        ValueError: it is nested too deep
    """
    try:
        return json.loads(text, **options)
    except RecursionError as problem:
        raise ValueError("it is nested too deep") from problem


def parse_yaml(text: str, loader: Any = None) -> Any:
    """The value that YAML stands for: plain values only, at most `MOST_NODES` of them and `MOST_LEVELS` deep.

    Args:
        text: One document.
        loader: A subclass of `yaml.SafeLoader` with constructors of its own; none makes objects.

    Raises:
        ValueError: It is not YAML, has a tag that is no plain value's, an alias of itself, or is too long or too deep.

    Example:
        >>> parse_yaml("a: 1\\nb: [x, 2.5]")
        {'a': 1, 'b': ['x', 2.5]}
        >>> parse_yaml("&a [*a]")
        Traceback (most recent call last):
        ...
        ValueError: the value &a holds itself
    """
    import yaml

    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = loader or quick
    try:
        _check_events(yaml.parse(text, Loader=quick), yaml.events)
        return yaml.load(text, Loader=loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as problem:
        raise ValueError(reason(problem)) from problem
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError) as problem:
        # What PyYAML's own constructors stumble over: `!!timestamp x`, `!!int ""`, a date of month 13.
        raise ValueError(f"a value does not fit its type ({reason(problem)})") from problem


def _check_events(events: Any, kinds: Any) -> None:
    """Count the values of a document with its aliases written out, without building anything."""
    sizes: dict[str | None, int | None] = {}  # of anchored values; None as long as one is open
    levels: list[list] = [[None, 0]]  # anchor and number of values of each open list or mapping
    for event in events:
        anchor = getattr(event, "anchor", None)
        if isinstance(event, kinds.AliasEvent):
            if anchor in sizes and sizes[anchor] is None:
                raise ValueError(f"the value &{str(anchor)[:40]} holds itself")
            levels[-1][1] += sizes.get(anchor) or 1  # of an unknown anchor, the loader says so
        elif isinstance(event, kinds.ScalarEvent):
            if _LONG_NUMBER.match(event.value):
                raise ValueError(f"the number {event.value[:20]}... has {len(event.value):,} digits")
            if anchor:
                sizes[anchor] = 1
            levels[-1][1] += 1
        elif isinstance(event, (kinds.SequenceStartEvent, kinds.MappingStartEvent)):
            if anchor:
                sizes[anchor] = None
            levels.append([anchor, 1])
            if len(levels) > MOST_LEVELS:
                raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
        elif isinstance(event, (kinds.SequenceEndEvent, kinds.MappingEndEvent)):
            closed, count = levels.pop()
            if closed:
                sizes[closed] = count
            levels[-1][1] += count
        if levels[-1][1] > MOST_NODES:
            raise ValueError(f"it holds more than {MOST_NODES:,} values with its aliases written out")


def shown(path: str | Path) -> str:
    """A path for a message: on one line, and never without an end."""
    text = str(path)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"


def short(value: object, most: int = 80) -> str:
    """A value for a message: as Python writes it, on one line, cut to ``most`` characters.

    Example:
        >>> short("x" * 100, 8)
        "'xxxx..."
    """
    # Cut before it is written: the representation of a long list is longer than it looks.
    if isinstance(value, str | bytes):
        value = value[: most + 1]
    elif isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of {len(value)}"
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def reason(problem: BaseException, most: int = 200) -> str:
    """What an exception says, on one line and cut short; its class where it says nothing."""
    said = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    return line(said, most) or type(problem).__name__


def line(text: str, most: int = 200) -> str:
    """A text on one line, printable, cut to ``most`` characters.

    Example:
        >>> line("two  words\\n and more", 12)
        'two words...'
    """
    text = " ".join(text[: 10 * most].split())
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= most else f"{text[: most - 3]}..."
