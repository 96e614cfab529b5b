"""The log of a training: one JSON line per report, consistent with the checkpoint that training went on from."""

from __future__ import annotations

import json
from pathlib import Path

from hfprobe.files import write_whole
from hfprobe.plain import parse_json, read_bytes

LOG = "train_log.jsonl"


def cut_log(folder: Path, step: int) -> None:
    """Keep the whole lines up to a step: what came after its checkpoint is about to be done again.

    Args:
        folder: Where `LOG` lies, or will lie.
        step: Steps already taken.

    Raises:
        ConfigError: It is no regular file, or cannot be read.
    """
    log = folder / LOG
    data = read_bytes(log, "the log of a training") if log.exists() else b""
    # A line that is damaged, even down to its encoding, is dropped like one that was cut off.
    lines = data.decode("utf-8", errors="replace").splitlines(keepends=True)
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
        return int(parse_json(line)["step"]) if line.endswith("\n") else -1
    except (ValueError, LookupError, TypeError, OverflowError):
        return -1
