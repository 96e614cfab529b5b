"""ThinResNet's weights from the original's Keras file, without Keras.

Layer names contain slashes, so that HDF5 nests their groups: `conv1_1/3x3_s1` holds a weight and also the group of the
layer `conv1_1/3x3_s1/bn`. The attributes `layer_names` and `weight_names` say what belongs to what; walking the tree
would not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfprobe.errors import EncoderError
from hfprobe.speakers.thinresnet import STAGES, ThinResNet

TRAINABLE = 7_664_394
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
    import h5py

    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            root = _group(file, "model_weights") if "layer_names" not in file.attrs else file
            return _convert(root)
    except EncoderError as error:
        raise EncoderError(f"{path}: {error}") from error
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EncoderError(f"expected Keras weights in {path}, got: {reason}; download the file again") from error


def _convert(root: Any) -> dict[str, torch.Tensor]:
    table = keras_names()
    shapes = {key: tuple(value.shape) for key, value in ThinResNet().state_dict().items()}
    state, surplus = {}, []
    for layer in _texts(root, "layer_names"):
        if layer in IGNORED_LAYERS:
            continue
        group = _group(root, layer)
        for full in _texts(group, "weight_names"):
            # `conv1_1/3x3_s1/kernel:0`: the last part is the weight's own name.
            weight = full.rpartition("/")[2].partition(":")[0]
            ours = table.get((layer, weight))
            if ours is None or ours in state:
                surplus.append(f"{layer}: {full}")
                continue
            state[ours] = _tensor(group, full, keras_shape(weight, shapes[ours]), weight == "kernel")
    # Batch counts are PyTorch's own.
    wanted = [key for key in shapes if not key.endswith("num_batches_tracked")]
    missing = [f"{layer}: {weight}" for (layer, weight), ours in table.items() if ours not in state]
    for what, keys in (("missing", missing), ("surplus", surplus)):
        if keys:
            more = ", ..." if len(keys) > 5 else ""
            raise EncoderError(
                f"expected the weights of ThinResNet-34 with GhostVLAD (8 clusters, 2 ghosts), {len(keys)} {what}: "
                f"{', '.join(keys[:5])}{more}; use the original's weights.h5"
            )
    return {key: state[key] for key in wanted}


def _texts(group: Any, attribute: str) -> list[str]:
    if attribute not in group.attrs:
        raise EncoderError(f"expected Keras weights with the attribute {attribute}, found none; is it another file?")
    return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in group.attrs[attribute]]


def _group(root: Any, name: str) -> Any:
    import h5py

    group = _inside(root, name)
    if not isinstance(group, h5py.Group):
        raise EncoderError(f"expected a group {name} of weights, found none; use the original's weights.h5")
    return group


def _tensor(group: Any, name: str, shape: tuple[int, ...], kernel: bool) -> torch.Tensor:
    import h5py

    data = _inside(group, name)
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual or data.dtype.kind != "f":
        raise EncoderError(f"expected numbers in {name}, found none in this file; use the original's weights.h5")
    # The shape is compared before anything is read: a small file can claim to hold terabytes.
    if data.shape != shape:
        raise EncoderError(f"expected {name} of shape {shape}, got {data.shape}; it must have 8 clusters and 2 ghosts")
    array = np.asarray(data, dtype=np.float32)
    if not np.isfinite(array).all():
        raise EncoderError(f"expected finite numbers in {name}, got others; download the file again")
    if kernel:
        array = np.moveaxis(array, (-1, -2), (0, 1))
    return torch.from_numpy(np.ascontiguousarray(array))


def _inside(group: Any, name: str) -> Any:
    """A member of a group, reached without links: those may lead to other files."""
    import h5py

    for part in name.split("/"):
        if not part or not isinstance(group, h5py.Group):
            return None
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            return None
        group = group[part]
    return group
