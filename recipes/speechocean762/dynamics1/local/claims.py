"""The source's three claims as statistics with intervals, from scores and bootstrap draws of ``hfprobe similarity``.

Order of layers: Spearman correlation, over pairs of layers of the last checkpoint, of similarity with minus the
distance in depth. 1: the nearer, the more alike (a hierarchy); 0: depth says nothing.

- CNN: the order of the convolutional layers is above 0, among pairs more alike than the median pair ("where they
  correlate closely") as well as among all.
- LSTM: layers converge bottom-up: Spearman correlation, over recurrent layers, of minus the depth with how near the
  layer is to its own end on average over the checkpoints (the area under its curve) is above 0.
- Transformer: irregular: the order of its layers is below that of the other architectures.

A claim holds if its 95 % interval lies above 0 and, with five ordered layers or more, at most one in twenty random
orders of the layers would do as well (p; four layers can give no less than 1/12). It fails if the interval lies below
0, and else is undecided on these data. Intervals are from the same draws of speakers for all scores of an
architecture; they say how sure one can be about *these* trainings, not about another seed.
"""

from __future__ import annotations

import argparse
import copy
import csv
import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from hfprobe.files import write_whole

KINDS = {"cnn": r"cnn\d+", "lstm": r"b?lstm\d+", "transformer": r"layer\d+|transformer\d+|block\d+"}


class Run:
    """Scores of one architecture: value and draws by pair.

    Args:
        folder: Output of ``hfprobe similarity --checkpoints``, or of one encoder without.
        measure: Which of its measures.
    """

    def __init__(self, folder: Path, measure: str):
        with open(folder / "similarity.csv", newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        draws = np.load(folder / "replicates.npz")["replicates"]
        self.steps = list(dict.fromkeys(line["encoder_a"] for line in lines))
        self.end = lines[-1]["encoder_b"]
        self.layers = list(dict.fromkeys(line[f"layer_{side}"] for line in lines for side in "ab"))
        self.scores = {
            (line["encoder_a"], line["layer_a"], line["encoder_b"], line["layer_b"]): np.append(float(line["value"]), d)
            for line, d in zip(lines, draws, strict=True)
            if line["measure"] == measure and line["value"]
        }

    def only_value(self) -> Run:
        """The same without draws."""
        found = copy.copy(self)
        found.scores = {key: values[:1] for key, values in self.scores.items()}
        # Another order of layers reads pairs the other way round.
        found.scores |= {(a, y, b, x): v for (a, x, b, y), v in found.scores.items() if a == b}
        return found

    def of_kind(self, kind: str) -> list[str]:
        """Layers of a kind in order of depth."""
        return [layer for layer in self.layers if re.fullmatch(KINDS[kind], layer)]

    def order(self, layers: list[str], close: bool = False) -> np.ndarray:
        """How well nearness in depth orders the similarities: the value, then one for each draw."""
        pairs = [(i, j) for i in range(len(layers)) for j in range(i + 1, len(layers))]
        table = [self.scores.get((self.end, layers[i], self.end, layers[j])) for i, j in pairs]
        known = [(i - j, found) for (i, j), found in zip(pairs, table, strict=True) if found is not None]
        if close:
            middle = np.median([found[0] for _, found in known])
            known = [item for item in known if item[1][0] >= middle]
        return _rank_correlations([near for near, _ in known], [found for _, found in known])

    def bottom_up(self, layers: list[str]) -> np.ndarray:
        """How well height orders nearness to the end, averaged along training; NaN for an encoder without a history."""
        known = [
            [f for step in self.steps if (f := self.scores.get((step, n, self.end, n))) is not None] for n in layers
        ]
        if not all(known):
            return np.full(2, np.nan)
        curves = [np.mean(found, axis=0) for found in known]
        return _rank_correlations([-place for place in range(len(layers))], curves)


def _rank_correlations(known: list[int], columns: list[np.ndarray]) -> np.ndarray:
    if len(set(known)) < 2 or len(known) < 3:
        return np.full(2, np.nan)
    return np.array([spearmanr(known, line).statistic for line in np.array(columns).T])


def chance(statistic: Callable[[list[str]], np.ndarray], layers: list[str]) -> float:
    """Share of orders of the layers (all, or 2,000 drawn ones) whose statistic is at least that of the true order."""
    if math.factorial(len(layers)) <= 2000:
        orders = [list(order) for order in itertools.permutations(layers)]
    else:
        random = np.random.default_rng(0)
        orders = [layers, *(list(random.permutation(layers)) for _ in range(1999))]
    true = statistic(layers)[0]
    return float(np.mean([statistic(order)[0] >= true - 1e-12 for order in orders]))


def verdict(name: str, claim: str, values: np.ndarray, p: float | None = None, many: bool = True) -> dict:
    """A line of the table, from the value and its draws."""
    draws = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or len(draws) < 20:
        empty = dict.fromkeys(("value", "low", "high", "p"))
        return {"architecture": name, "claim": claim, **empty, "holds": "not tested"}
    low, high = (float(bound) for bound in np.quantile(draws, [0.025, 0.975]))
    holds = "yes" if low > 0 and (p is None or p <= 0.05 or not many) else "no" if high < 0 else "undecided"
    found = {"value": float(values[0]), "low": low, "high": high, "p": p}
    return {"architecture": name, "claim": claim, **found, "holds": holds}


def check(runs: dict[str, Run]) -> list[dict]:
    """All claims that the architectures at hand allow to check."""
    lines, orders = [], {}
    for name, run in runs.items():
        for kind in KINDS:
            layers = run.of_kind(kind)
            if len(layers) >= 3:
                orders[name, kind] = run.order(layers)
                claim, p = f"{kind} layers: nearer in depth is more alike", chance(run.only_value().order, layers)
                lines.append(verdict(name, claim, orders[name, kind], p, len(layers) >= 5))
            if len(layers) >= 4 and kind == "cnn":
                lines.append(verdict(name, "the same, among the more alike half of the pairs", run.order(layers, True)))
            if len(layers) >= 3 and kind == "lstm":
                p = chance(run.only_value().bottom_up, layers)
                lines.append(
                    verdict(name, "lstm layers converge bottom-up", run.bottom_up(layers), p, len(layers) >= 5)
                )
    regular = {key: order for key, order in orders.items() if key[1] != "transformer"}
    for (name, _), order in ((key, order) for key, order in orders.items() if key[1] == "transformer"):
        for (other, kind), theirs in regular.items():
            count = min(len(order), len(theirs))
            claim = f"layers are less in order than the {kind} layers of {other}"
            lines.append(verdict(name, claim, theirs[:count] - order[:count]))
    return lines


WORDS = {"yes": "holds here", "no": "does not hold here", "undecided": "undecided here", "not tested": "not tested"}
# What the source says, and the part of the lines of `check` that it is put to the test by.
SOURCE = {
    "CNN: layers are in a hierarchy with depth": "cnn layers: nearer",
    "LSTM: layers converge bottom-up": "lstm layers converge bottom-up",
    "Transformer: layers are irregular": "layers are less in order than",
}


def plain_verdicts(lines: list[dict]) -> list[dict]:
    """Whether each of the source's three claims holds here: yes if all lines about it say so, no if all say no."""
    found = []
    for claim, part in SOURCE.items():
        about = [line for line in lines if part in line["claim"] and line["holds"] != "not tested"]
        said = {line["holds"] for line in about}
        holds = said.pop() if len(said) == 1 else "undecided" if said else "not tested"
        parts = [
            f"{x['architecture']} {x['value']:.2f} ({x['low']:.2f} to {x['high']:.2f}), {x['holds']}" for x in about
        ]
        found.append({"claim": claim, "holds": holds, "from": parts})
    return found


def main() -> None:
    """Print and write the table of claims for every measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--measures", nargs="+", default=["svcca", "linear_cka_debiased"])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    folders = dict(word.split("=", 1) for word in args.runs)
    every, text, verdicts = {}, [], {}
    for measure in args.measures:
        every[measure] = check({name: Run(Path(folder), measure) for name, folder in folders.items()})
        text.append(
            f"{measure}\n\n| architecture | claim | value | 95 % interval | p | holds here |\n|---|---|---|---|---|---|"
        )
        for line in every[measure]:
            known = line["value"] is not None
            value = f"{line['value']:.2f} | {line['low']:.2f} to {line['high']:.2f}" if known else "– | –"
            value += f" | {line['p']:.3f}" if line["p"] is not None else " | –"
            text.append(f"| {line['architecture']} | {line['claim']} | {value} | {line['holds']} |")
        text.append("")
        verdicts[measure] = plain_verdicts(every[measure])
        for item in verdicts[measure]:
            reasons = f": {'; '.join(item['from'])}" if item["from"] else ""
            text.append(f"- {item['claim']} – {WORDS[item['holds']]}{reasons}")
        text.append("")
    content = {"lines": every, "verdicts": verdicts}
    write_whole(args.output / "claims.json", json.dumps(content, indent=2) + "\n")
    write_whole(args.output / "claims.md", "\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
