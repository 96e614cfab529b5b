"""A source of tiny sounds (a tone per speaker), and listeners who err as often as they are told to."""

import random

import numpy as np

from hfprobe.listening.answers import ANSWERS_FORMAT, ANSWERS_VERSION
from hfprobe.listening.design import NATURAL, Cell, Sound

RATE = 16000


def tone(sound: Sound, seconds: float = 0.5) -> np.ndarray:
    """The pitch names the speaker, the level and the overtone the rest."""
    number = sum(map(ord, "".join((*sound.cell, sound.speaker, sound.utterance))))
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 150 + 17 * sum(map(ord, sound.speaker))  # of one speaker, whatever is said
    wave = np.sin(2 * np.pi * pitch * time) + 0.3 * np.sin(2 * np.pi * (1000 + number % 700) * time)
    return ((0.02 + 0.1 * (number % 7)) * wave / 1.3).astype(np.float32)


class Tones:
    """What `make_triplets` takes: every speaker says the same utterances, all ways.

    Args:
        layers: Layers of one encoder, "toy".
        speakers: How many.
        utterances: How many each.
        broken: Sound to the waveform, or the reason, that is given instead.
    """

    def __init__(self, layers=("one", "two"), speakers=4, utterances=4, conditions=("clean",), broken=None):
        self.cells = tuple(Cell("toy", layer, condition) for condition in conditions for layer in layers)
        self.table = {f"s{s}": tuple(f"u{u}" for u in range(utterances)) for s in range(speakers)}
        self.broken, self.made = broken or (lambda sound: None), []

    def utterances(self, cell):
        """The same everywhere."""
        return self.table if cell in (*self.cells, NATURAL) or cell.layer == "ceiling" else {}

    def make(self, wanted, progress=iter):
        """Tones."""
        self.made += wanted
        found = {}
        for sound in progress(list(wanted)):
            instead = self.broken(sound)
            found[sound] = tone(sound) if instead is None else instead
        return found


def answers_of(test, listener="ann", wrong=(), rates=None, seed=0) -> dict:
    """A file of answers as the page saves it.

    Args:
        test: A `ListeningTest` of triplets.
        listener: Name.
        wrong: Items that are answered wrongly.
        rates: Error rate by layer, drawn; instead of ``wrong``.
        seed: Of the draw.
    """
    draw, answers = random.Random(seed), []
    for item in test.items:
        if item.role == "training":
            continue
        right = item.truth["right"]
        other = next(choice for choice in item.choices if choice != right)
        errs = item.id in wrong if rates is None else draw.random() < rates.get(item.cell.layer, 0.0)
        answers.append(
            {"item": item.id, "answer": other if errs else right, "position": 1, "seconds": 5.0, "plays": {"x": 2}}
        )
    return {
        "format": ANSWERS_FORMAT, "version": ANSWERS_VERSION, "test": test.id, "kind": test.kind, "hfprobe": "0",
        "listener": listener, "answers": answers,
    }  # fmt: skip
