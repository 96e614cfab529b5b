"""Checkpoints of a training that can go on as if it had never stopped.

```
checkpoints/step-00000500/trainer.json          step, minutes, what has to match on resumption
                          probes.safetensors    weights and statistics of all probes
                          optimizer.pt          AdamW's moments
                          rank-0.pt, ...        random number generators and stream of each process
```
A checkpoint is written under another name and renamed when complete, and the last two are kept. The `.pt`
files are read with `weights_only=True`: a folder from elsewhere cannot run code. (Accelerate's own
`save_state` pickles.)
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hfprobe.errors import BankError, ConfigError
from hfprobe.files import clear_unfinished
from hfprobe.hub.pickled import read_pickled
from hfprobe.hub.safety import read_header
from hfprobe.plain import read_json, reason, short, shown

KEEP = 2
_ARRAY = "__ndarray__"
# What checkpoints from before a setting existed agree with.
_EARLIER = {"probe": "highway", "random": None}
DATA = "data."  # before what the stream says that it depends on


def to_plain(value: Any, place: str = "stream state") -> Any:
    """A copy made of plain values and tensors only, which `weights_only` loading accepts.

    Args:
        value: Nested dictionaries, lists, tuples, strings, bytes, numbers, None, tensors, NumPy arrays and
            numbers.
        place: Where the value is, for the message.

    Returns:
        The copy; NumPy arrays become marked tensors.

    Raises:
        ConfigError: If there is anything else in it.

    Example:
        >>> to_plain({"position": np.int64(3)})
        {'position': 3}
    """
    if isinstance(value, dict):
        return {to_plain(key, place): to_plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [to_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {_ARRAY: torch.from_numpy(value.copy())}
    if isinstance(value, torch.Tensor) or value is None or type(value) in (str, bytes, int, float, bool):
        return value
    raise ConfigError(
        f"expected plain values, tensors and numeric arrays in {place}, got {type(value).__name__}; "
        "make the stream's state_dict() return those"
    )


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`."""
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {key: from_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(from_plain(item) for item in value)
    return value


def random_state() -> dict:
    """State of the global random number generators of this process."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = np.random.get_state(legacy=False)
    return {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict) -> None:
    """Put the global random number generators back."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def write(
    root: Path,
    accelerator: Any,
    trainer: dict,
    tensors: dict[str, torch.Tensor],
    optimizer: dict,
    local: dict,
) -> None:
    """Write one checkpoint; every process calls this after the same step.

    Args:
        root: The `checkpoints` folder.
        accelerator: Accelerate's, for the processes' rank and for waiting.
        trainer: JSON values; `step` names the checkpoint.
        tensors: Weights and buffers.
        optimizer: `state_dict` of the optimiser.
        local: What belongs to this process only.
    """
    final = root / f"step-{trainer['step']:08d}"
    temporary = root / f".{final.name}.tmp"
    main = accelerator.is_main_process
    if main:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        # Made in memory and then written: PyTorch and safetensors do not say in a usable way that a disk is full.
        (temporary / f"rank-{accelerator.process_index}.pt").write_bytes(_pickled(to_plain(local, "state")))
        if main:
            weights = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            (temporary / "probes.safetensors").write_bytes(save(weights))
            (temporary / "optimizer.pt").write_bytes(_pickled(optimizer))
            (temporary / "trainer.json").write_bytes((json.dumps(trainer, indent=2) + "\n").encode())
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # gives room back; the checkpoints before this one stay
        raise
    accelerator.wait_for_everyone()
    if main:
        if final.exists():
            _remove(final)
        os.rename(temporary, final)
        prune(root)
    accelerator.wait_for_everyone()


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _remove(folder: Path) -> None:
    """Under another name first: a folder that is half removed must not pass for a checkpoint."""
    doomed = folder.with_name(f".{folder.name}.old.tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def check_identity(stored: dict, wanted: dict, folder: Path) -> None:
    """Refuse to go on from the checkpoint of another training.

    Args:
        stored: Its settings, encoder and layers.
        wanted: Those of the training that would go on.
        folder: Of the checkpoint, for the message.

    Raises:
        ConfigError: If they differ.
    """
    said = any(key.startswith(DATA) for key in stored)
    for key, value in wanted.items():
        if key.startswith(DATA) and not said:
            continue  # a checkpoint from before streams said it, or of another kind of stream
        before = stored.get(key, _EARLIER.get(key))
        if before != value:
            raise ConfigError(
                f"expected {key}={short(before)} as in {folder}, got {short(value)}; "
                "restore it, begin anew with --no-resume (resume=False), or choose another output folder"
            )


def available(root: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    return sorted((path for path in root.glob("step-" + "[0-9]" * 8) if path.is_dir()), reverse=True)


def prune(root: Path) -> None:
    """Remove all checkpoints but the last few."""
    for old in available(root)[KEEP:]:
        _remove(old)


def clear(root: Path) -> None:
    """Remove all checkpoints, so that a fresh run is never mistaken for an old one's continuation."""
    for path in available(root):
        _remove(path)
    clear_unfinished(root)


def read(folder: Path, rank: int) -> tuple[dict, dict[str, torch.Tensor], dict, dict]:
    """Read one checkpoint.

    Args:
        folder: One of `available`.
        rank: This process's rank.

    Returns:
        trainer, tensors, optimizer and local, as given to `write`.

    Raises:
        BankError: If a file is missing or broken.
    """
    try:
        trainer = read_json(folder / "trainer.json", error=BankError)
        read_header(folder / "probes.safetensors", BankError)
        tensors = load_file(folder / "probes.safetensors")
        optimizer = read_pickled(folder / "optimizer.pt", "the optimizer's state", BankError)
        local = read_pickled(folder / f"rank-{rank}.pt", "the state of a process", BankError)
        if not all(isinstance(part, dict) for part in (trainer, optimizer, local)):
            raise ValueError("a part is not keys and values")
        return trainer, tensors, optimizer, from_plain(local)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, LookupError, SafetensorError) as error:
        raise BankError(
            f"expected a complete checkpoint in {shown(folder)}, got: {reason(error)}; remove that folder "
            "to resume from the one before, or begin anew with --no-resume (resume=False)"
        ) from error
