"""``hfprobe similarity``: layers of one encoder, of two, clean against noisy, and along training checkpoints."""

from __future__ import annotations

import argparse
import re
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
    write_settings,
)
from hfprobe.cli.show import plain
from hfprobe.errors import ConfigError, LayerError

_EPOCH = re.compile(r"(\d+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "--encoder", action="append", metavar="E",
        help="encoder: a name from `hfprobe encoders`, an ESPnet experiment folder, or a Hub id; two or more are "
        "compared with one another, too",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoints", nargs="*", metavar="C",
        help="weight files along the training of the one --encoder, or the experiment folder itself "
        "(default: every *epoch.pth in the folder)",
    )  # fmt: skip
    add_dataset_arguments(parser, "librispeech:clean/test")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for tables, figures, JSON and CSV")
    parser.add_argument(
        "--measures", nargs="+", default=["linear_cka", "pwcca"], metavar="M",
        help="of mean_cca, svcca, pwcca, linear_cka, linear_cka_debiased, rbf_cka, rsa, minibatch_cka "
        "(default: linear_cka pwcca)",
    )  # fmt: skip
    parser.add_argument("--layers", nargs="+", metavar="L", help="layers (default: all)")
    parser.add_argument(
        "--snr", nargs="+", default=["clean"], metavar="S",
        help="conditions: the first is compared with each of the others, layer by layer (default: clean)",
    )  # fmt: skip
    parser.add_argument("--noise", metavar="DIR", help=NOISE_HELP + "; its test part is used" + NOISE_DEFAULT)
    parser.add_argument("--noise-type", default="any", help="any, noise, music or speech (default: %(default)s)")
    parser.add_argument(
        "--grid", choices=("mean", "nearest"), default="mean",
        help="how layers with shorter strides come to the time grid of the coarsest (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--frames", type=positive_int, help="frames drawn from each utterance (default: all)")
    parser.add_argument(
        "--drop-silence", action="store_true", help="leave out frames 40 dB under the loudest of their utterance"
    )
    parser.add_argument(
        "--sample", type=positive_int, default=1000, metavar="N",
        help="frames, drawn from all utterances, that rbf_cka and rsa are computed from (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--minibatch", type=positive_int, default=128, metavar="N",
        help="frames of a minibatch for minibatch_cka (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--speakers", type=positive_int, help="speakers (default: all)")
    parser.add_argument("--per-speaker", type=positive_int, help="utterances of each (default: all)")
    parser.add_argument(
        "--max-seconds", type=positive_float, default=20.0, help="leave out longer utterances (default: %(default)s)"
    )
    parser.add_argument(
        "--replicates",
        type=int,
        default=100,
        help="bootstrap draws of speakers, 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--groups", type=positive_int, default=20, help="groups of speakers that are drawn (default: %(default)s)"
    )
    parser.add_argument(
        "--memory", type=positive_float, default=2.0, metavar="GIB",
        help="for the accumulated moments; pairs are cut into several passes above it (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> str:
    """Compare and write the results."""
    from hfprobe.analysis.compare import GIBIBYTE, CompareSettings, Source, compare
    from hfprobe.analysis.conditions import parse_conditions
    from hfprobe.analysis.processes import Processes
    from hfprobe.analysis.test_set import load_test_set
    from hfprobe.cli.train import noise_of
    from hfprobe.progress import progress_bar
    from hfprobe.reports.similarity import score_markdown

    if args.replicates < 0:
        raise ConfigError(f"--replicates must be 0 or more, got {args.replicates}")
    chosen = CompareSettings(
        tuple(args.measures), args.grid, args.frames, args.drop_silence, args.groups, args.replicates,
        args.memory * GIBIBYTE, sample=args.sample, minibatch=args.minibatch, seed=args.seed,
    )  # fmt: skip
    conditions = parse_conditions(args.snr, args.noise_type)
    others = Processes(*processes())
    folder, device = check_output(args.output), others.device(device_of(args))
    encoders = _encoders(args)
    sources = [
        Source(encoder, condition, _layers(encoder, args.layers)) for encoder in encoders for condition in conditions
    ]
    if not any(source.layers for source in sources):
        known = dict.fromkeys(spec.name for encoder in encoders for spec in encoder.layers)
        raise LayerError(f"no encoder has a layer of {', '.join(args.layers)}; choose from {', '.join(known)}")
    sources = [source for source in sources if source.layers]
    pairs = _pairs(sources, conditions, args.checkpoints is not None)
    noise = noise_of(args.noise, "test") if any(c.snr_db is not None for c in conditions) else None
    test = load_test_set(args.dataset, args.speakers, args.per_speaker, args.max_seconds)
    scores = compare(
        sources, pairs, test, chosen, noise, device,
        (lambda work: progress_bar(work, "comparing", "batch")) if others.first else iter, others,
    )  # fmt: skip
    others.close()
    if not others.first:
        return f"process {others.index + 1} of {others.count} gave its share of the frames to the first"
    write_scores(args, scores, sources, test, folder)
    write_settings(args, folder)
    print(plain(score_markdown(scores, brief=True)))
    if args.checkpoints is not None:
        print(f"layers against layers of the checkpoints before the last: {folder / 'results.md'}")
    say_left_out(args, test.failures)
    say_noise_left_out(args, noise)
    failed = sum(item.score is None for item in scores)
    left_out = f" ({failed} of {len(scores)} values could not be computed; similarity.csv says why)" if failed else ""
    return f"tables, heat maps, results.json, results.csv and similarity.csv are in {folder}{left_out}"


def _layers(encoder, wanted: list[str] | None) -> tuple[str, ...]:
    names = tuple(spec.name for spec in encoder.layers)
    return tuple(name for name in names if wanted is None or name in wanted)


def _pairs(sources, conditions, along_training: bool) -> list:
    """Within each encoder; between encoders; each checkpoint with the last; the first condition with the others."""
    from hfprobe.analysis.compare import between, same_layers, within

    first = [source for source in sources if source.condition == conditions[0]]
    pairs = [pair for source in first for pair in within(source)]
    if along_training:
        pairs += [pair for source in first[:-1] for pair in same_layers(source, first[-1])]
    else:
        pairs += [pair for i, a in enumerate(first) for b in first[i + 1 :] for pair in between(a, b)]
    for source in first:
        others = [s for s in sources if s.encoder is source.encoder and s is not source]
        pairs += [pair for other in others for pair in same_layers(source, other)]
    return pairs


def _encoders(args: argparse.Namespace) -> list:
    """The encoders that the command line names, each with a name of its own."""
    from hfprobe.encoders import AutoSpeechEncoder

    names = list(args.encoder or [])
    if args.checkpoints is None:
        if not names:
            raise ConfigError("no encoder is given; use --encoder E, or --checkpoints FOLDER")
        if len(set(names)) < len(names):
            raise ConfigError("an encoder is given twice; give each once")
        return [AutoSpeechEncoder.from_pretrained(name) for name in names]
    folder, files = checkpoints_of(names, args.checkpoints)
    # What was found is what the written configuration says.
    args.encoder, args.checkpoints = [str(folder)], [file.name for file in files]
    encoders = []
    for file in files:
        encoder = AutoSpeechEncoder.from_pretrained(folder, weights=file.name)
        encoder.name = f"{encoder.name}@{checkpoint_label(file)}"
        encoders.append(encoder)
    return encoders


def checkpoints_of(encoders: list[str], words: list[str]) -> tuple[Path, list[Path]]:
    """The experiment folder and its weight files in the order of training.

    Args:
        encoders: What ``--encoder`` says: one folder, or nothing where ``words`` name it.
        words: What ``--checkpoints`` says: file names, patterns, or a folder.

    Returns:
        The folder, and two or more files, by the first number in their names.

    Raises:
        ConfigError: There is no one folder, or there are fewer than two files.
    """
    folders = [Path(word) for word in words if Path(word).is_dir()]
    names = [word for word in words if not Path(word).is_dir()]
    folders += [Path(name) for name in encoders if Path(name) not in folders]
    if len(folders) != 1 or not folders[0].is_dir():
        raise ConfigError(
            f"checkpoints need one experiment folder, got {', '.join(map(str, folders)) or 'none'}; "
            "use --encoder FOLDER --checkpoints [FILE ...]"
        )
    folder, found = folders[0], []
    for name in names or ["*epoch.pth"]:
        inside = Path(name).name if Path(name).parent.resolve() == folder.resolve() else name
        matches = [] if Path(inside).is_absolute() else sorted(folder.glob(inside))
        if not matches and names:
            known = ", ".join(sorted(path.name for path in folder.glob("*.pth"))) or "none"
            raise ConfigError(f"no checkpoint {name!r} in {folder}; there are: {known}")
        found += [path for path in matches if path not in found]
    if len(found) < 2:
        raise ConfigError(f"expected two checkpoints or more in {folder}, found {len(found)}: N1epoch.pth, N2epoch.pth")
    return folder, sorted(found, key=lambda path: (_number(path), path.name))


def _number(path: Path) -> float:
    match = _EPOCH.search(path.name)
    return int(match[1]) if match else float("inf")


def checkpoint_label(path: Path) -> str:
    """``3`` for ``3epoch.pth``, else the name without its suffix.

    Example:
        >>> checkpoint_label(Path("12epoch.pth")), checkpoint_label(Path("valid.loss.best.pth"))
        ('12', 'valid.loss.best')
    """
    match = re.fullmatch(r"(\d+)epoch", path.stem)
    return match[1] if match else path.stem


def write_scores(args: argparse.Namespace, scores, sources, test, folder: Path) -> None:
    """Write JSON, CSV, Markdown and figures of a comparison.

    ``replicates.npz`` holds the bootstrap draws, one line for each of ``similarity.csv``, so that statistics of several
    scores can have an interval, too.
    """
    import numpy as np

    from hfprobe.analysis.compare import grid_of, result_rows
    from hfprobe.files import whole_file, write_whole
    from hfprobe.reports.figures import save_figure
    from hfprobe.reports.similarity import figures, score_csv, score_markdown
    from hfprobe.results import Results, environment_stamp

    grid = grid_of(sources)
    config = {
        **settings(args),
        "utterances": len(test),
        "test_seconds": round(test.seconds, 1),
        "left_out": dict(test.failures),
        "compared_frames": max((item.n for item in scores), default=0),
        "frame_ms": grid.stride / 16,
    }
    results = Results(tuple(result_rows(scores)), environment_stamp(args.seed, args.command_line), config)
    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    write_whole(folder / "similarity.csv", score_csv(scores))
    write_whole(folder / "results.md", score_markdown(scores))
    drawn = [item.score.replicates if item.score is not None else None for item in scores]
    if any(draws is not None for draws in drawn):
        empty = np.full(args.replicates, np.nan)
        with whole_file(folder / "replicates.npz") as place:
            np.savez_compressed(place, replicates=[empty if draws is None else draws for draws in drawn])
    for name, figure in figures(scores):
        save_figure(figure, folder / name)
