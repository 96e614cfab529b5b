"""What a card says beyond its numbers: the facts of a bank or an encoder, and what only its maker knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hfprobe.plain import short
from hfprobe.reports.model import ReportError

KINDS = ("bank", "encoder")
_LISTS = ("language", "datasets", "tags", "data", "training", "limits", "citation")


@dataclass(frozen=True)
class About:
    """What no file records. Texts are Markdown by the card's author; lists are one sentence (or entry) each.

    Args:
        summary: What this is and for whom, one or two sentences.
        language: ISO 639 codes.
        license: Id of the Hub's list of licences; ``unknown`` where nobody said.
        license_name: With ``other``: a short name of a-z, 0-9, ``.`` and ``-``.
        license_link: With ``other``: its address.
        license_note: Why this licence, and what it allows.
        base_model: Id on the Hub of the model that this was made from.
        encoder_license: Of a bank: the licence of the encoder, in words.
        datasets: Ids on the Hub of what it was trained on.
        tags: More tags.
        data: What it was trained on.
        training: How it was trained.
        limits: What it cannot do.
        citation: BibTeX entries besides those of hfprobe and the paper.

    Raises:
        ReportError: A value is not a text, or a list is not one of texts.

    Example:
        >>> About.of({"license": "mit", "language": "en"}).language
        ('en',)
    """

    summary: str = ""
    language: tuple[str, ...] = ()
    license: str = "unknown"
    license_name: str = ""
    license_link: str = ""
    license_note: str = ""
    base_model: str = ""
    encoder_license: str = ""
    datasets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    citation: tuple[str, ...] = ()

    def __post_init__(self):
        for column in fields(self):
            value = getattr(self, column.name)
            if column.name in _LISTS:
                value = [value] if isinstance(value, str) else value
                if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                    found = short(value)
                    raise ReportError(f"{column.name} of a card must be a list of texts, got {found}; quote them")
                object.__setattr__(self, column.name, tuple(item.strip() for item in value))
            elif not isinstance(value, str):
                raise ReportError(f"{column.name} of a card must be a text, got {short(value)}; quote it")
            else:
                object.__setattr__(self, column.name, value.strip())

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> About:
        """Read a mapping, such as a YAML file.

        Raises:
            ReportError: It is no mapping, or has an unknown key.
        """
        if not isinstance(given, Mapping):
            raise ReportError(f"what a card says of its model must be keys and values, got {type(given).__name__}")
        known = [column.name for column in fields(cls)]
        unknown = [str(key) for key in given if key not in known]
        if unknown:
            raise ReportError(f"a card has no {short(unknown[0])}; known: {', '.join(known)}")
        return cls(**{key: value for key, value in given.items() if value is not None})


@dataclass(frozen=True)
class LayerFacts:
    """One layer, and for a bank its probe.

    Args:
        name: Name of the layer.
        dim: Width of a frame.
        stride_ms: From one frame to the next, in ms.
        parameters: Of its probe; None for an encoder.
        tap: Where it is read, in words; empty if not known.
    """

    name: str
    dim: int
    stride_ms: float
    parameters: int | None = None
    tap: str = ""


@dataclass(frozen=True)
class CardFacts:
    """What a card is about.

    Args:
        kind: ``bank`` or ``encoder``.
        name: For the heading.
        encoder: Name of the encoder in result rows.
        source: What ``from_pretrained`` takes: a shipped name, a folder's name or a repository.
        encoder_source: The same for the encoder.
        portable: Whether ``source`` is found from anywhere (a shipped name or a repository), not only here.
        encoder_portable: The same of ``encoder_source``.
        layers: From shallow to deep.
        parameters: Of all probes, or of the encoder.
        recognises: Whether the encoder transcribes.
        random_floor: Whether the bank brings probes of the encoder with random weights.
        capacity: Kind of probe, ``highway`` or ``linear``.
        mel: Settings of the mel-spectrogram.
        training: Settings of the training, name to value.
        environment: What it was trained with.
        about: What only its maker knows.

    Raises:
        ReportError: The kind is unknown, or there is no layer.
    """

    kind: str
    name: str
    encoder: str
    source: str
    encoder_source: str
    layers: tuple[LayerFacts, ...]
    parameters: int
    portable: bool = True
    encoder_portable: bool = True
    recognises: bool = False
    random_floor: bool = False
    capacity: str = ""
    mel: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    about: About = field(default_factory=About)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ReportError(f"a card is of a {' or an '.join(KINDS)}, got {self.kind!r}")
        if not self.layers:
            raise ReportError(f"a card needs at least one layer, {self.name!r} has none")
