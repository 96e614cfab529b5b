"""What lies in an ESPnet experiment folder: the configuration, the weights, the token list."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hfprobe.encoders.espnet.archive import is_safe_member
from hfprobe.errors import EncoderError
from hfprobe.hub.pickled import read_pickled
from hfprobe.hub.safety import read_header
from hfprobe.plain import line, read_text, read_yaml, reason, short, shown

CONFIG_NAME = "config.yaml"
META_NAME = "meta.yaml"
# Tasks of `espnet2.bin.pack` whose models have an encoder and a CTC head under the names of the ASR model.
_TASKS = ("asr", "s2t")
_EPOCH = re.compile(r"(\d+)epoch\.pth")


@dataclass(frozen=True)
class Experiment:
    """An experiment on disk.

    Args:
        name: Name of the folder.
        config: Content of ``config.yaml``.
        folder: Where the configuration lies; relative paths in it are looked up there.
        weights: The file of weights.
    """

    name: str
    config: dict[str, Any]
    folder: Path
    weights: Path

    @property
    def tokens(self) -> tuple[str, ...]:
        """The token list, from the configuration or from the file that it names.

        Raises:
            EncoderError: If there is no list and no such file.
        """
        listed = self.config.get("token_list")
        if isinstance(listed, str):
            source = next((path for path in (self.folder / listed, Path(listed)) if os.path.isfile(path)), None)
            if source is None:
                raise EncoderError(f"token_list of {self.folder} names a missing file: put {short(listed)} there")
            listed = read_text(source, "a token list", EncoderError).splitlines()
        if not isinstance(listed, list) or not listed:
            raise EncoderError(f"expected a token_list in the configuration in {self.folder}, got {short(listed)}")
        return tuple(str(token) for token in listed)


def open_experiment(path: str | Path, weights: str | None = None) -> Experiment:
    """Find the parts of an experiment.

    Args:
        path: Experiment folder with ``config.yaml``; unpacked ``espnet2.bin.pack`` archive (or Hub
            repository) with ``meta.yaml``; or one weight file inside an experiment folder.
        weights: Name of the weight file in the folder; found by `find_weights` where None.

    Returns:
        The experiment.

    Raises:
        EncoderError: If a part is missing or cannot be read.
    """
    path = Path(path)
    if path.is_file():
        path, weights = path.parent, path.name
    config_file, meta_weights = path / CONFIG_NAME, None
    if (path / META_NAME).is_file():
        meta = _read_yaml(path / META_NAME)
        config_file = path / (_meta_entry(meta, "yaml_files", "train_config", path) or CONFIG_NAME)
        meta_weights = _meta_entry(meta, "files", "model_file", path)
    if not os.path.isfile(config_file):
        raise EncoderError(f"expected {CONFIG_NAME} in {path}, found none: give an ESPnet experiment folder")
    if weights is not None:
        file = config_file.parent / weights
    elif meta_weights is not None:
        file = path / meta_weights
    else:
        file = find_weights(config_file.parent)
    if not os.path.isfile(file):
        found = ", ".join(sorted(item.name for item in _candidates(file.parent))) or "none"
        raise EncoderError(f"expected the weights {line(file.name)} in {shown(file.parent)}, found: {line(found)}")
    return Experiment(path.resolve().name, _read_yaml(config_file), config_file.parent, file)


def _meta_entry(meta: dict[str, Any], section: str, kind: str, folder: Path) -> str | None:
    """Path of a part that ``meta.yaml`` names, relative to its folder; None if it names none."""
    listed = meta.get(section) or {}
    if not isinstance(listed, dict):
        raise EncoderError(
            f"expected a mapping {section} in {folder / META_NAME}, got {short(listed)}: pack the model anew"
        )
    entry = next((listed[key] for key in (f"{task}_{kind}" for task in _TASKS) if listed.get(key)), None)
    if entry is not None and not (isinstance(entry, str) and is_safe_member(entry)):
        raise EncoderError(f"expected paths inside {folder} in {META_NAME}, got {short(entry)}: do not use this model")
    return entry


def find_weights(folder: Path) -> Path:
    """Choose the weight file of a folder.

    In this order: ``model.safetensors``; an average ``valid.*.ave*.pth``; a best ``valid.*.best.pth``; the
    last epoch ``<N>epoch.pth``; any other ``*.pth`` or ``*.safetensors``. Among several of a kind the
    newest by modification time (the last by name where equal) is taken. ``checkpoint.pth`` holds the
    optimiser and is never taken.

    Args:
        folder: Where to look.

    Returns:
        Path of the file.

    Raises:
        EncoderError: If there is none.
    """
    candidates = _candidates(folder)
    if not candidates:
        raise EncoderError(
            f"expected weights in {folder}, found none: copy model.safetensors, valid.loss.ave.pth, "
            "valid.loss.best.pth or another .pth there"
        )

    def preference(file: Path) -> tuple:
        epoch = _EPOCH.fullmatch(file.name)
        kinds = (
            file.name == "model.safetensors",
            re.fullmatch(r"valid\..*\.ave.*\.pth", file.name) is not None,
            re.fullmatch(r"valid\..*\.best\.pth", file.name) is not None,
            epoch is not None,
        )
        return (*kinds, int(epoch[1]) if epoch else 0, file.stat().st_mtime, file.name)

    return max(candidates, key=preference)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a weight file without running code from it.

    Args:
        file: A ``.safetensors`` file, or a ``.pth`` file that holds a dictionary of tensors.

    Returns:
        Tensors by name on the CPU; floating-point ones as float32, whatever they were on disk.

    Raises:
        EncoderError: If the file is damaged, or is a training checkpoint instead of weights.
    """
    if file.suffix == ".safetensors":
        read_header(file, EncoderError)
        try:
            state = load_file(file)
        except (SafetensorError, RuntimeError, OSError, LookupError) as error:
            raise EncoderError(f"expected plain weights in {file}, could not read them: {reason(error)}") from error
    else:
        state = read_pickled(file)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EncoderError(
            f"expected a dictionary of tensors in {file}, got something else: "
            "a training checkpoint? give a file such as valid.loss.best.pth"
        )
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _candidates(folder: Path) -> list[Path]:
    files = [*folder.glob("*.safetensors"), *folder.glob("*.pth")]
    return [file for file in files if file.is_file() and file.name != "checkpoint.pth"]


def _read_yaml(file: Path) -> dict[str, Any]:
    content = read_yaml(file, "YAML", EncoderError)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise EncoderError(f"expected a mapping in {file}, got {kind}: is it an ESPnet file?")
    return content
