"""What a split holds, without its sound: one line per utterance, small enough to read again and again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from hfprobe.data.corpora import load_corpus, row_samples
from hfprobe.errors import DatasetError
from hfprobe.files import write_whole
from hfprobe.plain import read_text, short

SAMPLING_RATE = 16000
SHOWN = 3


@dataclass(frozen=True)
class Utterance:
    """An utterance without its sound; ``samples`` at 16 kHz, 0 where there is no readable audio."""

    id: str
    samples: int
    speaker: str
    text: str


@dataclass
class Split:
    """The utterances of one split of a corpus.

    Attributes:
        name: What it is for: ``train``, ``dev`` or ``test``.
        corpus: Where it came from.
        utterances: In the order of the corpus.
    """

    name: str
    corpus: str
    utterances: list[Utterance] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """Duration of all utterances."""
        return sum(item.samples for item in self.utterances) / SAMPLING_RATE / 3600

    @property
    def speakers(self) -> set[str]:
        """Speakers, as far as they are known."""
        return {item.speaker for item in self.utterances if item.speaker}


def read_split(name: str, corpus: str, limit: int | None = None) -> Split:
    """Read a split of a corpus once.

    Args:
        name: What it is for.
        corpus: As :func:`hfprobe.data.load_corpus` takes it.
        limit: Look at the first ``limit`` utterances only.

    Raises:
        DatasetError: It cannot be opened, is empty, or an utterance lacks its audio or its transcript.

    Example:
        >>> split = read_split("test", "espeak:test", limit=3)
        >>> len(split.utterances), len(split.speakers)
        (3, 3)
    """
    rows = islice(load_corpus(corpus), limit)
    found = [Utterance(row["id"], row_samples(row), row["speaker"], " ".join(row["text"].split())) for row in rows]
    split = Split(name, corpus, found)
    check_split(split)
    return split


def check_split(split: Split) -> None:
    """Refuse a split that cannot be trained or measured on.

    Raises:
        DatasetError: It is empty, or an utterance lacks its audio or its transcript.
    """
    items = split.utterances
    if not items:
        raise DatasetError(f"{split.name}: {short(split.corpus)} has no utterance; check its name, or the folder")
    mute = [item.id for item in items if not item.samples]
    if mute:
        raise DatasetError(
            f"{split.name}: {len(mute)} of {len(items)} utterances of {short(split.corpus)} have a transcript but no "
            f"readable audio: {some(mute)}; restore the files, or remove them from the transcripts"
        )
    wordless = [item.id for item in items if not item.text]
    if wordless:
        raise DatasetError(
            f"{split.name}: {len(wordless)} of {len(items)} utterances of {short(split.corpus)} have no transcript: "
            f"{some(wordless)}; recognisers cannot be trained or measured on them: add the transcripts"
        )


def some(names: Iterable[str]) -> str:
    """The first few of many names.

    Example:
        >>> some(["a", "b", "c", "d"])
        'a, b, c, ...'
    """
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def write_split(split: Split, folder: str | Path) -> Path:
    """Write ``<folder>/<name>.tsv``; the first line names the corpus."""
    lines = [f"#\t{split.corpus}"]
    lines += [f"{item.id}\t{item.samples}\t{item.speaker}\t{item.text}" for item in split.utterances]
    return write_whole(Path(folder) / f"{split.name}.tsv", "\n".join(lines) + "\n")


def load_split(path: str | Path) -> Split:
    """Read what `write_split` wrote.

    Raises:
        DatasetError: The file is missing or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{str(path)!r} is missing; run the data check first")
    head, *lines = read_text(path, "a list of utterances", DatasetError).split("\n")
    try:
        mark, corpus = head.split("\t")
        if mark != "#":
            raise ValueError
        items = []
        for line in lines:
            if line:
                name, samples, speaker, text = line.split("\t")
                items.append(Utterance(name, int(samples), speaker, text))
    except ValueError:
        raise DatasetError(f"{str(path)!r} is no list of utterances; run the data check again") from None
    return Split(path.stem, corpus, items)
