"""``hfprobe listening-test score``: error rates by layer from the answers that listeners saved."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.common import check_output, settings, share, write_settings
from hfprobe.cli.show import plain
from hfprobe.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this action."""
    parser.add_argument("answers", nargs="+", metavar="ANSWERS", help="files that listeners saved")
    parser.add_argument(
        "--key", action="append", required=True, metavar="FILE",
        help="key.json of the test, or a key in text, repeated for several sheets",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for tables, figure, JSON and CSV")
    parser.add_argument(
        "--format", choices=["auto", "json", "text"], default="auto",
        help="of key and answers; text: lines of 'answer', 'item answer', or the paper's kit 'A B X answer' (default: "
        "text unless the key ends in .json)",
    )  # fmt: skip
    parser.add_argument(
        "--catch-errors", type=share, default=0.25, metavar="SHARE",
        help="leave out listeners with a larger share of catch items wrong (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--skip-bad", action="store_true", help="leave out, and name, files that cannot be used")
    parser.add_argument("--results", metavar="JSON", help="results.json of hfprobe evaluate: draws EER beside HER")


def run(args: argparse.Namespace) -> str:
    """Score and write."""
    from hfprobe.listening.answers import gather, read_sheet
    from hfprobe.listening.key import read_key
    from hfprobe.listening.text_form import read_text_key, read_text_sheet
    from hfprobe.results import Results

    folder = check_output(args.output)
    machine = Results.from_json(args.results).rows if args.results else ()
    as_text = args.format == "text" or args.format == "auto" and Path(args.key[0]).suffix.lower() != ".json"
    if as_text:
        key, read = read_text_key(args.key), read_text_sheet
    else:
        if len(args.key) > 1:
            raise ConfigError("--key is given twice; a test has one key.json (several sheets are for --format text)")
        key, read = read_key(args.key[0]), read_sheet
    gathered = gather(args.answers, key, args.skip_bad, read)
    return (score_ratings if key.kind == "mushra" else score_choices)(args, folder, key, gathered, machine)


def score_choices(args: argparse.Namespace, folder: Path, key, gathered, machine) -> str:
    """Triplets: HER by layer."""
    from hfprobe.files import write_whole
    from hfprobe.listening.score import rank_correlation, score_triplets
    from hfprobe.reports.listening_results import listeners_csv, separations_csv, triplet_markdown

    score = score_triplets(key, gathered.sheets, args.catch_errors, args.seed)
    notes = [*gathered.notes, *score.notes]
    correlation = rank_correlation(score, machine)
    agreement = {"overall": score.overall._asdict(), "alpha": score.alpha, "spearman_with_eer": correlation}
    written = _write(args, folder, key, score, notes, agreement, triplet_markdown(score, correlation), machine, "her")
    write_whole(folder / "separations.csv", separations_csv(score))
    write_whole(folder / "listeners.csv", listeners_csv(score))
    return written


def score_ratings(args: argparse.Namespace, folder: Path, key, gathered, machine) -> str:
    """Ratings: mean mark by layer."""
    from hfprobe.files import write_whole
    from hfprobe.listening.score_ratings import score_marks
    from hfprobe.reports.listening_results import listeners_csv, ratings_markdown

    score = score_marks(key, gathered.sheets, args.seed)
    notes = [*gathered.notes, *score.notes]
    written = _write(args, folder, key, score, notes, {}, ratings_markdown(score), (), "mushra")
    write_whole(folder / "listeners.csv", listeners_csv(score))
    return written


def _write(args, folder: Path, key, score, notes, agreement, markdown: str, machine, metric: str) -> str:
    from hfprobe.files import write_whole
    from hfprobe.reports.figures import save_figure
    from hfprobe.reports.listening_results import figure_2b
    from hfprobe.results import Results, environment_stamp

    config = {
        **settings(args), "test": key.test, "kind": key.kind, "test_seed": key.seed, "notes": notes,
        "listeners": len(score.listeners), "left_out": [e.listener for e in score.listeners if e.excluded], **agreement,
    }  # fmt: skip
    results = Results(tuple(score.rows()), environment_stamp(args.seed, args.command_line), config)
    figure = figure_2b(results.rows, machine, metric)  # drawn before anything is written: it may refuse
    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    text = markdown + "".join(f"- {note}\n" for note in notes)
    write_whole(folder / "results.md", text)
    save_figure(figure, folder / ("figure2b" if metric == "her" else metric))
    write_settings(args, folder)
    print(plain(text))
    return f"tables, figure, results.json and results.csv are in {folder}"
