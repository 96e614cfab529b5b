"""Checks that stand before every measure: an error with a reason instead of NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfprobe.errors import MeasureError

MIN_SAMPLES = 4
# A feature whose spread is below this share of its mean is rounding, not signal.
_RELATIVE_SPREAD = 1e-14


def check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not in a list.

    Raises:
        MeasureError: It is not; the message lists what is.
    """
    if value not in known:
        raise MeasureError(f"unknown {what} {value!r}; choose from {', '.join(known)}", "option")


def as_features(features: Any, name: str = "X", device: torch.device | None = None) -> Tensor:
    """Features as a tensor ``(n, d)`` of real numbers, of any type; not a copy where they are one.

    Args:
        features: Array, tensor or nested list ``(n, d)``.
        name: What to call it in messages.
        device: Where arrays go; tensors must be there already.

    Raises:
        MeasureError: It is not a matrix of real numbers (``"shape"``, ``"type"``, ``"device"``).
    """
    if isinstance(features, Tensor):
        matrix = features.detach()
    else:
        try:
            matrix = torch.from_numpy(np.array(features))
        except (TypeError, ValueError) as error:
            raise MeasureError(f"expected {name} as numbers of shape (n, d), got {error}", "type") from None
    if matrix.dim() != 2 or 0 in matrix.shape:
        raise MeasureError(f"expected {name} of shape (n, d), got {tuple(matrix.shape)}; flatten it to frames", "shape")
    if matrix.is_complex():
        raise MeasureError(f"expected real numbers in {name}, got {matrix.dtype}", "type")
    if device is not None and matrix.device != device:
        if isinstance(features, Tensor):
            raise MeasureError(f"expected {name} on {device}, got {matrix.device}; move one of them", "device")
        matrix = matrix.to(device)
    return matrix


def as_matrix(features: Any, name: str = "X", device: torch.device | None = None) -> Tensor:
    """`as_features` as float64, without NaN and infinity.

    Raises:
        MeasureError: As there; or a number is not finite (``"nan"``).
    """
    matrix = as_features(features, name, device).to(torch.float64)
    check_finite(matrix, name)
    return matrix


def check_finite(matrix: Tensor, name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        MeasureError: There is one (``"nan"``).
    """
    if not bool(torch.isfinite(matrix).all()):
        raise MeasureError(f"expected finite numbers in {name}, got NaN or infinity; leave such frames out", "nan")


def as_pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Two matrices of checked features with the same samples.

    Returns:
        float64 ``(n, d1)`` and ``(n, d2)`` on one device.

    Raises:
        MeasureError: See `as_matrix`; or different or too few samples (``"length"``, ``"few"``).
    """
    home = next((item.device for item in (x, y) if isinstance(item, Tensor)), None)
    left, right = as_matrix(x, "X", home), as_matrix(y, "Y", home)
    if len(left) != len(right):
        raise MeasureError(
            f"expected the same samples on both sides, got {len(left)} and {len(right)}; pair the frames first",
            "length",
        )
    check_count(len(left))
    return left, right


def check_count(n: int) -> None:
    """Refuse fewer than `MIN_SAMPLES` samples.

    Raises:
        MeasureError: There are too few (``"few"``).
    """
    if n < MIN_SAMPLES:
        raise MeasureError(f"expected at least {MIN_SAMPLES} samples, got {n}; give more frames", "few")


def centred(matrix: Tensor, name: str = "X") -> Tensor:
    """The matrix with column means 0, at a scale whose squares neither overflow nor vanish.

    All measures here ignore a common factor, so one is free. Columns that are constant up to rounding become 0.

    Raises:
        MeasureError: All columns are constant (``"constant"``).
    """
    peak = matrix.abs().amax()
    if peak > 0:
        matrix = matrix / peak
    mean = matrix.mean(dim=0)
    moved = matrix - mean
    still = moved.abs().amax(dim=0) <= _RELATIVE_SPREAD * mean.abs()
    moved = moved.masked_fill(still, 0.0)
    peak = moved.abs().amax()
    if peak == 0:
        raise all_constant(name)
    moved = moved / peak
    return moved / torch.linalg.norm(moved)


def still_columns(scatter: Tensor, mean: Tensor, n: float) -> Tensor:
    """Columns that are constant up to rounding, as `centred` finds them, from their scatter ``(d,)``."""
    return scatter <= n * (_RELATIVE_SPREAD * mean) ** 2


def all_constant(name: str) -> MeasureError:
    """The error for a side without any variation."""
    return MeasureError(
        f"expected {name} to vary, got constant features only; check the layer and its input", "constant"
    )


def rank_error(name: str, rank: int, dim: int, n: int) -> MeasureError:
    """The error for a side whose columns depend on one another."""
    return MeasureError(
        f"expected {name} of full column rank, got rank {rank} of {dim} from {n} samples; give more samples, "
        "use svcca, or rank='reduce' to compare the spans",
        "rank",
    )
