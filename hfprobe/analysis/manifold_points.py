"""Which moments of a corpus stand for which word, phone or speaker, chosen before anything is decoded.

The corpus's rows are read once without their sound. Of every class a fixed number of candidates is kept, those with the
smallest hash of seed and place, so memory does not grow with the corpus and its order does not matter. A class has at
most one point in an utterance, so that points of a class differ in more than a few milliseconds.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hfprobe.data.alignments import SILENCES, plain_phone
from hfprobe.data.corpora import load_corpus, row_samples, row_words
from hfprobe.data.left_out import LeftOut
from hfprobe.errors import ConfigError, DatasetError

KINDS = ("word", "phone", "speaker")
SPARE = 1.2  # more candidates than points: some utterances cannot be decoded or aligned
RATE = 16000


@dataclass(frozen=True)
class Point:
    """One moment that stands for a class.

    Attributes:
        label: The class.
        utterance: Where it is.
        number: Which word or phone of the utterance it is, counted from 0; 0 for speakers.
    """

    label: str
    utterance: str
    number: int


@dataclass
class PointPlan:
    """Candidates of the classes under study.

    Attributes:
        by: One of `KINDS`.
        classes: Class names, sorted.
        points: Candidates of each class, best first.
        wanted: Points of each class that are to be used.
        speakers: Speaker of each utterance that has a candidate (its id where unknown).
        available: How many classes have enough members.
        left_out: Utterances that are not used, by reason.
    """

    by: str
    classes: tuple[str, ...] = ()
    points: dict[str, tuple[Point, ...]] = field(default_factory=dict)
    wanted: int = 0
    speakers: dict[str, str] = field(default_factory=dict)
    available: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def utterances(self) -> dict[str, list[Point]]:
        """Candidates by utterance."""
        found: dict[str, list[Point]] = {}
        for points in self.points.values():
            for point in points:
                found.setdefault(point.utterance, []).append(point)
        return found


def plan_points(
    corpus: str,
    by: str,
    classes: int = 50,
    points: int = 50,
    seed: int = 0,
    max_seconds: float = 20.0,
    given: Any = None,
) -> PointPlan:
    """Choose classes and candidates.

    Args:
        corpus: Name as `load_corpus` takes it.
        by: ``"word"``, ``"phone"`` or ``"speaker"``.
        classes: How many; drawn among those with ``points`` utterances, all of them where there are fewer.
        points: Points of each class.
        seed: Of the choice.
        max_seconds: Longer utterances are left out and counted.
        given: Alignments from files (`hfprobe.data.alignments.load_alignments`): their labels are used then, not the
            corpus's transcripts.

    Returns:
        The plan.

    Raises:
        ConfigError: ``by`` is unknown, or fewer than 2 classes or points are asked for.
        DatasetError: Fewer than two classes have enough utterances; the message says what the most frequent have.

    Example:
        >>> plan = plan_points("espeak:test", "word", classes=3, points=4)
        >>> len(plan.classes), {len(found) for found in plan.points.values()}
        (3, {6})
    """
    if by not in KINDS:
        raise ConfigError(f"unknown kind of class {by!r}; choose from {', '.join(KINDS)}")
    if classes < 2 or points < 2:
        raise ConfigError(f"expected two classes or more with two points or more, got {classes} and {points}")
    plan = PointPlan(by, wanted=points)
    keep = int(SPARE * points) + 2
    heaps: dict[str, list[tuple[int, Point]]] = {}
    sizes: Counter[str] = Counter()
    speakers: dict[str, str] = {}
    for row in load_corpus(corpus):
        labels = _labels(row, by, given)
        if not labels:
            plan.left_out.add(f"no {by} known", row["id"])
        elif row_samples(row) > max_seconds * RATE:
            plan.left_out.add("too long", row["id"])
        else:
            speakers[row["id"]] = row["speaker"] or row["id"]
            for point in _one_each(labels, row["id"], seed):
                sizes[point.label] += 1
                # The root of the heap is the worst candidate kept: the largest hash, negated.
                item = (-_hash(f"{seed} {point.label} {point.utterance}"), point)
                heap = heaps.setdefault(point.label, [])
                if len(heap) < keep:
                    heapq.heappush(heap, item)
                elif item[0] > heap[0][0]:
                    heapq.heapreplace(heap, item)
    enough = sorted((label for label, size in sizes.items() if size >= points), key=lambda t: _hash(f"{seed} {t}"))
    if len(enough) < 2:
        most = ", ".join(f"{label} {size}" for label, size in sizes.most_common(3)) or "none"
        advice = "use fewer points or more speech" if sizes else f"the corpus names no {by}"
        if not sizes and by != "speaker":
            advice += "; give alignments that do"
        raise DatasetError(
            f"expected two classes by {by} with {points} utterances or more in {corpus!r}, found {len(enough)} "
            f"(most: {most}); {advice}"
        )
    plan.classes, plan.available = tuple(sorted(enough[:classes])), len(enough)
    for label in plan.classes:
        plan.points[label] = tuple(point for _, point in sorted(heaps[label], key=lambda item: -item[0]))
    plan.speakers = {name: speakers[name] for name in plan.utterances}
    return plan


def _labels(row: dict, by: str, given: Any) -> Sequence[str]:
    """Labels of a row in the order in which its alignment will have them."""
    if by == "speaker":
        return [row["speaker"]] if row["speaker"] else []
    if given is not None:
        alignment = given.align_utterances([row["id"]])[0]
        segments = () if alignment is None else alignment.words if by == "word" else alignment.phones
        return [segment.label for segment in segments]
    words = row_words(row)
    if by == "word":
        return [word.upper() for word, _ in words] or row["text"].upper().split()
    return [plain_phone(phone) for _, phones in words for phone in phones]


def _one_each(labels: Sequence[str], utterance: str, seed: int) -> list[Point]:
    """One occurrence of each label of an utterance, drawn where there are several."""
    places: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        if label and label not in SILENCES:
            places.setdefault(label, []).append(number)
    return [
        Point(label, utterance, found[_hash(f"{seed} {label} {utterance} which") % len(found)])
        for label, found in places.items()
    ]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
