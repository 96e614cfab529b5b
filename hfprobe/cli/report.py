"""``hfprobe report``: what several runs measured and kept, on one page to listen to and look at."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.common import check_output, write_settings
from hfprobe.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="folder that hfprobe demo, listen, evaluate, classify, untangle, invariance or similarity wrote, or a "
        "results file such as that of hfprobe score",
    )  # fmt: skip
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for index.html, and for sounds, figures and data"
    )
    parser.add_argument("--title", default="What the layers carry", help="heading of the page (default: %(default)s)")
    parser.add_argument(
        "--single-file", action="store_true", help="everything inside index.html, also sounds, figures and data"
    )
    add_audio_format(parser)


def add_audio_format(parser: argparse.ArgumentParser) -> None:
    """``--audio-format``."""
    parser.add_argument(
        "--audio-format", choices=["flac", "opus", "wav"], default="flac",
        help="of the sounds in the page: flac loses nothing, opus is about four times smaller (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> str:
    """Read all runs, then write the page."""
    from hfprobe.progress import progress_bar
    from hfprobe.reports.page import write_page
    from hfprobe.reports.runs import load_runs

    folder = check_output(args.output)
    runs = load_runs(args.runs)
    if any(Path(given).is_dir() and Path(given).resolve() == folder.resolve() for given in args.runs):
        raise ConfigError(f"--output {args.output!r} is a run; give another folder, so that its files stay as they are")
    page = write_page(
        runs, folder, args.title, single_file=args.single_file, audio_format=args.audio_format,
        progress=lambda work: progress_bar(work, "writing", "part"),
    )  # fmt: skip
    write_settings(args, folder)
    heard = sum(len(one.sounds) for one in runs)
    what = "1 run is" if len(runs) == 1 else f"{len(runs)} runs are side by side"
    utterances = "1 utterance" if heard == 1 else f"{heard} utterances"
    return f"{what} in {page}" + (f", with {utterances} to listen to" if heard else "")
