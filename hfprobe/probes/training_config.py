"""Settings of probe training, checked in one place."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields

from hfprobe.errors import ConfigError
from hfprobe.plain import short
from hfprobe.probes.bank_files import DTYPES

SCHEDULES = ("cosine", "linear", "constant")
PROBES = ("highway", "linear")
# Settings that may change between an interruption and its resumption without changing what is learnt.
FREE_SETTINGS = frozenset(
    {
        "max_minutes",
        "checkpoint_steps",
        "checkpoint_minutes",
        "log_steps",
        "dev_steps",
        "save_dtype",
        "device",
    }
)


@dataclass(frozen=True)
class ProbeTrainingConfig:
    """How `train_bank` trains.

    Attributes:
        probe: Capacity: ``"highway"`` (the paper's) or ``"linear"`` (one affine map; width, depth and gates of the
            Highway layers then mean nothing).
        hidden_dim: Width of the Highway layers.
        num_layers: Number of Highway layers.
        gate_bias: First value of the gates' bias.
        max_steps: Optimiser steps; None to stop by the clock alone.
        max_minutes: Minutes of training (interruptions not counted); None for no limit. The learning rate
            then follows whichever of steps and clock is further on, so a run under a time limit ends fully
            decayed but is not reproducible bit for bit.
        learning_rate: Peak rate of AdamW; probes of layers wider than 512 get less (`ProbeSet.parameter_groups`).
        schedule: Decay after the warm-up: ``"cosine"``, ``"linear"`` or ``"constant"``.
        warmup_steps: Steps of linear warm-up.
        final_learning_rate: Rate at the end, as a fraction of the peak.
        weight_decay: AdamW's decoupled weight decay.
        clip_norm: Largest gradient norm, of each probe on its own; None for no clipping.
        frames_per_batch: Mel frames (10 ms each) that every layer learns from in one batch, a random choice
            among the valid ones drawn for each layer and step; a layer that is downsampled by 4 sees a
            quarter as many hidden frames. None for all frames. This sets the cost of a step.
        statistics_batches: Batches, before the first step, that means and deviations are estimated from.
        seed: Seed of weights and of the choice of frames.
        checkpoint_steps: Steps between checkpoints; None for none by steps.
        checkpoint_minutes: Minutes between checkpoints; None for none by the clock.
        log_steps: Steps between lines of the training log.
        dev_steps: Steps between dev losses; None for one at the end only.
        save_dtype: How the final bank stores weights.
        device: ``"auto"`` (Accelerate's choice), ``"cpu"`` or ``"cuda:N"``.
        mixed_precision: ``"no"`` or ``"bf16"`` (slower than float32 on most CPUs).

    Raises:
        ConfigError: If a value is out of range, or nothing ends the training.

    Example:
        >>> ProbeTrainingConfig(max_steps=10).learning_rate_at(10, 1.0) < 1e-4
        True
    """

    hidden_dim: int = 192
    num_layers: int = 4
    gate_bias: float = -1.0
    max_steps: int | None = 3000
    max_minutes: float | None = None
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup_steps: int = 50
    final_learning_rate: float = 0.01
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    frames_per_batch: int | None = None
    statistics_batches: int = 8
    seed: int = 0
    checkpoint_steps: int | None = 500
    checkpoint_minutes: float | None = None
    log_steps: int = 20
    dev_steps: int | None = None
    save_dtype: str = "float16"
    device: str = "auto"
    mixed_precision: str = "no"
    probe: str = "highway"

    def __post_init__(self):
        for name in ("hidden_dim", "num_layers", "statistics_batches", "log_steps"):
            self._require(name, int, 1)
        for name in ("max_steps", "frames_per_batch", "checkpoint_steps", "dev_steps"):
            self._require(name, int, 1, optional=True)
        for name in ("warmup_steps", "seed"):
            self._require(name, int, 0)
        for name in ("learning_rate", "max_minutes", "checkpoint_minutes", "clip_norm"):
            self._require(name, float, 0, optional=name != "learning_rate", above=True)
        for name in ("weight_decay", "final_learning_rate"):
            self._require(name, float, 0)
        self._require("gate_bias", float, -math.inf)
        if self.max_steps is None and self.max_minutes is None:
            raise ConfigError("expected max_steps or max_minutes, got neither; set one, or training would never end")
        choices = {
            "probe": PROBES,
            "schedule": SCHEDULES,
            "save_dtype": tuple(DTYPES),
            "mixed_precision": ("no", "bf16"),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ConfigError(f"expected {name} to be one of {', '.join(valid)}, got {short(getattr(self, name))}")

        if self.device not in ("auto", "cpu") and not re.fullmatch(r"cuda:\d+", self.device):
            raise ConfigError(f"expected device to be auto, cpu or cuda:N, got {short(self.device)}")

    def _require(self, name: str, kind: type, least: float, optional: bool = False, above: bool = False) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        kinds = (int, float) if kind is float else int
        fits = isinstance(value, kinds) and not isinstance(value, bool) and not math.isnan(value)
        if not fits or value < least or (above and value == least):
            what = "a whole number" if kind is int else "a number"
            bound = f"above {least}" if above else f"of at least {least}"
            raise ConfigError(
                f"expected {name} to be {what} {bound}{' or null' if optional else ''}, got {short(value)}"
            )

    def learning_rate_at(self, step: int, fraction: float) -> float:
        """Learning rate of one step.

        Args:
            step: Steps already taken.
            fraction: Part of the training that is over, 0 to 1.

        Returns:
            The rate.
        """
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        falling = {
            "cosine": 0.5 * (1 + math.cos(math.pi * fraction)),
            "linear": 1 - fraction,
            "constant": 1.0,
        }[self.schedule]
        return self.learning_rate * warm * (self.final_learning_rate + (1 - self.final_learning_rate) * falling)

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ProbeTrainingConfig:
        """The inverse of `to_dict`.

        Args:
            values: Settings by name, or some; the others are the defaults.

        Returns:
            The configuration.

        Raises:
            ConfigError: If a name is unknown.
        """
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ConfigError(f"unknown training setting {short(unknown[0])}; valid settings: {', '.join(names)}")
        return cls(**values)
