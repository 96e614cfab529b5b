"""Which sounds a listener hears together: triplets as in the paper, balanced over layers, speakers and positions.

Source: Li, Yuan, Lee, "What does a network layer hear?" (arXiv 1911.01102), section 3.2. Two references are of
different speakers, and X is another utterance of one of them; in the paper's public kit all three are sounds of the
same layer. What is drawn depends on the seed alone.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hfprobe.errors import ConfigError

ANY = "-"  # the encoder of sounds that went through none
REFERENCES = ("layer", "ceiling", "natural")


class Cell(NamedTuple):
    """One way of hearing speech: what the answers are counted by."""

    encoder: str
    layer: str
    condition: str


class Sound(NamedTuple):
    """One utterance of one speaker, heard one way."""

    cell: Cell
    speaker: str
    utterance: str


NATURAL = Cell(ANY, "input", "clean")


class Catalogue(Protocol):
    """Which sounds there are; see `hfprobe.listening.sounds`."""

    def utterances(self, cell: Cell) -> Mapping[str, Sequence[str]]:
        """Utterances by speaker that can be heard this way; empty where it cannot."""


@dataclass(frozen=True)
class Triplet:
    """Two references and X.

    Attributes:
        cell: What X is a sound of.
        role: ``test``, ``catch`` (natural speech, to find listeners who do not listen) or ``training``.
        block: Items of one block are heard near one another: each holds one item of every cell.
        x: The sound to assign.
        right: Reference by the speaker of X, another utterance.
        wrong: Reference by another speaker.
        first: The right reference is the first one in even sessions, the second one in odd ones.
    """

    cell: Cell
    role: str
    block: int
    x: Sound
    right: Sound
    wrong: Sound
    first: bool

    @property
    def sounds(self) -> tuple[Sound, Sound, Sound]:
        """X and both references."""
        return self.x, self.right, self.wrong


def reference_cell(cell: Cell, references: str) -> Cell:
    """What the references of an item sound like.

    Args:
        cell: What X is a sound of.
        references: ``layer``: like X; ``ceiling``: the vocoded true mel; ``natural``.

    Example:
        >>> reference_cell(Cell("vgg", "blstm1", "noise@10dB"), "ceiling")
        Cell(encoder='-', layer='ceiling', condition='clean')
    """
    if cell == NATURAL or references == "natural":
        return NATURAL
    return Cell(ANY, "ceiling", "clean") if references == "ceiling" else cell


class TripletDesign:
    """Draws triplets so that pairs of speakers, targets and utterances are used equally often.

    Args:
        catalogue: Which sounds there are.
        references: See `reference_cell`.
        seed: Of everything drawn.

    Raises:
        ConfigError: An unknown kind of references.

    Example:
        >>> class Two:
        ...     def utterances(self, cell):
        ...         return {"ann": ("a1", "a2"), "bob": ("b1", "b2")}
        >>> item = TripletDesign(Two(), "natural").draw(Cell("vgg", "cnn1", "clean"))
        >>> item.x.speaker == item.right.speaker != item.wrong.speaker, item.x.utterance != item.right.utterance
        (True, True)
    """

    def __init__(self, catalogue: Catalogue, references: str = "layer", seed: int = 0):
        if references not in REFERENCES:
            raise ConfigError(f"references must be one of {', '.join(REFERENCES)}, got {references!r}")
        self.catalogue, self.references = catalogue, references
        self.random = random.Random(f"triplets {seed}")
        self.bad: set[Sound] = set()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.pairs_in: Counter[tuple[Cell, tuple[str, str]]] = Counter()
        self.targets: Counter[str] = Counter()
        self.as_x: Counter[tuple[Cell, str, str]] = Counter()
        self.uses: Counter[tuple[str, str]] = Counter()

    def draw_all(self, cells: Sequence[Cell], per_cell: int, catch: int, training: int = 1) -> list[Triplet]:
        """All items of a test.

        Args:
            cells: What is tested.
            per_cell: Items of each.
            catch: Items of natural speech.
            training: Items of natural speech that are heard first and not scored.

        Returns:
            Items; in each cell the right reference comes first in half of them (give or take one).

        Raises:
            ConfigError: There are not enough speakers or utterances.
        """
        # An odd number of items cannot be halved: the cells take turns in who has one more in front.
        firsts = {cell: self._positions(per_cell, number % 2 == 0) for number, cell in enumerate(cells)}
        items = []
        for block in range(per_cell):
            items += [self.draw(cell, "test", block, firsts[cell][block]) for cell in cells]
        for number, first in enumerate(self._positions(catch, True)):
            items.append(self.draw(NATURAL, "catch", number, first))
        items += [self.draw(NATURAL, "training", number, number % 2 == 1) for number in range(training)]
        return items

    def draw(self, cell: Cell, role: str = "test", block: int = 0, first: bool = True) -> Triplet:
        """One more item of a cell.

        Raises:
            ConfigError: No pair of speakers has the sounds for it.
        """
        there = reference_cell(cell, self.references)
        tests, others = self._good(cell), self._good(there)
        pairs = list(itertools.combinations(sorted(set(tests) | set(others)), 2))
        order = {pair: (self.pairs[pair], self.pairs_in[cell, pair], self.random.random()) for pair in pairs}
        for pair in sorted(pairs, key=order.__getitem__):
            sides = sorted(pair, key=lambda speaker: (self.targets[speaker], self.random.random()))
            for target, foil in (sides, sides[::-1]):
                found = self._utterances(cell, target, tests, others, foil)
                if found is None:
                    continue
                x, right, wrong = found
                references = Sound(there, target, right), Sound(there, foil, wrong)
                item = Triplet(cell, role, block, Sound(cell, target, x), *references, first)
                self._count(item, 1)
                return item
        raise ConfigError(
            f"cannot make an item of {' / '.join(cell)}: expected two speakers of whom one has two usable utterances, "
            f"got {len(tests)} speakers with {sum(map(len, tests.values()))} sounds, and {len(self.bad)} sounds that "
            "cannot be used; give more speakers or utterances"
        )

    def replace(self, item: Triplet, bad: Sound) -> Triplet:
        """Another item for one of whose sounds turned out to be silent or could not be made.

        Args:
            item: The old one; it no longer counts.
            bad: The sound; it is never drawn again.

        Returns:
            An item of the same cell, role, block and position.
        """
        self.bad.add(bad)
        self._count(item, -1)
        return self.draw(item.cell, item.role, item.block, item.first)

    def _positions(self, count: int, more: bool) -> list[bool]:
        places = [(number % 2 == 0) == more for number in range(count)]
        self.random.shuffle(places)
        return places

    def _good(self, cell: Cell) -> dict[str, list[str]]:
        """Utterances by speaker without those that turned out bad."""
        every = self.catalogue.utterances(cell)
        good = {s: [u for u in names if Sound(cell, s, u) not in self.bad] for s, names in every.items()}
        return {speaker: names for speaker, names in good.items() if names}

    def _utterances(self, cell, target, tests, references, foil) -> tuple[str, str, str] | None:
        """X, right and wrong reference, each the least used so far; X says something else than both."""

        def order(utterance: str) -> tuple[int, int, float]:
            return self.as_x[cell, target, utterance], self.uses[target, utterance], self.random.random()

        for x in sorted(tests.get(target, ()), key=order):
            rights = [u for u in references.get(target, ()) if u != x]
            wrongs = [u for u in references.get(foil, ()) if u != x]
            if rights and wrongs:
                right = min(rights, key=lambda u: (self.uses[target, u], self.random.random()))
                # Nor should the two references say the same, where that can be helped.
                wrong = min(wrongs, key=lambda u: (u == right, self.uses[foil, u], self.random.random()))
                return x, right, wrong
        return None

    def _count(self, item: Triplet, step: int) -> None:
        target, foil = item.x.speaker, item.wrong.speaker
        pair = (min(target, foil), max(target, foil))
        self.pairs[pair] += step
        self.pairs_in[item.cell, pair] += step
        self.targets[target] += step
        self.as_x[item.cell, target, item.x.utterance] += step
        for sound in item.sounds:
            self.uses[sound.speaker, sound.utterance] += step


def sessions(items: Sequence[Triplet], count: int, seed: int = 0) -> list[list[tuple[int, bool]]]:
    """Orders of the items, one for each listener.

    Blocks follow one another, so that every cell is heard as often early as late; within a block the order is random,
    no cell comes twice in a row where there are several, and catch items are spread over the whole.

    Args:
        items: The items; training items are left out.
        count: How many orders.
        seed: Of the orders.

    Returns:
        For each session the places of the items in ``items``, and whether the right reference comes first.
    """
    orders = []
    catches = [place for place, item in enumerate(items) if item.role == "catch"]
    tests: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        if item.role == "test":
            tests.setdefault(item.block, []).append(place)
    for session in range(count):
        draw = random.Random(f"session {seed} {session}")
        blocks = list(tests.values())
        order: list[int] = []
        draw.shuffle(blocks)
        for block in blocks:
            block = list(block)
            draw.shuffle(block)
            if order and items[block[0]].cell == items[order[-1]].cell:
                block.append(block.pop(0))
            order += block
        own = list(catches)
        draw.shuffle(own)
        length = len(order)
        bounds = [round(number * length / len(own)) for number in range(len(own) + 1)] if own else []
        for number in reversed(range(len(own))):  # from behind, so that places in front stay
            order.insert(draw.randint(bounds[number], bounds[number + 1]), own[number])
        orders.append([(place, items[place].first == (session % 2 == 0)) for place in order])
    return orders
