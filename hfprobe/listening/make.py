"""A listening test put together: sounds made and checked, items under opaque names, orders for listeners, and the key.

What a listener gets (`ListeningTest.page`) says neither which answer is right nor what an item is about; the key
(`ListeningTest.key`) stays with whoever runs the test.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hfprobe import __version__
from hfprobe.errors import ConfigError
from hfprobe.listening.design import NATURAL, Cell, Sound, Triplet, TripletDesign, sessions
from hfprobe.listening.sounds import equalise, unusable

KEY_FORMAT, KEY_VERSION = "hfprobe-listening-key", 1
ROUNDS = 20  # of replacing sounds that cannot be used, before giving up


@dataclass(frozen=True)
class Item:
    """One screen of a test under opaque names.

    Attributes:
        id: Of the item.
        role: ``test``, ``catch`` or ``training``.
        cell: What is tested; of a rating item, whose layer is ``*``, encoder and condition.
        reference: Clip that is heard first and not judged (X of a triplet, the open reference of a rating item).
        choices: Clips to choose from or to rate, in an order that says nothing.
        truth: What the key says of this item, ready for JSON.
    """

    id: str
    role: str
    cell: Cell
    reference: str
    choices: tuple[str, ...]
    truth: Mapping[str, Any]


@dataclass
class ListeningTest:
    """Everything about one test.

    Attributes:
        kind: ``triplet`` or ``mushra``.
        items: All items, also catch and training items.
        clips: Clip name to waveform ``(samples,)`` at 16 kHz, all equally loud.
        orders: For each session the places in ``items`` with the order of their choices.
        sounds: Clip name to what it is.
        loudness: Of all clips, in LUFS.
        seed: Of everything drawn.
        left_out: Sounds that were silent or could not be made, by reason; others took their place.
        settings: For the record.
    """

    kind: str
    items: list[Item]
    clips: dict[str, np.ndarray]
    orders: list[list[tuple[int, tuple[int, ...]]]]
    sounds: dict[str, Sound]
    loudness: float
    seed: int
    left_out: Counter = field(default_factory=Counter)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name of the test: 12 hexadecimal digits that depend on its items and sounds."""
        digest = hashlib.sha256(json.dumps([(i.id, i.reference, i.choices) for i in self.items]).encode())
        for name in sorted(self.clips):
            digest.update(name.encode() + np.round(self.clips[name] * 32767).astype("<i2").tobytes())
        return digest.hexdigest()[:12]

    def page(self, session: int | None = None) -> dict[str, Any]:
        """What the page needs, ready for JSON and without a word about layers, speakers or right answers.

        Args:
            session: Only this order (from 0), for one listener's own file; all where None.

        Returns:
            Items by name, orders, and the training item, whose answer is shown after it.
        """
        every = sorted((item for item in self.items if item.role != "training"), key=lambda item: item.id)
        places = {item.id: place for place, item in enumerate(every)}
        orders = self.orders if session is None else [self.orders[session]]
        training = [item for item in self.items if item.role == "training"]
        return {
            "test": self.id, "kind": self.kind, "hfprobe": __version__,
            "items": [{"id": item.id, "reference": item.reference, "choices": list(item.choices)} for item in every],
            "sessions": [[[places[self.items[place].id], list(order)] for place, order in each] for each in orders],
            "training": [
                {"id": i.id, "reference": i.reference, "choices": list(i.choices), "right": i.truth.get("right")}
                for i in training
            ],
        }  # fmt: skip

    def key(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """The answers and everything that was drawn, ready for JSON."""
        return {
            "format": KEY_FORMAT, "version": KEY_VERSION, "test": self.id, "kind": self.kind, "hfprobe": __version__,
            "seed": self.seed, "loudness_lufs": round(self.loudness, 2), "left_out": dict(self.left_out),
            "items": {
                item.id: {"role": item.role, **item.cell._asdict(), "choices": list(item.choices), **item.truth}
                for item in self.items
            },
            "clips": {
                name: {**sound.cell._asdict(), "speaker": sound.speaker, "utterance": sound.utterance}
                for name, sound in sorted(self.sounds.items())
            },
            "sessions": [[self.items[place].id for place, _ in order] for order in self.orders],
            "settings": self.settings, "environment": dict(environment),
        }  # fmt: skip


class Names:
    """Opaque names: the same for the same seed, and without any order in them."""

    def __init__(self, seed: int):
        self.random = random.Random(f"names {seed}")
        self.given: set[str] = set()

    def new(self) -> str:
        """A name that was not given yet."""
        while (name := f"{self.random.getrandbits(40):010x}") in self.given:
            pass
        self.given.add(name)
        return name


def make_triplets(
    source: Any,
    per_cell: int = 10,
    catch: int = 6,
    listeners: int = 10,
    references: str = "layer",
    seed: int = 0,
    progress: Callable[[Any], Any] = iter,
) -> ListeningTest:
    """A test of the paper's kind: whose voice is X?

    Args:
        source: `EncoderSounds`, `FileSounds`, or what has their ``cells``, ``utterances`` and ``make``.
        per_cell: Items of each encoder, layer and condition; the paper has 10.
        catch: Items of natural speech, which who listens gets right.
        listeners: How many orders are drawn.
        references: ``layer`` (as in the paper), ``ceiling`` or ``natural``.
        seed: Of everything drawn.
        progress: Wraps the sounds that are being made.

    Returns:
        The test.

    Raises:
        ConfigError: There are too few sounds, or natural speech is missing where it is needed.
    """
    if (catch or references == "natural") and not source.utterances(NATURAL):
        raise ConfigError(
            "there is no natural speech (layer 'input', condition 'clean') for catch items or references; add it, or "
            "take --catch 0 and --references layer"
        )
    design = TripletDesign(source, references, seed)
    items = design.draw_all(source.cells, per_cell, catch, training=1 if source.utterances(NATURAL) else 0)
    made: dict[Sound, np.ndarray] = {}
    left_out: Counter = Counter()
    for _ in range(ROUNDS):
        collect(source, [sound for item in items for sound in item.sounds], made, left_out, design.bad, progress)
        for place in range(len(items)):
            while bad := next((sound for sound in items[place].sounds if sound in design.bad), None):
                items[place] = design.replace(items[place], bad)
        if all(sound in made for item in items for sound in item.sounds):
            break
    else:
        raise ConfigError(f"too many sounds cannot be used ({dict(left_out)}); look at the encoder's sounds first")
    return _under_names(items, made, sessions(items, listeners, seed), seed, left_out)


def collect(
    source: Any, wanted: Sequence[Sound], made: dict, left_out: Counter, bad: set[Sound], progress: Callable[[Any], Any]
) -> None:
    """Make the sounds that are not there yet, and sort out those that cannot be used.

    Args:
        source: Makes sounds.
        wanted: The sounds.
        made: Gets the good ones.
        left_out: Counts the others by reason.
        bad: Gets the others.
        progress: Wraps the work.
    """
    missing = [sound for sound in dict.fromkeys(wanted) if sound not in made and sound not in bad]
    if not missing:
        return
    for sound, result in source.make(missing, progress).items():
        reason = result if isinstance(result, str) else unusable(result)
        if reason is None:
            made[sound] = result
        else:
            bad.add(sound)
            left_out[reason] += 1


def _under_names(
    items: Sequence[Triplet], made: Mapping[Sound, np.ndarray], drawn: list[list[tuple[int, bool]]], seed: int, left_out
) -> ListeningTest:
    used = list(dict.fromkeys(sound for item in items for sound in item.sounds))
    names = Names(seed)
    clip = {sound: names.new() for sound in used}
    level, target = equalise({clip[sound]: made[sound] for sound in used})
    named = []
    for item in items:
        choices = tuple(sorted((clip[item.right], clip[item.wrong])))
        truth = {
            "right": clip[item.right], "x": clip[item.x], "block": item.block,
            "speaker": item.x.speaker, "other_speaker": item.wrong.speaker,
            "utterances": [item.x.utterance, item.right.utterance, item.wrong.utterance],
        }  # fmt: skip
        named.append(Item(names.new(), item.role, item.cell, clip[item.x], choices, truth))
    orders = []
    for order in drawn:
        places: list[tuple[int, tuple[int, ...]]] = []
        for place, right_first in order:
            at = named[place].choices.index(named[place].truth["right"])
            places.append((place, (at, 1 - at) if right_first else (1 - at, at)))
        orders.append(places)
    return ListeningTest("triplet", named, level, orders, {clip[s]: s for s in used}, target, seed, left_out)
