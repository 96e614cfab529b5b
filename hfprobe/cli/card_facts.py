"""The facts of a bank or an encoder for its card, read from its files and from what its maker says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from hfprobe.errors import ConfigError, HfprobeError
from hfprobe.plain import read_yaml, shown

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Settings of `hfprobe train` that the bank itself does not record.
_STREAM = ("dataset", "noise", "clean_share", "batch_size", "max_seconds", "limit", "dev")


def kind_of(source: str, kind: str | None) -> str:
    """``bank`` or ``encoder``: as told, else a bank if there is one of that name, in that folder or repository.

    Args:
        source: Shipped name, folder or repository.
        kind: What the user said, or None.

    Returns:
        The kind.

    Example:
        >>> kind_of("blstm-robust", None), kind_of("blstm-robust", "encoder")
        ('bank', 'encoder')
    """
    from hfprobe.probes.bank_files import INDEX
    from hfprobe.probes.bank_source import bank_place, shipped_banks

    if kind is not None:
        return kind
    if source in shipped_banks() or (Path(source) / INDEX).is_file():
        return "bank"
    if Path(source).exists() or not _HUB_ID.fullmatch(source):
        return "encoder"
    try:
        bank_place(source).get(INDEX)
    except HfprobeError:  # none, or out of reach: loading the encoder then says what is wrong
        return "encoder"
    return "bank"


def shipped_about(kind: str, name: str):
    """What ``pretrained/about.yaml`` says of a shipped bank or encoder; nothing for others."""
    from hfprobe.encoders.auto import shipped_folder
    from hfprobe.reports.cards import About

    content = read_yaml(shipped_folder().parent / "about.yaml")
    return About.of(content[f"{kind}s"].get(name) or {})


def read_about(path: str):
    """What a YAML file of the user's says.

    Raises:
        ConfigError: It is missing or not YAML.
        ReportError: A key is unknown, or a value is no text.
    """
    from hfprobe.reports.cards import About

    try:
        content = read_yaml(path)
    except ConfigError as error:
        raise ConfigError(f"--about cannot be read ({error}); give a YAML file of keys and texts") from error
    try:
        return About.of(content if content is not None else {})
    except HfprobeError as error:
        raise type(error)(f"--about {shown(path)}: {error}") from error


def bank_facts(
    source: str, bank: Any, encoder: Any = None, encoder_source: str | None = None, repo_id: str | None = None
):
    """Facts of a bank.

    Args:
        source: Where it was loaded from: shipped name, folder or repository.
        bank: The `ProbeBank`.
        encoder: Its encoder, which knows where each layer is read, or None.
        encoder_source: What the encoder was loaded from; the name that the bank records if None.
        repo_id: Repository that the card goes to, or None.

    Returns:
        `hfprobe.reports.cards.CardFacts`.
    """
    from hfprobe.probes.bank_files import INDEX, RANDOM
    from hfprobe.probes.bank_source import shipped_banks
    from hfprobe.reports.cards import CardFacts, LayerFacts

    taps = {spec.name: spec.tap for spec in encoder.layers} if encoder is not None else {}
    rate = bank.mel_config.sampling_rate
    layers = tuple(
        LayerFacts(
            name, probe.config.input_dim, 1000 * probe.config.stride / rate, probe.num_parameters(), taps.get(name, "")
        )
        for name, probe in bank.items()
    )
    shipped = source in shipped_banks()
    about = shipped_about("bank", source) if shipped else shipped_about("bank", "")
    given = encoder_source or bank.encoder or "ENCODER"
    if not about.base_model and _on_hub(bank.encoder):
        about = replace(about, base_model=bank.encoder)
    folder = bank.folder
    return CardFacts(
        kind="bank",
        name=_name(repo_id or source),
        encoder=bank.encoder or "encoder",
        **_places(repo_id or source, given),
        layers=layers,
        parameters=sum(layer.parameters or 0 for layer in layers),
        random_floor=folder is not None and (folder / RANDOM / INDEX).is_file(),
        capacity=bank.capacity,
        mel=bank.mel_config.to_dict(),
        training={**bank.training, **_stream_settings(folder)},
        environment=bank.environment,
        about=about,
    )


def encoder_facts(source: str, encoder: Any, repo_id: str | None = None):
    """Facts of an encoder.

    Args:
        source: Where it was loaded from.
        encoder: The `SpeechEncoder`.
        repo_id: Repository that the card goes to, or None.

    Returns:
        `hfprobe.reports.cards.CardFacts`.
    """
    from hfprobe.analysis.words import can_transcribe
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.encoders.auto import shipped_folder
    from hfprobe.reports.cards import CardFacts, LayerFacts

    layers = tuple(
        LayerFacts(spec.name, spec.dim, 1000 * spec.stride / encoder.sampling_rate, None, spec.tap)
        for spec in encoder.layers
    )
    shipped = source in AutoSpeechEncoder.shipped()
    folder = shipped_folder() / source if shipped else Path(source)
    return CardFacts(
        kind="encoder",
        name=_name(repo_id or source),
        encoder=encoder.name,
        **_places(repo_id or source, repo_id or source),
        layers=layers,
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        recognises=can_transcribe(encoder),
        training=_espnet_training(folder),
        about=shipped_about("encoder", source if shipped else ""),
    )


def _on_hub(name: str) -> bool:
    return bool(_HUB_ID.fullmatch(name or "")) and not Path(name).exists()


def _name(source: str) -> str:
    """The last part of a name, folder or repository."""
    return Path(source).resolve().name if Path(source).exists() else source.rsplit("/", 1)[-1]


def _places(source: str, encoder_source: str) -> dict[str, Any]:
    """What the card's code loads; of a folder here only its name, which is all that others need to know."""
    from hfprobe.encoders import AutoSpeechEncoder

    found: dict[str, Any] = {}
    for key, flag, given in (("source", "portable", source), ("encoder_source", "encoder_portable", encoder_source)):
        portable = given in AutoSpeechEncoder.shipped() or _on_hub(given)
        found |= {key: given if portable else _name(given), flag: portable}
    return found


def _mapping(path: Path) -> dict[str, Any]:
    """A YAML file of keys and values; empty if it is missing or something else."""
    try:
        content = read_yaml(path)
    except ConfigError:
        return {}
    return content if isinstance(content, dict) else {}


def _stream_settings(folder: Path | None) -> dict[str, Any]:
    """Which speech and noise the probes heard, from the settings that `hfprobe train` leaves beside its bank."""
    settings = _mapping(folder / "config.yaml") if folder is not None else {}
    return {name: settings[name] for name in _STREAM if settings.get(name) is not None}


def _espnet_training(folder: Path) -> dict[str, Any]:
    """The ``training`` that `hfprobe.asr.ship` keeps in an experiment's settings."""
    settings = _mapping(folder / "config.yaml").get("training")
    return settings if isinstance(settings, dict) else {}
