"""Training of all probes of an encoder in one pass over the data.

Each batch is encoded once, its mel-spectrogram computed once, and every layer's probe takes one step. The
loop is Accelerate's (one process, or many under torchrun) without a prepared data loader, because the stream of each
process is the caller's. The batches that processes have at a step count as parts of one: the loss is the mean over the
frames of all, so that any number of processes takes the same steps on the same utterances. Interrupted and resumed
training gives the same weights bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from hfprobe.audio import MelConfig
from hfprobe.data.halves import attempt
from hfprobe.errors import DatasetError
from hfprobe.files import clear_unfinished
from hfprobe.interrupts import Interrupted, stop_wishes
from hfprobe.probes import checkpoints
from hfprobe.probes.bank import ProbeBank
from hfprobe.probes.diverged import stop_diverged
from hfprobe.probes.losses import PackedFrames
from hfprobe.probes.normalisation import ProbeStatistics
from hfprobe.probes.training_config import ProbeTrainingConfig
from hfprobe.probes.training_log import add_line
from hfprobe.probes.training_state import TWIN, TrainingState

MOST_EMPTY = 1000  # batches without any usable utterance, one after the other


def train_bank(
    encoder: Any,
    stream: Iterable,
    output: str | Path,
    config: ProbeTrainingConfig | None = None,
    mel_config: MelConfig | None = None,
    layers: Sequence[str] | None = None,
    resume: bool = True,
    progress: bool = True,
    dev_batches: Iterable | None = None,
    random_twin: Any | None = None,
) -> ProbeBank:
    """Train one probe per layer and save the bank.

    Args:
        encoder: A `SpeechEncoder`; it is not changed, but moved to the training device.
        stream: Endless iterable of `SpeechBatch` with `state_dict()` and `load_state_dict()`; under torchrun,
            this process's own share.
        output: Folder for the bank, `train_log.jsonl`, `training.json` and `checkpoints/`.
        config: Training settings; the defaults if None.
        mel_config: Mel settings; the defaults if None.
        layers: Names of the layers; all if None.
        resume: Go on from the newest checkpoint in `output`, if there is one; otherwise begin anew and remove
            any.
        progress: Show a progress bar if standard error is a terminal.
        dev_batches: Batches to measure the loss on now and then; the same in every process.
        random_twin: The same architecture with random weights (``AutoSpeechEncoder.from_pretrained("random:NAME")``).
            Its probes are trained on the same batches and frames from the same first weights, and saved as a bank
            of their own in ``output/random``: the floor of every curve.

    Returns:
        The bank as trained, in float32 (the saved one has `config.save_dtype`).

    Raises:
        ConfigError: If settings contradict one another or a checkpoint, the twin has other layers, or the training
            diverges.
        LayerError: If a layer is unknown.
        DatasetError: If the stream ends.
        BankError: If a checkpoint is broken.
        Interrupted: Somebody pressed Ctrl-C or sent SIGTERM; the training is at a checkpoint and can go on.

    Example:
        >>> import tempfile
        >>> from hfprobe.data import SpeechStream
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> encoder = AutoSpeechEncoder.from_pretrained("blstm-robust")
        >>> config = ProbeTrainingConfig(max_steps=1, hidden_dim=8, statistics_batches=1, device="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     list(train_bank(encoder, SpeechStream("espeak:train", 1), folder, config, layers=["blstm5"]))
        ['blstm5']
    """
    trainer = _Trainer(encoder, stream, Path(output), config, mel_config, layers, dev_batches, random_twin)
    modes = [(each, each.training) for each in trainer.encoders.values()]
    try:
        for each, _ in modes:
            each.eval()
        return trainer.run(resume, progress)
    finally:
        for each, was_training in modes:
            each.train(was_training)


class _Trainer(TrainingState):
    """The loop of one training; see `train_bank`."""

    def run(self, resume: bool, progress: bool) -> ProbeBank:
        resumed = resume and self.resume()
        if self.accelerator.is_main_process:
            if not resumed:
                checkpoints.clear(self.output / "checkpoints")
            clear_unfinished(self.output / "checkpoints")
            checkpoints.prune(self.output / "checkpoints")  # a run that was killed may not have come to it
        self.prepare_output()
        self.accelerator.wait_for_everyone()
        self.clock = time.perf_counter() - self.elapsed
        with stop_wishes() as self.wish:
            self._learn_all(resumed, progress)
        return self.finish()

    def _learn_all(self, resumed: bool, progress: bool) -> None:
        from tqdm import tqdm

        fraction, stop, _ = self._consult()
        batches = iter(self.stream) if not stop else iter(())
        if not resumed and not stop:
            self._estimate_statistics(batches)
        empty = 0
        # None: tqdm looks whether standard error is a terminal
        hidden_bar = None if progress and self.accelerator.is_main_process else True
        with tqdm(total=self.config.max_steps, initial=self.step, disable=hidden_bar, desc="probes") as bar:
            while not stop:
                losses = self._train_step(self._next(batches), fraction)
                if losses is None:
                    empty += 1
                    if empty > MOST_EMPTY:
                        raise DatasetError(f"{empty} batches without a usable utterance follow step {self.step}")
                    continue
                self.sums += losses
                self.summed, empty = self.summed + 1, 0
                self.step += 1
                bar.update()
                fraction, stop, due = self._consult()
                if self.step % self.config.log_steps == 0 or stop:
                    means = self._mean_losses(self.sums / self.summed)
                    own = [loss for name, loss in means.items() if not name.startswith(TWIN)]
                    bar.set_postfix(loss=f"{sum(own) / len(own):.3f}")
                    dev_due = self.config.dev_steps and self.step % self.config.dev_steps == 0
                    self._log(means, self.dev_losses() if stop or dev_due else None)
                    self.sums.zero_()
                    self.summed = 0
                elif self.config.dev_steps and self.step % self.config.dev_steps == 0:
                    self._log(None, self.dev_losses())
                if due or stop or self.asked:
                    self.checkpoint()
                if self.asked and not stop:
                    raise Interrupted(
                        f"interrupted at step {self.step}, which is kept; the same command goes on from there",
                        self.asked,
                    )

    def _next(self, batches: Iterator[Any]) -> Any:
        try:
            return next(batches)
        except StopIteration:
            raise DatasetError(
                f"expected an endless stream of batches, it ended at step {self.step}; use hfprobe.data.SpeechStream"
            ) from None

    def _train_step(self, batch: Any, fraction: float) -> torch.Tensor | None:
        """Loss of each probe on one batch, from which it learns; None where no process has anything in it."""
        several = self.accelerator.num_processes > 1
        seed = (self.config.seed, "frames", 0, self.step)
        packed = self.probes.pack(
            self.encoders, batch, self.mel_config, self.config.frames_per_batch, seed, self.accelerator
        )
        counts = torch.stack([part.mask.sum() for part in packed.values()])
        if several:
            # DDP takes the mean of the processes' gradients: each divides by its part of all frames.
            counts = self.accelerator.reduce(counts.double(), reduction="sum").float() / self.accelerator.num_processes
        if not counts.any():
            return None
        by_name = dict(zip(packed, counts.clamp(min=1 / self.accelerator.num_processes), strict=True))
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * self.config.learning_rate_at(self.step, fraction)
        n_frames = max(len(part.frames) for part in packed.values())
        done: list[torch.Tensor] = []
        parts = 1
        while not done:
            # One process that tried again would leave the others waiting for its gradients.
            left = 1 if several else n_frames // parts
            done = attempt(lambda: self._gradients(packed, by_name, batch, parts), left, "frame")  # noqa: B023
            if not done:
                self.optimizer.zero_grad(set_to_none=True)
                parts *= 2
        if self.config.clip_norm is not None:
            self.probes.clip_gradients(self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return done[0]

    def _gradients(
        self, packed: dict[str, PackedFrames], counts: dict[str, torch.Tensor], batch: Any, parts: int
    ) -> torch.Tensor:
        """Losses of a batch, and their gradients; in so many parts one after the other."""
        total = torch.zeros(())
        for number in range(parts):
            some = packed if parts == 1 else {name: one.take(_part(one, number, parts)) for name, one in packed.items()}
            losses = torch.stack(list(self.model(some, counts).values()))
            if not torch.isfinite(losses).all():
                named = dict(zip(packed, losses.tolist(), strict=True))
                stop_diverged(self.output, self.step, self.accelerator.process_index, named, batch)
            # Probes share no weight, so the gradient of the sum is every probe's own gradient.
            self.accelerator.backward(losses.sum())
            total = total + losses.detach()
        return total

    def _consult(self) -> tuple[float, bool, bool]:
        """Part of the training that is over, whether to stop, whether to checkpoint: process 0 decides.

        Also notes in ``asked`` the signal that asks to stop, whichever process it came to.
        """
        config = self.config
        self.elapsed = time.perf_counter() - self.clock
        by_steps = self.step / config.max_steps if config.max_steps else 0.0
        by_clock = self.elapsed / (60 * config.max_minutes) if config.max_minutes else 0.0
        due = bool(config.checkpoint_steps and self.step % config.checkpoint_steps == 0)
        if config.checkpoint_minutes:
            due |= self.elapsed - self.checkpointed_at >= 60 * config.checkpoint_minutes
        fraction, self.asked = max(by_steps, by_clock), self.wish.number
        if self.accelerator.num_processes > 1:
            # Clocks differ between processes, and one that stopped alone would leave the others waiting.
            told = torch.tensor([fraction, float(due)], dtype=torch.float64, device=self.device)
            torch.distributed.broadcast(told, src=0)
            fraction, due = told[0].item(), bool(told[1].item())
            asked = torch.tensor(self.asked, device=self.device)
            torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
            self.asked = int(asked.item())
        return min(1.0, fraction), fraction >= 1.0, due

    def _estimate_statistics(self, batches: Iterator[Any]) -> None:
        gathered = {name: ProbeStatistics(probe) for name, probe in self.probes.by_name.items()}
        for _ in range(self.config.statistics_batches):
            if self.wish.number and self.accelerator.num_processes == 1:
                raise Interrupted("interrupted before the first step; nothing is lost but the start", self.wish.number)
            for name, packed in self.probes.pack(self.encoders, self._next(batches), self.mel_config).items():
                gathered[name].add(packed)
        for statistics in gathered.values():
            for moments in (statistics.inputs, statistics.outputs):
                moments.totals = self.accelerator.reduce(moments.totals, reduction="sum")
            statistics.apply()

    def _mean_losses(self, losses: torch.Tensor) -> dict[str, float]:
        means = self.accelerator.reduce(losses, reduction="mean").tolist()
        return dict(zip(self.probes.probes, means, strict=True))

    def dev_losses(self) -> dict[str, float] | None:
        """Mean absolute error of each layer over all valid dev frames; None without dev batches."""
        if not self.has_dev:
            return None
        totals = torch.zeros(2, len(self.probes.probes), dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for batch in self.dev:
                packed = self.probes.pack(self.encoders, batch, self.mel_config)
                for index, (name, loss) in enumerate(self.probes(packed).items()):
                    n_frames = packed[name].mask.sum()
                    totals[:, index] += torch.stack([loss * n_frames, n_frames])
        totals = self.accelerator.reduce(totals, reduction="sum")
        return dict(zip(self.probes.probes, (totals[0] / totals[1]).tolist(), strict=True))

    def _log(self, losses: dict[str, float] | None, dev: dict[str, float] | None) -> None:
        if self.accelerator.is_main_process:
            add_line(self.output, step=self.step, seconds=round(self.elapsed, 3), loss=losses, dev_loss=dev)


def _part(packed: PackedFrames, number: int, parts: int) -> slice:
    """One of several parts of packed frames."""
    size = len(packed.frames)
    return slice(size * number // parts, size * (number + 1) // parts)
