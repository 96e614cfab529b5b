"""Sounds that a run keeps for its page: FLAC files and mel-spectrograms in ``sounds/``, and an index of them.

```
sounds/index.json                            what was said, measured and read, by utterance, condition, encoder, layer
sounds/<utterance>/<condition>/<encoder>-<layer>.flac, .png
```
Sounds are written one by one as they are made, the index last, so memory does not grow with their number and a folder
with an index is whole. A PNG holds the mel-spectrogram itself (`hfprobe.reports.mel_picture`). What is read again is in
`hfprobe.reports.kept_sounds`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hfprobe.files import write_whole
from hfprobe.reports.encode import encode_audio
from hfprobe.reports.kept_sounds import FOLDER, INDEX, NUMBERS, StoredClip, mels_by_layer, read_index, read_sounds
from hfprobe.reports.mel_picture import mel_bytes, read_mel
from hfprobe.reports.model import UtteranceView, as_number

__all__ = [
    "FOLDER", "INDEX", "Keeper", "StoredClip", "keep_views", "mel_bytes", "mels_by_layer", "read_index", "read_mel",
    "read_sounds", "safe_name",
]  # fmt: skip


def safe_name(text: str) -> str:
    """A text as a part of a path: letters, digits and ``. _ @ + -``; never empty, hidden or long.

    Example:
        >>> safe_name("noise@10dB"), safe_name("../a b/é.wav"), safe_name("")
        ('noise@10dB', 'a-b-é.wav', 'sound')
    """
    return re.sub(r"[^\w@+.-]+", "-", text).strip("-.")[:60].strip("-.") or "sound"


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


def keep_views(
    views: Iterable[UtteranceView],
    folder: str | Path,
    environment: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write utterances that are in memory; returns the path of the index."""
    views = list(views)
    keeper = Keeper(folder, views[0].sampling_rate if views else 16000)
    for view in views:
        for condition in view.conditions:
            for encoder, layer, clip in condition.clips():
                facts = {key: getattr(clip, key) for key in (*NUMBERS, "text", "note")}
                keeper.add(view.id, condition.name, encoder, layer, clip.waveform, clip.mel, **facts)
    facts = {v.id: {"title": v.title, "transcript": v.transcript, "notes": v.notes} for v in views}
    return keeper.finish(facts, environment, config)


def _plain(clip: Mapping[str, Any]) -> dict[str, Any]:
    """A clip for JSON: numbers that are finite, nothing that is None."""
    plain = {key: as_number(value, key) if key in NUMBERS else value for key, value in clip.items()}
    return {key: value for key, value in plain.items() if value is not None}
