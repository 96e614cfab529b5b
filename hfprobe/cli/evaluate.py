"""``hfprobe evaluate``: speaker, quality and words by layer and condition, with ceiling, floors and intervals."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.banks import add_encoder_arguments, add_vocoder_arguments, load_encoders, load_random_floors
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
    say_noise_left_out,
    settings,
    shared_device,
    write_settings,
    writing,
)
from hfprobe.cli.show import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    add_encoder_arguments(parser)
    add_dataset_arguments(parser, "librispeech:clean/test")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for tables, figures, JSON and CSV")
    parser.add_argument(
        "--snr", nargs="+", default=["clean", "20", "10", "0"], metavar="S",
        help="conditions: clean, or noise at so many dB (default: clean 20 10 0)",
    )  # fmt: skip
    parser.add_argument("--noise", metavar="DIR", help=NOISE_HELP + "; its test part is used" + NOISE_DEFAULT)
    parser.add_argument("--noise-type", default="any", help="any, noise, music or speech (default: %(default)s)")
    parser.add_argument("--verifier", default="ge2e", help="speaker encoder (default: %(default)s)")
    parser.add_argument(
        "--quality", nargs="+", default=["stoi"], metavar="M",
        help="of stoi, estoi, pesq, pesq_nb, si_sdr, log_mel (default: stoi)",
    )  # fmt: skip
    parser.add_argument(
        "--against", choices=["clean", "input", "both"], default="clean",
        help="what quality is measured against: the clean original, or under noise also what the encoder heard "
        "(metrics stoi_input, ...) (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--wer", action="store_true",
        help="also word and character error rates: the encoders' own recognisers read the input, the ceiling, the "
        "floor and the sound of every layer",
    )  # fmt: skip
    parser.add_argument(
        "--recogniser", action="append", default=[], metavar="E",
        help="a further recogniser that reads every sound (an encoder with a CTC head); its rows are called "
        "'ENCODER > RECOGNISER'; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--random-probes", action="append", default=[], metavar="BANK",
        help="bank of the encoder with random weights, one per --encoder (default: the folder 'random' in its bank)",
    )  # fmt: skip
    parser.add_argument(
        "--trials", choices=["balanced", "all"], default="balanced",
        help="as many pairs of one speaker as of two, drawn once, or every pair (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--eer-convention", choices=["roc", "speechbrain"], default="roc",
        help="crossing of the ROC, or the mean of both errors where they are closest (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--layers", nargs="+", metavar="L", help="layers (default: all)")
    parser.add_argument("--speakers", type=positive_int, default=40, help="test speakers (default: %(default)s)")
    parser.add_argument("--per-speaker", type=positive_int, default=5, help="utterances of each (default: %(default)s)")
    parser.add_argument(
        "--max-seconds", type=positive_float, default=20.0, help="leave out longer utterances (default: %(default)s)"
    )
    parser.add_argument(
        "--keep-sounds", type=positive_int, metavar="N",
        help="keep every sound of N utterances, from as many speakers as there are, for `hfprobe report` to play",
    )  # fmt: skip
    add_vocoder_arguments(parser, 32)


def run(args: argparse.Namespace) -> str:
    """Evaluate and write the results."""
    from hfprobe.analysis.conditions import parse_conditions
    from hfprobe.analysis.pieces import Pieces
    from hfprobe.analysis.test_set import load_test_set
    from hfprobe.cli.train import noise_of
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.errors import ConfigError, LayerError
    from hfprobe.files import write_whole
    from hfprobe.interrupts import as_interrupted
    from hfprobe.metrics.quality import MEASURES
    from hfprobe.speakers import load_speaker_encoder
    from hfprobe.vocoders import load_vocoder

    conditions = parse_conditions(args.snr, args.noise_type)
    unknown = [name for name in args.quality if name not in MEASURES]
    if unknown:
        raise ConfigError(f"unknown measure {unknown[0]!r}; choose from {', '.join(MEASURES)}")
    folder = check_output(args.output)
    device = device_of(args)
    if processes()[1] > 1:
        args.device = shared_device(device)
    verifier = load_speaker_encoder(args.verifier)
    pairs = load_encoders(args.encoder, args.probes)
    for layer in args.layers or []:
        if not any(layer in bank for _, bank in pairs):
            known = dict.fromkeys(name for _, bank in pairs for name in bank)
            raise LayerError(f"no bank has a layer {layer!r}; choose from {', '.join(known)}")
    floors, without = load_random_floors(args.encoder, pairs, args.random_probes)
    vocoder = load_vocoder(args.vocoder, args.iterations, device_of(args))
    recognisers = [AutoSpeechEncoder.from_pretrained(name) for name in args.recogniser]
    noise = noise_of(args.noise, "test") if any(c.snr_db is not None for c in conditions) else None
    test = load_test_set(args.dataset, args.speakers, args.per_speaker, args.max_seconds)
    if without and processes()[0] == 0:
        which = "" if len(without) == len(pairs) else f" of {', '.join(without)}"
        print(f"note: no random-weight floor{which}; `hfprobe train --random-floor` makes one together with the probes")
    sounds_in = folder if args.keep_sounds else None
    with writing(args, folder):
        pieces = Pieces(folder)
        try:
            results, differences = measure_all(
                args, pairs + floors, test, conditions, verifier, noise, recognisers, vocoder, sounds_in, pieces
            )
        except KeyboardInterrupt as stop:
            there = pieces.made + pieces.taken_up
            kept = "1 batch is" if there == 1 else f"{there} batches are"
            behind = "it" if there == 1 else "them"
            raise as_interrupted(
                stop, f"interrupted; {kept} measured and kept, the same command goes on behind {behind}"
            ) from None
        if processes()[0] == 0:
            short = write_results(results, folder, differences)
            write_settings(args, folder)
            write_whole(folder / "left_out.json", left_out_json(utterances=test.failures))
            pieces.clear()
            print(plain(short))
            print(f"with intervals and counts: {folder / 'results.md'}")
    say_left_out(args, test.failures)
    say_noise_left_out(args, noise)
    sounds = f"; `hfprobe report {folder} --output PAGE` makes a page to listen to" if args.keep_sounds else ""
    return f"tables, figures, results.json and results.csv are in {folder}{sounds}"


def measure(args, pairs, test, conditions, verifier, noise):
    """Evaluate ``pairs`` on a test set with the options of this command; returns ``Results``."""
    return measure_all(args, pairs, test, conditions, verifier, noise)[0]


def measure_all(
    args, pairs, test, conditions, verifier, noise, recognisers=(), vocoder=None, sounds_in=None,
    pieces=None,
):  # fmt: skip
    """Evaluate and compare; returns ``Results`` and the paired differences, in processes but the first None for both.

    Where ``sounds_in`` is a folder, the sounds of ``args.keep_sounds`` utterances are kept in it. Options that ``args``
    lacks (the demo has few) are as by default.
    """
    from hfprobe.analysis.differences import paired_differences
    from hfprobe.analysis.evaluate import REFERENCES, measure_systems
    from hfprobe.probes.classifier_training import gather
    from hfprobe.progress import progress_bar
    from hfprobe.results import Results, environment_stamp

    given, keeper = vars(args), None
    if sounds_in is not None:
        from hfprobe.analysis.keep import SoundKeeper
        from hfprobe.reports.kept import Keeper

        writer = Keeper(sounds_in)
        keeper = SoundKeeper(test, args.keep_sounds, pairs, writer.add, device_of(args), writer)
    against = given.get("against", "clean")
    measured = measure_systems(
        pairs, test, conditions, verifier, noise, tuple(args.quality), args.layers, args.iterations, args.seed,
        device_of(args), lambda work: progress_bar(work, "evaluating", "batch"),
        words=args.wer, recognisers=recognisers, against=REFERENCES if against == "both" else (against,),
        trials=given.get("trials", "balanced"), convention=given.get("eer_convention", "roc"), vocoder=vocoder,
        keep=keeper, pieces=pieces, share=processes(),
    )  # fmt: skip
    if noise is not None:
        for refused in gather(dict(noise.refused)):
            noise.refused.update(refused)
    if processes()[0] > 0:
        return None, None
    mute = [name for name, readers in measured.readers.items() if all(reader.second for reader in readers)]
    if args.wer and mute:
        print(f"note: {', '.join(mute)} cannot transcribe and is left out of --wer")
    config = {
        **settings(args),
        "verifier": verifier.name,
        "utterances": len(test),
        "test_speakers": len(set(test.speakers)),
        "test_seconds": round(test.seconds, 1),
        "left_out": dict(test.failures),
        "probe_capacity": {encoder.name: bank.capacity for encoder, bank in pairs},
        "quality_failures": {" / ".join(key): count for key, count in measured.failures.items()},
    }
    results = Results(tuple(measured.rows()), environment_stamp(args.seed, args.command_line), config)
    if keeper is not None:
        _finish_sounds(keeper, writer, measured, verifier, results)
    return results, paired_differences(measured, lambda work: progress_bar(work, "comparing", "pair"))


def _finish_sounds(keeper, writer, measured, verifier, results) -> None:
    """Say what was measured on the kept sounds, and draw the paper's Figure 3 of the first of them."""
    from hfprobe.reports.figures import save_figure
    from hfprobe.reports.invariance import spectrogram_figure
    from hfprobe.reports.kept import mels_by_layer, read_sounds

    for place, facts in keeper.numbers(measured, verifier):
        writer.note(*place, **facts)
    test, folder = keeper.test, writer.folder.parent
    kept = {
        test.ids[i]: {"title": f"{test.ids[i]} (speaker {test.speakers[i]})", "transcript": test.texts[i] or None}
        for i in keeper.indices
    }
    writer.finish(kept, results.environment, results.config)
    shown = mels_by_layer(read_sounds(folder)[0])
    if shown is not None:
        save_figure(spectrogram_figure(*shown), folder / "figure3")


def write_results(results, folder: Path, differences=()) -> str:
    """Write JSON, CSV, the Markdown tables and the figures of a run; returns what a terminal shows of it."""
    import json
    from dataclasses import asdict

    from hfprobe.analysis.differences import differences_csv
    from hfprobe.files import write_whole
    from hfprobe.reports.differences import difference_markdown
    from hfprobe.reports.figures import layer_curves, save_figure
    from hfprobe.reports.paper import figure_2, figure_4, table_2
    from hfprobe.reports.tables import markdown_tables

    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    probes = results.config.get("probe_capacity", {})
    shown = ", ".join(f"{name}: {capacity}" for name, capacity in probes.items())
    head = f"Probes: {shown}.\n\n" if shown else ""
    write_whole(folder / "results.md", head + markdown_tables(results.rows))
    metrics = {row.metric for row in results.rows}
    drawn = metrics - {"mindcf", "cer"}
    for metric in sorted(drawn):
        save_figure(layer_curves(results.rows, metric), folder / metric)
    tables = [table_2(results.rows, intervals=intervals).to_markdown() for intervals in (False, True)]
    write_whole(folder / "table2.md", "\n".join(tables))
    save_figure(figure_2(results.rows), folder / "figure2")
    if "stoi" in metrics:
        save_figure(figure_4(results.rows, differences), folder / "figure4")
    if differences:
        content = {
            "differences": [asdict(row) for row in differences],
            "environment": results.environment,
            "config": results.config,
        }
        write_whole(folder / "differences.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
        write_whole(folder / "differences.csv", differences_csv(differences))
        write_whole(folder / "differences.md", difference_markdown(differences))
    return head + markdown_tables(results.rows, intervals=False)
