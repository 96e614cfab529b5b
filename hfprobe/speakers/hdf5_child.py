"""Reads weights out of a Keras file, in a process of its own: on a damaged file HDF5's library may crash or never end.

Run by `hfprobe.speakers.keras_weights` as a script, so that it starts without PyTorch. A job comes as JSON on standard
input, with ``path``, ``output``, ``ignored`` layers, and ``wanted``: triples of layer, weight and shape. What was found
goes to ``output`` as safetensors (names are places in ``wanted``), and a line of JSON to standard output: ``surplus``,
what the file has besides; or ``refused`` or ``unreadable``, why it was not read.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import h5py
import numpy as np
from safetensors.numpy import save_file

SECONDS = 10  # of processor time; a whole file takes less than one
ADDRESSES = 6 << 30  # bytes; a whole file takes a fifth


class Refused(Exception):
    """The file is HDF5, and not the one that was expected."""


def main() -> None:
    """Do the job."""
    job = json.load(sys.stdin)
    _limit()
    try:
        with h5py.File(job["path"], "r") as file:
            root = _group(file, "model_weights") if "layer_names" not in file.attrs else file
            found, surplus = _read(root, job["wanted"], job["ignored"])
        save_file(found, job["output"])
        said: dict[str, Any] = {"surplus": surplus}
    except Refused as error:
        said = {"refused": str(error)}
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        said = {"unreadable": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(said))


def _limit() -> None:
    """Bounds that the system keeps, whatever the library does."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES if hard < 0 else min(ADDRESSES, hard), hard))


def _read(root: Any, wanted: list, ignored: list[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Weights by their place in ``wanted``, and what else there is."""
    places = {(layer, weight): number for number, (layer, weight, _) in enumerate(wanted)}
    found: dict[str, np.ndarray] = {}
    surplus = []
    for layer in _texts(root, "layer_names"):
        if layer in ignored:
            continue
        group = _group(root, layer)
        for full in _texts(group, "weight_names"):
            # `conv1_1/3x3_s1/kernel:0`: the last part is the weight's own name.
            place = places.get((layer, full.rpartition("/")[2].partition(":")[0]))
            if place is None or str(place) in found:
                surplus.append(f"{layer}: {full}")
                continue
            found[str(place)] = _array(group, full, tuple(wanted[place][2]))
    return found, surplus


def _texts(group: Any, attribute: str) -> list[str]:
    if attribute not in group.attrs:
        raise Refused(f"expected Keras weights with the attribute {attribute}, found none; is it another file?")
    return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in group.attrs[attribute]]


def _group(root: Any, name: str) -> Any:
    group = _inside(root, name)
    if not isinstance(group, h5py.Group):
        raise Refused(f"expected a group {name} of weights, found none; use the original's weights.h5")
    return group


def _array(group: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    data = _inside(group, name)
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual or data.dtype.kind != "f":
        raise Refused(f"expected numbers in {name}, found none in this file; use the original's weights.h5")
    # The shape is compared before anything is read: a small file can claim to hold terabytes.
    if data.shape != shape:
        raise Refused(f"expected {name} of shape {shape}, got {data.shape}; it must have 8 clusters and 2 ghosts")
    array = np.asarray(data, dtype=np.float32)
    if not np.isfinite(array).all():
        raise Refused(f"expected finite numbers in {name}, got others; download the file again")
    return array


def _inside(group: Any, name: str) -> Any:
    """A member of a group, reached without links: those may lead to other files."""
    for part in name.split("/"):
        if not part or not isinstance(group, h5py.Group):
            return None
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            return None
        group = group[part]
    return group


if __name__ == "__main__":
    main()
