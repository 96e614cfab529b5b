"""What is refused before a file of somebody else is opened.

Sources: the format of safetensors (https://github.com/huggingface/safetensors: 8 bytes little-endian length, a JSON
header, the data); the first bytes of pickles (``\\x80``, Python's ``pickle`` protocol 2 and later) and of the zip
archives in which PyTorch wraps them (``PK``).
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path, PurePosixPath
from typing import Any

from hfprobe.errors import HfprobeError, HubError
from hfprobe.plain import check_file

JSON_LIMIT = 4_000_000  # bytes; the settings of a model are some kB, a vocabulary some hundred
HEADER_LIMIT = 4_000_000  # bytes; 100 per tensor
WEIGHTS_LIMIT = 4_000_000_000  # bytes of one probe
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy")
# Settings by which a config.json makes transformers fetch and run code, or unpack something else than plain tensors.
CODE_SETTINGS = ("auto_map", "custom_pipelines", "quantization_config")
ATTENTION_SETTINGS = ("attn_implementation", "_attn_implementation", "experts_implementation")
# Bytes of a number; of types that are not here (some have less than one) the size is not checked.
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def check_subfolder(subfolder: str | None) -> tuple[str, ...]:
    """Parts of the path of a folder inside a repository.

    Raises:
        HubError: It leads out of the repository.

    Example:
        >>> check_subfolder("banks/robust")
        ('banks', 'robust')
        >>> check_subfolder("../elsewhere")
        Traceback (most recent call last):
        ...
        hfprobe.errors.HubError: expected a subfolder inside the repository, got '../elsewhere'; use a path without '..'
    """
    text = subfolder or ""
    parts = PurePosixPath(text).parts
    strange = "\\" in text or re.match(r"[A-Za-z]:", text) or any(ord(letter) < 32 for letter in text)
    if strange or any(part == ".." or part.startswith("/") for part in parts):
        raise HubError(f"expected a subfolder inside the repository, got {subfolder!r}; use a path without '..'")
    return parts


def check_inside(path: Path, folder: Path) -> Path:
    """Refuse a file that is a link to somewhere else; the links of the Hub's cache to its own blobs are fine.

    Args:
        path: A file below ``folder``, there or not.
        folder: The folder; it may itself be a link.

    Returns:
        The path.

    Raises:
        HubError: It leads out of the folder.
    """
    try:
        real, root = path.resolve(), folder.resolve()
    except (OSError, RuntimeError) as problem:  # a link to itself is a RuntimeError
        raise HubError(f"expected {path.name} in {folder}, it is a link that leads nowhere: put it there") from problem
    allowed = [root]
    parts = root.parts
    if "snapshots" in parts:
        # models--user--name/snapshots/COMMIT/file is a link to models--user--name/blobs/HASH
        place = len(parts) - 1 - parts[::-1].index("snapshots")
        allowed.append(Path(*parts[:place], "blobs"))
    if not any(real.is_relative_to(place) for place in allowed):
        raise HubError(f"expected {path.name} inside {folder}, it is a link to elsewhere; put the file itself there")
    return path


def read_json(path: Path, error: type[HfprobeError] = HubError, limit: int = JSON_LIMIT) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: The file.
        error: What is raised.
        limit: Largest size in bytes.

    Raises:
        HfprobeError: It is missing, too large, not JSON, nested too deep, or holds something else than an object.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise error(f"expected at most {limit:,} bytes in {path}, got {size:,}; do not use this repository")
        check_file(path, "JSON", error)
        content = json.loads(path.read_text(encoding="utf-8"))
    except HfprobeError:
        raise
    except FileNotFoundError as problem:
        raise error(f"expected {path}, found no such file; save or download it again") from problem
    except RecursionError as problem:
        raise error(f"expected JSON in {path}, it is nested too deep; do not use this repository") from problem
    except (OSError, ValueError) as problem:
        reason = (str(problem).strip() or type(problem).__name__).splitlines()[0][:200]
        raise error(f"expected JSON in {path}, could not read it: {reason}; save or download it again") from problem
    if not isinstance(content, dict):
        raise error(f"expected a JSON object in {path}, got {type(content).__name__}; save or download it again")
    return content


def refuse_code(settings: Any, place: object, error: type[HfprobeError] = HubError) -> None:
    """Refuse settings that name code to be run.

    Args:
        settings: Content of a ``config.json`` or the like, at any depth.
        place: Where it came from, for the message.
        error: What is raised.

    Raises:
        HfprobeError: A setting names code, and which.

    Example:
        >>> refuse_code({"model_type": "hubert", "auto_map": {"AutoModel": "model.Evil"}}, "config.json")
        Traceback (most recent call last):
        ...
        hfprobe.errors.HubError: config.json names code to run ('auto_map'); hfprobe runs no code from repositories: ...
    """
    todo = [settings]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo += item
        elif isinstance(item, dict):
            todo += item.values()
            named = [key for key in CODE_SETTINGS if item.get(key)]
            # A plain name ("sdpa") is transformers' own; "user/name" would be fetched as a compiled kernel.
            named += [key for key in ATTENTION_SETTINGS if "/" in str(item.get(key) or "")]
            if named:
                raise error(
                    f"{place} names code to run ({named[0]!r}); hfprobe runs no code from repositories: use one "
                    "without it, or a copy without this entry if plain classes of transformers fit its weights"
                )


def read_header(
    path: Path, error: type[HfprobeError] = HubError, limit: int = HEADER_LIMIT
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, types and shapes of the tensors in a safetensors file, checked against the file's size.

    Args:
        path: The file.
        error: What is raised.
        limit: Largest header in bytes.

    Returns:
        Name to type (``"F32"``) and shape.

    Raises:
        HfprobeError: The file is a pickle, its header is too long, not JSON, or does not fit the file.
    """

    def bad(what: str) -> HfprobeError:
        return error(f"expected safetensors in {path}, {what}; save or download it again, or do not use it")

    try:
        size = path.stat().st_size
        check_file(path, "safetensors", error)
        with open(path, "rb") as file:
            start = file.read(8)
            # A header of 640 bytes starts like a pickle too, but then come zeros, which no pickle has there.
            pickled = start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5") and any(start[2:])
            if start[:4] == b"PK\3\4" or pickled:
                raise error(
                    f"expected safetensors in {path}, got a pickle, which could run code; only safetensors are read"
                )
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > size - 8:
                raise bad(f"got {size:,} bytes whose header is said to have {length:,}: truncated or not safetensors")
            if length > limit:
                raise bad(f"got a header of {length:,} bytes (at most {limit:,} are read)")
            header = json.loads(file.read(length).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        if isinstance(problem, HfprobeError):
            raise
        reason = (str(problem).strip() or type(problem).__name__).splitlines()[0][:200]
        raise bad(f"could not read its header: {reason}") from problem
    if not isinstance(header, dict):
        raise bad("its header is no JSON object")
    tensors, spans = {}, []
    for name, item in header.items():
        if name == "__metadata__":
            continue
        try:
            kind, shape, (first, last) = item["dtype"], tuple(item["shape"]), item["data_offsets"]
            fits = all(type(n) is int and n >= 0 for n in (*shape, first, last))
            fits = fits and isinstance(kind, str) and first <= last
            fits = fits and (kind not in SIZES or last - first == math.prod(shape) * SIZES[kind])
        except (TypeError, KeyError, ValueError):
            fits = False
        if not fits:
            raise bad(f"the entry of {name[:80]!r} in its header is malformed")
        tensors[name] = (kind, shape)
        spans.append((first, last))
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise bad("its tensors overlap or leave gaps")
        end = last
    if end != size - 8 - length:
        raise bad(f"its header describes {end:,} bytes of data, the file has {size - 8 - length:,}")
    return tensors
