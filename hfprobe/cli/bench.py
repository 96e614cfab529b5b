"""``hfprobe bench``: what hfprobe costs on this machine, side by side with how it would be done otherwise."""

from __future__ import annotations

import argparse

from hfprobe.cli.common import check_output, device_of, positive_int

WHAT = ("train", "encoders", "vocoder", "evaluate", "start")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(WHAT)} (default: all)")
    parser.add_argument("--output", metavar="DIR", help="folder for benchmarks.md and benchmarks.json")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: two minutes on one core")
    parser.add_argument("--repeats", type=positive_int, metavar="N", help="rounds (default: 5, with --quick 2)")
    parser.add_argument(
        "--encoder", default="vgg-blstm-robust",
        help="recogniser whose probes are trained: a shipped one, or an ESPnet folder (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> str:
    """Measure, print and write."""
    import dataclasses

    from hfprobe.bench import run as module
    from hfprobe.bench.machine import describe_machine
    from hfprobe.bench.report import to_markdown, write_report
    from hfprobe.errors import ConfigError
    from hfprobe.progress import progress_bar
    from hfprobe.results import environment_stamp

    what = list(dict.fromkeys(args.what)) or list(WHAT)
    unknown = [name for name in what if name not in WHAT]
    if unknown:
        raise ConfigError(f"unknown benchmark {unknown[0]!r}; choose from {', '.join(WHAT)}")
    folder = check_output(args.output) if args.output else None
    size = module.QUICK if args.quick else module.FULL
    if args.repeats:
        size = dataclasses.replace(size, repeats=args.repeats, starts=args.repeats)
    machine = describe_machine(device_of(args))
    environment = environment_stamp(args.seed, args.command_line)
    sections: list = []
    for name in progress_bar(what, "measuring"):
        for section in module.bench([name], machine, size, args.encoder, args.seed):
            sections.append(section)
            if folder is not None:  # what is measured stays, whatever happens next
                write_report(sections, machine, environment, folder)
    print(to_markdown(sections, machine, environment))
    goals = [goal for section in sections for goal in section.goals]
    met = f"{sum(goal.met for goal in goals)} of {len(goals)} goals are met"
    return f"{met}; benchmarks.md and benchmarks.json are in {folder}" if folder else met
