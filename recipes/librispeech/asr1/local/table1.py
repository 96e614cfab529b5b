"""Table 1: word error rates of the recognisers on dev-clean and test-clean, greedy CTC without a language model.

Each recogniser's results on each set are written as soon as they are there, and a later call takes them up unless the
recogniser is newer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from paper import TABLE_1  # noqa: E402

from hfprobe.analysis.conditions import parse_conditions  # noqa: E402
from hfprobe.analysis.recognise import recognise  # noqa: E402
from hfprobe.analysis.test_set import load_test_set  # noqa: E402
from hfprobe.data import load_noise  # noqa: E402
from hfprobe.encoders import AutoSpeechEncoder  # noqa: E402
from hfprobe.errors import ConfigError, HfprobeError  # noqa: E402
from hfprobe.files import write_whole  # noqa: E402
from hfprobe.reports.tables import markdown_tables  # noqa: E402
from hfprobe.results import ResultRow, Results, environment_stamp  # noqa: E402

LONGEST = 40.0  # seconds: nothing of dev-clean and test-clean is left out


def measured(args: argparse.Namespace, name: str, corpus: str) -> dict[str, Results]:
    """Error rates of all recognisers on one set, by recogniser."""
    conditions = parse_conditions(args.snr)
    noise = None
    if any(condition.snr_db is not None for condition in conditions):
        noise = load_noise(None if args.noise == "local" else args.noise, "test")
    found, test = {}, None
    for folder in args.encoders:
        file = args.output / f"{folder.name}.{name}.json"
        if file.is_file() and file.stat().st_mtime > (folder / "config.yaml").stat().st_mtime:
            found[folder.name] = Results.from_json(file)
            continue
        if test is None:
            test = load_test_set(corpus, None, args.per_speaker, LONGEST)
        encoder = AutoSpeechEncoder.from_pretrained(folder)
        rows, transcripts = recognise(encoder, test, conditions, noise, args.seed, args.device)
        config = {"set": name, "snr": args.snr, "utterances": len(test), "left_out": dict(test.failures)}
        results = Results(tuple(rows), environment_stamp(args.seed, "local/table1.py"), config)
        results.to_json(file)
        found[folder.name] = results
        for reference, text in list(zip(test.texts, transcripts[conditions[0].name], strict=True))[:3]:
            print(f"{folder.name}, {name}: {reference!r} -> {text!r}", flush=True)
    return found


def cell(row: ResultRow | None) -> str:
    """A rate in per cent with its interval."""
    if row is None or row.value is None:
        return ""
    interval = "" if row.ci_low is None else f" ({100 * row.ci_low:.1f} to {100 * row.ci_high:.1f})"
    return f"{100 * row.value:.2f}{interval}"


def table_1(found: dict[str, dict[str, Results]]) -> str:
    """Markdown: ours, clean, with 95 % intervals, beside the paper's.

    Args:
        found: Set, then recogniser, to its results.
    """
    sets = list(found)
    lines = ["| model | noise in training | " + " | ".join(f"{s} | paper" for s in sets) + " |"]
    lines.append("|" + "---|" * (2 + 2 * len(sets)))
    for name in dict.fromkeys(name for of_set in found.values() for name in of_set):
        arch, _, kind = name.rpartition("-")
        cells = [arch, "yes" if kind == "robust" else "no"]
        for each in sets:
            rows = found[each][name].select(metric="wer", condition="clean").rows if name in found[each] else ()
            cells += [cell(rows[0] if rows else None), f"{TABLE_1.get(name, {}).get(each, '')}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Recognise, and write ``table1.md`` and ``results.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="+", type=Path)
    parser.add_argument("--sets", nargs="+", required=True, metavar="NAME=D", help="e.g. dev-clean=librispeech:...")
    parser.add_argument("--noise", default="local")
    parser.add_argument("--snr", nargs="+", default=["clean"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-speaker", type=int, help="only so many utterances of each speaker")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    try:
        missing = [str(folder) for folder in args.encoders if not (folder / "config.yaml").is_file()]
        if missing:
            raise ConfigError(f"no recogniser in {', '.join(missing)}; run the stage that makes the encoders first")
        args.output.mkdir(parents=True, exist_ok=True)
        found = {}
        for word in args.sets:
            name, _, corpus = word.partition("=")
            found[name] = measured(args, name, corpus)
    except (HfprobeError, OSError) as error:
        print(f"local/table1.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    write_whole(args.output / "table1.md", table_1(found))
    text = [
        f"{name}\n\n{markdown_tables([r for of in each.values() for r in of.rows])}" for name, each in found.items()
    ]
    write_whole(args.output / "results.md", "\n".join(text))
    print(f"WER (%)\n\n{table_1(found)}\nall rates by condition are in {args.output / 'results.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
