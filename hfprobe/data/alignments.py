"""When which word and phone is spoken: segments, and readers of alignments that other tools made.

Two formats are read, both by a small strict parser: Praat TextGrids as the Montreal Forced Aligner writes them (long
text form, tiers ``words`` and ``phones``; McAuliffe et al., Interspeech 2017) and Kaldi's CTM (``utterance channel
start duration symbol``). Times are in seconds from the start of the utterance.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from hfprobe.errors import DatasetError
from hfprobe.plain import read_bytes, short

SILENCES = frozenset({"", "SIL", "SP", "SPN", "<EPS>", "<SIL>", "<UNK>", "NSN", "LAU"})
# One phone in any of the usual sets: letters and IPA, a stress digit, Kaldi's place in the word (_B, _I, _E, _S).
_KALDI_PLACE = re.compile(r"_[BIES]$")
_NUMBER = r"(-?\d+(?:\.\d+)?(?:[eE]-?\d+)?)"
_TIER = re.compile(r'class\s*=\s*"(\w+)"\s*name\s*=\s*"((?:[^"]|"")*)"')
_INTERVAL = re.compile(rf'xmin\s*=\s*{_NUMBER}\s*xmax\s*=\s*{_NUMBER}\s*text\s*=\s*"((?:[^"]|"")*)"')


@dataclass(frozen=True)
class Segment:
    """A stretch of speech with a label.

    Attributes:
        label: The word, or the phone without stress, in upper case.
        start: In seconds.
        end: In seconds, after ``start``.
        type: What a control task may memorise: for a phone, its word and place in it, e.g. ``"THE/0"``.
    """

    label: str
    start: float
    end: float
    type: str = ""


@dataclass(frozen=True)
class Alignment:
    """Words and phones of an utterance in time order; ``phones`` is empty where none are known."""

    words: tuple[Segment, ...]
    phones: tuple[Segment, ...] = ()


def plain_phone(symbol: str) -> str:
    """A phone without stress and without Kaldi's mark of its place in the word, in upper case.

    Example:
        >>> plain_phone("ah0"), plain_phone("SH_B"), plain_phone("AH1_I")
        ('AH', 'SH', 'AH')
    """
    return _KALDI_PLACE.sub("", symbol.strip().upper()).rstrip("012")


def with_types(words: Sequence[Segment], phones: Sequence[Segment]) -> tuple[Segment, ...]:
    """Phones that say which word, and which place in it, their middle lies in.

    Example:
        >>> with_types([Segment("A", 0.0, 1.0)], [Segment("AH", 0.2, 0.9)])[0].type
        'A/0'
    """
    typed, place, count = [], 0, 0
    for phone in phones:
        middle = (phone.start + phone.end) / 2
        while place < len(words) and words[place].end <= middle:
            place, count = place + 1, 0
        inside = place < len(words) and words[place].start <= middle
        name = f"{words[place].label}/{count}" if inside else ""
        count += inside
        typed.append(Segment(phone.label, phone.start, phone.end, name))
    return tuple(typed)


def read_textgrid(path: str | Path) -> Alignment:
    """Read one TextGrid with a tier ``words``, ``phones`` or both (or ``SPEAKER - words``, as MFA names them).

    Raises:
        DatasetError: The file is missing, not a long-form TextGrid, or has neither tier.
    """
    text = _read(Path(path))
    if "ooTextFile" not in text[:200] or "TextGrid" not in text[:200]:
        raise DatasetError(
            f"{path}: expected a TextGrid in Praat's long text form, got something else; save it as text"
        )
    tiers: dict[str, list[Segment]] = {}
    found = list(_TIER.finditer(text))
    for tier, after in zip_longest(found, found[1:]):
        name = tier[2].rpartition(" - ")[2].strip().lower()
        if tier[1] != "IntervalTier" or name not in ("words", "phones") or name in tiers:
            continue
        part = text[tier.end() : after.start() if after else len(text)]
        cells = [(m[3].replace('""', '"'), float(m[1]), float(m[2])) for m in _INTERVAL.finditer(part)]
        tiers[name] = _segments(cells, name, str(path))
    if not tiers:
        names = ", ".join(tier[2] for tier in found) or "none"
        raise DatasetError(f"{path}: expected an interval tier 'words' or 'phones', found: {names}; rename the tiers")
    words = tuple(tiers.get("words", ()))
    return Alignment(words, with_types(words, tiers.get("phones", [])))


def read_ctm(path: str | Path, kind: str = "words") -> dict[str, tuple[Segment, ...]]:
    """Read a CTM file.

    Args:
        path: Lines ``utterance channel start duration symbol [confidence]``.
        kind: ``"words"`` or ``"phones"``, what the symbols are.

    Returns:
        Utterance to its segments.

    Raises:
        DatasetError: The file is missing, or a line is not of this form.
    """
    cells: dict[str, list[tuple[str, float, float]]] = {}
    for number, line in enumerate(_read(Path(path)).splitlines(), 1):
        parts = line.split()
        if not parts or parts[0].startswith(";;"):
            continue
        try:
            utterance, _, start, duration, symbol = parts[:5]
            cells.setdefault(utterance, []).append((symbol, float(start), float(start) + float(duration)))
        except ValueError:
            raise DatasetError(
                f"{path}, line {number}: expected 'utterance channel start duration symbol', got {line[:60]!r}"
            ) from None
    return {name: tuple(_segments(items, kind, f"{path}, {name}")) for name, items in cells.items()}


def _segments(cells: Iterable[tuple[str, float, float]], kind: str, where: str) -> list[Segment]:
    kept = []
    for symbol, start, end in sorted(cells, key=lambda cell: cell[1]):
        label = plain_phone(symbol) if kind == "phones" else symbol.strip().upper()
        if label in SILENCES or end == start:
            continue
        if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
            raise DatasetError(
                f"{where}: expected 0 <= start < end in seconds, got {start} to {end} for {short(symbol)}"
            )
        kept.append(Segment(label, start, end))
    return kept


def _read(path: Path) -> str:
    data = read_bytes(path, "an alignment", DatasetError)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(f"alignment {str(path)!r} is not UTF-8 or UTF-16 text; save it as such") from error


class GivenAlignments:
    """Alignments that were made before, by utterance id. Build one with :func:`load_alignments`.

    Attributes:
        failures: Utterances asked for so far that have no alignment, by reason.
    """

    def __init__(self, grids: dict[str, Path], tables: dict[str, Alignment]):
        self._grids, self._tables = grids, tables
        self.failures: Counter[str] = Counter()

    def align(self, batch) -> list[Alignment | None]:
        """One alignment per utterance of a `SpeechBatch`; None where there is none."""
        return [self._one(name) for name in batch.ids]

    def align_utterances(self, ids, waveforms=None, texts=None, words=None) -> list[Alignment | None]:
        """The same for lists of ids; the other arguments are there so that all sources are called alike."""
        return [self._one(name) for name in ids]

    def _one(self, name: str) -> Alignment | None:
        found = self._tables.get(name)
        if found is None and name in self._grids:
            found = read_textgrid(self._grids[name])
        if found is None or not (found.words or found.phones):
            self.failures["no alignment given"] += 1
            return None
        return found


def load_alignments(path: str | Path) -> GivenAlignments:
    """Open alignments: a folder of TextGrids or CTM files, or one such file.

    An utterance's TextGrid is found by its name, ``<utterance id>.TextGrid``, anywhere below the folder. A CTM file
    with ``phone`` in its name has phones, any other has words.

    Raises:
        DatasetError: There is nothing of this kind, or a CTM file is broken (TextGrids are read when needed).
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    grids = {file.stem: file for file in files if file.suffix.lower() == ".textgrid"}
    tables: dict[str, dict[str, tuple[Segment, ...]]] = {"words": {}, "phones": {}}
    for file in files:
        if file.suffix.lower() == ".ctm":
            kind = "phones" if "phone" in file.name.lower() else "words"
            tables[kind] |= read_ctm(file, kind)
    if not grids and not any(tables.values()):
        raise DatasetError(
            f"no alignment in {str(path)!r}; "
            "give a folder of <utterance id>.TextGrid, or Kaldi's words.ctm and phones.ctm"
        )
    names = dict.fromkeys([*tables["words"], *tables["phones"]])
    joined = {}
    for name in names:
        words = tables["words"].get(name, ())
        joined[name] = Alignment(words, with_types(words, tables["phones"].get(name, ())))
    return GivenAlignments(grids, joined)
