"""``hfprobe demo``: the whole path once, small and offline, from two recognisers to a page.

Probes are trained for some steps on each of two shipped recognisers that differ in one thing, noise during training;
then every layer is measured and made audible. Without a corpus on the machine, speech is synthesised by espeak-ng and
noise is generated, which is enough to see and hear the effect but says little about real voices.
"""

from __future__ import annotations

import argparse
import time

from hfprobe.cli.common import (
    NOISE_DEFAULT,
    NOISE_HELP,
    add_columns_argument,
    check_output,
    device_of,
    positive_int,
    say_left_out,
    training_device,
    write_settings,
)

ARCHITECTURE = "blstm"
KINDS = ("baseline", "robust")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the page and all that it shows")
    parser.add_argument(
        "--dataset", metavar="D",
        help="speech to train and test on, e.g. audiofolder:DIR (default: speechocean762 in the folder that "
        "HFPROBE_DATA names, else espeak)",
    )  # fmt: skip
    parser.add_argument("--test-dataset", metavar="D", help="speech to test on (default: the test part of --dataset)")
    add_columns_argument(parser)
    parser.add_argument("--noise", metavar="DIR", help=NOISE_HELP + NOISE_DEFAULT)
    parser.add_argument(
        "--steps", type=positive_int, default=160, help="training steps per encoder (default: %(default)s)"
    )
    parser.add_argument("--speakers", type=positive_int, default=8, help="test speakers (default: %(default)s)")
    parser.add_argument("--per-speaker", type=positive_int, default=4, help="utterances of each (default: %(default)s)")
    parser.add_argument("--snr", nargs="+", default=["clean", "10"], metavar="S", help="conditions (default: clean 10)")
    parser.add_argument("--sounds", type=int, default=2, help="utterances to listen to (default: %(default)s)")
    parser.add_argument(
        "--iterations", type=positive_int, default=32, help="Griffin-Lim iterations (default: %(default)s)"
    )


def datasets_of(args: argparse.Namespace) -> tuple[str, str, str]:
    """Training and test corpus, and a sentence that says what they are."""
    from hfprobe.data.locations import local_speechocean

    if args.dataset:
        test = args.test_dataset or args.dataset
        note = f"Speech: {args.dataset.partition(':')[0]} for training and {test.partition(':')[0]} for testing."
        if test == args.dataset:
            note += " Probes are trained and tested on the same recordings: give --test-dataset for an honest test."
        return args.dataset, test, note
    if local_speechocean("train") and local_speechocean("test"):
        note = "Speech: speechocean762 (read by Mandarin natives, half of them children), other speakers for testing."
        return "speechocean762:train", "speechocean762:test", note
    note = "Speech: synthesised by espeak-ng, since no corpus was found here; 40 voices to train, 20 others to test."
    return "espeak:train", "espeak:test", note


def run(args: argparse.Namespace) -> str:
    """Train, evaluate, draw, and write the page."""
    start = time.monotonic()
    from hfprobe.analysis.conditions import apply_condition, parse_conditions
    from hfprobe.analysis.test_set import load_test_set
    from hfprobe.cli.evaluate import measure, write_results
    from hfprobe.cli.listen import titles, utterance_view
    from hfprobe.cli.train import noise_of
    from hfprobe.data import NoiseRecipe, SpeechStream
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.errors import ConfigError
    from hfprobe.probes import ProbeTrainingConfig, train_bank
    from hfprobe.reports import run_of, write_page
    from hfprobe.reports.kept import Keeper
    from hfprobe.speakers import load_speaker_encoder
    from hfprobe.vocoders import GriffinLim

    conditions, folder, device = parse_conditions(args.snr), check_output(args.output), device_of(args)
    if args.noise == "none":
        raise ConfigError("the demo compares encoders under noise; give --noise a folder or 'generated'")
    train_corpus, test_corpus, note = datasets_of(args)
    print(note, flush=True)
    test = load_test_set(test_corpus, args.speakers, args.per_speaker, 10.0)
    noise = noise_of(args.noise, "train")
    verifier = load_speaker_encoder("ge2e")
    encoders = [AutoSpeechEncoder.from_pretrained(f"{ARCHITECTURE}-{kind}") for kind in KINDS]
    print(f"Noise: {'generated' if noise.root is None else 'recorded'}.")

    config = ProbeTrainingConfig(
        max_steps=args.steps, hidden_dim=128, frames_per_batch=1024, seed=args.seed,
        checkpoint_steps=None, device=training_device(device),
    )  # fmt: skip
    pairs = []
    for kind, encoder in zip(KINDS, encoders, strict=True):
        print(f"[{time.monotonic() - start:4.0f} s] training the probes of {encoder.name} for {args.steps} steps")
        stream = SpeechStream(train_corpus, 4, noise, NoiseRecipe(), args.seed, max_seconds=10.0)
        pairs.append((encoder, train_bank(encoder, stream, folder / "banks" / kind, config, resume=False)))

    print(f"[{time.monotonic() - start:4.0f} s] measuring {len(test)} utterances under {len(conditions)} conditions")
    args.quality, args.wer, args.layers = ["stoi"], False, None
    noise = noise_of(args.noise, "test")
    results = measure(args, pairs, test, conditions, verifier, noise)
    write_results(results, folder)

    print(f"[{time.monotonic() - start:4.0f} s] writing the page")
    views, vocoder, keeper = [], GriffinLim(64), Keeper(folder)
    for index in range(min(args.sounds, len(test))):
        clean, name = test.waveforms[index], test.ids[index]
        inputs = {c.name: apply_condition(clean, name, c, noise, args.seed) for c in conditions}
        title = f"{name} (speaker {test.speakers[index]})"
        views.append(
            utterance_view(
                name, title, test.texts[index], (), clean, inputs, pairs, verifier, vocoder, args.seed, device, keeper
            )
        )
    keeper.finish(titles(views), results.environment, results.config)
    notes = (note, f"Probes were trained for {args.steps} steps each: a demonstration, not a measurement.")
    run = run_of(folder.name or "demo", results, views, folder=folder)
    written = write_page([run], folder, "What does each layer hear?", notes)
    write_settings(args, folder)
    say_left_out(args, stream.failures, "training utterance")  # both encoders learned from the same
    say_left_out(args, test.failures, "test utterance")
    return f"done in {time.monotonic() - start:.0f} s; open {written}"
