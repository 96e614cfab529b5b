"""``hfprobe untangle``: capacity, radius and dimension of word, phone or speaker manifolds, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.banks import add_encoder_arguments
from hfprobe.cli.common import (
    NOISE_DEFAULT,
    NOISE_HELP,
    add_dataset_arguments,
    check_output,
    device_of,
    positive_float,
    positive_int,
    say_left_out,
    say_noise_left_out,
    settings,
    write_settings,
)
from hfprobe.cli.show import plain
from hfprobe.errors import ConfigError, LayerError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    add_encoder_arguments(parser, probes=False)
    add_dataset_arguments(parser, "librispeech:clean/test")
    parser.add_argument("--by", required=True, choices=("word", "phone", "speaker"), help="what a class is")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for tables, figures, JSON and CSV")
    parser.add_argument("--layers", nargs="+", metavar="L", help="layers (default: all)")
    parser.add_argument(
        "--classes", type=positive_int, default=50, metavar="N",
        help="classes, drawn among those with enough points (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--points", type=positive_int, default=50, metavar="M",
        help="points of each class, one from an utterance at most (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--pool", choices=("frame", "mean"), default="frame",
        help="a point is the frame at the middle of the word or phone (speakers: at a moment drawn from the "
        "utterance), or the mean over all frames of word, phone or utterance (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--snr", nargs="+", default=["clean"], metavar="S",
        help="conditions: clean, or noise at so many dB (default: clean)",
    )  # fmt: skip
    parser.add_argument("--noise", metavar="DIR", help=NOISE_HELP + "; its test part is used" + NOISE_DEFAULT)
    parser.add_argument("--noise-type", default="any", help="any, noise, music or speech (default: %(default)s)")
    parser.add_argument(
        "--aligner", default="vgg-blstm-baseline", metavar="E",
        help="recogniser that finds when words are spoken (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--alignments", metavar="PATH", help="TextGrids of MFA or CTM files of Kaldi instead")
    parser.add_argument("--margin", type=float, default=0.0, help="margin kappa of the capacity (default: %(default)s)")
    parser.add_argument(
        "--vectors", type=positive_int, default=300, help="Gaussian vectors per manifold (default: %(default)s)"
    )
    parser.add_argument(
        "--restarts", type=positive_int, default=10,
        help="starts of the search for directions that centres share (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--shuffled", action=argparse.BooleanOptionalAction, default=True,
        help="also measure with shuffled labels (default: yes)",
    )  # fmt: skip
    parser.add_argument(
        "--max-seconds", type=positive_float, default=20.0, help="leave out longer utterances (default: %(default)s)"
    )
    parser.add_argument(
        "--memory", type=positive_float, default=2.0, metavar="GIB",
        help="for the vectors of all layers, and twice that for the analysis of one (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> str:
    """Collect, measure and write the results."""
    from hfprobe.analysis.conditions import parse_conditions
    from hfprobe.analysis.manifold_points import plan_points
    from hfprobe.analysis.manifolds_of import GIBIBYTE, collect
    from hfprobe.analysis.untangle import UntangleSettings, untangle
    from hfprobe.cli.train import noise_of
    from hfprobe.data.alignments import load_alignments
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.progress import progress_bar

    chosen = UntangleSettings(
        args.margin, args.vectors, args.restarts, args.shuffled, memory_limit=2 * args.memory * GIBIBYTE,
        seed=args.seed,
    )  # fmt: skip
    conditions = parse_conditions(args.snr, args.noise_type)
    folder, device = check_output(args.output), device_of(args)
    if len(set(args.encoder)) < len(args.encoder):
        raise ConfigError("an encoder is given twice; give each once")
    given = load_alignments(args.alignments) if args.alignments and args.by != "speaker" else None
    plan = plan_points(args.dataset, args.by, args.classes, args.points, args.seed, args.max_seconds, given)
    encoders = [AutoSpeechEncoder.from_pretrained(name) for name in args.encoder]
    if len({encoder.name for encoder in encoders}) < len(encoders):
        raise ConfigError(f"two encoders have one name: {', '.join(e.name for e in encoders)}; rename a folder")
    known = dict.fromkeys(spec.name for encoder in encoders for spec in encoder.layers)
    for layer in args.layers or []:
        if layer not in known:
            raise LayerError(f"no encoder has a layer {layer!r}; choose from {', '.join(known)}")
    noise = noise_of(args.noise, "test") if any(c.snr_db is not None for c in conditions) else None
    aligner = given or _aligner(args, encoders, device)
    points = collect(
        args.dataset, plan, encoders, conditions, aligner, noise, args.layers, args.pool, args.seed, device,
        args.memory * GIBIBYTE, lambda rows: progress_bar(rows, "encoding", "utterance"),
    )  # fmt: skip
    results = untangle(points, args.by, chosen, lambda keys: progress_bar(keys, "measuring", "layer"))
    print(plain(write(args, results, points, plan, aligner, folder)))
    print(f"with intervals: {folder / 'results.md'}")
    write_settings(args, folder)
    say_left_out(args, plan.left_out)
    say_left_out(args, points.failures, "point")
    say_noise_left_out(args, noise)
    failed = sum(item.geometry is None for item in results)
    left_out = f" ({failed} of {len(results)} layers could not be measured; results.md says why)" if failed else ""
    return f"tables, figures, results.json, results.csv and classes.csv are in {folder}{left_out}"


def _aligner(args: argparse.Namespace, encoders: list, device: str):
    """The recogniser that aligns; one under study where it is the same."""
    if args.by == "speaker":
        return None
    from hfprobe.analysis.alignment import CTCAligner
    from hfprobe.encoders import AutoSpeechEncoder

    own = dict(zip(args.encoder, encoders, strict=True))
    return CTCAligner(own.get(args.aligner) or AutoSpeechEncoder.from_pretrained(args.aligner), device)


def write(args: argparse.Namespace, results, points, plan, aligner, folder: Path) -> str:
    """Write JSON, CSV, Markdown and figures; returns what a terminal shows of it."""
    from hfprobe.analysis.untangle import class_csv
    from hfprobe.files import write_whole
    from hfprobe.reports.figures import save_figure
    from hfprobe.reports.untangling import untangling_figure, untangling_table
    from hfprobe.results import Results, environment_stamp

    rows = tuple(row for item in results for row in item.rows)
    measured = [item.geometry for item in results if item.geometry is not None]
    classes = list(dict.fromkeys(points.labels.tolist()))
    config = {
        **settings(args),
        "class_names": classes,
        "points_used": len(points.labels),
        "points_lost": points.lost,
        "classes_available": plan.available,
        "utterances": len(set(points.utterances.tolist())),
        "speakers": len(set(points.speakers.tolist())),
        "left_out": dict(plan.left_out),
        "points_failed": dict(points.failures),
        "alignment_failures": dict(aligner.failures) if aligner is not None else {},
        "removed_directions": {" ".join(i.key): i.geometry.removed for i in results if i.geometry is not None},
        "random_capacity": round(measured[0].floor, 6) if measured else None,
    }
    outcome = Results(rows, environment_stamp(args.seed, args.command_line), config)
    outcome.to_json(folder / "results.json")
    outcome.to_csv(folder / "results.csv")
    write_whole(folder / "classes.csv", class_csv(results))
    caption = f"{len(classes)} classes by {args.by}, {len(points.labels)} points, {args.pool} pooling. "
    notes = [f"No geometry: {' '.join(item.key)}: {item.error}\n" for item in results if item.error]
    lost = dict(points.failures)
    notes += [f"Points short: {points.lost} (candidates lost: {lost}).\n"] if points.lost else []
    write_whole(folder / "results.md", "\n".join([untangling_table(rows, caption), *notes]))
    short = "\n".join([untangling_table(rows, caption, intervals=False), *notes])
    if measured:
        floor = measured[0].floor
        save_figure(untangling_figure(rows, ("capacity",), floor), folder / "capacity")
        save_figure(untangling_figure(rows, floor=floor), folder / "untangling")
    return short
