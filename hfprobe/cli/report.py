"""``hfprobe report``: the results of several runs side by side, layer by layer, in one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.common import check_output, write_settings
from hfprobe.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="folder that hfprobe evaluate, classify, untangle, invariance or similarity wrote, or a results file such "
        "as that of hfprobe score",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for index.html, figures and data")
    parser.add_argument("--title", default="What the layers carry", help="heading of the page (default: %(default)s)")


def run(args: argparse.Namespace) -> str:
    """Read all runs, then write the page."""
    from hfprobe.progress import progress_bar
    from hfprobe.reports.runs import load_runs
    from hfprobe.reports.side_by_side import write_side_by_side

    folder = check_output(args.output)
    runs = load_runs(args.runs)
    if any(Path(given).is_dir() and Path(given).resolve() == folder.resolve() for given in args.runs):
        raise ConfigError(f"--output {args.output!r} is a run; give another folder, so that its files stay as they are")
    page = write_side_by_side(runs, folder, args.title, lambda work: progress_bar(work, "drawing", "figure"))
    write_settings(args, folder)
    return f"{len(runs)} runs are side by side in {page}"
