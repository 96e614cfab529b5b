"""The contract of `hfprobe.encoders.SpeechEncoder` as checks that run on any adapter, also on yours.

Contents:

- `check_encoder` runs everything and gives a `Report`.
- `CHECKS`: the checks one by one, each a function of the encoder and `Settings` that raises `ContractError`, or
  `CheckSkipped` where it cannot say anything: `check_declaration`, `check_shapes`, `check_reference`, `check_batch`,
  `check_determinism`, `check_train_mode`, `check_lengths`, `check_refusals`, `check_time_axis`, `check_backward`,
  `check_hooks`, `check_nothing_edited`, `check_layer_choice`, `check_memory`, `check_bfloat16`, `check_cuda`.
- `EncoderContract`: the same as pytest tests; a subclass gives the fixture ``encoder``. Needs pytest.

Example:
    >>> import torch
    >>> from hfprobe.encoders import AutoSpeechEncoder
    >>> from hfprobe.testing import check_batch
    >>> check_batch(AutoSpeechEncoder.from_pretrained("blstm-robust"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfprobe.testing.choice import check_layer_choice, check_memory
from hfprobe.testing.contract import CheckSkipped, ContractError, Settings
from hfprobe.testing.devices import check_bfloat16, check_cuda
from hfprobe.testing.gradients import check_backward
from hfprobe.testing.hygiene import check_hooks, check_nothing_edited
from hfprobe.testing.suite import CHECKS, Report, Result, check_encoder
from hfprobe.testing.time_axis import check_time_axis
from hfprobe.testing.values import (
    check_batch,
    check_declaration,
    check_determinism,
    check_lengths,
    check_reference,
    check_refusals,
    check_shapes,
    check_train_mode,
)

if TYPE_CHECKING:
    from hfprobe.testing.case import EncoderContract

__all__ = [
    "CHECKS",
    "CheckSkipped",
    "ContractError",
    "EncoderContract",
    "Report",
    "Result",
    "Settings",
    "check_backward",
    "check_batch",
    "check_bfloat16",
    "check_cuda",
    "check_declaration",
    "check_determinism",
    "check_encoder",
    "check_hooks",
    "check_layer_choice",
    "check_lengths",
    "check_memory",
    "check_nothing_edited",
    "check_reference",
    "check_refusals",
    "check_shapes",
    "check_time_axis",
    "check_train_mode",
]


def __getattr__(name: str) -> Any:
    """Import the pytest class when it is first used: pytest is not needed for the rest."""
    if name == "EncoderContract":
        from hfprobe.testing.case import EncoderContract

        return EncoderContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
