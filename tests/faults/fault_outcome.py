"""What a run left on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

SLOW = os.environ.get("HFPROBE_SLOW") == "1"
SMALL_BATCHES = {"kind": "put", "target": "hfprobe.analysis.evaluate:BATCH_SAMPLES", "value": 24000}
BATCHES = 6  # that the evaluation of these tests then has: three for each of two conditions


def weights(bank: Path) -> dict[str, bytes]:
    """Bytes of all probes of a bank."""
    found = {p.relative_to(bank): p for p in bank.rglob("model.safetensors") if "checkpoints" not in p.parts}
    return {str(name): path.read_bytes() for name, path in sorted(found.items())}


def numbers(bank: Path) -> dict:
    """Tensors of all probes of a bank, by layer and name."""
    from safetensors.torch import load_file

    return {
        (path.parent.name, name): tensor.float()
        for path in bank.glob("*/model.safetensors")
        for name, tensor in load_file(path).items()
    }


def table(folder: Path) -> dict[tuple, dict]:
    """Rows of a result file."""
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return {(r["encoder"], r["layer"], r["condition"], r["metric"]): r for r in rows}


def leftovers(folder: Path) -> list[str]:
    """What a run that ended must not leave: hidden files, and batches of an evaluation."""
    found = [*(p for p in folder.rglob("*") if p.name.startswith(".")), *folder.rglob("measured")]
    return [str(path.relative_to(folder)) for path in found]


def lines(path: Path) -> list[int]:
    """What the point ``count`` wrote."""
    return [int(line) for line in path.read_text().split()] if path.exists() else []
