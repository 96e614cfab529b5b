"""The log of a training: one JSON line per report, consistent with the checkpoint that training went on from."""

from __future__ import annotations

import json
from pathlib import Path

from hfprobe.files import write_whole

LOG = "train_log.jsonl"


def cut_log(folder: Path, step: int) -> None:
    """Keep the whole lines up to a step: what came after its checkpoint is about to be done again.

    Args:
        folder: Where `LOG` lies, or will lie.
        step: Steps already taken.
    """
    log = folder / LOG
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    write_whole(log, "".join(line for line in lines if 0 < _step_of(line) <= step))


def add_line(folder: Path, **values: object) -> None:
    """Append one line; values that are None are left out.

    Args:
        folder: Where `LOG` lies.
        **values: ``step``, ``seconds``, ``loss`` and ``dev_loss``.
    """
    kept = {key: value for key, value in values.items() if value is not None}
    with open(folder / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps(kept) + "\n")


def _step_of(line: str) -> int:
    """Step of a line; -1 for a line that an interrupted write left damaged."""
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else -1
    except (ValueError, KeyError, TypeError):
        return -1
