"""A quality test after MUSHRA: a reference, and the same utterance through all layers, to be rated 0 to 100.

Source: Recommendation ITU-R BS.1534-3, "Method for the subjective assessment of intermediate quality level of audio
systems". Hidden among the versions are the reference itself and a low anchor (a 3.5 kHz low-pass as there, or the mean
mel, which is this project's floor); where it can be made, the vocoded true mel is one more, so that what the vocoder
costs is seen beside what a layer costs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hfprobe.errors import ConfigError
from hfprobe.listening.design import ANY, NATURAL, Cell, Sound
from hfprobe.listening.make import Item, ListeningTest, Names, collect
from hfprobe.listening.sounds import SAMPLING_RATE, equalise

ANCHORS = ("lowpass", "floor")
LOWPASS = Cell(ANY, "lowpass", "clean")
CUTOFF_HZ = 3500
MOST_VERSIONS = 12  # BS.1534-3: more cannot be judged at once


def lowpass(waveform: np.ndarray, cutoff_hz: float = CUTOFF_HZ, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """The low anchor of BS.1534: a sound without its high frequencies, not shifted in time.

    Args:
        waveform: ``(samples,)``.
        cutoff_hz: Where it is 6 dB down; 50 dB are reached within half an octave.
        sampling_rate: In Hz.

    Returns:
        ``(samples,)``, float32.

    Example:
        >>> time = np.arange(16000) / 16000
        >>> low, high = (lowpass(np.sin(2 * np.pi * hz * time)) for hz in (1000, 6000))
        >>> bool(np.abs(low).max() > 0.99), bool(np.abs(high[800:-800]).max() < 0.01)
        (True, True)
    """
    from scipy.signal import butter, sosfiltfilt

    return sosfiltfilt(butter(8, cutoff_hz, fs=sampling_rate, output="sos"), waveform).astype(np.float32)


def make_ratings(
    source: Any,
    utterances: int = 6,
    listeners: int = 10,
    anchor: str = "lowpass",
    seed: int = 0,
    progress: Callable[[Any], Any] = iter,
) -> ListeningTest:
    """A quality test: every utterance through all layers of one encoder and condition on one screen.

    Args:
        source: `EncoderSounds`, `FileSounds`, or what is like them.
        utterances: How many, of different speakers where there are enough; the same for all encoders and conditions.
        listeners: How many orders are drawn.
        anchor: ``lowpass`` or ``floor``.
        seed: Of everything drawn.
        progress: Wraps the sounds that are being made.

    Returns:
        The test. One utterance more is a practice screen, where there is one.

    Raises:
        ConfigError: Too few utterances can be heard all ways, or there are more than 12 versions for one screen.
    """
    if anchor not in ANCHORS:
        raise ConfigError(f"anchor must be one of {', '.join(ANCHORS)}, got {anchor!r}")
    groups = _groups(source, anchor)
    for (encoder, condition), cells in groups.items():
        if len(cells) + 1 > MOST_VERSIONS:
            raise ConfigError(
                f"{encoder} / {condition} has {len(cells) + 1} versions with reference and anchor, and no more than "
                f"{MOST_VERSIONS} can be judged on one screen; choose with --layers"
            )
    every = list(dict.fromkeys([NATURAL, *(cell for cells in groups.values() for cell in cells)]))
    made: dict[Sound, np.ndarray] = {}
    left_out: Counter = Counter()
    chosen: list[tuple[str, str]] = []
    candidates = _candidates(source, [cell for cell in every if cell != LOWPASS], seed)
    wanted = utterances + (len(candidates) > utterances)  # one to practise, if there is one to spare
    bad: set[Sound] = set()
    while len(chosen) < wanted and candidates:
        some = [candidates.pop(0) for _ in range(min(wanted - len(chosen), len(candidates)))]
        sounds = [Sound(cell, *each) for each in some for cell in every]
        collect(source, [sound for sound in sounds if sound.cell != LOWPASS], made, left_out, bad, progress)
        for each in some:
            if all(Sound(cell, *each) in made for cell in every if cell != LOWPASS):
                made[Sound(LOWPASS, *each)] = lowpass(made[Sound(NATURAL, *each)])
                chosen.append(each)
    if len(chosen) < utterances:
        raise ConfigError(
            f"expected {utterances} utterances that can be heard all ways, natural speech included, got {len(chosen)}; "
            "give more, or ask for fewer"
        )
    return _under_names(groups, chosen, utterances, made, listeners, seed, left_out)


def _groups(source: Any, anchor: str) -> dict[tuple[str, str], list[Cell]]:
    """Versions of one screen, by encoder and condition, without the hidden reference."""
    layers: dict[tuple[str, str], list[Cell]] = {}
    for cell in source.cells:
        if cell.encoder != ANY:
            layers.setdefault((cell.encoder, cell.condition), []).append(cell)
    groups = {}
    for (encoder, condition), own in layers.items():
        ceiling, floor = Cell(ANY, "ceiling", condition), Cell(encoder, "floor", condition)
        extra = [ceiling] if source.utterances(ceiling) else []
        low = [LOWPASS] if anchor == "lowpass" else [floor]
        groups[encoder, condition] = list(dict.fromkeys([*extra, *own, *low]))
    return groups


def _candidates(source: Any, cells: Sequence[Cell], seed: int) -> list[tuple[str, str]]:
    """(speaker, utterance) that can be heard all ways: in turns among speakers, who come in a drawn order."""
    draw = random.Random(f"ratings {seed}")
    common: set[tuple[str, str]] | None = None
    for cell in cells:
        here = {(speaker, each) for speaker, names in source.utterances(cell).items() for each in names}
        common = here if common is None else common & here
    by_speaker: dict[str, list[str]] = {}
    for speaker, utterance in sorted(common or ()):
        by_speaker.setdefault(speaker, []).append(utterance)
    speakers = list(by_speaker)
    draw.shuffle(speakers)
    for names in by_speaker.values():
        draw.shuffle(names)
    longest = max(map(len, by_speaker.values()), default=0)
    return [(s, by_speaker[s][turn]) for turn in range(longest) for s in speakers if turn < len(by_speaker[s])]


def _under_names(groups, chosen, utterances: int, made, listeners: int, seed: int, left_out: Counter) -> ListeningTest:
    names, draw = Names(seed), random.Random(f"rating orders {seed}")
    clips: dict[str, Sound] = {}

    def clip(sound: Sound) -> str:
        name = names.new()
        clips[name] = sound
        return name

    items: list[Item] = []
    for number, each in enumerate(chosen):
        for (encoder, condition), cells in groups.items():
            if number >= utterances and any(item.role == "training" for item in items):
                continue
            reference = clip(Sound(NATURAL, *each))
            # The hidden reference has a name of its own: under that of the open one it would be found at once.
            stimuli = {clip(Sound(cell, *each)): list(cell) for cell in (NATURAL, *cells)}
            role = "test" if number < utterances else "training"
            truth = {"stimuli": stimuli, "speaker": each[0], "utterance": each[1]}
            cell = Cell(encoder, "*", condition)
            items.append(Item(names.new(), role, cell, reference, tuple(sorted(stimuli)), truth))
    level, target = equalise({name: made[sound] for name, sound in clips.items()})
    orders = []
    for _ in range(listeners):
        places = [place for place, item in enumerate(items) if item.role == "test"]
        draw.shuffle(places)
        orders.append(
            [
                (place, tuple(draw.sample(range(len(items[place].choices)), len(items[place].choices))))
                for place in places
            ]
        )
    return ListeningTest("mushra", items, level, orders, clips, target, seed, left_out)
