"""The page one can listen to: one HTML file that works from `file://`, without a server and without a
network.

Every sound is an `<audio>` element with its FLAC inside, so the page works without scripts;
`templates/page.js` takes the same bytes into WebAudio buffers to switch between layers without a gap. A
content security policy, with the hash of that one script, forbids any other script and any request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hfprobe.files import write_whole
from hfprobe.reports import encode, figures, tables
from hfprobe.reports.model import Clip, Page, UtteranceView, measurements, merge_orders

_HOW_MISSING = {"stoi": "not measured", "similarity": "not measured", "text": "recogniser not run"}


@dataclass(frozen=True)
class _Card:
    """One sound as the template needs it: addresses, texts, and where it stands."""

    key: str
    layer: str
    encoder: str | None
    encoder_index: int | None
    clip: Clip
    label: str
    audio: str
    file_name: str
    gain_db: float
    picture: str
    width: int
    height: int


@dataclass(frozen=True)
class _Section:
    """One utterance, its sounds arranged as conditions x layers x encoders."""

    key: str
    view: UtteranceView
    layers: tuple[str, ...]
    encoders: list[tuple[int, str]]
    conditions: list[dict[str, Any]] = field(default_factory=list)


def slug(text: str) -> str:
    """A text as part of a file name on any system.

    Example:
        >>> slug('noise@10dB <"/\\\\é')
        'noise-10dB-é'
    """
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[:60] or "sound"


class _Files:
    """Puts encoded bytes into the page or beside it."""

    def __init__(self, folder: Path, single_file: bool):
        self.folder, self.single_file = folder, single_file

    def address(self, data: bytes, mime: str, name: str) -> str:
        if self.single_file:
            return encode.data_uri(data, mime)
        write_whole(self.folder / name, data)
        return name


def _section(index: int, view: UtteranceView, encoders: tuple[str, ...], files: _Files, audio_format: str) -> _Section:
    """Encode all sounds and pictures of an utterance."""
    scale = encode.mel_scale(condition.input.mel for condition in view.conditions)
    frames = len(view.conditions[0].input.mel)
    layers = merge_orders(list(layers) for condition in view.conditions for layers in condition.encoders.values())
    heard = {name for condition in view.conditions for name in condition.encoders}
    here = [(place, name) for place, name in enumerate(encoders) if name in heard]
    section = _Section(f"u{index}", view, layers, here)
    for place, condition in enumerate(view.conditions):
        cards = {}
        for encoder, layer, clip in condition.clips():
            number = None if encoder is None else encoders.index(encoder)
            depth = layer if encoder is None else f"e{number}-l{layers.index(layer)}"
            key = f"u{index}-c{place}-{depth}"
            sound = encode.encode_audio(clip.waveform, view.sampling_rate, audio_format)
            picture, width, height = encode.mel_png(clip.mel, scale, frames)
            cards[encoder, layer] = _Card(
                key=key,
                layer=layer,
                encoder=encoder,
                encoder_index=number,
                clip=clip,
                label=layer if encoder is None else f"{layer} of {encoder}",
                audio=files.address(sound.data, sound.mime, f"audio/{key}{sound.suffix}"),
                file_name="_".join(slug(part) for part in (view.id, condition.name, encoder, layer) if part)
                + sound.suffix,
                gain_db=sound.gain_db,
                picture=files.address(picture, "image/png", f"mel/{key}.png"),
                width=width,
                height=height,
            )
        present = [(number, name) for number, name in here if name in condition.encoders]
        section.conditions.append({"name": condition.name, "cards": cards, "encoders": present})
    return section


def _missing(page: Page) -> dict[str, int]:
    """How many sounds of the page lack a number, by number."""
    clips = [clip for view in page.utterances for condition in view.conditions for _, _, clip in condition.clips()]
    counts = {"STOI": sum(clip.stoi is None for clip in clips)}
    counts["speaker similarity"] = sum(clip.similarity is None for clip in clips)
    return {name: count for name, count in counts.items() if count}


def _results(page: Page, encoders: tuple[str, ...], folder: Path) -> list[dict[str, Any]]:
    """Write figures, tables and CSV beside the page; return what the page shows of them."""
    rows = measurements(page.results)
    if not rows:
        return []
    write_whole(folder / "results.csv", tables.csv_text(rows))
    write_whole(folder / "results.md", tables.markdown_tables(rows))
    shown = []
    for metric in dict.fromkeys(row.metric for row in rows):
        item: dict[str, Any] = {
            "name": metric,
            "info": tables.metric_info(metric),
            "table": tables.layer_table(rows, metric),
            "intervals": tables.interval_table(rows, metric),
            "failed": sum(row.n_failed for row in rows if row.metric == metric),
            "svg": None,
        }
        if tables.layer_orders(row for row in rows if row.metric == metric):
            stem = slug(metric)
            item["files"] = [path.name for path in figures.save_figure(
                figures.layer_curves(rows, metric, encoders), folder / stem
            )]  # fmt: skip
            screen = figures.layer_curves(rows, metric, encoders, columns=2)
            item["svg"] = Markup(figures.inline_svg(screen, stem, len(encoders)))
            item["caption"] = figures.caption(rows, metric)
        shown.append(item)
    return shown


def _plain(value: Any) -> str:
    """A configuration value as it is if it is text, else as JSON: on one line where that is short."""
    if isinstance(value, str):
        return value
    line = json.dumps(value, ensure_ascii=False, default=str)
    return line if len(line) <= 100 else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _decimals(value: float | None, digits: int = 2) -> str:
    """A number with a fixed number of digits; `–` for None, and a true minus sign."""
    return tables.MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def _seconds(value: float) -> str:
    return f"{int(value // 60)}:{value % 60:04.1f}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hfprobe.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(decimals=_decimals, seconds=_seconds, plain=_plain)
    return environment


def _asset(name: str) -> str:
    return (resources.files("hfprobe.reports") / "templates" / name).read_text(encoding="utf-8")


def _script_hash(script: str) -> str:
    """The hash by which a content security policy knows an inline script (CSP Level 3, section 2.3.1)."""
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _palette(count: int) -> Iterable[tuple[int, figures.EncoderStyle]]:
    return [(index, figures.style_of(index)) for index in range(max(count, 1))]


def render_page(page: Page, output_dir: Path, *, single_file: bool = True, audio_format: str = "flac") -> str:
    """The page as text; files that go beside it are written to `output_dir`.

    Args:
        page: What to show.
        output_dir: Folder of the page.
        single_file: Put sounds and pictures into the page; otherwise into `audio/` and `mel/` beside it.
        audio_format: ``"flac"``, ``"wav"`` or ``"opus"``.

    Returns:
        HTML.

    Raises:
        ReportError: If the format is unknown or result rows contradict one another.
    """
    folder = Path(output_dir)
    files = _Files(folder, single_file)
    encoders = page.encoders
    sections = [_section(i, view, encoders, files, audio_format) for i, view in enumerate(page.utterances)]
    script = _asset("page.js")
    template = _environment().get_template("page.html.j2")
    return template.render(
        page=page,
        sections=sections,
        encoders=encoders,
        palette=_palette(len(encoders)),
        results=_results(page, encoders, folder),
        missing=_missing(page),
        span_db=encode.SPAN_DB,
        colour_bar=encode.colour_bar(),
        style=Markup(_asset("page.css")),
        script=Markup(script),
        script_hash=_script_hash(script),
        single_file=single_file,
        how_missing=_HOW_MISSING,
    )


def write_page(page: Page, output_dir: Path | str, single_file: bool = True, audio_format: str = "flac") -> Path:
    """Write `output_dir/index.html`; with results also `results.csv`, `results.md`, PNG and PDF by metric.

    Args:
        page: What to show.
        output_dir: Folder; made if it is not there.
        single_file: One HTML file with everything inside (the default); otherwise sounds and pictures lie
            beside it.
        audio_format: ``"flac"`` (lossless, the default), ``"wav"`` or ``"opus"``.

    Returns:
        The path of `index.html`. It is renamed into place last, so a page that is there is whole.

    Raises:
        ReportError: If the format is unknown or result rows contradict one another.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_page(Page("Nothing to hear yet"), folder).name
        'index.html'
    """
    folder = Path(output_dir)
    text = render_page(page, folder, single_file=single_file, audio_format=audio_format)
    return write_whole(folder / "index.html", text)
