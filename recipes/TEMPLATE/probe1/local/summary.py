"""``summary.py results.json``: a measure per column, a layer per line, for each condition. What is special to a recipe
stands in ``local/``; everything else is hfprobe's."""

import argparse

from hfprobe.results import Results

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("results")
parser.add_argument("--metrics", nargs="+", default=["eer", "stoi"])
args = parser.parse_args()
rows = Results.from_json(args.results).rows
values = {(row.condition, row.layer, row.metric): row for row in rows}
for condition in dict.fromkeys(row.condition for row in rows):
    print(f"\n{condition}:\n\n| layer | {' | '.join(args.metrics)} |\n| :--- |{' ---: |' * len(args.metrics)}")
    for layer in dict.fromkeys(row.layer for row in rows):
        found = [values.get((condition, layer, metric)) for metric in args.metrics]
        if any(found):
            cells = ["" if row is None or row.value is None else f"{row.value:.3f}" for row in found]
            print(f"| {layer} | {' | '.join(cells)} |")
