"""Small banks for the tests of the Hub."""

from __future__ import annotations

import torch

from hfprobe.probes import (
    ClassifierBank,
    ClassifierProbe,
    ClassifierProbeConfig,
    HighwayProbe,
    HighwayProbeConfig,
    LinearProbe,
    LinearProbeConfig,
    MeanProbe,
    MeanProbeConfig,
    ProbeBank,
)


def make_bank(layers=("l1", "l2", "l3"), seed=0) -> ProbeBank:
    """Highway probes, the last one linear, all with random weights."""
    torch.manual_seed(seed)
    shape = {"input_dim": 6, "stride": 160}
    probes = {name: HighwayProbe(HighwayProbeConfig(layer=name, hidden_dim=4, **shape)) for name in layers[:-1]}
    probes[layers[-1]] = LinearProbe(LinearProbeConfig(layer=layers[-1], **shape))
    floor = MeanProbe(MeanProbeConfig())
    with torch.no_grad():
        for probe in probes.values():
            probe.output_mean.normal_(-6, 2)
        floor.output_mean.normal_(-6, 2)
    return ProbeBank(probes, floor, "toy", "0123456789abcdef", {"steps": 7})


def make_classifiers(layers=("l1", "l2")) -> ClassifierBank:
    """Linear classifiers with random weights."""
    torch.manual_seed(1)
    config = {"input_dim": 6, "labels": ["f", "m"], "target": "gender"}
    return ClassifierBank(
        {name: ClassifierProbe(ClassifierProbeConfig(layer=name, **config)) for name in layers}, "toy"
    )
