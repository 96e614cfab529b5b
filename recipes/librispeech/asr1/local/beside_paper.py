"""Table 2 of the paper beside ours: EER (%) of rebuilt speech by encoder, layer and condition."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from paper import EER_OF_NATURAL_SPEECH, TABLE_2  # noqa: E402

from hfprobe.errors import ConfigError, HfprobeError  # noqa: E402
from hfprobe.files import write_whole  # noqa: E402
from hfprobe.results import ResultRow, Results  # noqa: E402


def beside(rows: Iterable[ResultRow]) -> str:
    """Markdown with a line for each of the paper's numbers that we have, too.

    Natural speech and the ceiling are in the rows of each run.
    """
    ours = {(r.condition, r.encoder, r.layer): r for r in rows if r.metric == "eer" and r.value is not None}
    shared = [key for key in TABLE_2 if key in ours]
    if not shared:
        raise ConfigError("no EER of a layer, encoder and condition that the paper has; run the evaluation stage first")
    lines = ["| condition | encoder | layer | ours (95 %) | paper, ThinResNet |", "|---|---|---|---|---|"]
    for key in shared:
        row = ours[key]
        interval = "" if row.ci_low is None else f" ({100 * row.ci_low:.1f} to {100 * row.ci_high:.1f})"
        lines.append(f"| {' | '.join(key)} | {100 * row.value:.2f}{interval} | {TABLE_2[key]:.2f} |")
    natural = {r.value for (condition, _, layer), r in ours.items() if condition == "clean" and layer == "input"}
    theirs = ", ".join(f"{value:.2f} ({name})" for name, value in EER_OF_NATURAL_SPEECH.items())
    here = ", ".join(f"{100 * value:.2f}" for value in sorted(natural)) or "not measured"
    return "\n".join(lines) + f"\n\nNatural speech of test-clean: {here}; the paper: {theirs}.\n"


def main() -> int:
    """Write the table of one verifier."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of hfprobe evaluate, one verifier")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file")
    args = parser.parse_args()
    try:
        rows = [row for run in args.runs for row in Results.from_json(run / "results.json").rows]
        write_whole(args.output, beside(rows))
    except (HfprobeError, OSError) as error:
        print(f"local/beside_paper.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"Table 2 beside the paper's is in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
