"""Who speaks in a file, by its name or by Kaldi's table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hfprobe.errors import ConfigError
from hfprobe.plain import read_text, short

LIBRISPEECH = re.compile(r"(\d+)-\d+-\d+")  # speaker-chapter-utterance


def speakers_of(
    names: Sequence[str], pattern: str | None = None, utt2spk: str | Path | None = None
) -> list[str] | None:
    """Who speaks in each reference.

    Args:
        names: Names of references: relative paths without suffix.
        pattern: Regular expression with one group (or a group ``speaker``), searched for in the file name without
            suffix, or in the whole relative path if some file name does not fit.
        utt2spk: Kaldi's table instead: an utterance (file name or relative path, without suffix) and its speaker a
            line.

    Returns:
        One speaker per name; None where neither is given and names do not look like LibriSpeech's
        (``speaker-chapter-utterance``).

    Raises:
        ConfigError: The pattern is wrong or both are given, or a name has no speaker.

    Example:
        >>> speakers_of(["84-121123-0001", "174-50561-0000"]), speakers_of(["a", "b"])
        (['84', '174'], None)
    """
    stems = [name.rpartition("/")[2] for name in names]
    if utt2spk is not None:
        if pattern is not None:
            raise ConfigError("--speaker-pattern and --utt2spk say the same; give one of them")
        table = _utt2spk(Path(utt2spk))
        listed = [table.get(name, table.get(stem)) for name, stem in zip(names, stems, strict=True)]
        return _all_known(names, listed, f"{Path(utt2spk).name} has no line for")
    if pattern is None:
        numbers = [match[1] for match in map(LIBRISPEECH.fullmatch, stems) if match]
        return numbers if len(numbers) == len(stems) else None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--speaker-pattern {pattern!r} is not a regular expression: {error}") from error
    group = "speaker" if "speaker" in expression.groupindex else 1
    if expression.groups < 1 or (group == 1 and expression.groups > 1):
        raise ConfigError(
            f"--speaker-pattern needs one group, or one called speaker, got {pattern!r}; e.g. '^([^-]+)-'"
        )
    for texts in (stems, names):
        matches = [expression.search(text) for text in texts]
        speakers = [match[group] if match else None for match in matches]
        if all(speakers):
            break
    return _all_known(names, speakers, f"--speaker-pattern {pattern!r} finds no speaker in")


def _all_known(names: Sequence[str], speakers: Sequence[str | None], what: str) -> list[str]:
    """The speakers, if every name has one."""
    missing = [name for name, speaker in zip(names, speakers, strict=True) if not speaker]
    if missing:
        raise ConfigError(f"{what} {len(missing)} of {len(names)} references, e.g. {missing[0]!r}")
    return [speaker for speaker in speakers if speaker]


def _utt2spk(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ConfigError(f"--utt2spk {str(path)!r} is not a file; give Kaldi's utt2spk")
    table = {}
    for number, line in enumerate(read_text(path, "Kaldi's utt2spk").splitlines(), start=1):
        fields = line.split()
        if len(fields) == 2:
            table[fields[0]] = fields[1]
        elif fields:
            raise ConfigError(f"{path.name}, line {number}: expected an utterance and its speaker, got {short(line)}")
    return table
