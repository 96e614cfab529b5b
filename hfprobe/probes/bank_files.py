"""How a bank lies on disk, and how it gets there without ever being half there.

```
bank.json             format version, encoder, layers, mel settings, training settings, environment, checksums
blstm1/config.json    one transformers model per layer
blstm1/model.safetensors
floor/...             the mean-mel floor
random/bank.json      where trained: a bank of its own, of the same encoder with random weights
```
The checksums in `bank.json` tie the files to one another: a truncated download, or a folder in which two
banks got mixed, is an error and never a wrong result. Nothing in `bank.json` is used as a
path before it matches `LAYER_NAME`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from hfprobe.errors import BankError
from hfprobe.plain import short

FORMAT_VERSION = 1
INDEX = "bank.json"
FLOOR = "floor"
RANDOM = "random"  # folder in a bank's folder: the bank of the encoder's twin with random weights
LAYER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
LAYER_FILES = ("config.json", "model.safetensors")
DTYPES = {"float16": torch.float16, "float32": torch.float32}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing a progress bar and a report for each of a bank's small files."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def check_layer_name(name: object, source: object) -> str:
    """Refuse a layer name that could be a path.

    Example:
        >>> check_layer_name("blstm1", "bank")
        'blstm1'
    """
    if not isinstance(name, str) or not LAYER_NAME.fullmatch(name):
        raise BankError(
            f"expected layer names of letters, digits, '_' and '-' in {source}, got {short(name)}; "
            "do not use this bank, or rename the layer before saving"
        )
    return name


def check_files(folder: Path, index: dict, files: Iterable[str]) -> None:
    """Compare files of a bank with the checksums of its index.

    Raises:
        BankError: If a file is missing, truncated, or from another bank.
    """
    for file in files:
        path = folder / file
        if not path.is_file():
            raise BankError(f"expected {path}, found no such file; the bank is incomplete, copy or download it again")
        if sha256(path) != index["sha256"][file]:
            raise BankError(
                f"expected {path} to match its checksum in {INDEX}, it does not "
                f"({path.stat().st_size} bytes); truncated or from another bank, download it again"
            )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_probe(probe, folder: Path, dtype: str) -> None:
    """Write one probe; its weights in `dtype`, its statistics in float32 always.

    Args:
        probe: A probe of a layer, or a `MeanProbe`.
        folder: New folder for `config.json` and `model.safetensors`.
        dtype: ``"float16"`` or ``"float32"``.

    Raises:
        BankError: If a weight is too large for float16, or not finite.
    """
    weights = {name for name, value in probe.named_parameters() if value.requires_grad}
    state = {}
    for name, value in probe.state_dict().items():
        kept = value.detach().to("cpu", DTYPES[dtype] if name in weights else torch.float32).contiguous()
        if not torch.isfinite(kept).all():
            raise BankError(
                f"expected finite {name} of layer {probe.config.layer!r} as {dtype}, got infinity or NaN; "
                "save with dtype='float32' or train again with a lower learning rate"
            )
        state[name] = kept
    try:
        probe.save_pretrained(folder, state_dict=state)
    except SafetensorError as error:  # how it says that the disk is full
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
    # safetensors creates its file readable by the owner only; a bank is meant to be shared.
    for path in folder.iterdir():
        path.chmod(0o644)


def fits_float16(probes: Iterable) -> bool:
    """Whether the trained weights of probes are float16 numbers already."""
    weights = (value for probe in probes for value in probe.parameters() if value.requires_grad)
    return all(torch.equal(value, value.to(torch.float16).to(value.dtype)) for value in weights)


def write_bank(folder: Path, probes: dict, index: dict, dtype: str) -> None:
    """Write a bank so that a reader sees the old one, the new one or an error, never a mixture.

    Args:
        folder: Where to; other files there (logs, checkpoints, a model card) stay.
        probes: Layer name to probe, the floor included.
        index: Content of `bank.json` without the checksums.
        dtype: ``"float16"`` or ``"float32"``, how weights are stored.

    Raises:
        BankError: If a weight cannot be stored.
    """
    fresh = not folder.exists()
    parent = folder.parent if fresh else folder
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".bank-", suffix=".part", dir=parent))
    try:
        checksums: dict[str, str] = {}
        with quiet_transformers():
            for name, probe in probes.items():
                write_probe(probe, temporary / name, dtype)
                checksums |= {f"{name}/{file}": sha256(temporary / name / file) for file in LAYER_FILES}
        text = json.dumps({**index, "sha256": checksums}, indent=2, ensure_ascii=False) + "\n"
        (temporary / INDEX).write_text(text, encoding="utf-8")
        if fresh:
            temporary.chmod(0o755)
            os.rename(temporary, folder)
            return
        # The index goes first and comes back last: between the two there is no bank, rather than a mixed one.
        (folder / INDEX).unlink(missing_ok=True)
        for name in probes:
            if (folder / name).exists():
                os.rename(folder / name, temporary / f"old-{name}")
            os.rename(temporary / name, folder / name)
        os.replace(temporary / INDEX, folder / INDEX)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
