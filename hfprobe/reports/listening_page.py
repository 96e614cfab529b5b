"""The page of a listening test: one HTML file per listener, or one for all, with everything inside it.

It works from `file://` without a network: a content security policy allows its one script, its own sounds, and nothing
else. It holds opaque names only (`hfprobe.listening.make.ListeningTest.page`); the key is another file.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hfprobe.files import write_whole
from hfprobe.listening.make import ListeningTest
from hfprobe.listening.sounds import SAMPLING_RATE
from hfprobe.reports.encode import encode_audio
from hfprobe.reports.model import ReportError
from hfprobe.reports.room import script_json

TITLES = {"triplet": "Whose voice is it?", "mushra": "How good does it sound?"}
FORMATS = ("flac", "opus", "wav")


def encode_clips(
    test: ListeningTest, audio_format: str = "flac", progress: Callable[[Any], Any] = iter
) -> dict[str, Any]:
    """All sounds of a test as a page holds them.

    Args:
        test: The test.
        audio_format: ``flac`` (nothing is lost), ``opus`` (a quarter of the size, lossy) or ``wav``.
        progress: Wraps the clips.

    Returns:
        ``type`` (media type) and ``data`` (clip name to base64), ready for JSON.

    Raises:
        ReportError: The format is unknown.
    """
    if audio_format not in FORMATS:
        raise ReportError(f"audio format must be one of {', '.join(FORMATS)}, got {audio_format!r}")
    data, mime = {}, ""
    for name in progress(sorted(test.clips)):
        sound = encode_audio(test.clips[name], SAMPLING_RATE, audio_format)
        data[name], mime = base64.b64encode(sound.data).decode("ascii"), sound.mime
    return {"type": mime, "data": data}


def write_pages(
    test: ListeningTest,
    folder: Path,
    each: bool = False,
    title: str = "",
    note: str = "",
    audio_format: str = "flac",
    progress: Callable[[Any], Any] = iter,
) -> list[Path]:
    """Write the page for all listeners, or one per listener.

    Args:
        test: The test.
        folder: Where to.
        each: A file per listener (``listener-01.html``, ...) instead of one for all (``listening-test.html``), which
            asks who listens.
        title: Heading; a plain question where empty.
        note: A sentence on the first screen, e.g. where to send the answers.
        audio_format: See `encode_clips`.
        progress: Wraps the clips that are compressed.

    Returns:
        The files.
    """
    clips = encode_clips(test, audio_format, progress)
    if not each:
        return [write_whole(folder / "listening-test.html", _render(test, clips, None, title, note))]
    width = max(2, len(str(len(test.orders))))
    return [
        write_whole(folder / f"listener-{number + 1:0{width}d}.html", _render(test, clips, number, title, note))
        for number in range(len(test.orders))
    ]


def minutes(test: ListeningTest) -> int:
    """How long a listener needs: all sounds once, X and its like half as long again, and four seconds to decide."""
    total = 0.0
    for place, _ in test.orders[0]:
        item = test.items[place]
        seconds = [len(test.clips[name]) / SAMPLING_RATE for name in (item.reference, *item.choices)]
        total += sum(seconds) + 0.5 * seconds[0] + 4 * len(item.choices) / 2
    return max(1, round(total / 60))


def _render(test: ListeningTest, clips: Mapping[str, Any], session: int | None, title: str, note: str) -> str:
    page = test.page(session)
    page["listener"] = None if session is None else str(session + 1)
    page["first"] = 1 if session is None else session + 1  # number of the first order in this file
    if session is not None:
        used = {name for item in (*page["items"], *page["training"]) for name in (item["reference"], *item["choices"])}
        clips = {**clips, "data": {name: data for name, data in clips["data"].items() if name in used}}
    script = _asset("listening.js")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hfprobe.reports", "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("listening.html.j2").render(
        title=title or TITLES[test.kind],
        note=note,
        kind=test.kind,
        listener=page["listener"],
        count=len(test.orders[0]),
        minutes=minutes(test),
        training=len(page["training"]),
        test=Markup(script_json(page)),
        clips=Markup(script_json(clips)),
        style=Markup(_asset("listening.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _asset(name: str) -> str:
    return resources.files("hfprobe.reports").joinpath("templates", name).read_text(encoding="utf-8")
