"""The block of YAML at the top of a card, with the numbers in the shape of the Hub's ``model-index``.

Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md and `huggingface_hub.EvalResult`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hfprobe.reports.cards.facts import CardFacts
from hfprobe.reports.cards.measured import HEARD, Measured
from hfprobe.reports.cards.number_tables import info_of
from hfprobe.reports.cards.text import plain
from hfprobe.reports.model import Measurement
from hfprobe.results import Results

TAGS = ("hfprobe", "speech", "probing", "interpretability")
_KNOWN = {"speechocean762": "mispeech/speechocean762", "librispeech": "openslr/librispeech_asr"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")


@dataclass(frozen=True)
class DatasetName:
    """A corpus as ``--dataset`` names it, in the Hub's words.

    Attributes:
        type: Id on the Hub, or the kind of a local corpus; never a folder.
        name: For reading.
        config: Its configuration on the Hub, or None.
        split: Its split, or None.
    """

    type: str
    name: str
    config: str | None = None
    split: str | None = None


def dataset_name(spec: object) -> DatasetName:
    """What a result file calls its dataset, without folders of the machine that made it.

    Example:
        >>> dataset_name("librispeech:clean/test")
        DatasetName(type='openslr/librispeech_asr', name='librispeech, clean, test', config='clean', split='test')
        >>> dataset_name("kaldi:/home/me/data").type, dataset_name("user/name:test").split, dataset_name(None).name
        ('kaldi', 'test', 'not recorded')
    """
    if not isinstance(spec, str) or not spec:
        return DatasetName("unknown", "not recorded")
    kind, _, rest = plain(spec).partition(":")
    known = _KNOWN.get(kind) or (kind if _HUB_ID.fullmatch(kind) else None)
    if known is None and kind != "espeak":
        # The rest is a folder or a pattern of files.
        return DatasetName(kind if re.fullmatch(r"\w+", kind) else "unknown", f"{kind} folder")
    config, _, split = rest.rpartition("/")
    split = split or "test"
    config = config or ("clean" if kind == "librispeech" else "")
    return DatasetName(known or kind, ", ".join(filter(None, (kind, config, split))), config or None, split or None)


def metadata(facts: CardFacts, measured: Measured) -> str:
    """The YAML of a card, without the lines ``---``.

    Args:
        facts: What the card is about.
        measured: Its numbers.

    Returns:
        YAML that `huggingface_hub.ModelCard` reads: licence, library, tags, base model, datasets and ``model-index``.
        Numbers are in the unit of the card's tables (error rates in per cent); values that could not be computed are
        left out.
    """
    from huggingface_hub import ModelCardData

    about = facts.about
    metrics = sorted({row.metric for row in index_rows(facts, measured)}, key=HEARD.index)
    results = [eval_result(row, run, facts) for row, run in _with_runs(facts, measured)]
    data = ModelCardData(
        language=list(about.language) or None,
        license=about.license or "unknown",
        license_name=about.license_name or None,
        license_link=about.license_link or None,
        library_name="hfprobe",
        pipeline_tag="automatic-speech-recognition" if facts.kind == "encoder" and facts.recognises else
        "audio-to-audio" if facts.kind == "bank" else "feature-extraction",
        tags=list(dict.fromkeys((*TAGS, *_kind_tags(facts), *about.tags))),
        base_model=about.base_model or None,
        datasets=list(about.datasets) or None,
        metrics=[name for name in metrics] or None,
        model_name=plain(facts.name) if results else None,
        eval_results=results or None,
    )  # fmt: skip
    return data.to_yaml()


def _kind_tags(facts: CardFacts) -> tuple[str, ...]:
    return ("probe-bank", "speech-synthesis") if facts.kind == "bank" else ("speech-encoder",)


def index_rows(facts: CardFacts, measured: Measured) -> list[Measurement]:
    """Which numbers go into ``model-index``.

    A bank's are those of its layers, and the ceiling, in the first condition (clean); an encoder's the error rates of
    its recogniser in all conditions, or else the same as a bank's. The tables of the card hold all.
    """
    return [row for row, _ in _with_runs(facts, measured)]


def _with_runs(facts: CardFacts, measured: Measured) -> list[tuple[Measurement, Results | None]]:
    recognised = [row for row in measured.recognition if row.metric in ("wer", "cer") and row.value is not None]
    if facts.kind == "encoder" and recognised:
        run = next(iter(measured.runs.get("recognition", ())), None)
        return [(row, run) for row in recognised]
    run = next(iter(measured.runs.get("sounds", ())), None)
    first = next(iter(measured.conditions), None)
    return [
        (row, run)
        for metric in measured.metrics
        for layer in ("ceiling", *measured.layers)
        for row in measured.sounds
        if (row.layer, row.condition, row.metric) == (layer, first, metric) and row.value is not None
    ]


def eval_result(row: Measurement, run: Results | None, facts: CardFacts):
    """One number as the Hub's client holds it.

    Args:
        row: The number; its value must be there.
        run: Where it comes from.
        facts: What the card is about.

    Returns:
        A `huggingface_hub.EvalResult`. Layer and condition are in the metric's name and arguments, because the Hub
        keeps one set of dataset arguments for all metrics of a dataset.
    """
    from huggingface_hub import EvalResult

    value = row.value
    assert value is not None, "only rows with a value go into the metadata"
    info, dataset = info_of(row.metric), dataset_name(run.config.get("dataset") if run else None)
    recognised = row.layer == "input"
    place = row.condition if recognised else f"{row.layer}, {row.condition}"
    return EvalResult(
        task_type="automatic-speech-recognition" if recognised else "audio-to-audio",
        task_name="Speech recognition" if recognised else "Speech rebuilt from one layer",
        dataset_type=dataset.type,
        dataset_name=dataset.name,
        dataset_config=dataset.config,
        dataset_split=dataset.split,
        metric_type=row.metric,
        metric_name=f"{info.axis}, {plain(place)}",
        metric_value=round(info.scaled(value), info.digits),
        metric_args={"condition": row.condition} if recognised else {"layer": row.layer, "condition": row.condition},
    )
