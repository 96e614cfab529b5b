"""A training whose loss is no number stops, and the batch that did it is kept for a look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import save

from hfprobe.errors import ConfigError
from hfprobe.files import write_whole

FOLDER = "diverged"
_NAMED = 8  # utterances that the message names


def stop_diverged(folder: Path, step: int, rank: int, losses: dict[str, float], batch: Any) -> NoReturn:
    """Write the batch and raise.

    ``step-00000012-rank-0.safetensors`` holds ``waveforms`` (what went in), ``clean`` and ``lengths``; a JSON file of
    the same name says whose they are, and the loss of each layer.

    Args:
        folder: Of the training.
        step: Steps taken before this batch.
        rank: Number of the process.
        losses: By layer; some are NaN or infinite.
        batch: The `hfprobe.data.SpeechBatch`.

    Raises:
        ConfigError: Always.
    """
    stem = folder / FOLDER / f"step-{step:08d}-rank-{rank}"
    found = {name: getattr(batch, name, None) for name in ("waveforms", "clean", "lengths")}
    # `clean` is the same tensor as `waveforms` where there is no noise, and a file holds each under one name.
    tensors = {name: value.cpu().clone().contiguous() for name, value in found.items() if value is not None}
    names = list(getattr(batch, "ids", []))
    peaks = tensors["waveforms"].abs().amax(dim=1).tolist()
    finite = torch.isfinite(tensors["waveforms"]).all(dim=1).tolist()
    told = {
        "step": step,
        "losses": {name: _plain(value) for name, value in losses.items()},
        "utterances": [
            {
                "id": names[row] if names else str(row),
                "condition": getattr(batch, "conditions", ["?"] * len(peaks))[row],
                "samples": int(tensors["lengths"][row]),
                "peak": _plain(peaks[row]),
                "finite": finite[row],
            }
            for row in range(len(peaks))
        ],
    }
    write_whole(f"{stem}.safetensors", save(tensors))
    write_whole(f"{stem}.json", json.dumps(told, indent=2) + "\n")
    layer = next(name for name, value in losses.items() if _plain(value) is not value)
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    raise ConfigError(
        f"expected a finite loss for layer {layer!r}, got {losses[layer]} at step {step}; the batch ({shown}) is in "
        f"{stem}.safetensors, and what is known of it in {stem.name}.json; look whether a sound or a hidden "
        "state is broken, or begin anew with a lower learning rate (--no-resume --learning-rate)"
    )


def _plain(value: float) -> float | str:
    """A number that JSON knows, or its name."""
    return value if abs(value) < float("inf") else str(value)
