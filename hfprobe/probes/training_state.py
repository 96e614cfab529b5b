"""What a training of probes has besides its loop: models, optimiser, and where it stands on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from hfprobe.audio import MelConfig
from hfprobe.errors import ConfigError
from hfprobe.files import write_whole
from hfprobe.probes import checkpoints
from hfprobe.probes.bank import ProbeBank
from hfprobe.probes.bank_check import check_twin
from hfprobe.probes.bank_files import FLOOR, RANDOM
from hfprobe.probes.bank_source import describe_environment
from hfprobe.probes.configuration import MeanProbeConfig
from hfprobe.probes.modeling import MeanProbe
from hfprobe.probes.probe_set import ProbeSet, choose_layers
from hfprobe.probes.training_config import FREE_SETTINGS, ProbeTrainingConfig
from hfprobe.probes.training_log import cut_log

SETTINGS = "training.json"
TWIN = f"{RANDOM}/"  # before the names of the random twin's probes


class ResumableStream(Protocol):
    """Endless batches that can go on from where they were."""

    def __iter__(self) -> Iterator[Any]:
        """Batches, from where the stream is."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where it was."""
        ...


class TrainingState:
    """State of one training, and its files; for the arguments see `hfprobe.probes.training.train_bank`.

    Attributes:
        probes: The probes of all encoders, which ``model`` wraps where there are several processes.
        encoders: The encoder under the empty prefix, its random twin under `TWIN`.
        step: Steps taken.
        elapsed: Seconds of training, also those before an interruption.
        identity: What a checkpoint must agree with before training may go on from it.
    """

    def __init__(
        self,
        encoder: Any,
        stream: Iterable[Any],
        output: Path,
        config: ProbeTrainingConfig | None,
        mel_config: MelConfig | None,
        layers: Sequence[str] | None,
        dev_batches: Iterable[Any] | None,
        random_twin: Any | None = None,
    ):
        from accelerate import Accelerator

        self.config = config = config or ProbeTrainingConfig()
        self.mel_config, self.output = mel_config or MelConfig(), output
        if not (hasattr(stream, "state_dict") and hasattr(stream, "load_state_dict")):
            raise ConfigError(
                f"expected a stream with state_dict() and load_state_dict(), got {type(stream).__name__}; "
                "use hfprobe.data.SpeechStream"
            )
        self.stream = cast("ResumableStream", stream)
        if encoder.sampling_rate != self.mel_config.sampling_rate:
            raise ConfigError(
                f"expected mel settings for {encoder.sampling_rate} Hz, the encoder's rate, got "
                f"{self.mel_config.sampling_rate} Hz; set sampling_rate"
            )
        specs = choose_layers(encoder, layers, self.mel_config.hop_length)
        self.fingerprint: str = encoder.fingerprint
        self.twin_fingerprint: str | None = None
        probes = ProbeSet(specs, config, self.mel_config, encoder.name, self.fingerprint)
        if random_twin is not None:
            self.twin_fingerprint = check_twin(encoder, self.fingerprint, random_twin)
            probes.add(specs, config, self.mel_config, random_twin.name, self.twin_fingerprint, TWIN)
        if config.device.startswith("cuda:"):
            torch.cuda.set_device(config.device)  # Accelerate takes the current one
        self.accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=config.mixed_precision,
            step_scheduler_with_optimizer=False,
        )
        self.device = self.accelerator.device
        self.encoders: dict[str, Any] = {"": encoder.to(self.device)}
        if random_twin is not None:
            self.encoders[TWIN] = random_twin.to(self.device)
        optimizer = torch.optim.AdamW(probes.parameter_groups(config), lr=config.learning_rate, fused=True)
        self.model, self.optimizer = self.accelerator.prepare(probes, optimizer)
        self.probes: ProbeSet = self.accelerator.unwrap_model(self.model)
        every = list(dev_batches or [])
        self.has_dev = bool(every)
        self.dev = every[self.accelerator.process_index :: self.accelerator.num_processes]
        self.step, self.elapsed, self.checkpointed_at = 0, 0.0, 0.0
        self.identity = {
            **{key: value for key, value in config.to_dict().items() if key not in FREE_SETTINGS},
            "encoder": self.fingerprint,
            "random": self.twin_fingerprint,
            "layers": [spec.name for spec in specs],
            "mel": self.mel_config.to_dict(),
            "processes": self.accelerator.num_processes,
            # Streams of others may not say what they depend on.
            **{f"{checkpoints.DATA}{key}": value for key, value in getattr(stream, "identity", dict)().items()},
        }
        # Losses since the last line of the log, and of how many steps.
        self.sums, self.summed = torch.zeros(len(self.probes.probes), device=self.device), 0

    def prepare_output(self) -> None:
        """Write the settings, and cut from the log what is about to be done again."""
        if not self.accelerator.is_main_process:
            return
        self.output.mkdir(parents=True, exist_ok=True)
        settings = {"config": self.config.to_dict(), **self.identity, "environment": describe_environment()}
        write_whole(self.output / SETTINGS, json.dumps(settings, indent=2) + "\n")
        cut_log(self.output, self.step)

    def checkpoint(self) -> None:
        """Write a checkpoint of this step."""
        trainer = {"step": self.step, "elapsed": self.elapsed, "identity": self.identity}
        losses = {"sums": self.sums.cpu(), "steps": self.summed}
        local = {"random": checkpoints.random_state(), "stream": self.stream.state_dict(), "losses": losses}
        root = self.output / "checkpoints"
        checkpoints.write(root, self.accelerator, trainer, self.probes.state_dict(), self.optimizer.state_dict(), local)
        self.checkpointed_at = self.elapsed

    def resume(self) -> bool:
        """Go back to where the newest checkpoint was; False where there is none."""
        found = checkpoints.available(self.output / "checkpoints")
        if not found:
            return False
        trainer, tensors, optimizer, local = checkpoints.read(found[0], self.accelerator.process_index)
        checkpoints.check_identity(trainer["identity"], self.identity, found[0])
        self.probes.load_state_dict(tensors)
        self.optimizer.load_state_dict(optimizer)
        self.stream.load_state_dict(local["stream"])
        checkpoints.set_random_state(local["random"])
        if "losses" in local:  # not in checkpoints of earlier versions
            self.sums, self.summed = local["losses"]["sums"].to(self.device), local["losses"]["steps"]
        self.step, self.elapsed = trainer["step"], trainer["elapsed"]
        self.checkpointed_at = self.elapsed
        return True

    def finish(self) -> ProbeBank:
        """Make banks of the probes and save them; returns the encoder's, not its twin's."""
        training = {**self.config.to_dict(), "steps": self.step, "minutes": round(self.elapsed / 60, 3)}
        prints = {"": self.fingerprint, TWIN: self.twin_fingerprint or ""}
        banks = {}
        for prefix, encoder in self.encoders.items():
            names = [spec.name for spec in encoder.layers if prefix + spec.name in self.probes.by_name]
            probes = {name: self.probes.by_name[prefix + name] for name in names}
            mel = self.mel_config
            floor = MeanProbe(MeanProbeConfig(layer=FLOOR, stride=mel.hop_length, mel=mel.to_dict()))
            floor.output_mean.copy_(next(iter(probes.values())).output_mean)
            banks[prefix] = ProbeBank(probes, floor, encoder.name, prints[prefix], training)
        if self.accelerator.is_main_process:
            for prefix, bank in reversed(banks.items()):  # the twin's first: a finished bank has all its parts
                bank.save_pretrained(self.output / prefix, dtype=self.config.save_dtype)
        self.accelerator.wait_for_everyone()
        return banks[""]
