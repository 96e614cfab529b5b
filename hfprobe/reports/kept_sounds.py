"""Sounds that a run kept, read back: the index at once, each sound and picture when it is asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hfprobe.plain import line, parse_json, read_text, reason, short
from hfprobe.reports.mel_picture import read_mel
from hfprobe.reports.model import ConditionView, ReportError, UtteranceView, as_number

FOLDER, INDEX = "sounds", "index.json"
NUMBERS = ("stoi", "similarity")  # what is known of a sound and must be finite
_PART = re.compile(r"[\w@+-][\w@+.-]*")


@dataclass(frozen=True, eq=False)
class StoredClip:
    """A kept sound: like `hfprobe.reports.Clip`, but its sound and picture are read when they are asked for.

    Attributes:
        sound: Path of the FLAC file.
        picture: Path of the PNG file.
        samples: How long the sound is.
        gain_db: By how much it was made softer, so that it does not clip.
        stoi: As for `Clip`, and so the others.
    """

    sound: Path
    picture: Path
    samples: int
    gain_db: float = 0.0
    stoi: float | None = None
    similarity: float | None = None
    text: str | None = None
    note: str | None = None

    @property
    def waveform(self) -> np.ndarray:
        """float32 ``(samples,)``."""
        import soundfile

        return soundfile.read(self.sound, dtype="float32")[0]

    @property
    def mel(self) -> np.ndarray:
        """Natural-log power ``(frames, n_mels)``."""
        return read_mel(self.picture)


def read_index(folder: str | Path) -> dict[str, Any] | None:
    """The index of a run's sounds; None where the run keeps none.

    Raises:
        ReportError: It is there and is not what `hfprobe.reports.kept.Keeper` writes.
    """
    path = Path(folder) / FOLDER / INDEX
    if not path.is_file():
        return None
    try:
        content = parse_json(read_text(path, f"{FOLDER}/{INDEX}", ReportError))
    except ReportError:
        raise
    except ValueError as error:
        raise ReportError(
            f"{FOLDER}/{INDEX} of {str(folder)!r} is not valid JSON ({reason(error)}); make it again"
        ) from error
    kinds = {"sampling_rate": int, "utterances": list, "environment": dict, "config": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise ReportError(f"{FOLDER}/{INDEX} of {str(folder)!r} must hold {', '.join(kinds)}; make the run again")
    return content


def read_sounds(folder: str | Path) -> tuple[UtteranceView, ...]:
    """The sounds that a run keeps, none where it keeps none.

    Args:
        folder: Of the run.

    Returns:
        Utterances with `StoredClip`s.

    Raises:
        ReportError: The index is broken, or a sound or picture is missing, or lies outside of the folder.
    """
    content = read_index(folder)
    if content is None:
        return ()
    place = Path(folder) / FOLDER
    try:
        return tuple(_view(place, entry, content["sampling_rate"]) for entry in content["utterances"])
    except ReportError as error:
        # What a view finds wrong, it cannot say where.
        if f"{FOLDER}/" in str(error):
            raise
        raise ReportError(f"{FOLDER}/{INDEX}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ReportError(
            f"{FOLDER}/{INDEX} of {str(folder)!r} is not as hfprobe writes it ({type(error).__name__}: {error}); "
            "make the run again"
        ) from error


def mels_by_layer(view: UtteranceView) -> tuple[dict[str, dict[str, np.ndarray]], str] | None:
    """What `hfprobe.reports.invariance.spectrogram_figure` draws of an utterance: the paper's Figure 3.

    Args:
        view: With a clean and a noisy condition, encoders and layers.

    Returns:
        For each encoder ``clean``, ``noisy`` and each layer under the middle one of the noisy conditions, as mels
        ``(frames, n_mels)``; and the name of that condition. None where there is no clean or no noisy condition.
    """
    by_name = {condition.name: condition for condition in view.conditions}
    noisy = [condition for name, condition in by_name.items() if name != "clean" and condition.encoders]
    if "clean" not in by_name or not noisy:
        return None
    chosen = noisy[len(noisy) // 2]
    ends = {"clean": by_name["clean"].input.mel, "noisy": chosen.input.mel}
    panels = {name: ends | {key: clip.mel for key, clip in layers.items()} for name, layers in chosen.encoders.items()}
    return panels, chosen.name


def _view(place: Path, entry: Mapping[str, Any], rate: int) -> UtteranceView:
    conditions = []
    for condition in entry["conditions"]:
        references: dict[str, StoredClip] = {}  # input and ceiling, which come from no encoder
        clips: dict[str, dict[str, StoredClip]] = {}
        for one in condition["clips"]:
            of = references if one["encoder"] is None else clips.setdefault(one["encoder"], {})
            of[str(one["layer"])] = _clip(place, one)
        if "input" not in references:
            what = f"utterance {short(entry['id'])} keeps no input of {short(condition['name'])}"
            raise ReportError(f"{FOLDER}/{INDEX}: {what}; make the run again")
        view = ConditionView(str(condition["name"]), references["input"], references.get("ceiling"), clips)
        conditions.append(view)
    notes = tuple(str(note) for note in entry["notes"])
    said = None if entry["transcript"] is None else str(entry["transcript"])
    return UtteranceView(str(entry["id"]), str(entry["title"]), said, notes, tuple(conditions), rate)


def _clip(place: Path, one: Mapping[str, Any]) -> StoredClip:
    import soundfile

    stem = str(one["file"])
    parts = stem.split("/")
    # No path from a file is trusted: plain names below the folder only.
    if not all(_PART.fullmatch(part) for part in parts):
        raise ReportError(f"kept sound {short(stem)} is no plain name below {FOLDER}/; make the run again")
    sound, picture = (place / f"{stem}.{suffix}" for suffix in ("flac", "png"))
    for file in (sound, picture):
        if not os.path.isfile(file) or not file.resolve().is_relative_to(place.resolve()):
            raise ReportError(f"kept sound {FOLDER}/{line(stem)}.{file.suffix[1:]} is missing; make the run again")
    try:
        info = soundfile.info(sound)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ReportError(f"kept sound {FOLDER}/{stem}.flac cannot be read ({error}); make the run again") from error
    if info.format != "FLAC" or info.channels != 1:
        raise ReportError(f"kept sound {FOLDER}/{stem}.flac must be FLAC with one channel; make the run again")
    stoi, similarity = (as_number(one.get(key), f"{key} in {FOLDER}/{INDEX}") for key in NUMBERS)
    text, note = (None if one.get(key) is None else str(one[key]) for key in ("text", "note"))
    gain = as_number(one.get("gain_db", 0.0), f"gain_db in {FOLDER}/{INDEX}")
    if gain is None:
        raise ReportError(f"gain_db of {FOLDER}/{stem}.flac must be a finite number; make the run again")
    return StoredClip(sound, picture, info.frames, gain, stoi, similarity, text, note)
