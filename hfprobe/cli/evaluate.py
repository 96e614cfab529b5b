"""``hfprobe evaluate``: speaker, intelligibility and quality by layer and condition, with ceiling, floor, intervals."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.banks import add_encoder_arguments, load_encoders
from hfprobe.cli.common import check_output, device_of, positive_float, positive_int, settings, write_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    add_encoder_arguments(parser)
    parser.add_argument(
        "--dataset", required=True, metavar="D", help="e.g. librispeech:clean/test, speechocean762:test"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for tables, figures, JSON and CSV")
    parser.add_argument(
        "--snr", nargs="+", default=["clean", "20", "10", "0"], metavar="S",
        help="conditions: clean, or noise at so many dB (default: clean 20 10 0)",
    )  # fmt: skip
    parser.add_argument("--noise", metavar="DIR", help="noise in MUSAN's layout or 'generated'; its test part is used")
    parser.add_argument("--noise-type", default="any", help="any, noise, music or speech (default: %(default)s)")
    parser.add_argument("--verifier", default="ge2e", help="speaker encoder (default: %(default)s)")
    parser.add_argument(
        "--quality", nargs="+", default=["stoi"], metavar="M", help="of stoi, estoi, pesq, si_sdr (default: stoi)"
    )
    parser.add_argument("--wer", action="store_true", help="also word and character error rates of the recognisers")
    parser.add_argument("--layers", nargs="+", metavar="L", help="layers (default: all)")
    parser.add_argument("--speakers", type=positive_int, default=40, help="test speakers (default: %(default)s)")
    parser.add_argument("--per-speaker", type=positive_int, default=5, help="utterances of each (default: %(default)s)")
    parser.add_argument(
        "--max-seconds", type=positive_float, default=20.0, help="leave out longer utterances (default: %(default)s)"
    )
    parser.add_argument(
        "--iterations", type=positive_int, default=32, help="Griffin-Lim iterations (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> str:
    """Evaluate and write the results."""
    from hfprobe.analysis.conditions import parse_conditions
    from hfprobe.analysis.test_set import load_test_set
    from hfprobe.cli.train import noise_of
    from hfprobe.errors import ConfigError, LayerError
    from hfprobe.metrics.quality import MEASURES
    from hfprobe.speakers import load_speaker_encoder

    conditions = parse_conditions(args.snr, args.noise_type)
    unknown = [name for name in args.quality if name not in MEASURES]
    if unknown:
        raise ConfigError(f"unknown measure {unknown[0]!r}; choose from {', '.join(MEASURES)}")
    folder = check_output(args.output)
    device_of(args)
    verifier = load_speaker_encoder(args.verifier)
    pairs = load_encoders(args.encoder, args.probes)
    for layer in args.layers or []:
        if not any(layer in bank for _, bank in pairs):
            known = dict.fromkeys(name for _, bank in pairs for name in bank)
            raise LayerError(f"no bank has a layer {layer!r}; choose from {', '.join(known)}")
    noise = noise_of(args.noise, "test") if any(c.snr_db is not None for c in conditions) else None
    test = load_test_set(args.dataset, args.speakers, args.per_speaker, args.max_seconds)
    results = measure(args, pairs, test, conditions, verifier, noise)
    write_results(results, folder)
    write_settings(args, folder)
    print((folder / "results.md").read_text(encoding="utf-8"))
    return f"tables, figures, results.json and results.csv are in {folder}"


def measure(args, pairs, test, conditions, verifier, noise):
    """Evaluate ``pairs`` on a test set with the options of this command; returns ``Results``."""
    from hfprobe.analysis.evaluate import evaluate
    from hfprobe.analysis.recognise import recognise
    from hfprobe.progress import progress_bar
    from hfprobe.results import Results, environment_stamp

    device = device_of(args)
    rows = evaluate(
        pairs, test, conditions, verifier, noise, tuple(args.quality), args.layers, args.iterations, args.seed, device,
        lambda work: progress_bar(work, "evaluating", "batch"),
    )  # fmt: skip
    if args.wer:
        for encoder, _ in pairs:
            rows += recognise(encoder, test, conditions, noise, args.seed, device)[0]
    config = {
        **settings(args),
        "verifier": verifier.name,
        "utterances": len(test),
        "test_speakers": len(set(test.speakers)),
        "test_seconds": round(test.seconds, 1),
        "left_out": dict(test.failures),
    }
    return Results(tuple(rows), environment_stamp(args.seed, args.command_line), config)


def write_results(results, folder: Path) -> None:
    """Write JSON, CSV, the Markdown tables and the figures of a run."""
    from hfprobe.files import write_whole
    from hfprobe.reports.figures import layer_curves, save_figure
    from hfprobe.reports.tables import markdown_tables

    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    write_whole(folder / "results.md", markdown_tables(results.rows))
    for metric in sorted({row.metric for row in results.rows} & {"eer", "stoi", "estoi", "pesq", "si_sdr"}):
        save_figure(layer_curves(results.rows, metric), folder / metric)
