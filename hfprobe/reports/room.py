"""The listening room as plain data: which sounds there are, and where the page finds their bytes.

The data is small: a sound is named by where it stands (``u0-c1-e0-l3``: utterance, condition, encoder, layer), and its
bytes are a block of the page or a file beside it, taken only when it is to be heard.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfprobe.files import write_whole
from hfprobe.reports import encode
from hfprobe.reports.kept_sounds import StoredClip
from hfprobe.reports.model import UtteranceView, merge_orders
from hfprobe.reports.runs import Run

FOLDER = "sounds"


def script_json(value: Any) -> str:
    """JSON that can stand inside a ``<script>`` element: nothing in it ends the element or opens a comment.

    Example:
        >>> script_json({"a": "</script><!--"})
        '{"a":"\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@dataclass
class Assets:
    """Bytes that a page uses: blocks inside of it, or files beside it.

    A page opened from ``file://`` may not read files, but it may load scripts. So each sound lies beside the page
    twice: as it is, and as a script that hands over the same bytes.

    Attributes:
        folder: Of the page.
        single_file: Whether everything goes into the page.
        blocks: What goes into the page, Base64 by name.
    """

    folder: Path
    single_file: bool
    blocks: dict[str, str] = field(default_factory=dict)

    def sound(self, key: str, sound: encode.EncodedAudio) -> None:
        """Add a sound."""
        text = base64.b64encode(sound.data).decode("ascii")
        if self.single_file:
            self.blocks[key] = text
            return
        name = self.folder / FOLDER / f"{key}{sound.suffix}"
        write_whole(name, sound.data)
        write_whole(f"{name}.js", f'hfprobeSound("{key}","{text}");\n')

    def picture(self, key: str, data: bytes) -> None:
        """Add a PNG."""
        if self.single_file:
            self.blocks[f"{key}.png"] = base64.b64encode(data).decode("ascii")
        else:
            write_whole(self.folder / FOLDER / f"{key}.png", data)

    def file(self, name: str, data: bytes | str, mime: str) -> str:
        """Add a file for the reader to take; returns the address that a link to it has."""
        data = data.encode("utf-8") if isinstance(data, str) else data
        if self.single_file:
            return encode.data_uri(data, mime)
        write_whole(self.folder / name, data)
        return name


def slug(text: str) -> str:
    """A text as part of a file name on any system.

    Example:
        >>> slug('noise@10dB <"/\\\\é')
        'noise-10dB-é'
    """
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[:60] or "sound"


def heard_encoders(runs: Iterable[Run]) -> tuple[str, ...]:
    """Encoders with a sound, in order of appearance."""
    conditions = (condition for run in runs for view in run.sounds for condition in view.conditions)
    return tuple(dict.fromkeys(name for condition in conditions for name in condition.encoders))


def room_data(
    runs: Sequence[Run],
    encoders: Sequence[str],
    assets: Assets,
    audio_format: str = "flac",
    progress: Callable[[list], Iterable] = iter,
) -> dict[str, Any] | None:
    """All sounds of some runs.

    Args:
        runs: Those without sounds are passed over.
        encoders: All encoders of the page, in the order that fixes their colours.
        assets: Takes the bytes.
        audio_format: ``"flac"``, ``"wav"`` or ``"opus"``.
        progress: Wraps the list of utterances.

    Returns:
        What the script of the page reads (`templates/room.js`); None where nothing can be heard.

    Raises:
        ReportError: The format is unknown.
    """
    views = [(run, view) for run in runs for view in run.sounds]
    if not views:
        return None
    _, _, mime, suffix = encode.audio_format_info(audio_format)
    several = len({run.name for run, _ in views}) > 1
    utterances = []
    for number, (run, view) in enumerate(progress(views)):
        entry = _utterance(number, view, encoders, assets, audio_format)
        utterances.append({**entry, "run": run.name} if several else entry)
    heard = [encoders.index(name) for name in heard_encoders(runs)]
    return {"encoders": list(encoders), "heard": heard, "mime": mime, "suffix": suffix, "utterances": utterances}


def _utterance(number: int, view: UtteranceView, encoders, assets: Assets, audio_format: str) -> dict[str, Any]:
    """One utterance; its sounds and pictures go to the assets."""
    inputs = [condition.input.mel for condition in view.conditions]
    scale, frames = encode.mel_scale(inputs), len(inputs[0])
    layers = merge_orders(list(layers) for condition in view.conditions for layers in condition.encoders.values())
    conditions = []
    for place, condition in enumerate(view.conditions):
        clips = []
        for encoder, layer, clip in condition.clips():
            who = -1 if encoder is None else encoders.index(encoder)
            key = f"u{number}-c{place}-" + (layer if who < 0 else f"e{who}-l{layers.index(layer)}")
            sound = _sound(clip, view.sampling_rate, audio_format)
            assets.sound(key, sound)
            assets.picture(key, encode.mel_png(clip.mel, scale, frames)[0])
            facts = {"stoi": clip.stoi, "voice": clip.similarity, "reads": clip.text, "note": clip.note}
            facts = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items() if v is not None}
            facts |= {"softer": round(-sound.gain_db, 1)} if sound.gain_db < -0.05 else {}
            clips.append({"key": key, "encoder": who, "layer": layer, **facts})
        conditions.append({"name": condition.name, "clips": clips})
    said = {"transcript": view.transcript} if view.transcript else {}
    return {
        "id": slug(view.id), "title": view.title, "seconds": round(view.seconds, 4), "rate": view.sampling_rate,
        "notes": list(view.notes), "layers": list(layers), "conditions": conditions, **said,
    }  # fmt: skip


def _sound(clip: Any, rate: int, audio_format: str) -> encode.EncodedAudio:
    """The file of a sound; a kept one is taken as it is where it has the format."""
    if isinstance(clip, StoredClip):
        _, _, mime, suffix = encode.audio_format_info(audio_format)
        if audio_format == "flac":
            return encode.EncodedAudio(clip.sound.read_bytes(), mime, suffix, clip.gain_db)
        made = encode.encode_audio(clip.waveform, rate, audio_format)
        return encode.EncodedAudio(made.data, mime, suffix, made.gain_db + clip.gain_db)
    return encode.encode_audio(clip.waveform, rate, audio_format)
