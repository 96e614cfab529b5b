"""The text of a card: facts and numbers put into `templates/model_card.md.j2`.

The template holds the words, this module what fills its gaps. Jinja is strict here: a gap without content is an error
and never an empty place. Names, transcripts and command lines are escaped before they reach the template.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import quote

from hfprobe import __version__
from hfprobe.reports.cards import number_tables, text
from hfprobe.reports.cards.facts import CardFacts
from hfprobe.reports.cards.measured import Measured, gather, setting_differences
from hfprobe.reports.cards.metadata import dataset_name, metadata
from hfprobe.reports.metric_names import metric_info
from hfprobe.results import Results

TEMPLATE = "model_card.md.j2"
# What a reader asks first about a training; everything else is in the longer list.
_FIRST = ("dataset", "noise", "clean_share", "steps", "batch_size", "frames_per_batch", "learning_rate", "hidden_dim",
          "num_layers", "max_seconds", "seed", "device", "mixed_precision", "minutes")  # fmt: skip
_TRIALS = {"all": "all pairs of clips as trials", "balanced": "as many pairs of one speaker as of two"}


@dataclass(frozen=True)
class Sample:
    """One sound beside the card.

    Args:
        recording: Name of the recording it comes from.
        layer: Layer name, ``input`` or ``ceiling``.
        path: Relative to the card, with slashes.
        text: What the recogniser reads from it, or None.
        stoi: Intelligibility against the recording, or None.
    """

    recording: str
    layer: str
    path: str
    text: str | None = None
    stoi: float | None = None


def render_card(
    facts: CardFacts, results: Sequence[Results] = (), picture: str | None = None, samples: Sequence[Sample] = ()
) -> str:
    """The card as Markdown with its metadata.

    Args:
        facts: What it is about.
        results: Result files; those that hold nothing of this encoder are passed over.
        picture: Path of a figure beside the card, with slashes, or None.
        samples: Sounds beside the card.

    Returns:
        The text of README.md. The same facts and results give the same text on any machine.

    Raises:
        ReportError: Two result files contradict each other.

    Example:
        >>> from hfprobe.reports.cards.facts import LayerFacts
        >>> layers = (LayerFacts("conv1", 8, 10.0, parameters=100),)
        >>> facts = CardFacts("bank", "toy", "toy", "toy", "toy", layers, 100, capacity="highway")
        >>> render_card(facts).splitlines()[0], "# Probes of toy" in render_card(facts)
        ('---', True)
    """
    context = _context(facts, gather(results, facts.encoder), picture, samples)
    return re.sub(r"\n{3,}", "\n\n", _environment().get_template(TEMPLATE).render(context)).strip() + "\n"


def template_text() -> str:
    """The template as it lies in the package."""
    return (resources.files("hfprobe.reports") / "templates" / TEMPLATE).read_text(encoding="utf-8")


def _environment():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hfprobe.reports"), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, autoescape=False,
    )  # fmt: skip
    environment.filters.update(md=text.markdown, code=text.code, py=_literal, count=text.count, url=quote)
    return environment


def _literal(value: str) -> str:
    """A text as Python writes it."""
    return json.dumps(value) if value.isascii() else ascii(value)


def _context(facts: CardFacts, measured: Measured, picture: str | None, samples: Sequence[Sample]) -> dict[str, Any]:
    sounds = number_tables.sound_tables(measured)
    kinds = ("sounds", "twins", "others") if facts.kind == "bank" else ("recognition", "sounds", "twins", "others")
    runs = {id(run): run for kind in kinds for run in measured.runs.get(kind, ())}
    first = next(iter(measured.runs.get("sounds", ())), None)
    twin = next(iter(measured.runs.get("twins", ())), None)
    return {
        "facts": facts,
        "about": facts.about,
        "metadata": metadata(facts, measured),
        "version": __version__,
        "picture": picture,
        "picture_metric": metric_info(picture_metric(measured)) if measured.sounds else None,
        "samples": _by_recording(samples),
        "sounds": sounds,
        "layers": number_tables.layer_facts_table(facts),
        "listen": _listen(facts),
        "shell_source": shlex.quote(facts.source),
        "twins": number_tables.twin_tables(measured),
        "twin_highlights": number_tables.twin_highlights(measured),
        "twin_words": any(row.metric in ("wer", "cer") for row in measured.twins),
        "twin_differences": setting_differences(first, twin) if first and twin and first is not twin else [],
        "recognition": number_tables.recognition_table(measured),
        "others": number_tables.other_tables(measured),
        "highlights": number_tables.highlights(measured),
        "shallow_voice": number_tables.shallow_voice(measured),
        "meanings": _meanings(measured),
        "has_floor": any(row.layer == "floor" for row in measured.sounds),
        "test": _test_set(first),
        "training": _settings(facts.training, _FIRST),
        "environment": _made_with(facts.environment),
        "mel": [(text.code(name), text.markdown(text.number(value))) for name, value in facts.mel.items()],
        "runs": [_run(run) for run in runs.values()],
        "license": _license(facts),
    }


def picture_metric(measured: Measured) -> str:
    """The measure that the card's figure shows."""
    return next((name for name in ("stoi", "eer") if name in measured.metrics), next(iter(measured.metrics), "stoi"))


def _by_recording(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    grouped: dict[str, list[Sample]] = {}
    for sample in samples:
        grouped.setdefault(sample.recording, []).append(sample)
    return grouped


def _meanings(measured: Measured) -> list[tuple[str, str]]:
    """Measures that the sentences above the tables do not explain."""
    said = number_tables.highlighted(measured)
    return [(metric_info(name).label, metric_info(name).meaning) for name in measured.metrics if name not in said]


def _listen(facts: CardFacts) -> str:
    """The command that makes a page to listen to."""
    words = ["hfprobe", "listen", "my.wav", "--encoder", shlex.quote(facts.encoder_source)]
    if facts.source != facts.encoder_source:
        words += ["--probes", shlex.quote(facts.source)]
    return " ".join([*words, "--output", "page"])


def _settings(given: dict[str, Any], first: tuple[str, ...]) -> list[tuple[str, str]]:
    """Settings as texts, those that are asked for first in front."""
    names = [name for name in first if name in given] + [name for name in given if name not in first]
    return [(text.code(name), text.markdown(text.command(text.number(given[name])))) for name in names]


def _made_with(environment: dict[str, Any]) -> str:
    """When and with what, as part of a sentence."""
    said = dict(environment)
    date = str(said.pop("date", ""))[:10]
    versions = ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)
    when_and_what = [f"on {date}" if date else "", f"with {versions}" if versions else ""]
    return text.markdown(text.command(" ".join(filter(None, when_and_what))))


def _test_set(run: Results | None) -> str:
    """What the sounds were measured on, as one sentence; empty if the file does not say."""
    if run is None:
        return ""
    config = run.config
    parts = []
    if "utterances" in config:
        parts.append(f"{config['utterances']} utterances")
    if "test_speakers" in config:
        parts.append(f"of {config['test_speakers']} speakers")
    if "test_seconds" in config:
        parts.append(f"({text.number(config['test_seconds'])} s)")
    if "dataset" in config:
        parts.append(f"of {text.markdown(dataset_name(config['dataset']).name)}")
    left_out = config.get("left_out")
    if isinstance(left_out, dict) and left_out:
        parts.append("; left out: " + text.markdown(text.number(left_out)))
    made = []
    for name, words in (("verifier", "speakers verified by"), ("vocoder", "sound made by")):
        if isinstance(config.get(name), str):
            made.append(f"{words} {text.markdown(config[name])}")
    if config.get("trials") in _TRIALS:
        made.append(_TRIALS[config["trials"]])
    return "; ".join(filter(None, (" ".join(parts), *made)))


def _run(run: Results) -> dict[str, str]:
    """What is said of a run: when, with what, by which command."""
    environment = run.environment
    versions = environment.get("versions")
    versions = {k: v for k, v in versions.items() if v} if isinstance(versions, dict) else {}
    with_what = ", ".join(f"{name} {version}" for name, version in versions.items())
    commit = environment.get("git_hash")
    said = [str(environment.get("date") or "")[:10], with_what, f"commit {str(commit)[:12]}" if commit else ""]
    said += [f"seed {environment['seed']}" if "seed" in environment else "", str(environment.get("platform") or "")]
    line = text.command(environment.get("command") or "")
    return {"said": text.markdown("; ".join(filter(None, said))), "command": line}


def _license(facts: CardFacts) -> str:
    """The licence in one line."""
    about = facts.about
    if about.license in ("", "unknown"):
        return "not stated"
    name = about.license_name if about.license == "other" and about.license_name else about.license
    return f"[{text.markdown(name)}]({about.license_link})" if about.license_link else text.markdown(name)
