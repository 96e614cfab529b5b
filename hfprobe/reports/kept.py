"""Sounds that a run keeps for its page: FLAC files and mel-spectrograms in ``sounds/``, and an index of them.

```
sounds/index.json                            what was said, measured and read, by utterance, condition, encoder, layer
sounds/<utterance>/<condition>/<encoder>-<layer>.flac, .png
```
Sounds are written one by one as they are made, the index last, so memory does not grow with their number and a folder
with an index is whole. A PNG holds the mel-spectrogram itself, a grey level for every `STEP` of natural-log power.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hfprobe.files import write_whole
from hfprobe.plain import check_file, line, parse_json, read_text, reason, short
from hfprobe.reports.encode import encode_audio
from hfprobe.reports.model import Clip, ConditionView, ReportError, UtteranceView, as_number

FOLDER, INDEX = "sounds", "index.json"
LOWEST, STEP = -25.0, 0.15  # log power of grey level 0, and from one level to the next: 0.65 dB
_NUMBERS = ("stoi", "similarity")
_PART = re.compile(r"[\w@+-][\w@+.-]*")


def safe_name(text: str) -> str:
    """A text as a part of a path: letters, digits and ``. _ @ + -``; never empty, hidden or long.

    Example:
        >>> safe_name("noise@10dB"), safe_name("../a b/é.wav"), safe_name("")
        ('noise@10dB', 'a-b-é.wav', 'sound')
    """
    return re.sub(r"[^\w@+.-]+", "-", text).strip("-.")[:60].strip("-.") or "sound"


def mel_bytes(mel: np.ndarray) -> bytes:
    """A mel-spectrogram as a grey PNG, one pixel per value.

    Args:
        mel: Natural-log power ``(frames, n_mels)``; what is not within `LOWEST` and 255 steps above is cut off.

    Returns:
        The file; `read_mel` reads it.

    Example:
        >>> mel = np.linspace(-20, 5, 12, dtype=np.float32).reshape(4, 3)
        >>> bool(np.abs(read_mel(io.BytesIO(mel_bytes(mel))) - mel).max() <= STEP / 2 + 1e-5)
        True
    """
    from PIL import Image

    levels = np.clip(np.round((np.asarray(mel, dtype=np.float32) - LOWEST) / STEP), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels.T[::-1])).save(buffer, format="PNG")
    return buffer.getvalue()


def read_mel(file: Any) -> np.ndarray:
    """What `mel_bytes` wrote, within half a `STEP`.

    Raises:
        ReportError: It is no grey PNG.
    """
    from PIL import Image

    if isinstance(file, str | Path):
        check_file(file, "a kept mel-spectrogram", ReportError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # at most 90 million pixels
            with Image.open(file, formats=("PNG",)) as image:
                mode = image.mode
                levels = np.asarray(image) if mode == "L" else None
    except (OSError, ValueError, SyntaxError, LookupError, Warning, Image.DecompressionBombError) as error:
        why = reason(error)
        raise ReportError(f"a kept mel-spectrogram is not readable as PNG ({why}); make the run again") from error
    if levels is None:
        raise ReportError(f"a kept mel-spectrogram must be a grey PNG, got mode {mode}; make the run again")
    return levels[::-1].T.astype(np.float32) * STEP + LOWEST


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


class Keeper:
    """Writes sounds one by one, then their index.

    Args:
        folder: Of the run; sounds go to ``sounds/`` in it.
        sampling_rate: Of all sounds, in Hz.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> keeper = Keeper(folder)
        >>> _ = keeper.add("u1", "clean", None, "input", np.zeros(800), np.zeros((6, 4)), stoi=1.0)
        >>> _ = keeper.finish({"u1": {"title": "One", "transcript": "hello"}})
        >>> view, = read_sounds(folder)
        >>> view.title, view.conditions[0].input.stoi
        ('One', 1.0)
    """

    def __init__(self, folder: str | Path, sampling_rate: int = 16000):
        self.folder, self.sampling_rate = Path(folder) / FOLDER, sampling_rate
        self.clips: dict[str, dict[str, dict[tuple[str | None, str], dict[str, Any]]]] = {}
        self._taken: set[str] = set()
        self._stems: dict[tuple[str, str, str | None, str], str] = {}

    def add(
        self,
        utterance: str,
        condition: str,
        encoder: str | None,
        layer: str,
        waveform: np.ndarray,
        mel: np.ndarray,
        **facts: Any,
    ) -> dict[str, Any]:
        """Write one sound.

        Args:
            utterance: Its id.
            condition: Name of the condition.
            encoder: Whose layer it comes from; None for input and ceiling.
            layer: Layer, ``input`` or ``ceiling``.
            waveform: Float ``(samples,)``.
            mel: Natural-log power ``(frames, n_mels)``.
            **facts: ``stoi``, ``similarity``, ``text`` and ``note``, as for `hfprobe.reports.Clip`.

        Returns:
            What the index will say of it; `take_up` takes it.
        """
        if not self.clips:  # an older index does not stand for files that are about to change
            (self.folder / INDEX).unlink(missing_ok=True)
        stem = self._stems.get((utterance, condition, encoder, layer))  # a sound that is written again keeps its name
        stem = stem or self._stem(utterance, condition, f"{(encoder or 'reference').replace('/', '--')}-{layer}")
        sound = encode_audio(waveform, self.sampling_rate)
        write_whole(self.folder / f"{stem}.flac", sound.data)
        write_whole(self.folder / f"{stem}.png", mel_bytes(mel))
        kept = {"file": stem, "gain_db": round(sound.gain_db, 3), **facts}
        self.take_up(utterance, condition, encoder, layer, kept)
        return dict(kept)

    def take_up(self, utterance: str, condition: str, encoder: str | None, layer: str, kept: Mapping[str, Any]) -> None:
        """Put a sound that was written before into the index, as `add` returned it."""
        self.clips.setdefault(utterance, {}).setdefault(condition, {})[encoder, layer] = dict(kept)
        self._stems.setdefault((utterance, condition, encoder, layer), str(kept["file"]))
        self._taken.add(str(kept["file"]).lower())

    def is_there(self, kept: Mapping[str, Any]) -> bool:
        """Whether the files of a sound that was written before are there."""
        return all((self.folder / f"{kept['file']}.{suffix}").is_file() for suffix in ("flac", "png"))

    def note(self, utterance: str, condition: str, encoder: str | None, layer: str, **facts: Any) -> None:
        """Add what was measured later on a sound that is written already."""
        self.clips[utterance][condition][encoder, layer].update(facts)

    def _stem(self, *parts: str) -> str:
        stem, number = "/".join(safe_name(part) for part in parts), 2
        while stem.lower() in self._taken:  # two names may be one on disk
            stem, number = f"{stem.rstrip('0123456789').rstrip('~')}+{number}", number + 1
        self._taken.add(stem.lower())
        return stem

    def finish(
        self,
        utterances: Mapping[str, Mapping[str, Any]],
        environment: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the index.

        Args:
            utterances: By id, in the order of the page: ``title``, ``transcript`` and ``notes``.
            environment: What made the sounds, see `hfprobe.results.environment_stamp`.
            config: The resolved configuration.

        Returns:
            Its path.
        """
        listed = []
        for name, facts in utterances.items():
            conditions = []
            for condition, clips in self.clips.get(name, {}).items():
                lines = [{"encoder": e, "layer": layer, **_plain(clip)} for (e, layer), clip in clips.items()]
                conditions.append({"name": condition, "clips": lines})
            if conditions:
                facts = {"title": name, "transcript": None, "notes": [], **facts}
                listed.append({"id": name, **facts, "notes": list(facts["notes"]), "conditions": conditions})
        content = {
            "sampling_rate": self.sampling_rate,
            "utterances": listed,
            "environment": dict(environment or {}),
            "config": dict(config or {}),
        }
        return write_whole(self.folder / INDEX, json.dumps(content, indent=1, allow_nan=False, default=str) + "\n")


def keep_views(views: Iterable[UtteranceView], folder: str | Path, environment=None, config=None) -> Path:
    """Write utterances that are in memory; returns the path of the index."""
    views = list(views)
    keeper = Keeper(folder, views[0].sampling_rate if views else 16000)
    for view in views:
        for condition in view.conditions:
            for encoder, layer, clip in condition.clips():
                facts = {key: getattr(clip, key) for key in (*_NUMBERS, "text", "note")}
                keeper.add(view.id, condition.name, encoder, layer, clip.waveform, clip.mel, **facts)
    facts = {v.id: {"title": v.title, "transcript": v.transcript, "notes": v.notes} for v in views}
    return keeper.finish(facts, environment, config)


def _plain(clip: Mapping[str, Any]) -> dict[str, Any]:
    """A clip for JSON: numbers that are finite, nothing that is None."""
    plain = {key: as_number(value, key) if key in _NUMBERS else value for key, value in clip.items()}
    return {key: value for key, value in plain.items() if value is not None}


def read_index(folder: str | Path) -> dict[str, Any] | None:
    """The index of a run's sounds; None where the run keeps none.

    Raises:
        ReportError: It is there and is not what `Keeper` writes.
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
        clips: dict[str | None, dict[str, Any]] = {None: {}}
        for one in condition["clips"]:
            clips.setdefault(one["encoder"], {})[str(one["layer"])] = _clip(place, one)
        references = clips.pop(None)
        if "input" not in references:
            raise ReportError(f"utterance {entry['id']!r} keeps no input of {condition['name']!r}; make the run again")
        view = ConditionView(str(condition["name"]), references["input"], references.get("ceiling"), clips)
        conditions.append(view)
    notes = tuple(str(note) for note in entry["notes"])
    said = None if entry["transcript"] is None else str(entry["transcript"])
    return UtteranceView(str(entry["id"]), str(entry["title"]), said, notes, tuple(conditions), rate)


def _clip(place: Path, one: Mapping[str, Any]) -> StoredClip | Clip:
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
    numbers = {key: as_number(one.get(key), key) for key in _NUMBERS}
    texts = {key: None if one.get(key) is None else str(one[key]) for key in ("text", "note")}
    return StoredClip(sound, picture, info.frames, float(one.get("gain_db", 0.0)), **numbers, **texts)
