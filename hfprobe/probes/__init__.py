"""Probes: one small non-contextual network per layer that rebuilds the mel-spectrogram from that layer
alone.

Importing this package registers the probes with transformers' `AutoConfig` and `AutoModel`. Loading needs torch,
transformers and safetensors only; what trains is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hfprobe.probes.bank import ProbeBank
from hfprobe.probes.classifier import ClassifierProbe
from hfprobe.probes.classifier_bank import ClassifierBank
from hfprobe.probes.classifier_config import ClassifierProbeConfig
from hfprobe.probes.configuration import HighwayProbeConfig, LinearProbeConfig, MeanProbeConfig
from hfprobe.probes.modeling import HighwayProbe, HighwayProbeOutput, LinearProbe, MeanProbe
from hfprobe.probes.training_config import ProbeTrainingConfig

if TYPE_CHECKING:
    from hfprobe.probes.training import train_bank

__all__ = [
    "ClassifierBank",
    "ClassifierProbe",
    "ClassifierProbeConfig",
    "HighwayProbe",
    "HighwayProbeConfig",
    "HighwayProbeOutput",
    "LinearProbe",
    "LinearProbeConfig",
    "MeanProbe",
    "MeanProbeConfig",
    "ProbeBank",
    "ProbeTrainingConfig",
    "train_bank",
]


def __getattr__(name: str) -> Any:
    """Import the training when it is first used (PEP 562)."""
    if name != "train_bank":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = importlib.import_module("hfprobe.probes.training").train_bank
    globals()[name] = value
    return value
