"""SpeechBrain's `hyperparams.yaml` as plain data.

The file is HyperPyYAML: its tags name Python classes and functions that are called when SpeechBrain reads it. Nothing
is called here. Tags are kept as text, and only numbers, texts, lists and references to them are understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hfprobe.errors import EncoderError
from hfprobe.plain import parse_yaml, read_text, reason

HYPERPARAMS = "hyperparams.yaml"
MAX_BYTES = 1_000_000
_REFERENCE = re.compile(r"<(\w+)>")


@dataclass(frozen=True)
class Tagged:
    """A value under a tag: `!new:torch.nn.Linear {...}` has the tag `new:torch.nn.Linear`."""

    tag: str
    value: Any


class _PlainLoader(yaml.SafeLoader):
    """Reads tags without following them."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Tagged:
    if isinstance(node, yaml.MappingNode):
        value: Any = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = node.value
    return Tagged(suffix, value)


_PlainLoader.add_multi_constructor("!", _tagged)


def read_settings(folder: Path) -> dict[str, Any]:
    """Read `hyperparams.yaml`.

    Args:
        folder: A SpeechBrain model.

    Returns:
        Its entries, tags as `Tagged`; an empty dictionary where there is no such file.

    Raises:
        EncoderError: If it is not YAML, or too long to be settings.
    """
    file = folder / HYPERPARAMS
    if not file.is_file():
        return {}
    text = read_text(file, "settings", EncoderError, MAX_BYTES)
    try:
        content = parse_yaml(text, _PlainLoader)
    except ValueError as error:
        raise EncoderError(f"expected settings in {file}, could not read them: {reason(error)}") from error
    if not isinstance(content, dict):
        raise EncoderError(f"expected settings in {file}, got something else; download the model again")
    return content


def arguments(settings: dict[str, Any], entry: str, kind: str) -> dict[str, Any]:
    """The arguments with which an entry is made, as plain values.

    Args:
        settings: What `read_settings` gave.
        entry: Name of the entry.
        kind: Class that it must be, e.g. `speechbrain.lobes.features.Fbank`.

    Returns:
        Arguments by name; references such as `!ref <n_mels>` are looked up, `!name:torch.nn.ReLU` becomes the text
        `torch.nn.ReLU`. Empty where the entry does not exist.

    Raises:
        EncoderError: If the entry is of another class, or an argument is more than a plain value.

    Example:
        >>> arguments({"n": 3, "x": Tagged("new:a.B", {"size": Tagged("ref", "<n>")})}, "x", "a.B")
        {'size': 3}
    """
    if entry not in settings:
        return {}
    value = settings[entry]
    if not isinstance(value, Tagged) or value.tag != f"new:{kind}":
        found = value.tag if isinstance(value, Tagged) else type(value).__name__
        raise EncoderError(f"expected {entry} to be !new:{kind} in {HYPERPARAMS}, got {found}: it is not supported")
    # A tag without arguments holds an empty text.
    given = value.value if isinstance(value.value, dict) else {}
    return {str(key): _plain(item, settings, str(key)) for key, item in given.items()}


def _plain(value: Any, settings: dict[str, Any], name: str) -> Any:
    """A number, text or None, or a flat list of them."""
    for _ in range(10):  # a reference may lead to another one
        reference = _REFERENCE.fullmatch(str(value.value)) if _is_reference(value) else None
        if reference is None or reference[1] not in settings:
            break
        value = settings[reference[1]]
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return [_plain(item, settings, name) for item in value]
    if isinstance(value, Tagged) and value.tag.startswith("name:"):
        return value.tag.removeprefix("name:")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    # The value itself is not shown: YAML's aliases can make a short file very long.
    found = f"!{value.tag}"[:80] if isinstance(value, Tagged) else type(value).__name__
    raise EncoderError(f"expected a plain value for {name} in {HYPERPARAMS}, got {found}: it is not supported")


def _is_reference(value: Any) -> bool:
    return isinstance(value, Tagged) and value.tag == "ref" and isinstance(value.value, str)
