"""One door to all encoders: a shipped name, a local folder, or a repository on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from hfprobe.encoders.base import SpeechEncoder
from hfprobe.encoders.capture import Tap
from hfprobe.encoders.random_weights import random_name, split_random
from hfprobe.errors import EncoderError, HubError
from hfprobe.hub.download import Snapshot, fetch

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Never Python files, and no pickle where there is something safer.
_HUB_FILES = ("*.yaml", "*.pth", "*.safetensors", "*.json", "*.txt", "*.model")
_TEXTS, _TEXT_LIMIT = (".json", ".yaml", ".txt"), 50_000_000  # bytes; tokenizers have some ten million
# The same weights once more in another precision.
_HUB_DUPLICATES = ("*.fp32-*.safetensors", "*.fp16.safetensors", "*.bf16.safetensors")


@dataclass(frozen=True)
class Family:
    """A kind of encoder folder and how to load it.

    Args:
        matches: Says whether a folder, or a weight file inside one, is of this kind.
        load: Called with the path and the keywords ``name``, ``random_init`` and ``seed``, and whatever
            else was given to ``from_pretrained``.
        layout: What such a folder holds, for messages.
        more_files: Patterns of files that a Hub repository of this kind needs besides the usual ones; called with
            the folder of those already fetched.
        kinds: Names of the architectures that can be loaded, for listings.
    """

    matches: Callable[[Path], bool]
    load: Callable[..., SpeechEncoder]
    layout: str
    more_files: Callable[[Path], tuple[str, ...]] = lambda folder: ()
    kinds: Callable[[], tuple[str, ...]] = lambda: ()


def _folder(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _is_espnet(path: Path) -> bool:
    if path.is_file() and path.suffix.lower() == ".zip":
        return True
    return (_folder(path) / "config.yaml").is_file() or (_folder(path) / "meta.yaml").is_file()


def _load_espnet(path: Path, **options: Any) -> SpeechEncoder:
    unknown = sorted(set(options) - {"name", "random_init", "seed", "weights"})
    if unknown:
        raise EncoderError(f"unknown option {', '.join(unknown)} for an ESPnet encoder: choose from weights")
    # Imported here: espnet2 takes seconds and is wanted only for its own encoders.
    from hfprobe.encoders.espnet.loading import load_espnet

    return load_espnet(path, **options)


def _espnet_kinds() -> tuple[str, ...]:
    from hfprobe.encoders.espnet.loading import ENCODERS

    return tuple(ENCODERS)


def _huggingface_kinds() -> tuple[str, ...]:
    from hfprobe.encoders.huggingface import FAMILIES_TABLE

    return tuple(kind for kind, *_ in FAMILIES_TABLE)


def _is_huggingface(path: Path) -> bool:
    if not (_folder(path) / "config.json").is_file():
        return False
    from hfprobe.encoders.huggingface import is_huggingface

    return is_huggingface(path)


def _load_huggingface(path: Path, **options: Any) -> SpeechEncoder:
    from hfprobe.encoders.huggingface import load_huggingface

    return load_huggingface(path, **options)


def _pickled_weights(folder: Path) -> tuple[str, ...]:
    """Old repositories have no safetensors; the loader reads tensors only from what they have."""
    return () if any(folder.glob("*.safetensors")) else ("pytorch_model*.bin",)


def _is_speechbrain(path: Path) -> bool:
    return (_folder(path) / "hyperparams.yaml").is_file()


def _load_speechbrain(path: Path, **options: Any) -> SpeechEncoder:
    from hfprobe.encoders.speechbrain import load_speechbrain

    return load_speechbrain(path, **options)


# Other toolkits add themselves here; the first family that recognises a folder loads it. SpeechBrain comes before
# Hugging Face: its repositories hold a config.json too.
FAMILIES: dict[str, Family] = {
    "espnet": Family(
        _is_espnet,
        _load_espnet,
        "an ESPnet experiment folder (config.yaml or meta.yaml, and weights) or a packed ESPnet .zip",
        kinds=_espnet_kinds,
    ),
    "speechbrain": Family(
        _is_speechbrain,
        _load_speechbrain,
        "a SpeechBrain folder with hyperparams.yaml and checkpoints",
        more_files=lambda folder: ("*.ckpt",),
        kinds=lambda: ("CRDNN", "Transformer", "Conformer", "Branchformer"),
    ),
    "huggingface": Family(
        _is_huggingface,
        _load_huggingface,
        "a Hugging Face folder with config.json and weights",
        more_files=_pickled_weights,
        kinds=_huggingface_kinds,
    ),
}


def shipped_folder() -> Path:
    """Folder inside the package with the encoders that come along."""
    return Path(str(resources.files("hfprobe"))) / "pretrained" / "encoders"


class AutoSpeechEncoder:
    """Loads any encoder that hfprobe knows; not to be instantiated."""

    def __init__(self) -> None:
        raise EncoderError("AutoSpeechEncoder has no instances: call AutoSpeechEncoder.from_pretrained(name)")

    @staticmethod
    def shipped() -> tuple[str, ...]:
        """Names of the encoders inside the package.

        Returns:
            Short names, sorted.
        """
        folder = shipped_folder()
        if not folder.is_dir():
            return ()
        return tuple(sorted(item.name for item in folder.iterdir() if (item / "config.yaml").is_file()))

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        random_init: bool = False,
        seed: int = 0,
        random_weights: int | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> SpeechEncoder:
        """Load an encoder.

        Args:
            name_or_path: In this order: a shipped name; a local folder, a weight file inside one, or a packed
                ESPnet ``.zip``; the id of a repository on the Hub (``user/name``). Fetched are its yaml, pth,
                safetensors, json, txt and model files, ``pytorch_model.bin`` where there are no safetensors, and
                SpeechBrain's ``.ckpt``. ``random:NAME`` and ``random:NAME@SEED`` stand for NAME with
                ``random_weights=SEED`` (0 where it is not said).
            random_init: Same shape and input features, random weights: the floor of every measure. The name of the
                encoder ends in ``-random<seed>``.
            seed: Of the random weights of ``random_init``.
            random_weights: Seed of random weights, as ``random_init`` draws them; the encoder is called
                ``random:NAME`` (with ``@SEED`` unless it is 0), by which the reports know it as the floor of NAME.
            revision: Branch, tag or commit on the Hub.
            **options: Passed to the loader of the family: ``weights`` (ESPnet, Hugging Face) is the name of the
                weight file, ``trust_remote_code`` (SpeechBrain) allows the code that its YAML names.

        Returns:
            The encoder, in ``eval()`` mode on the CPU.

        Raises:
            EncoderError: If the name is unknown, the Hub cannot be reached, or the files do not fit.
        """
        spelled = split_random(name_or_path)
        if spelled is not None or random_weights is not None:
            return cls._random(name_or_path, spelled, random_weights, random_init, revision, options)
        name = str(name_or_path)
        path = Path(name_or_path).expanduser()
        short_name = None
        # A bare word means the shipped encoder even where a folder of that name lies about.
        if name in cls.shipped():
            path, short_name = shipped_folder() / name, name
        elif not path.exists():
            if not _HUB_ID.fullmatch(name):
                raise EncoderError(_unknown(name, "is neither a shipped encoder nor an existing folder"))
            path, short_name = _fetch(name, revision), name
        for family in FAMILIES.values():
            if family.matches(path):
                return family.load(path, name=short_name, random_init=random_init, seed=seed, **options)
        raise EncoderError(_unknown(name, "is a folder of no known kind"))

    @classmethod
    def _random(
        cls,
        name_or_path: str | Path,
        spelled: tuple[str, int] | None,
        random_weights: int | None,
        random_init: bool,
        revision: str | None,
        options: dict[str, Any],
    ) -> SpeechEncoder:
        """Load with random weights and give the name that says so."""
        source, seed = spelled or (name_or_path, random_weights)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise EncoderError(f"expected random_weights to be a seed, a whole number of at least 0, got {seed!r}")
        if random_init or (random_weights is not None and random_weights != seed):
            raise EncoderError(f"random weights are asked for twice for {str(name_or_path)!r}: give one seed, once")
        encoder = cls.from_pretrained(source, random_init=True, seed=seed, revision=revision, **options)
        encoder.name = random_name(encoder.name.removesuffix(f"-random{seed}"), seed)
        return encoder

    @classmethod
    def from_module(
        cls, module: nn.Module, layers: Mapping[str, str | Tap], stride: int | Mapping[str, int], **options: Any
    ) -> SpeechEncoder:
        """Make an encoder of any network; see `hfprobe.encoders.module.encoder_from_module` for all options.

        Args:
            module: The network, called with waveforms ``(batch, samples)`` at 16 kHz unless ``preprocess`` says
                otherwise.
            layers: Name of each layer and the module to read it from, from the input to the last layer.
            stride: Samples from one frame to the next, of all layers or by name.
            **options: ``offset``, ``dims``, ``lengths``, ``preprocess``, ``layout``, ``batch``, ``min_samples``,
                ``name``.

        Returns:
            The encoder, in ``eval()`` mode.

        Raises:
            LayerError: If a path names no module; the message offers the nearest.
            EncoderError: If the network's outputs do not fit what was said about them.

        Example:
            >>> import torch
            >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
            >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
            >>> encoder(torch.rand(2, 1600)).last_hidden_state.shape
            torch.Size([2, 8, 8])
        """
        from hfprobe.encoders.module import encoder_from_module

        return encoder_from_module(module, layers, stride, **options)


def _unknown(name: str, problem: str) -> str:
    """Message that lists what is accepted."""
    shipped = ", ".join(AutoSpeechEncoder.shipped()) or "none"
    layouts = "; ".join(family.layout for family in FAMILIES.values())
    return f"encoder {name!r} {problem}: choose a shipped one ({shipped}), {layouts}, or a Hub id user/name"


def _fetch(repo_id: str, revision: str | None) -> Path:
    """A repository with all that its family needs."""
    snapshot = _download(repo_id, revision, _HUB_FILES)
    family = next((family for family in FAMILIES.values() if family.matches(snapshot.folder)), None)
    more = family.more_files(snapshot.folder) if family is not None else ()
    if more:
        # Of the same commit, even if the branch moved on meanwhile.
        snapshot = _download(repo_id, snapshot.commit or revision, (*_HUB_FILES, *more))
    return snapshot.folder


def _download(repo_id: str, revision: str | None, patterns: tuple[str, ...]) -> Snapshot:
    """Fetch files of a repository from the Hub (or its cache)."""
    try:
        return fetch(repo_id, revision, patterns, _HUB_DUPLICATES, check=_check_sizes)
    except HubError as error:
        raise EncoderError(
            f"encoder {repo_id!r} is no folder here, and could not be fetched from the Hub: {error}"
        ) from error


def _check_sizes(files: dict[str, int]) -> None:
    """Refuse texts that would fill the memory when they are read."""
    for path, size in files.items():
        if path.endswith(_TEXTS) and (size or 0) > _TEXT_LIMIT:
            raise HubError(f"expected at most {_TEXT_LIMIT:,} bytes in {path}, got {size:,}; do not use this encoder")
