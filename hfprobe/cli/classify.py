"""``hfprobe classify``: phones, speakers, genders, noise and SNR named from every layer, with controls."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.common import (
    NOISE_DEFAULT,
    NOISE_HELP,
    add_dataset_arguments,
    check_output,
    device_of,
    positive_float,
    positive_int,
    processes,
    say_left_out,
    say_noise_left_out,
    settings,
    share,
    training_device,
    write_settings,
    writing,
)
from hfprobe.cli.show import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "--encoder", action="append", required=True, metavar="E",
        help="encoder: a name from `hfprobe encoders`, an ESPnet experiment folder, or a Hub id; random:E for the same "
        "with random weights; may be repeated",
    )  # fmt: skip
    add_dataset_arguments(parser, "speechocean762:train")
    parser.add_argument("--target", required=True, metavar="T", help="phone, speaker, gender, noise (category) or snr")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for tables, figures and classifiers")
    parser.add_argument(
        "--probe", default="linear", help="linear, or mlp (one hidden layer of 500 units) (default: %(default)s)"
    )
    parser.add_argument("--layers", nargs="+", metavar="L", help="layers (default: all)")
    parser.add_argument(
        "--aligner", default="vgg-blstm-baseline", metavar="E",
        help="recogniser of characters that aligns the transcripts, for phones (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--alignments", metavar="DIR_OR_FILE", help="instead: TextGrids (MFA) by utterance, or phones.ctm (Kaldi)"
    )
    parser.add_argument(
        "--test-share", type=share, default=0.25,
        help="part for testing: of the utterances (phone, noise, snr), of each speaker's sessions (speaker), of the "
        "speakers (gender) (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--limit", type=positive_int, help="use only the first N utterances")
    parser.add_argument(
        "--max-seconds", type=positive_float, default=20.0, help="leave out longer utterances (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=8, help="utterances per batch of the encoder (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=positive_int, default=1500, help="optimiser steps of the classifiers (default: %(default)s)"
    )
    parser.add_argument(
        "--learning-rate", type=positive_float, default=2e-3, help="peak rate of AdamW (default: %(default)s)"
    )
    parser.add_argument(
        "--memory", type=positive_float, default=2.0, metavar="GIB",
        help="for the points that are kept, and again for the classifiers (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--noise", metavar="DIR", help=f"for noise and snr: {NOISE_HELP}{NOISE_DEFAULT}")
    parser.add_argument("--mdl", action="store_true", help="also description lengths (up to ten more trainings)")


def run(args: argparse.Namespace) -> str:
    """Classify and write the results."""
    from hfprobe.analysis.classify import classify
    from hfprobe.analysis.classify_data import NOISY, TARGETS, check_target, make_plan
    from hfprobe.analysis.classify_points import GIBIBYTE, Collector
    from hfprobe.cli.train import noise_of
    from hfprobe.data import SpeechStream
    from hfprobe.data.left_out import LeftOut, all_left_out
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.errors import ConfigError
    from hfprobe.probes.classifier_config import ClassifierTrainingConfig
    from hfprobe.probes.classifier_training import accelerator_for
    from hfprobe.progress import progress_bar

    check_target(args.target)
    folder, device = check_output(args.output), device_of(args)
    config = ClassifierTrainingConfig(
        args.probe, args.steps, learning_rate=args.learning_rate, seed=args.seed, device=training_device(device)
    )
    if len(set(args.encoder)) < len(args.encoder):
        raise ConfigError("an encoder is given twice; give each once")
    noise = {side: noise_of(args.noise, part) for side, part in ((False, "train"), (True, "test"))}
    if args.target in NOISY and None in noise.values():
        raise ConfigError(f"target {args.target} needs noise; leave out --noise none")
    encoders = [AutoSpeechEncoder.from_pretrained(name) for name in args.encoder]
    source = alignment_source(args.aligner, args.alignments, device) if TARGETS[args.target] == "frame" else None
    plan = make_plan(
        args.dataset, args.target, args.test_share, args.seed, args.max_seconds, args.limit, noise[False]
    )  # fmt: skip
    accelerator = accelerator_for(config.device)
    rank, world = processes()
    if world > 1:
        device = str(accelerator.device)
    collector = Collector(encoders, plan, args.layers, noise, source, args.memory * GIBIBYTE, device)
    stream = SpeechStream(
        args.dataset, args.batch_size, seed=args.seed, max_seconds=args.max_seconds, limit=args.limit, rank=rank,
        world=world, share="rows",
    )  # fmt: skip
    with writing(args, folder):
        for batch in progress_bar(stream.one_epoch(0), "encoding", "batch"):
            collector.add(batch)
        lost = stream.failures
        del lost["too long"]  # the plan has counted those
        collector.left_out.join(lost)
        answers = classify(
            collector.finish(), args.target, config, args.mdl, args.memory * GIBIBYTE,
            lambda steps: progress_bar(steps, "learning", "step"), accelerator,
        )  # fmt: skip
        if accelerator.is_main_process:
            write_answers(args, answers, config, folder)
            print(plain((folder / "results.md").read_text(encoding="utf-8")))
            every = answers.facts["left_out"]
            names = all_left_out([plan.left_out, collector.left_out]).names  # of this process's share
            for unit in ("utterance", "class"):
                part = LeftOut({r: n for r, n in every.items() if r.startswith("class ") == (unit == "class")})
                part.names = names
                say_left_out(args, part, unit)
            say_noise_left_out(args, *noise.values())
        accelerator.wait_for_everyone()
    return f"tables, figures, results.json, results.csv and the classifiers are in {folder}"


def alignment_source(aligner: str, alignments: str | None, device: str):
    """Where word and phone times come from: given files, or a recogniser.

    Args:
        aligner: Name of a recogniser of characters.
        alignments: Folder or file of alignments; the recogniser is not loaded where they are given.
        device: Where the recogniser runs.
    """
    from hfprobe.analysis.alignment import CTCAligner
    from hfprobe.data.alignments import load_alignments
    from hfprobe.encoders import AutoSpeechEncoder

    if alignments is not None:
        return load_alignments(alignments)
    return CTCAligner(AutoSpeechEncoder.from_pretrained(aligner), device)


def write_answers(args: argparse.Namespace, answers, config, folder: Path) -> None:
    """Write JSON, CSV, Markdown, figures, and one bank of classifiers per encoder."""
    from hfprobe.files import write_whole
    from hfprobe.probes.classifier_bank import ClassifierBank
    from hfprobe.reports.figures import save_figure
    from hfprobe.reports.probing import accuracy_curves, classify_markdown
    from hfprobe.results import Results, environment_stamp

    facts = {**settings(args), **answers.facts}
    results = Results(tuple(answers.rows), environment_stamp(args.seed, args.command_line), facts)
    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    write_whole(folder / "results.md", classify_markdown(results.rows, facts))
    save_figure(accuracy_curves(results.rows, args.target), folder / "accuracy")
    training = {**config.to_dict(), "target": args.target, "dataset": facts["dataset"]}
    for encoder in dict.fromkeys(head.encoder for head in answers.found.heads):
        heads = [head for head in answers.found.heads if head.encoder == encoder]
        probes = {head.layer: answers.trained.probes[head.key].cpu() for head in heads}
        name = encoder.replace("/", "--").replace(":", "-") or "input"
        bank = ClassifierBank(probes, encoder, heads[0].fingerprint, training)
        bank.save_pretrained(folder / "classifiers" / name)
    write_settings(args, folder)
