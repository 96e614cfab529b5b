"""``hfprobe score``: files that something else made, against their references: quality and speakers, with intervals."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from hfprobe.cli.common import NOT_SETTINGS, check_output, device_of, positive_int, say_left_out, settings
from hfprobe.cli.show import plain
from hfprobe.errors import ConfigError, MeasureError

NAMED = 3  # of what is left over, so many are named
MOST_TRIALS = 20000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "--reference", required=True, metavar="DIR", help="folder of the originals (wav, flac, ogg, mp3)"
    )
    parser.add_argument(
        "--degraded", required=True, metavar="DIR",
        help="folder of what was made of them, with the same names; in DIR/<layer>/ or DIR/<condition>/<layer>/, each "
        "folder is scored by itself",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="results: .json, .csv, or both with this stem if it has no suffix",
    )
    parser.add_argument(
        "--quality", nargs="+", default=["stoi", "pesq"], metavar="M",
        help="of stoi, estoi, pesq, pesq_nb, si_sdr, log_mel (default: stoi pesq)",
    )  # fmt: skip
    parser.add_argument(
        "--verifier", metavar="V", help="speaker encoder for EER, or none (default: ge2e where speakers are known)"
    )
    parser.add_argument(
        "--speaker-pattern", metavar="REGEX",
        help="finds the speaker in a reference's name, as its group, e.g. '^([^-]+)-' (default: LibriSpeech's names)",
    )  # fmt: skip
    parser.add_argument("--utt2spk", metavar="FILE", help="Kaldi's table of utterances and speakers, instead")
    parser.add_argument(
        "--match-pattern", metavar="REGEX",
        help="for other names: finds the reference's name in a degraded file's path without suffix, as a group "
        "(?P<name>...), and what it is, as (?P<layer>...) and (?P<condition>...)",
    )  # fmt: skip
    parser.add_argument("--condition", default="clean", metavar="NAME", help="e.g. noise@10dB (default: %(default)s)")
    parser.add_argument("--name", metavar="NAME", help="what to call the encoder (default: the degraded folder's name)")
    parser.add_argument(
        "--sampling-rate", type=positive_int, metavar="HZ",
        help="files are resampled to it (default: 16000, or 8000 where the first reference has no more)",
    )  # fmt: skip
    parser.add_argument(
        "--trials", type=positive_int, default=MOST_TRIALS, metavar="N",
        help="most pairs of clips of the same speaker for EER, and as many of different ones (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> str:
    """Score and write the results."""
    from hfprobe.analysis.score import native_rate, score_files
    from hfprobe.analysis.score_files import match_files
    from hfprobe.analysis.score_speakers import speakers_of
    from hfprobe.data.left_out import LeftOut
    from hfprobe.progress import progress_bar
    from hfprobe.reports.tables import markdown_tables
    from hfprobe.results import CONDITION, Results, environment_stamp

    targets, device = output_files(args.output), device_of(args)
    if not CONDITION.fullmatch(args.condition):
        raise ConfigError(f"--condition must be like clean or noise@10dB, got {args.condition!r}")
    pairs = match_files(args.reference, args.degraded, args.match_pattern, args.condition)
    rate = args.sampling_rate or native_rate(pairs.references[0])
    quality, notices = measures_of(args.quality, rate)
    speakers = speakers_of(pairs.names, args.speaker_pattern, args.utt2spk)
    notices += left_over(pairs)
    trials, why = trials_of(speakers, args.verifier, args.trials, args.seed)
    notices += [why] if why else []
    verifier = None
    if trials is not None:
        from hfprobe.speakers import load_speaker_encoder

        verifier = load_speaker_encoder(args.verifier or "ge2e").to(device)
    args.name = args.name or Path(args.degraded).resolve().name or "degraded"
    report = score_files(
        pairs, quality, speakers, verifier, trials, args.name, args.condition, rate, args.seed,
        device, progress=lambda work: progress_bar(work, "scoring", "chunk"),
    )  # fmt: skip
    over = "speakers" if speakers else "clips"
    notices += [f"{note}: {count} files" for note, count in report.notes.items()]
    if report.longest_cut:
        notices.append(f"the most that was cut off one file is {report.longest_cut:.2f} s")
    for system, measures in report.failures.items():
        for measure, reasons in measures.items():
            counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            notices.append(f"{system}: {measure} failed on {sum(reasons.values())} files ({counts})")
    notices.append(f"quality intervals by bootstrap over {over}" + ("" if speakers else ": no speaker is known"))
    config = {
        **settings(args), "sampling_rate": rate, "quality": list(quality), "verifier": verifier and verifier.name,
        "references": len(pairs.names), "reference_speakers": len(set(speakers)) if speakers else None,
        "systems": {system.name: len(system.files) for system in pairs.systems}, "intervals_over": over,
        "n_trials": 0 if trials is None else len(trials), "failures": report.failures, "notices": notices,
    }  # fmt: skip
    results = Results(tuple(report.rows), environment_stamp(args.seed, args.command_line), config)
    written = write_scores(args, results, report, quality, targets)
    print(plain(markdown_tables(results.rows)))
    print("\n".join(f"note: {notice}" for notice in notices))
    failed = LeftOut()
    for clip in report.clips:
        if clip.failures:
            failed.add(next(iter(clip.failures.values())), str(clip.name))
    failed.add("degraded without reference", count=len(pairs.lonely_degraded))
    failed.add("reference without degraded", count=len(pairs.lonely_references))
    say_left_out(args, failed, "file")
    return f"results are in {written[0]}; also {', '.join(path.name for path in written[1:])} beside it"


def output_files(output: str) -> list[Path]:
    """The result files that ``--output`` asks for.

    Raises:
        ConfigError: Another suffix, or a folder of that name.

    Example:
        >>> [path.name for path in output_files("scores")]
        ['scores.json', 'scores.csv']
    """
    path = Path(output)
    if path.is_dir():
        raise ConfigError(f"--output {output!r} is a folder; give a file, e.g. {str(path / 'scores.json')!r}")
    if path.suffix.lower() not in ("", ".json", ".csv"):
        raise ConfigError(f"--output must end in .json or .csv, or have no suffix, got {path.name!r}")
    check_output(str(path.parent))
    return [path] if path.suffix else [path.with_suffix(".json"), path.with_suffix(".csv")]


def measures_of(names: list[str], rate: int) -> tuple[tuple[str, ...], list[str]]:
    """The measures at a sampling rate, and what to say about them.

    Raises:
        ConfigError: A measure is unknown, or PESQ is asked for at a rate that it does not have.

    Example:
        >>> measures_of(["pesq"], 8000)
        (('pesq_nb',), ['pesq at 8000 Hz is narrowband: written as pesq_nb'])
    """
    from hfprobe.metrics.quality import MEASURES

    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise ConfigError(f"unknown measure {unknown[0]!r}; choose from {', '.join(MEASURES)}")
    if rate not in (8000, 16000) and {"pesq", "pesq_nb"} & set(names):
        raise ConfigError(f"PESQ needs --sampling-rate 8000 or 16000, got {rate}; choose one, or leave pesq out")
    narrow = rate == 8000 and "pesq" in names
    chosen = tuple(dict.fromkeys("pesq_nb" if narrow and name == "pesq" else name for name in names))
    return chosen, ["pesq at 8000 Hz is narrowband: written as pesq_nb"] if narrow else []


def trials_of(speakers: list[str] | None, verifier: str | None, most: int, seed: int):
    """Trials for EER, or None with the reason why there are none.

    Raises:
        ConfigError: A verifier is asked for, but speakers are not known or too few.
    """
    from hfprobe.metrics import draw_trials

    if verifier == "none":
        return None, ""
    try:
        if speakers is None:
            raise MeasureError("speakers are not known; give --speaker-pattern or --utt2spk", "speakers")
        return draw_trials(speakers, n_per_class=most, seed=seed), ""
    except MeasureError as error:
        if verifier is not None:
            raise ConfigError(f"--verifier {verifier}: {error}") from error
        return None, f"EER is left out: {error}"


def left_over(pairs) -> list[str]:
    """What has no partner, counted and named."""
    notices = []
    for one, many, names in (
        ("degraded file matches no reference", "degraded files match no reference", pairs.lonely_degraded),
        ("reference has no degraded file", "references have no degraded file", pairs.lonely_references),
    ):
        if names:
            more = ", ..." if len(names) > NAMED else ""
            notices.append(f"{len(names)} {one if len(names) == 1 else many}: {', '.join(names[:NAMED])}{more}")
    for system in pairs.systems:
        if len(system.files) < len(pairs.names):
            absent = next(name for index, name in enumerate(pairs.names) if index not in system.files)
            notices.append(f"{system.name} has {len(system.files)} of {len(pairs.names)} clips, e.g. not {absent}")
    return notices


def write_scores(args: argparse.Namespace, results, report, quality, targets: list[Path]) -> list[Path]:
    """Write the results, every clip's values and the resolved options; returns what was written."""
    import yaml

    from hfprobe.files import write_whole

    for path in targets:
        results.to_json(path) if path.suffix.lower() == ".json" else results.to_csv(path)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["encoder", "layer", "condition", "name", "speaker", "file", "seconds", *quality, "speaker_cosine", "failures"]
    )
    root = Path(args.degraded)
    for clip in report.clips:
        seconds = "" if clip.seconds is None else round(clip.seconds, 4)
        values = [clip.values[measure] for measure in quality] + [clip.cosine]
        writer.writerow(
            [args.name, clip.system.layer, clip.system.condition, clip.name, clip.speaker or ""]
            + [clip.file.relative_to(root).as_posix(), seconds, *("" if v is None else v for v in values)]
            + ["; ".join(f"{measure}: {reason}" for measure, reason in clip.failures.items())]
        )
    options = {k: v for k, v in vars(args).items() if k not in (*NOT_SETTINGS, "command_line")}
    # Named after the results: a config.yaml of another run may lie in the same folder.
    return [
        *targets,
        write_whole(targets[0].with_suffix(".clips.csv"), buffer.getvalue()),
        write_whole(targets[0].with_suffix(".config.yaml"), yaml.safe_dump(options)),
    ]
