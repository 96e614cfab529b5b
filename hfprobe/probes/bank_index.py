"""Reading `bank.json`, of both kinds of bank, without trusting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfprobe.errors import BankError
from hfprobe.hub.safety import read_json, refuse_code
from hfprobe.probes.bank_files import FLOOR, FORMAT_VERSION, INDEX, LAYER_FILES, RANDOM, check_layer_name

MELS, CLASSIFIERS = "probes", "classifiers"
CLASSES = {MELS: "ProbeBank", CLASSIFIERS: "ClassifierBank"}
MOST_LAYERS = 1000
_FIELDS = {"encoder": dict, "layers": list, "training": dict, "environment": dict, "sha256": dict}


def read_index(folder: Path, kind: str | None = MELS) -> dict[str, Any]:
    """Read and check `bank.json`.

    Args:
        folder: The bank's folder.
        kind: `MELS` or `CLASSIFIERS`; either where None.

    Returns:
        Its content, with ``kind`` filled in; layer names are safe to use as paths, and all files have checksums.

    Raises:
        BankError: If it is missing, not JSON, of another kind or format version, or incomplete.
    """
    path = folder / INDEX
    if not path.is_file():
        raise BankError(f"expected a bank of {kind or 'probes'} in {folder}, found no {INDEX}; check the path")
    index = read_json(path, BankError)
    refuse_code(index, path, BankError)
    if index.get("format_version") != FORMAT_VERSION:
        raise BankError(
            f"expected format version {FORMAT_VERSION} in {path}, got {_short(index.get('format_version'))}; "
            "use the hfprobe version it was made by"
        )
    found = index.setdefault("kind", MELS)
    known = isinstance(found, str) and found in CLASSES
    if not known or found != (kind or found):
        use = f"load it with {CLASSES[found]}" if known else "use a newer hfprobe"
        raise BankError(
            f"expected a bank of {kind or 'probes'} in {folder}, found another kind ({_short(found)}); {use}"
        )
    fields = {**_FIELDS, "mel": dict} if found == MELS else _FIELDS
    for key, wanted in fields.items():
        if not isinstance(index.get(key), wanted):
            raise BankError(
                f"expected {key!r} to be a {wanted.__name__} in {path}, got {_short(index.get(key))}; save it again"
            )
    layers = index["layers"]
    if len(layers) > MOST_LAYERS:
        raise BankError(f"expected at most {MOST_LAYERS} layers in {path}, got {len(layers)}; do not use this bank")
    for name in layers:
        check_layer_name(name, path)
    if not layers or len(set(layers)) != len(layers) or {FLOOR, RANDOM} & set(layers):
        raise BankError(f"expected different layer names other than {FLOOR!r} and {RANDOM!r} in {path}, got {layers}")
    for file in files_of(index):
        if not isinstance(index["sha256"].get(file), str):
            raise BankError(f"expected a checksum of {file} in {path}, found none; save the bank again")
    return index


def files_of(index: dict[str, Any], layers: list[str] | None = None) -> list[str]:
    """Paths of the files of some layers (all where None), the floor's included where the bank has one."""
    floor = [FLOOR] if index["kind"] == MELS else []
    return [
        f"{name}/{file}" for name in [*(index["layers"] if layers is None else layers), *floor] for file in LAYER_FILES
    ]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
