"""What the Hugging Face Hub would refuse in a card, or warn about, found without a network.

`huggingface_hub.ModelCard.validate` asks the Hub; here the same is looked for offline, and more: a placeholder of a
template that was left, a number that is none, a file beside the card that is not there, a token that slipped in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import yaml

from hfprobe.plain import line, parse_yaml, reason
from hfprobe.reports.cards.hub_names import AUDIO_TASKS, LICENSES

MAX_BYTES = 1_000_000  # a card is read by people; the Hub takes ten times as much as plain text
REQUIRED = ("license", "library_name", "tags")
_FRONT = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)^---[ \t]*$(?P<body>.*)\Z", re.DOTALL | re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\[More Information Needed\]", re.DOTALL)
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
_LICENSE_NAME = re.compile(r"[a-z0-9.\-]+")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")
_HEADING = re.compile(r"^# \S", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```[ \t]*$", re.DOTALL | re.MULTILINE)
# A link or picture in Markdown, or the src or href of the HTML that the Hub lets through.
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)|\b(?:src|href)=\"([^\"]+)\"")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.\-]*:|#|//", re.IGNORECASE)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, as the Hub's parser does."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def validate_card(text: str, folder: str | Path | None = None) -> list[str]:
    """Problems of a model card that the Hub would refuse or warn about; nothing is sent anywhere.

    ``hfprobe push`` calls this before anything is uploaded. Checked are: size; that the front matter is there, is YAML
    without double keys, and has a licence that the Hub knows (with name and address if it is ``other``), a library and
    tags; language, task, dataset and model ids; the shape of ``model-index``, by `huggingface_hub.ModelCard` too; that
    all numbers are finite; that there is a heading, no placeholder of a template and no access token left.

    Args:
        text: The whole card, with its front matter.
        folder: Folder that the card will lie in; if given, every relative link and picture must be a file inside it.

    Returns:
        One sentence per problem; empty if the card is fine. Nothing is raised for a bad card.

    Example:
        >>> card = "---\\nlicense: mit\\nlibrary_name: hfprobe\\ntags: [hfprobe]\\n---\\n# Probes\\n"
        >>> validate_card(card)
        []
        >>> validate_card(card.replace("mit", "my own"))
        ["license 'my own' is not known to the Hub; use an id of its list, or other with license_name and license_link"]
    """
    return [line(problem, 400) for problem in _problems(text, folder)]


def _problems(text: str, folder: str | Path | None) -> list[str]:
    """As `validate_card`, with values of any length."""
    if not isinstance(text, str) or not text.strip():
        return ["the card is empty; make one with `hfprobe card`"]
    problems = []
    size = len(text.encode("utf-8", errors="replace"))
    if size > MAX_BYTES:
        problems.append(f"the card has {size:,} bytes, more than {MAX_BYTES:,}; put long tables into files beside it")
    if _TOKEN.search(text):
        problems.append("the card holds what looks like an access token of the Hub; remove it, and revoke the token")
    # In code double braces have meanings of their own, as in BibTeX.
    for found in dict.fromkeys(match.group(0) for match in _PLACEHOLDER.finditer(_FENCE.sub("", text))):
        problems.append(f"placeholder {' '.join(found.split())[:60]!r} was left in the card; fill it in")
    front = _FRONT.match(text.replace("\r\n", "\n"))
    if front is None:
        problems.append("the card does not begin with a block of YAML between two lines '---'; add its metadata")
        return problems
    problems += _metadata_problems(front["yaml"])
    if not _HEADING.search(front["body"]):
        problems.append("the card has no heading '# ...' under its metadata; say what this is")
    if folder is not None:
        problems += _link_problems(front["body"], Path(folder))
    return problems


def _metadata_problems(source: str) -> list[str]:
    try:
        data = parse_yaml(source, _StrictLoader)
    except ValueError as error:
        return [f"the metadata are not valid YAML ({reason(error)}); quote values with ':' or '#'"]
    if not isinstance(data, dict):
        return [f"the metadata must be keys and values, got {type(data).__name__}; write `license: ...` and so on"]
    problems = [f"the metadata lack {key!r}; add it" for key in REQUIRED if data.get(key) in (None, "", [])]
    problems += _license_problems(data)
    for where, number in _numbers(data, ""):
        if not math.isfinite(number):
            problems.append(f"{where} is {number}, not a finite number; leave it out")
    problems += _names_problems(data)
    shape = _index_problems(data["model-index"]) if "model-index" in data else []
    return problems + (shape or _hub_reads(source))


def _license_problems(data: dict[str, Any]) -> list[str]:
    problems = []
    licenses = data.get("license") or []
    for name in licenses if isinstance(licenses, list) else [licenses]:
        if name not in LICENSES:
            problems.append(
                f"license {name!r} is not known to the Hub; use an id of its list, or other with license_name and "
                "license_link"
            )
    if licenses == "other":
        name, link = data.get("license_name"), data.get("license_link")
        if not isinstance(name, str) or not _LICENSE_NAME.fullmatch(name):
            problems.append(f"license other needs a license_name of a-z, 0-9, '.' and '-', got {name!r}")
        if not isinstance(link, str) or not re.fullmatch(r"https?://\S+|LICENSE(\.md|\.txt)?", link):
            problems.append(f"license other needs a license_link, an address or LICENSE, got {link!r}")
    return problems


def _names_problems(data: dict[str, Any]) -> list[str]:
    problems = []
    tags = data.get("tags")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) and tag for tag in tags)):
        problems.append(f"tags must be a list of texts, got {tags!r}")
    library = data.get("library_name")
    if library is not None and not isinstance(library, str):
        problems.append(f"library_name must be a text, got {library!r}")
    task = data.get("pipeline_tag")
    if task is not None and task not in AUDIO_TASKS:
        known = ", ".join(sorted(AUDIO_TASKS))
        problems.append(f"pipeline_tag {task!r} is no audio task of the Hub; use one of {known}")
    for language in _listed(data.get("language")):
        if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
            problems.append(f"language {language!r} must be an ISO 639 code such as en; YAML reads a bare no as false")
    for key, kind in (("datasets", "dataset"), ("base_model", "model")):
        for name in _listed(data.get(key)):
            if not isinstance(name, str) or not _REPO_ID.fullmatch(name) or ".." in name or "--" in name:
                problems.append(f"{key} {name!r} is no id of a {kind} on the Hub; use user/name")
    return problems


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _index_problems(index: Any) -> list[str]:
    """The shape that the Hub reads: https://github.com/huggingface/hub-docs/blob/main/modelcard.md?plain=1."""
    if not isinstance(index, list) or not index:
        return [f"model-index must be a list with one model, got {type(index).__name__}"]
    problems = []
    for model in index:
        if not isinstance(model, dict) or not _text(model.get("name")) or not isinstance(model.get("results"), list):
            problems.append("every entry of model-index needs a name and a list of results")
            continue
        for number, result in enumerate(model["results"]):
            where = f"result {number} of model-index"
            if not isinstance(result, dict):
                problems.append(f"{where} must have task, dataset and metrics, got {result!r}")
                continue
            for part, keys in (("task", ("type",)), ("dataset", ("type", "name"))):
                found = result.get(part)
                missing = [key for key in keys if not isinstance(found, dict) or not _text(found.get(key))]
                problems += [f"{where} lacks the {key} of its {part}" for key in missing]
            metrics = result.get("metrics")
            if not isinstance(metrics, list) or not metrics:
                problems.append(f"{where} has no list of metrics")
                continue
            for metric in metrics:
                if not isinstance(metric, dict) or not _text(metric.get("type")) or metric.get("value") is None:
                    problems.append(f"{where} has a metric without type or value: {metric!r}")
    return problems


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _hub_reads(source: str) -> list[str]:
    """Whether the Hub's own client reads the metadata."""
    from huggingface_hub import ModelCard

    try:
        ModelCard(f"---\n{source}---\n# card\n")
    except Exception as error:  # noqa: BLE001  whatever it stumbles over is a problem of the card
        return [f"huggingface_hub cannot read the metadata: {' '.join(str(error).split())[:200]}"]
    return []


def _numbers(value: Any, where: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _numbers(item, f"{where}[{number}]")
    elif isinstance(value, float):
        yield where, value


def _link_problems(body: str, folder: Path) -> list[str]:
    problems = []
    # What stands in code is no link.
    plain = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", body))
    for target in dict.fromkeys(one or other for one, other in _LINK.findall(plain)):
        if _ELSEWHERE.match(target):
            continue
        path = PurePosixPath(unquote(target.split("#")[0].split("?")[0]))
        if path.is_absolute() or ".." in path.parts:
            problems.append(f"link {target!r} leaves the card's folder, so the Hub will not find it")
        elif not (folder / path).exists():
            problems.append(f"link {target!r} has no file beside the card; write it, or remove the link")
    return problems
