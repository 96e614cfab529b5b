"""Probes: one small non-contextual network per layer that rebuilds the mel-spectrogram from that layer
alone."""

from hfprobe.probes.bank import ProbeBank
from hfprobe.probes.classifier import ClassifierProbe
from hfprobe.probes.classifier_bank import ClassifierBank
from hfprobe.probes.classifier_config import ClassifierProbeConfig
from hfprobe.probes.configuration import HighwayProbeConfig, LinearProbeConfig, MeanProbeConfig
from hfprobe.probes.modeling import HighwayProbe, HighwayProbeOutput, LinearProbe, MeanProbe
from hfprobe.probes.training import train_bank
from hfprobe.probes.training_config import ProbeTrainingConfig

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
