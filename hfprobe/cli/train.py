"""``hfprobe train``: one probe per layer, all in one pass over the data."""

from __future__ import annotations

import argparse

from hfprobe.cli.common import (
    NOISE_DEFAULT,
    NOISE_HELP,
    add_dataset_arguments,
    check_output,
    device_of,
    left_out_json,
    positive_float,
    positive_int,
    processes,
    say_left_out,
    share,
    training_device,
    write_settings,
    writing,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--encoder", required=True, metavar="E", help="encoder: see `hfprobe encoders`")
    add_dataset_arguments(parser, "librispeech:clean/train.100")
    parser.add_argument("--output", required=True, metavar="BANK", help="folder for the bank, its log and checkpoints")
    parser.add_argument(
        "--noise", default=None, metavar="DIR",
        help=NOISE_HELP + ", 'local' or 'none'" + NOISE_DEFAULT,
    )  # fmt: skip
    parser.add_argument(
        "--clean-share", type=share, default=0.25, help="utterances without noise (default: %(default)s)"
    )
    parser.add_argument("--layers", nargs="+", metavar="L", help="layers (default: all)")
    parser.add_argument(
        "--batch-size", type=positive_int, default=8,
        help="utterances per batch, shared out among the processes if there are several (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-seconds", type=positive_float, default=20.0, help="leave out longer utterances (default: %(default)s)"
    )
    parser.add_argument("--limit", type=positive_int, help="use only the first N utterances")
    parser.add_argument(
        "--steps", type=positive_int, help="optimiser steps (default: 3000, or no limit with --minutes)"
    )
    parser.add_argument("--minutes", type=positive_float, help="stop after so many minutes")
    parser.add_argument(
        "--probe", choices=["highway", "linear"], default="highway",
        help="capacity: the paper's Highway network, or one affine map per frame (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--random-floor", action="store_true",
        help="in the same pass also train probes on the same encoder with random weights, into BANK/random: the floor "
        "of every curve that `hfprobe evaluate` draws",
    )  # fmt: skip
    parser.add_argument(
        "--hidden-dim", type=positive_int, default=192, help="width of the Highway layers (default: %(default)s)"
    )
    parser.add_argument("--num-layers", type=positive_int, default=4, help="Highway layers (default: %(default)s)")
    parser.add_argument(
        "--learning-rate", type=positive_float, default=2e-3, help="peak rate of AdamW (default: %(default)s)"
    )
    parser.add_argument(
        "--frames-per-batch", type=positive_int, help="mel frames per layer and step, drawn at random (default: all)"
    )
    parser.add_argument(
        "--checkpoint-steps", type=positive_int, default=500, help="steps between checkpoints (default: %(default)s)"
    )
    parser.add_argument("--dev", metavar="D", help="dataset for a dev loss")
    parser.add_argument(
        "--workers", type=workers, default=0, metavar="N",
        help="threads that read and decode ahead; the batches are the same for any number (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--no-resume", dest="resume", action="store_false", help="begin anew even if a checkpoint is there"
    )


def workers(text: str) -> int:
    """Type of ``--workers``."""
    if not text.isascii() or not text.isdigit() or int(text) > 64:
        raise argparse.ArgumentTypeError(f"expected a number of threads from 0 to 64, got {text!r}")
    return int(text)


def noise_of(name: str | None, part: str):
    """The noise corpus that ``--noise`` names, or ``None`` for ``none``."""
    from hfprobe.data import load_noise

    return None if name == "none" else load_noise(None if name in (None, "local") else name, part)


def run(args: argparse.Namespace) -> str:
    """Train and save a bank."""
    from itertools import islice

    from hfprobe.data import NoiseRecipe, SpeechStream
    from hfprobe.data.left_out import by_reason
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.files import write_whole
    from hfprobe.interrupts import as_interrupted
    from hfprobe.probes import ProbeTrainingConfig, train_bank
    from hfprobe.probes.bank_files import RANDOM
    from hfprobe.probes.classifier_training import gather

    config = ProbeTrainingConfig(
        probe=args.probe,
        hidden_dim=args.hidden_dim,
        num_layers=args.num_layers,
        max_steps=args.steps if args.steps or args.minutes else 3000,
        max_minutes=args.minutes,
        learning_rate=args.learning_rate,
        frames_per_batch=args.frames_per_batch,
        checkpoint_steps=args.checkpoint_steps,
        seed=args.seed,
        device=training_device(device_of(args)),
    )
    folder = check_output(args.output)
    encoder = AutoSpeechEncoder.from_pretrained(args.encoder)
    for layer in args.layers or []:
        encoder.layer(layer)  # raises with the list of names
    twin = AutoSpeechEncoder.from_pretrained(args.encoder, random_weights=args.seed) if args.random_floor else None
    # torchrun and accelerate launch tell each process which share of the stream is its own.
    rank, world = processes()
    noise, recipe = noise_of(args.noise, "train"), NoiseRecipe(clean_share=args.clean_share)
    stream = SpeechStream(
        args.dataset, args.batch_size, noise, recipe, args.seed,
        max_seconds=args.max_seconds, limit=args.limit, rank=rank, world=world, workers=args.workers,
        share="auto",
    )  # fmt: skip
    dev = held_out = None
    if args.dev:
        held_out = SpeechStream(args.dev, args.batch_size, noise, recipe, args.seed + 1, shuffle=False, limit=64)
        dev = list(islice(held_out.one_epoch(0), 8))
    check_usable(args, stream)
    with writing(args, folder):
        try:
            bank = train_bank(
                encoder, stream, folder, config,
                layers=args.layers, resume=args.resume, dev_batches=dev, random_twin=twin,
            )  # fmt: skip
        except KeyboardInterrupt as stop:
            raise as_interrupted(stop, "interrupted; the same command goes on from the last checkpoint") from None
        # By name, because what is too long is known to every process.
        states = gather(stream.state_dict())
        lost, noises = (
            by_reason({name: reason for state in states for name, reason in state[kind].items()})
            for kind in ("left_out", "noise_left_out")
        )
        if rank == 0:
            write_settings(args, folder)
            write_whole(folder / "left_out.json", left_out_json(utterances=lost, noise_files=noises))
    if rank == 0:
        say_left_out(args, lost)
        say_left_out(args, noises, "noise file")
        if held_out is not None:
            say_left_out(args, held_out.failures, "dev utterance")
    floor = f", those of {twin.name} in {folder / RANDOM}" if twin is not None else ""
    layers = "1 layer" if len(bank) == 1 else f"{len(bank)} layers"
    return f"{bank.capacity} probes of {layers} of {encoder.name} are in {folder}{floor}"


def check_usable(args: argparse.Namespace, stream) -> None:
    """Read the first batch, so that nothing is begun on a dataset that gives none."""
    from hfprobe.errors import DatasetError

    first = stream.one_epoch(0)
    # With many processes the shares of some may be empty.
    if next((batch for batch in first if len(batch)), None) is None and not (stream.by_rows and stream.rank):
        found = stream.failures.sentence() or "nothing was read"
        raise DatasetError(f"no usable utterance in {args.dataset!r} (left out: {found}); check the dataset")
    first.close()
