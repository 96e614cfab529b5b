"""ThinResNet's weights from the original's Keras file, without Keras.

Layer names contain slashes, so that HDF5 nests their groups: `conv1_1/3x3_s1` holds a weight and also the group of the
layer `conv1_1/3x3_s1/bn`. The attributes `layer_names` and `weight_names` say what belongs to what; walking the tree
would not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from hfprobe.errors import EncoderError
from hfprobe.plain import check_file, line, shown
from hfprobe.speakers.thinresnet import STAGES, ThinResNet

TRAINABLE = 7_664_394
WAITING = 300  # seconds for the process that reads HDF5, on a machine that does other things too
# The classifier over training speakers, which a training checkpoint has and an encoder has no use for.
IGNORED_LAYERS = frozenset({"prediction"})
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def keras_names() -> dict[tuple[str, str], str]:
    """Which weight of which Keras layer becomes which of `ThinResNet`'s.

    Returns:
        From (layer, weight) to the name in `ThinResNet().state_dict()`, in Keras' order within a layer.

    Example:
        >>> keras_names()["conv2_a_1x1_reduce/bn", "gamma"]
        'blocks.conv2_a.reduce.bn.weight'
    """
    convolutions = {"conv1_1/3x3_s1": "first"}
    for names, _, _ in STAGES:
        for index, name in enumerate(names):
            parts = {"1x1_reduce": "reduce", "3x3": "middle", "1x1_increase": "increase"}
            if index == 0:
                parts["1x1_proj"] = "project"
            convolutions |= {f"{name}_{keras}": f"blocks.{name}.{ours}" for keras, ours in parts.items()}
    table = {}
    for keras, ours in convolutions.items():
        table[keras, "kernel"] = f"{ours}.conv.weight"
        table |= {(f"{keras}/bn", weight): f"{ours}.bn.{name}" for weight, name in _NORM.items()}
    for keras, ours in (("x_fc", "features"), ("gvlad_center_assignment", "assignment"), ("fc6", "bottleneck")):
        table |= {(keras, "kernel"): f"{ours}.weight", (keras, "bias"): f"{ours}.bias"}
    table["gvlad_pool", "centers"] = "vlad.centers"
    return table


def keras_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in Keras of a weight that has a shape in PyTorch.

    Args:
        name: The weight's own name: `kernel`, `bias`, `gamma`, ...
        shape: In PyTorch: a convolution's kernel is (out, in, height, width), a matrix (out, in).

    Returns:
        In Keras: (height, width, in, out) and (in, out); other weights have one shape in both.

    Example:
        >>> keras_shape("kernel", (10, 512, 7, 1)), keras_shape("centers", (10, 512))
        ((7, 1, 512, 10), (10, 512))
    """
    if name != "kernel":
        return shape
    return (*shape[2:], shape[1], shape[0])


def read_keras(path: str | Path) -> dict[str, torch.Tensor]:
    """Read `weights.h5`, strictly.

    Args:
        path: File as `model.save_weights` of Keras 2 writes it (or `model.save`, with the weights in
            `model_weights`). A layer `prediction` is left out.

    Returns:
        A state dictionary for `ThinResNet`, float32.

    Raises:
        EncoderError: If the file cannot be read, or a weight is missing, surplus or of another shape.
    """
    path = Path(path)
    # A link or a pipe is looked at here: the other process would wait for it.
    check_file(path, "Keras weights", EncoderError)
    table = keras_names()
    shapes = {key: tuple(value.shape) for key, value in ThinResNet().state_dict().items()}
    wanted = [[layer, weight, keras_shape(weight, shapes[ours])] for (layer, weight), ours in table.items()]
    with tempfile.TemporaryDirectory(prefix="hfprobe-") as folder:
        output = Path(folder, "weights.safetensors")
        said = _ask({"path": str(path), "output": str(output), "wanted": wanted, "ignored": sorted(IGNORED_LAYERS)})
        if "refused" in said:
            raise EncoderError(f"{shown(path)}: {said['refused']}")
        if "unreadable" in said:
            why = line(said["unreadable"])
            raise EncoderError(f"expected Keras weights in {shown(path)}, got: {why}; download the file again")
        arrays = load_file(output)
    missing = [f"{layer}: {weight}" for number, (layer, weight, _) in enumerate(wanted) if str(number) not in arrays]
    for what, keys in (("missing", missing), ("surplus", said["surplus"])):
        if keys:
            more = ", ..." if len(keys) > 5 else ""
            raise EncoderError(
                f"{shown(path)}: expected the weights of ThinResNet-34 with GhostVLAD (8 clusters, 2 ghosts), "
                f"{len(keys)} {what}: {line(', '.join(keys[:5]))}{more}; use the original's weights.h5"
            )
    state = {
        ours: arrays[str(number)].permute(-1, -2, *range(arrays[str(number)].ndim - 2)).contiguous()
        if wanted[number][1] == "kernel"
        else arrays[str(number)]
        for number, ours in enumerate(table.values())
    }
    # Batch counts are PyTorch's own.
    return {key: state[key] for key in shapes if not key.endswith("num_batches_tracked")}


def _ask(job: dict[str, Any]) -> dict[str, Any]:
    """What the process that reads HDF5 says; how it ended, where that was not by itself."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("hdf5_child.py"))]
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # its threads would take their address space
    try:
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, timeout=WAITING, env={**os.environ, **quiet}
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"unreadable": f"nothing from HDF5's library within {WAITING} s"}
    if done.returncode:
        by = f"signal {-done.returncode}" if done.returncode < 0 else line(done.stderr[-200:])
        return {"unreadable": f"HDF5's library broke off or never ended ({by})"}
    return json.loads(done.stdout)
