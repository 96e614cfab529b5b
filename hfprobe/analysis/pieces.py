"""What an evaluation has measured so far, one file per batch, so that a run that was stopped goes on behind it.

A piece is one condition and one batch of utterances, heard every way. Its file is named by a digest of all that its
numbers depend on (the sounds, the weights, the settings, the version), so a piece is taken up where it would come out
the same, by any number of processes and whichever other conditions are asked for, and is never mistaken for another.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfprobe import __version__
from hfprobe.files import whole_file

FOLDER = "measured"
Key = tuple[str, str, str]


@dataclass
class HeardPiece:
    """One way of hearing a batch: values in the order of `Piece.indices`.

    Attributes:
        embeddings: Speaker embeddings ``(utterances, dim)``.
        texts: What each reader read, by its key.
        quality: Measure to values; None where it failed.
        kept: What `hfprobe.reports.kept.Keeper` says of sounds that were kept, by utterance.
    """

    embeddings: np.ndarray
    texts: dict[tuple[str, bool], list[str]] = field(default_factory=dict)
    quality: dict[str, list[float | None]] = field(default_factory=dict)
    kept: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Piece:
    """All that was measured on one batch.

    Attributes:
        indices: Of the utterances in the test set.
        systems: By condition, encoder and layer, in the order of measurement.
        failures: Quality measures that failed, by condition, measure and reason.
    """

    indices: list[int]
    systems: dict[Key, HeardPiece] = field(default_factory=dict)
    failures: Counter = field(default_factory=Counter)

    def joined(self, other: Piece) -> Piece:
        """This one with another of the same systems behind it."""
        whole = Piece(self.indices + other.indices, {}, self.failures + other.failures)
        for key, one in self.systems.items():
            two = other.systems[key]
            whole.systems[key] = HeardPiece(
                np.concatenate([one.embeddings, two.embeddings]),
                {name: texts + two.texts[name] for name, texts in one.texts.items()},
                {name: values + two.quality[name] for name, values in one.quality.items()},
                one.kept | two.kept,
            )
        return whole


class Pieces:
    """The folder that pieces are in while a run is not over.

    Args:
        folder: Of the run; pieces go to ``measured/`` in it.

    Attributes:
        taken_up: Pieces that were there already.
        made: Pieces that were written.

    Example:
        >>> import tempfile
        >>> pieces = Pieces(tempfile.mkdtemp())
        >>> heard = HeardPiece(np.zeros((1, 4), np.float32), quality={"stoi": [0.5]})
        >>> pieces.write("ab12", Piece([7], {("clean", "vgg", "cnn1"): heard}))
        >>> pieces.read("ab12").systems["clean", "vgg", "cnn1"].quality
        {'stoi': [0.5]}
        >>> pieces.read("other") is None
        True
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder) / FOLDER
        self.taken_up = self.made = 0

    def read(self, name: str) -> Piece | None:
        """A piece; None where it is not there, or is damaged."""
        from safetensors import SafetensorError, safe_open

        path = self.folder / f"{name}.safetensors"
        if not path.is_file():  # or a named pipe, which would wait
            return None
        try:
            with safe_open(path, "numpy") as file:
                told = json.loads(file.metadata()["piece"])
                arrays = [file.get_tensor(f"embeddings.{place}") for place in range(len(told["systems"]))]
            piece = _from_plain(told, arrays)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError):
            return None
        self.taken_up += 1
        return piece

    def write(self, name: str, piece: Piece) -> None:
        """Keep a piece; its file appears whole or not at all."""
        from safetensors.numpy import save

        arrays = [np.ascontiguousarray(heard.embeddings) for heard in piece.systems.values()]
        tensors = {f"embeddings.{place}": array for place, array in enumerate(arrays)}
        told = json.dumps(_to_plain(piece), allow_nan=False)
        with whole_file(self.folder / f"{name}.safetensors") as place:
            place.write_bytes(save(tensors, {"piece": told}))
        self.made += 1

    def clear(self) -> None:
        """Remove all pieces: the results are written."""
        if self.folder.is_dir():
            for path in self.folder.glob("*.safetensors"):
                path.unlink()
            try:
                self.folder.rmdir()
            except OSError:  # something of somebody else's is in it
                pass


def _to_plain(piece: Piece) -> dict[str, Any]:
    systems = [
        {
            "key": list(key),
            "texts": [[*reader, texts] for reader, texts in heard.texts.items()],
            "quality": heard.quality,
            "kept": [[index, facts] for index, facts in heard.kept.items()],
        }
        for key, heard in piece.systems.items()
    ]
    failures = [[*key, count] for key, count in piece.failures.items()]
    return {"indices": piece.indices, "systems": systems, "failures": failures}


def _from_plain(told: dict[str, Any], arrays: Sequence[np.ndarray]) -> Piece:
    piece = Piece(told["indices"], failures=Counter({tuple(key): count for *key, count in told["failures"]}))
    for one, embeddings in zip(told["systems"], arrays, strict=True):
        texts = {(name, second): read for name, second, read in one["texts"]}
        kept = {index: facts for index, facts in one["kept"]}
        piece.systems[tuple(one["key"])] = HeardPiece(embeddings, texts, one["quality"], kept)
        lists = [*texts.values(), *one["quality"].values(), embeddings]
        if any(len(values) != len(piece.indices) for values in lists):
            raise ValueError("a piece holds as many values as utterances")
    return piece


def weights_digest(*models: Any) -> str:
    """A digest of the weights of models; of its name or type and plain settings for what has no weights.

    Args:
        *models: Modules, banks, or anything else.

    Example:
        >>> weights_digest(torch.nn.Linear(1, 1)) == weights_digest(torch.nn.Linear(1, 1))
        False
    """
    digest = hashlib.sha256()
    for model in models:
        settings = {k: v for k, v in getattr(model, "__dict__", {}).items() if isinstance(v, str | int | float)}
        settings.pop("training", None)
        digest.update(repr((type(model).__name__, getattr(model, "name", ""), sorted(settings.items()))).encode())
        parts = model.values() if isinstance(model, dict) else (model,)
        for module in [part for part in parts if isinstance(part, torch.nn.Module)]:
            for name, value in module.state_dict().items():
                if isinstance(value, torch.Tensor):
                    digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                    digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def piece_name(settings: dict[str, Any], condition: str, names: Iterable[str], sounds: Iterable[np.ndarray]) -> str:
    """The name of a piece: a digest of all that its numbers depend on.

    Args:
        settings: Weights and options, plain values.
        condition: Name of the condition.
        names: Ids of the utterances.
        sounds: What is heard of each and what it is compared with, float32 ``(samples,)`` each.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> sound = [np.zeros(3)]
        >>> piece_name({"seed": 0}, "clean", ["a"], sound) == piece_name({"seed": 1}, "clean", ["a"], sound)
        False
    """
    digest = hashlib.sha256(json.dumps([__version__, settings, condition, list(names)], sort_keys=True).encode())
    for sound in sounds:
        digest.update(f"/{len(sound)}/".encode())
        digest.update(np.ascontiguousarray(sound).tobytes())
    return digest.hexdigest()[:32]
