"""Table 2 and Figures 2 and 4 of several result files together: encoders, and their random twins measured apart."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from hfprobe.files import write_whole
from hfprobe.reports.figures import layer_curves, save_figure
from hfprobe.reports.model import REFERENCE_LAYERS
from hfprobe.reports.paper import figure_2, figure_4, table_2
from hfprobe.reports.tables import markdown_tables
from hfprobe.results import Results


def differences_of(path: Path | None) -> list[dict]:
    """Rows of `differences.csv` with numbers as numbers."""
    if path is None:
        return []
    words = ("condition", "metric", "encoder", "layer", "other_encoder", "other_layer")
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: cell if key in words else float(cell) if cell else None for key, cell in row.items()}
            for row in csv.DictReader(file)
        ]


def main() -> None:
    """Join the files and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="results.json of `hfprobe evaluate`, on the same trials")
    parser.add_argument("--differences", type=Path, help="differences.csv of the first")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    first, *others = (Results.from_json(path) for path in args.results)
    # Input, ceiling and the mean-mel floor are the trained encoder's too; a twin adds its layers.
    joined = first.joined(*(Results(row for row in other if row.layer not in REFERENCE_LAYERS) for other in others))
    args.output.mkdir(parents=True, exist_ok=True)
    tables = [table_2(joined.rows, intervals=intervals).to_markdown() for intervals in (False, True)]
    write_whole(args.output / "table2.md", "\n".join(tables))
    write_whole(args.output / "tables.md", markdown_tables(joined.rows))
    save_figure(figure_2(joined.rows), args.output / "figure2")
    save_figure(figure_4(joined.rows, differences_of(args.differences)), args.output / "figure4")
    save_figure(layer_curves(joined.rows, "eer"), args.output / "eer")
    save_figure(layer_curves(joined.rows, "cer"), args.output / "cer")
    print(f"tables and figures of {len(joined)} rows are in {args.output}")


if __name__ == "__main__":
    main()
