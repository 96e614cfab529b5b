"""Settings of classifying probes: of the model, and of their training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedConfig

from hfprobe.errors import ConfigError
from hfprobe.hub.safety import refuse_code
from hfprobe.plain import short
from hfprobe.probes.configuration import MOST

KINDS = {
    "linear": 0,
    "mlp": 500,
}  # hidden units; 500 as in Belinkov and Glass, "Analyzing hidden representations" (2017)
POOLINGS = ("frame", "utterance")


def _whole(name: str, value: Any, least: int, most: float = math.inf) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limit = f" and at most {most}" if most < math.inf else ""
        raise ConfigError(f"expected {name} to be a whole number of at least {least}{limit}, got {short(value)}")
    return value


class ClassifierProbeConfig(PreTrainedConfig):
    """Configuration of a `ClassifierProbe`.

    Args:
        input_dim: Width of the layer's frames.
        labels: Names of the classes, in the order of the logits (kept as ``id2label``).
        layer: Name of the layer, or ``"input"`` for the mel-spectrogram.
        target: What is classified, e.g. ``"phone"``.
        pooling: ``"frame"``: one answer per frame; ``"utterance"``: one per clip, from the mean of its frames.
        hidden_dim: Units of the hidden layer; 0 for a linear probe.
        encoder: Name of the encoder.
        encoder_fingerprint: Its fingerprint.

    Raises:
        ConfigError: A number is out of range, there are no two labels, or the pooling is unknown.

    Example:
        >>> ClassifierProbeConfig(input_dim=4, labels=["f", "m"], target="gender").id2label
        {0: 'f', 1: 'm'}
    """

    model_type = "hfprobe-classifier"

    def __init__(
        self,
        input_dim: int = 128,
        labels: Sequence[str] | None = None,
        layer: str = "",
        target: str = "",
        pooling: str = "utterance",
        hidden_dim: int = 0,
        encoder: str = "",
        encoder_fingerprint: str = "",
        **kwargs: Any,
    ):
        refuse_code(kwargs, "the configuration of a classifier", ConfigError)
        self.input_dim = _whole("input_dim", input_dim, 1, MOST)
        self.hidden_dim = _whole("hidden_dim", hidden_dim, 0, MOST)
        texts = {"layer": layer, "target": target, "pooling": pooling, "encoder": encoder}
        for name, text in (texts | {"encoder_fingerprint": encoder_fingerprint}).items():
            if not isinstance(text, str):
                raise ConfigError(f"expected {name} to be a text, got {short(text)}")
        if pooling not in POOLINGS:
            raise ConfigError(f"expected pooling to be one of {', '.join(POOLINGS)}, got {short(pooling)}")
        self.pooling, self.layer, self.target = pooling, layer, target
        self.encoder, self.encoder_fingerprint = encoder, encoder_fingerprint
        if labels is not None:
            if not isinstance(labels, list | tuple) or len(labels) < 2 or len(set(map(str, labels))) < len(labels):
                raise ConfigError(f"expected two or more different labels, got {short(labels)}")
            kwargs["id2label"] = dict(enumerate(map(str, labels)))
            kwargs["label2id"] = {str(label): index for index, label in enumerate(labels)}
        super().__init__(**kwargs)


@dataclass(frozen=True)
class ClassifierTrainingConfig:
    """How `train_classifiers` trains.

    Attributes:
        probe: ``"linear"`` or ``"mlp"`` (one hidden layer of 500 units).
        steps: Optimiser steps.
        batch_size: Items (frames or utterances) per step, of all processes together.
        learning_rate: Peak rate of AdamW; probes of inputs wider than 512 get less, as in `ProbeSet`.
        weight_decay: AdamW's decoupled weight decay.
        eval_steps: Steps between measurements of the loss on the development part; each probe keeps the weights with
            which its own was the least.
        dev_share: Part of the training units that is the development part.
        seed: Seed of weights and batches.
        device: ``"auto"`` (Accelerate's choice), ``"cpu"`` or ``"cuda:N"``.

    Raises:
        ConfigError: A value is out of range.

    Example:
        >>> ClassifierTrainingConfig(probe="mlp").hidden_dim
        500
    """

    probe: str = "linear"
    steps: int = 1500
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    eval_steps: int = 50
    dev_share: float = 0.1
    seed: int = 0
    device: str = "auto"

    def __post_init__(self):
        if self.probe not in KINDS:
            raise ConfigError(f"unknown probe {short(self.probe)}; choose from {', '.join(KINDS)}")
        for name, least in (("steps", 1), ("batch_size", 1), ("eval_steps", 1), ("seed", 0)):
            _whole(name, getattr(self, name), least)
        if not 0 < self.learning_rate < 1 or not 0 <= self.weight_decay or not 0 <= self.dev_share < 1:
            raise ConfigError(
                "expected 0 < learning_rate < 1, weight_decay of at least 0 and 0 <= dev_share < 1, got "
                f"{self.learning_rate}, {self.weight_decay} and {self.dev_share}"
            )

    @property
    def hidden_dim(self) -> int:
        """Hidden units of a probe; 0 for a linear one."""
        return KINDS[self.probe]

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)
