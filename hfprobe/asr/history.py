"""Checkpoints along training, for ``hfprobe similarity --checkpoints``.

Layers change most in the first steps, so the points lie evenly on a logarithmic axis. ESPnet itself keeps the best
epochs only, and nothing within an epoch.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from espnet2.train.trainer import Trainer, TrainerOptions
from torch import nn

from hfprobe.errors import ConfigError
from hfprobe.files import whole_file

logger = logging.getLogger(__name__)
DECADES = 3  # the first point is at a thousandth of the training


def history_points(total: int, count: int) -> tuple[int, ...]:
    """Steps at which the weights are kept.

    Args:
        total: Steps of the whole training.
        count: About how many points; where steps coincide there are fewer.

    Returns:
        Rising steps, evenly spaced on a logarithmic axis from a thousandth of ``total`` (or step 1) to ``total``.

    Raises:
        ConfigError: A number is below 1, or ``count`` is 1.

    Example:
        >>> history_points(1800, 10)
        (2, 4, 8, 18, 39, 84, 180, 388, 835, 1800)
        >>> history_points(4, 10)
        (1, 2, 3, 4)
    """
    if total < 1 or count < 2:
        raise ConfigError(f"a training history needs 2 points or more and at least 1 step, got {count} and {total}")
    first = max(1.0, total / 10**DECADES)
    steps = (first * (total / first) ** (i / (count - 1)) for i in range(count))
    return tuple(sorted({max(1, round(step)) for step in steps} | {total}))


def step_file(folder: str | Path, step: int) -> Path:
    """Where the weights of a step lie: ``<step>step.pth`` in the training folder."""
    return Path(folder) / f"{step}step.pth"


def keep_along(
    batches: Iterable, points: Iterable[int], model: nn.Module, folder: str | Path, done: int, last: bool = False
) -> Iterator:
    """Hand batches on; whenever the one before the next has been learnt and its number is a point, keep the weights.

    Args:
        batches: Batches of one epoch.
        points: Steps to keep.
        model: What learns from the batches, perhaps inside a wrapper of `torch.nn.parallel`.
        folder: Where the files go (`step_file`); state dictionaries that load with ``weights_only=True``.
        done: Steps before this epoch.
        last: Whether this is the last epoch: its end is kept, even if the data gave fewer steps than expected.

    Yields:
        The batches.
    """
    plain = getattr(model, "module", model)
    points, step = set(points), done
    for batch in batches:
        yield batch
        step += 1
        if step in points:
            _keep(plain, step_file(folder, step))
    if last and step > done and step not in points:
        _keep(plain, step_file(folder, step))


def _keep(model: nn.Module, path: Path) -> None:
    with whole_file(path) as place:
        torch.save(model.state_dict(), place)
    logger.info("kept %s for the training history", path.name)


@dataclass
class HistoryOptions(TrainerOptions):
    """ESPnet's options of a trainer and ours; they get their names from the command line."""

    hf_history: int
    num_iters_per_epoch: int | None


class HistoryTrainer(Trainer):
    """ESPnet's trainer, which keeps the weights at about ``hf_history`` points of the training.

    The points follow from the length of the training alone, and steps are counted over interruptions, so a training
    that is resumed keeps the points that an undisturbed one keeps.
    """

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> HistoryOptions:
        """Options of the trainer from those of the command line."""
        return HistoryOptions(**{field.name: getattr(args, field.name) for field in fields(HistoryOptions)})

    @classmethod
    def train_one_epoch(cls, model, iterator, reporter, options, distributed_option, **others) -> bool:
        """Train as ESPnet does; the batches pass `keep_along`."""
        first = not distributed_option.distributed or distributed_option.dist_rank == 0
        if options.hf_history and first:
            points = history_points(options.max_epoch * options.num_iters_per_epoch, options.hf_history)
            last = reporter.get_epoch() == options.max_epoch
            iterator = keep_along(iterator, points, model, options.output_dir, reporter.get_total_count(), last)
        return super().train_one_epoch(
            model=model, iterator=iterator, reporter=reporter, options=options,
            distributed_option=distributed_option, **others,
        )  # fmt: skip


def check_history(args: argparse.Namespace) -> None:
    """Refuse options from which the points cannot be found, before anything is read.

    Raises:
        ConfigError: ``hf_history`` is 1 or negative, or the length of an epoch is not given.
    """
    if not args.hf_history:
        return
    if args.hf_history < 2:
        raise ConfigError(f"--hf_history must be 0 (none) or 2 and more points, got {args.hf_history}")
    if not args.num_iters_per_epoch:
        raise ConfigError("--hf_history needs to know how long training is: give --num_iters_per_epoch, too")
