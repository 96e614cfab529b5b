"""Weights from a folder in the layout of transformers, read without running code and matched strictly."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hfprobe.errors import EncoderError
from hfprobe.hub.pickled import read_pickled
from hfprobe.hub.safety import read_header
from hfprobe.plain import line, read_json, reason, short

# In the order in which they are looked for.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Both spellings of weight normalisation that PyTorch has had.
_SPELLINGS = (
    (".parametrizations.weight.original0", ".weight_g"),
    (".parametrizations.weight.original1", ".weight_v"),
)
# May be left over in a checkpoint: training aids, and tables that the models compute.
_IDLE = ("masked_spec_embed", "embed_positions.pe", "inv_freq", "pos_sinusoidal_embed.weights", "num_batches_tracked")


def find_weight_files(folder: Path, weights: str | None = None) -> list[Path]:
    """Find the files that hold a model's weights.

    Args:
        folder: Where to look.
        weights: Name of a weight file or index in the folder; `WEIGHT_FILES` are looked for where None.

    Returns:
        One file, or all shards that the index names.

    Raises:
        EncoderError: If there is none, or the index is broken.
    """
    names = WEIGHT_FILES if weights is None else (weights,)
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    if file is None:
        raise EncoderError(f"expected weights in {folder}, found none: put {' or '.join(names)} there")
    if file.suffix != ".json":
        return [file]
    try:
        shards = sorted(set(read_json(file, error=EncoderError)["weight_map"].values()))
        outside = [name for name in shards if PurePosixPath(name).name != name]
    except EncoderError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EncoderError(f"expected a weight_map in {file}, could not read it: download it again") from error
    if not shards or outside:
        found = short((outside or [None])[0])
        raise EncoderError(f"expected names of files beside {file}, got {found}: download it again")
    missing = [name for name in shards if not os.path.isfile(folder / name)]
    if missing:
        raise EncoderError(f"expected every shard of {file}, missing: {line(', '.join(missing))}: download them")
    return [folder / name for name in shards]


class Checkpoint:
    """The weights of a model on disk; tensors are read when asked for, where the format allows it.

    Args:
        files: Safetensors files, or PyTorch files that hold a dictionary of tensors.

    Raises:
        EncoderError: If a file is damaged or holds something else.
    """

    def __init__(self, files: list[Path]):
        self.place = str(files[0] if len(files) == 1 else files[0].parent)
        self._files: dict[str, Path] = {}
        self._tensors: dict[str, Tensor] = {}
        for file in files:
            if file.suffix != ".safetensors":
                self._tensors.update(_read_torch(file))
                continue
            read_header(file, EncoderError)
            try:
                with safe_open(file, framework="pt") as content:
                    self._files.update(dict.fromkeys(content.keys(), file))
            except (SafetensorError, RuntimeError, OSError, LookupError) as error:
                raise EncoderError(f"expected plain weights in {file}, could not read them: {reason(error)}") from error

    @property
    def keys(self) -> set[str]:
        """Names of all weights."""
        return self._files.keys() | self._tensors.keys()

    def read(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """Read some weights.

        Args:
            keys: Their names.

        Returns:
            Tensors by name; floating-point ones as float32, whatever they were on disk.
        """
        keys = list(keys)
        tensors = {key: self._tensors[key] for key in keys if key in self._tensors}
        for file in {self._files[key] for key in keys if key in self._files}:
            with safe_open(file, framework="pt") as content:
                tensors.update({key: content.get_tensor(key) for key in keys if self._files.get(key) == file})
        return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def load_encoder(model: torch.nn.Module, checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> None:
    """Put the weights of a checkpoint into an encoder: all of them, and none that it does not have.

    Args:
        model: Encoder.
        checkpoint: Weights of the encoder, perhaps with heads and a decoder beside it.
        prefixes: What may stand before the encoder's weights; the one that fits most of them is taken.

    Raises:
        EncoderError: If a weight is missing, surplus or of another shape; they are named.
    """
    expected = model.state_dict()
    plain = {_modern(key, expected): key for key in checkpoint.keys}
    prefix = max(prefixes, key=lambda prefix: sum(prefix + key in plain for key in expected))
    found = {key[len(prefix) :]: original for key, original in plain.items() if key.startswith(prefix)}
    stored = checkpoint.read(found[key] for key in expected.keys() & found.keys())
    state = {key: stored[found[key]] for key in expected.keys() & found.keys()}
    # Weights are only surplus where they can be told from heads that lie beside the encoder.
    groups = {key.partition(".")[0] for key in expected}
    surplus = [
        key for key in found.keys() - expected.keys() if key.partition(".")[0] in groups and not key.endswith(_IDLE)
    ]
    missing = [key for key in expected.keys() - state.keys() if not key.endswith(_IDLE)]
    _refuse(checkpoint.place, expected, state, missing, surplus)
    model.load_state_dict(state, strict=False)


def load_head(linear: torch.nn.Linear, checkpoint: Checkpoint, prefix: str) -> None:
    """Put the weights of a checkpoint's CTC head into a linear layer.

    Args:
        linear: Layer to fill.
        checkpoint: Weights; a convolution of width 1 serves as well as a linear layer.
        prefix: What stands before ``weight`` and ``bias``.

    Raises:
        EncoderError: If a weight is missing or of another shape; they are named.
    """
    expected = linear.state_dict()
    stored = checkpoint.read({prefix + key for key in expected} & checkpoint.keys)
    state = {key[len(prefix) :]: value for key, value in stored.items()}
    if "weight" in state and state["weight"].dim() == 3 and state["weight"].shape[2] == 1:
        state["weight"] = state["weight"].squeeze(2)
    _refuse(checkpoint.place, expected, state, [prefix + key for key in expected.keys() - state.keys()], [])
    linear.load_state_dict(state)


def _refuse(
    place: str, expected: dict[str, Tensor], state: dict[str, Tensor], missing: list[str], surplus: list[str]
) -> None:
    """Raise where weights are missing, surplus or of another shape."""
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(expected[key].shape)}"
        for key, value in state.items()
        if value.shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(sorted(keys)[:5])}{', ...' if len(keys) > 5 else ''}"
        for what, keys in (("missing", missing), ("surplus", surplus), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise EncoderError(
            f"expected the weights that config.json describes in {place}, got {'; '.join(problems)}: "
            "use the config.json that belongs to them"
        )


def _modern(key: str, expected: dict[str, Tensor]) -> str:
    """The name under which the installed PyTorch knows a weight-normalised parameter."""
    for now, before in _SPELLINGS:
        if key.endswith(before) and not any(name.endswith(before) for name in expected):
            return key[: -len(before)] + now
    return key


def _read_torch(file: Path) -> dict[str, Tensor]:
    state = read_pickled(file)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EncoderError(f"expected a dictionary of tensors in {file}, got something else: is it a model?")
    return state
