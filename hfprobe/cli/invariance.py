"""``hfprobe invariance``: how little every layer changes when noise is added to what it hears."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.banks import add_encoder_arguments, load_encoders
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    add_encoder_arguments(parser)
    add_dataset_arguments(parser, "librispeech:clean/test")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for tables, figures, JSON and CSV")
    parser.add_argument(
        "--snr", nargs="+", default=["20", "10", "0"], metavar="DB", help="noise levels (default: 20 10 0)"
    )
    parser.add_argument("--noise", metavar="DIR", help=NOISE_HELP + "; its test part is used" + NOISE_DEFAULT)
    parser.add_argument("--noise-type", default="any", help="any, noise, music or speech (default: %(default)s)")
    parser.add_argument("--layers", nargs="+", metavar="L", help="layers (default: all)")
    parser.add_argument("--speakers", type=positive_int, default=40, help="speakers (default: %(default)s)")
    parser.add_argument("--per-speaker", type=positive_int, default=3, help="utterances of each (default: %(default)s)")
    parser.add_argument(
        "--max-seconds", type=positive_float, default=20.0, help="leave out longer utterances (default: %(default)s)"
    )
    parser.add_argument("--no-cka", dest="cka", action="store_false", help="leave out linear CKA (wide layers)")


def run(args: argparse.Namespace) -> str:
    """Measure and write the results."""
    from hfprobe.analysis.conditions import parse_conditions
    from hfprobe.analysis.invariance import measure_invariance
    from hfprobe.analysis.test_set import load_test_set
    from hfprobe.cli.train import noise_of
    from hfprobe.errors import ConfigError, LayerError
    from hfprobe.progress import progress_bar

    conditions = parse_conditions(args.snr, args.noise_type)
    if any(condition.snr_db is None for condition in conditions):
        raise ConfigError("--snr: clean is what the noisy conditions are compared with; give SNRs in dB only")
    folder, device = check_output(args.output), device_of(args)
    noise = noise_of(args.noise, "test")
    if noise is None:
        raise ConfigError("invariance needs noise; leave out --noise none")
    pairs = encoders_with_banks(args.encoder, args.probes)
    known = dict.fromkeys(spec.name for encoder, _ in pairs for spec in encoder.layers)
    for layer in args.layers or []:
        if layer not in known:
            raise LayerError(f"no encoder has a layer {layer!r}; choose from {', '.join(known)}")
    test = load_test_set(args.dataset, args.speakers, args.per_speaker, args.max_seconds)
    rows = measure_invariance(
        pairs, test, conditions, noise, args.layers, args.seed, device,
        lambda work: progress_bar(work, "encoding", "batch"),
    )  # fmt: skip
    if args.cka:
        rows += _cka(args, pairs, test, conditions, noise, device)
    write_results(args, rows, pairs, test, conditions, noise, device, folder)
    print(plain((folder / "results.md").read_text(encoding="utf-8")))
    say_left_out(args, test.failures)
    say_noise_left_out(args, noise)
    return f"tables, figures, results.json and results.csv are in {folder}"


def encoders_with_banks(names: list[str], banks: list[str]) -> list[tuple]:
    """Pairs of encoder and bank; None where no bank is given and none ships with the encoder."""
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.errors import BankError, ConfigError

    if len(set(names)) < len(names):
        raise ConfigError("an encoder is given twice; give each once")
    if banks:
        return load_encoders(names, banks)
    pairs = []
    for name in names:
        try:
            pairs += load_encoders([name], [])
        except BankError:
            pairs.append((AutoSpeechEncoder.from_pretrained(name), None))
    return pairs


def _cka(args, pairs, test, conditions, noise, device) -> list:
    """Linear CKA of clean and noisy frames of each layer."""
    from hfprobe.analysis.compare import CompareSettings, Source, compare, same_layers
    from hfprobe.analysis.conditions import Condition
    from hfprobe.progress import progress_bar
    from hfprobe.results import ResultRow

    rows = []
    for encoder, _ in pairs:
        layers = tuple(spec.name for spec in encoder.layers if not args.layers or spec.name in args.layers)
        if not layers:
            continue
        clean = Source(encoder, Condition(), layers)
        noisy = [Source(encoder, condition, layers) for condition in conditions]
        wanted = [pair for source in noisy for pair in same_layers(clean, source)]
        scores = compare(
            [clean, *noisy], wanted, test, CompareSettings(("linear_cka",), seed=args.seed), noise, device,
            lambda work: progress_bar(work, "CKA", "batch"),
        )  # fmt: skip
        for item in scores:
            score, interval, counts = item.score, (None, None), (len(test), 0)
            if score is None:
                counts = (0, len(test))
            elif score.interval is not None:
                interval = score.interval
            value = None if score is None else float(score)
            place = item.right.encoder, item.right.layer, item.right.condition
            rows.append(ResultRow(*place, "linear_cka", value, *interval, *counts))
    return rows


def write_results(args, rows, pairs, test, conditions, noise, device, folder: Path) -> None:
    """Write JSON, CSV, Markdown, the figures by layer, and the mel-spectrograms of one utterance."""
    from hfprobe.analysis.conditions import apply_condition
    from hfprobe.files import write_whole
    from hfprobe.reports.figures import layer_curves, save_figure
    from hfprobe.reports.invariance import invariance_markdown, spectrogram_figure
    from hfprobe.results import Results, environment_stamp

    config = {
        **settings(args),
        "utterances": len(test),
        "test_speakers": len(set(test.speakers)),
        "left_out": dict(test.failures),
    }
    results = Results(tuple(rows), environment_stamp(args.seed, args.command_line), config)
    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    write_whole(folder / "results.md", invariance_markdown(results.rows))
    for metric in ("invariance", "linear_cka", "si_sdr_clean", "si_sdr_noisy"):
        if any(row.metric == metric and row.layer != "input" for row in rows):
            save_figure(layer_curves(results.rows, metric), folder / metric)
    if any(bank is not None for _, bank in pairs):
        # The middle condition: at the worst little is left to see, at the best nothing is added.
        condition = sorted(conditions, key=lambda c: -c.snr_db)[len(conditions) // 2]
        index = next((i for i, w in enumerate(test.waveforms) if len(w) >= 16000), 0)
        clean = test.waveforms[index]
        noisy = apply_condition(clean, test.ids[index], condition, noise, args.seed)
        panels = mel_panels(pairs, clean, noisy, args.layers, device)
        save_figure(spectrogram_figure(panels, condition.name), folder / "spectrograms")
    write_settings(args, folder)


def mel_panels(pairs, clean, noisy, layers, device) -> dict:
    """Encoder name to title to mel ``(frames, bands)``: clean, noisy, and what each layer rebuilds of the noisy."""
    import torch

    from hfprobe.audio import mel_spectrogram
    from hfprobe.data import pad_waveforms

    panels = {}
    for encoder, bank in pairs:
        if bank is None:
            continue
        sounds, lengths = (values.to(device) for values in pad_waveforms([clean, noisy]))
        natural = mel_spectrogram(sounds, bank.mel_config)
        names = [s.name for s in encoder.layers if s.name in bank and (not layers or s.name in layers)]
        with torch.no_grad():
            rebuilt = bank.to(device).mels(encoder.to(device), sounds[1:], lengths[1:], layers=names)
        shown = {"clean": natural[0], "noisy": natural[1], **{name: mel[0] for name, mel in rebuilt.items()}}
        panels[encoder.name] = {name: mel.cpu().numpy() for name, mel in shown.items()}
    return panels
