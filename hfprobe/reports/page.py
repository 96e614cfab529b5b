"""The one page of ``hfprobe report``, ``listen`` and ``demo``: static, from ``file://``, without server or network.

The script is a few modules (`SCRIPT`) joined into one inline ``<script>``; data are JSON beside it, sounds are taken
when they are to be heard. A content security policy, with the hash of that one script, forbids any other and any
request that leaves the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hfprobe.files import write_whole
from hfprobe.reports import encode, figures, side_by_side, tables
from hfprobe.reports.paper_section import PaperFigure, paper_figures
from hfprobe.reports.room import Assets, heard_encoders, room_data, script_json, slug
from hfprobe.reports.runs import Run
from hfprobe.reports.training import training_views, without_checkpoints

TITLE = "What the layers carry"
# In the order in which they are joined: what stands later uses what stands before.
SCRIPT = ("dom", "bytes", "engine", "room", "room_view", "spectrograms", "keys", "charts", "training", "main")
_MIMES = {"png": "image/png", "pdf": "application/pdf", "csv": "text/csv"}


def write_page(
    runs: Sequence[Run],
    output_dir: Path | str,
    title: str = TITLE,
    notes: Sequence[str] = (),
    *,
    single_file: bool = True,
    audio_format: str = "flac",
    progress: Callable[[list], Iterable] = iter,
) -> Path:
    """Write ``output_dir/index.html``.

    Args:
        runs: Of `hfprobe.reports.runs.load_runs` or `run_of`; sounds, rows or both.
        output_dir: Folder; made if it is not there.
        title: Heading and window title.
        notes: Sentences for the reader, shown under the title.
        single_file: Everything in the one HTML file; otherwise sounds lie in ``sounds/``, figures (PNG, PDF) in
            ``figures/`` and rows (CSV) in ``data/`` beside it.
        audio_format: ``"flac"`` (lossless, the default), ``"opus"`` (smallest) or ``"wav"``.
        progress: Wraps the lists of figures and of utterances.

    Returns:
        The path of ``index.html``. It is renamed into place last, so a page that is there is whole.

    Raises:
        ReportError: The format is unknown, or a kept sound cannot be read.

    Example:
        >>> import tempfile
        >>> from hfprobe.reports.runs import run_of
        >>> from hfprobe.results import Results
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_page([run_of("nothing yet", Results(()))], folder).name
        'index.html'
    """
    encode.audio_format_info(audio_format)
    assets, training = Assets(Path(output_dir), single_file), training_views(runs)
    runs = without_checkpoints(runs)
    encoders = page_encoders(runs)
    measures = side_by_side.titles(side_by_side.ordered_measures(runs))
    sections = [
        side_by_side.make_section(runs, measure, name, encoders, f"m{number}")
        for number, (measure, name) in enumerate(progress(list(measures.items())))
    ]
    sections = [section for section in sections if section.panels]
    paper = paper_figures(runs, encoders)
    panels = [panel for section in sections for panel in section.panels]
    for entry in progress([*paper, *panels]):
        stem = f"figures/{entry.key if isinstance(entry, PaperFigure) else entry.stem}"
        drawn = figures.figure_bytes(entry.figure) if entry.figure is not None else {}
        if isinstance(entry, PaperFigure):
            drawn |= entry.drawn
        else:
            drawn["csv"] = tables.csv_text(entry.rows).encode("utf-8")
        entry.files = [(k.upper(), assets.file(f"{stem}.{k}", data, _MIMES[k])) for k, data in drawn.items()]
        if isinstance(entry, PaperFigure) and entry.drawn:
            entry.image = entry.files[0][1]
    listed = [
        {
            "run": run,
            "maps": side_by_side.pair_maps(run),
            "failed": side_by_side.failures(run),
            "data": _csv(run, number, assets),
            "sounds": _kept(run),
        }
        for number, run in enumerate(runs)
    ]
    room = room_data(runs, encoders, assets, audio_format, progress)
    charts = {panel.key: panel.chart for panel in panels if panel.chart is not None}
    charts |= {key: data for entry in paper for key, data in entry.charts}
    data = {
        "encoders": list(encoders),
        "charts": charts,
        "training": [{key: value for key, value in view.items() if key != "table"} for view in training],
        "room": room,
    }
    # Names as read from disk may hold what is no UTF-8.
    text = _render(
        title=title, notes=notes, runs=listed, room=room, encoders=encoders, sections=sections, paper=paper,
        summaries=_summaries(runs, measures, encoders), training=training, data=data, assets=assets,
        noisy=any("dB" in name for name in _conditions(runs)),
    )  # fmt: skip
    return write_whole(Path(output_dir) / "index.html", text.encode("utf-8", "replace"))


def page_encoders(runs: Sequence[Run]) -> tuple[str, ...]:
    """All encoders of a page, those one can hear first: the order that fixes their colours."""
    return tuple(dict.fromkeys((*heard_encoders(runs), *side_by_side.encoder_names(runs))))


def _conditions(runs: Sequence[Run]) -> set[str]:
    """Names of all conditions."""
    heard = {condition.name for run in runs for view in run.sounds for condition in view.conditions}
    return heard | {row.condition for run in runs for row in (*run.rows, *run.pairs)}


def _summaries(runs, measures, encoders) -> list[tables.Table]:
    apart = [name for name in encoders if "~" not in name]
    return [table for table in side_by_side.summary_tables(runs, measures, apart) if len(table.header) > 1]


def _kept(run: Run) -> str:
    """How many sounds a run keeps, and how many of them lack a number."""
    clips = [clip for view in run.sounds for condition in view.conditions for _, _, clip in condition.clips()]
    count = len(run.sounds)
    words = f"{len(clips)} sounds of {count} utterance{'' if count == 1 else 's'}"
    for name, attribute in (("STOI", "stoi"), ("speaker similarity", "similarity")):
        if lacking := sum(getattr(clip, attribute) is None for clip in clips):
            words += f"; without {name}: {lacking}"
    return words


def _csv(run: Run, number: int, assets: Assets) -> str | None:
    """Address of the rows of a run as CSV; None where it has none."""
    if not run.results.rows:
        return None
    return assets.file(f"data/{number}-{slug(run.name)}.csv", tables.csv_text(run.results.rows), "text/csv")


def _render(*, data: Any, assets: Assets, encoders: Sequence[str], **values: Any) -> str:
    script = joined_script()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            **values,
            encoders=encoders,
            palette=[(index, figures.style_of(index)) for index in range(max(len(encoders), 1))],
            single_file=assets.single_file,
            blocks=assets.blocks,
            data=Markup(script_json(data)),
            style=Markup(_template("page.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
            span_db=encode.SPAN_DB,
            colour_bar=encode.colour_bar(),
        )
    )


def joined_script() -> str:
    """The modules of the script as one, with a scope of their own.

    Example:
        >>> joined_script().startswith('(() => {'), "</" in joined_script()
        (True, False)
    """
    parts = [_template(f"{name}.js") for name in SCRIPT]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hfprobe.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=_plain, address=_address)
    return environment


def _plain(value: Any) -> str:
    """A configuration value as it is if it is text, texts by name on one line, else as JSON: on one line if short."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value and all(isinstance(one, str) for one in value.values()):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    line = json.dumps(value, ensure_ascii=False, default=str)
    return line if len(line) <= 100 else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _address(value: str) -> str:
    """An address for a link: data addresses as they are, names of files quoted."""
    from urllib.parse import quote

    return value if value.startswith("data:") else quote(value)


def _template(name: str) -> str:
    return (resources.files("hfprobe.reports") / "templates" / name).read_text(encoding="utf-8")
