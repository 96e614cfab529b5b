"""Probes: one small non-contextual network per layer that rebuilds the mel-spectrogram from that layer
alone."""

from hfprobe.probes.bank import ProbeBank
from hfprobe.probes.configuration import HighwayProbeConfig, MeanProbeConfig
from hfprobe.probes.modeling import HighwayProbe, HighwayProbeOutput, MeanProbe
from hfprobe.probes.training import train_bank
from hfprobe.probes.training_config import ProbeTrainingConfig

__all__ = [
    "HighwayProbe",
    "HighwayProbeConfig",
    "HighwayProbeOutput",
    "MeanProbe",
    "MeanProbeConfig",
    "ProbeBank",
    "ProbeTrainingConfig",
    "train_bank",
]
