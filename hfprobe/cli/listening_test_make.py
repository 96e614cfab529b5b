"""``hfprobe listening-test make``: the page that listeners open, and the key."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.banks import add_encoder_arguments, add_vocoder_arguments, load_encoders
from hfprobe.cli.common import (
    NOISE_DEFAULT,
    NOISE_HELP,
    add_columns_argument,
    check_output,
    device_of,
    positive_float,
    positive_int,
    say_left_out,
    settings,
    write_settings,
)
from hfprobe.errors import ConfigError

FOR_LISTENERS = "for-listeners"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this action."""
    add_encoder_arguments(parser, required=False)
    parser.add_argument(
        "--dataset", metavar="D", help="natural speech, e.g. librispeech:clean/test, speechocean762:test"
    )
    add_columns_argument(parser)
    parser.add_argument(
        "--sounds", metavar="CSV",
        help="instead of encoders: sounds that are there, listed with path, speaker, layer, condition, utterance (and "
        "encoder); natural speech is layer 'input', condition 'clean'; a folder means its manifest.csv",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the page and the key")
    parser.add_argument(
        "--kind", choices=["triplet", "mushra"], default="triplet",
        help="whose voice is it (as in the paper), or how good does it sound (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--snr", nargs="+", metavar="S", help="conditions: clean, or noise at so many dB (default: clean)"
    )
    parser.add_argument(
        "--conditions", nargs="+", metavar="C", help="with --sounds: of these conditions only (default: all)"
    )
    parser.add_argument("--noise", metavar="DIR", help=NOISE_HELP + "; its test part is used" + NOISE_DEFAULT)
    parser.add_argument("--noise-type", default="any", help="any, noise, music or speech (default: %(default)s)")
    parser.add_argument("--layers", nargs="+", metavar="L", help="layers, also ceiling and floor (default: all layers)")
    parser.add_argument(
        "--references", choices=["layer", "ceiling", "natural"], default="layer",
        help="the two known voices: sounds of the same layer (as in the paper), the vocoded true mel, or natural "
        "speech (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--items-per-layer", type=positive_int, default=10, metavar="K",
        help="items of each layer and condition per listener (default: %(default)s, as in the paper)",
    )  # fmt: skip
    parser.add_argument(
        "--catch", type=_count, default=6, metavar="C",
        help="items of natural speech, to find who does not listen (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--listeners",
        type=positive_int,
        default=12,
        metavar="N",
        help="how many orders are drawn (default: %(default)s)",
    )
    parser.add_argument(
        "--file-per-listener", action="store_true",
        help="one file for each listener, instead of one for all that asks who it is",
    )  # fmt: skip
    parser.add_argument(
        "--anchor", choices=["lowpass", "floor"], default="lowpass",
        help="mushra: low anchor, a 3.5 kHz low-pass or the mean mel (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--speakers", type=positive_int, default=20, help="speakers (default: %(default)s)")
    parser.add_argument("--per-speaker", type=positive_int, default=6, help="utterances of each (default: %(default)s)")
    parser.add_argument(
        "--max-seconds", type=positive_float, default=8.0, help="leave out longer utterances (default: %(default)s)"
    )
    add_vocoder_arguments(parser, 64)
    parser.add_argument(
        "--audio-format", choices=["flac", "opus"], default="flac",
        help="inside the page: flac loses nothing, opus is a quarter of the size (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--title", default="", help="heading of the page")
    parser.add_argument("--note", default="", help="a sentence on the first screen, e.g. where to send the answers")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> str:
    """Make the test and write it."""
    import json

    from hfprobe.files import write_whole
    from hfprobe.listening.make import make_triplets
    from hfprobe.progress import progress_bar
    from hfprobe.reports.listening_page import minutes, write_pages
    from hfprobe.results import environment_stamp

    folder, device = check_output(args.output), device_of(args)
    source = source_of(args, device)

    def sounds(work):
        return progress_bar(work, "making sounds", "sound")

    if args.kind == "triplet":
        test = make_triplets(
            source, args.items_per_layer, args.catch, args.listeners, args.references, args.seed, sounds
        )  # fmt: skip
    else:
        from hfprobe.listening.ratings import make_ratings

        test = make_ratings(source, args.items_per_layer, args.listeners, args.anchor, args.seed, sounds)
    test.settings = settings(args)
    pages = write_pages(
        test, folder / FOR_LISTENERS, args.file_per_listener, args.title, args.note, args.audio_format,
        lambda work: progress_bar(work, "compressing", "clip"),
    )  # fmt: skip
    key = test.key(environment_stamp(args.seed, args.command_line))
    write_whole(folder / "key.json", json.dumps(key, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_settings(args, folder)
    size = pages[0].stat().st_size / 1e6
    print(
        f"test {test.id}: {len(test.orders[0])} screens, {minutes(test)} min, {len(test.clips)} sounds at "
        f"{test.loudness:.1f} LUFS, {size:.1f} MB a file"
    )
    if test.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in test.left_out.items())
        print(f"note: {sum(test.left_out.values())} sounds could not be used ({reasons}) and were replaced")
    what = pages[0] if len(pages) == 1 else f"the {len(pages)} files in {folder / FOR_LISTENERS}"
    return f"give listeners {what}; keep {folder / 'key.json'} to yourself"


def source_of(args: argparse.Namespace, device: str):
    """Where the sounds come from.

    Raises:
        ConfigError: Both sources are named, or neither, or an option does not belong to the one that is.
    """
    from hfprobe.listening.sounds import FileSounds

    if bool(args.sounds) == bool(args.encoder):
        raise ConfigError("give either --sounds, or --encoder with --dataset")
    if args.sounds:
        for option in ("dataset", "snr", "noise"):
            if getattr(args, option):
                raise ConfigError(f"--{option} belongs to --encoder; --sounds takes --layers and --conditions")
        path = Path(args.sounds)
        return FileSounds(path / "manifest.csv" if path.is_dir() else path, args.layers, args.conditions)
    if not args.dataset:
        raise ConfigError("--encoder needs natural speech: give --dataset D")
    if args.conditions:
        raise ConfigError("--conditions belongs to --sounds; with --encoder say --snr")
    return encoder_sounds(args, device)


def encoder_sounds(args: argparse.Namespace, device: str):
    """Encoders with their probes, speech and noise."""
    from hfprobe.analysis.conditions import parse_conditions
    from hfprobe.analysis.test_set import load_test_set
    from hfprobe.cli.train import noise_of
    from hfprobe.errors import LayerError
    from hfprobe.listening.sounds import EncoderSounds
    from hfprobe.vocoders import load_vocoder

    conditions = parse_conditions(args.snr or ["clean"], args.noise_type)
    pairs = load_encoders(args.encoder, args.probes)
    for layer in args.layers or []:
        if layer != "ceiling" and not any(layer in bank for _, bank in pairs):
            known = dict.fromkeys([name for _, bank in pairs for name in bank] + ["floor", "ceiling"])
            raise LayerError(f"no bank has a layer {layer!r}; choose from {', '.join(known)}")
    vocoder = load_vocoder(args.vocoder, args.iterations, device)
    noise = noise_of(args.noise, "test") if any(c.snr_db is not None for c in conditions) else None
    test = load_test_set(args.dataset, args.speakers, args.per_speaker, args.max_seconds)
    say_left_out(args, test.failures)
    return EncoderSounds(pairs, test, conditions, noise, args.layers, vocoder, args.seed, device)
