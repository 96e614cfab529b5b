"""The tables of numbers in a card, and the sentences that say what they show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hfprobe.reports.cards import text
from hfprobe.reports.cards.facts import CardFacts
from hfprobe.reports.cards.measured import HEARD, Measured, at, metrics_of
from hfprobe.reports.metric_names import Metric, metric_info
from hfprobe.reports.model import REFERENCE_LAYERS, Measurement, merge_orders
from hfprobe.reports.runs import NOBODY, Run
from hfprobe.reports.tables import layer_orders, ordered_conditions

FLOOR_LABEL = "floor (mean mel)"
# What a reader looks at first: the voice, the sound, the words.
_HIGHLIGHTS = (("eer",), ("stoi", "estoi", "pesq"), ("cer", "wer"))
_UNITS = {"eer": "pairs of clips", "her": "answers"}
_DECIMALS = {"cer": 1, "wer": 1, "eer": 1, "her": 1}


@dataclass(frozen=True)
class NumberTable:
    """A table in Markdown.

    Attributes:
        title: Its condition, or what else it is of.
        markdown: Its lines.
        note: What the counts are.
    """

    title: str
    markdown: str
    note: str


def info_of(metric: str) -> Metric:
    """How a card writes a measure: error rates with one decimal, which their intervals do not outdo."""
    base = metric.removesuffix("_input")
    info = metric_info(metric)
    return replace(info, digits=_DECIMALS[base]) if base in _DECIMALS else info


def cell(row: Measurement | None, usual: tuple[int, int]) -> str:
    """A value with its 95 % interval; counts where they are not the usual ones of its column.

    Example:
        >>> cell(Measurement("e", "a", "clean", "eer", 0.25, 0.2, 0.3, 8, 2), (10, 0))
        '25.0 (20.0 to 30.0), n 8, 2 failed'
    """
    if row is None:
        return ""
    info = info_of(row.metric)
    words = info.text(row.value)
    if row.ci_low is not None and row.ci_high is not None:
        bounds = info.text(row.ci_low), info.text(row.ci_high)
        # The clean input is equal to itself in every draw: there is nothing to say about its interval.
        words += f" ({bounds[0]} to {bounds[1]})" if set(bounds) != {words} else ""
    return words if (row.n, row.n_failed) == usual else f"{words}, n {row.n:,}, {row.n_failed} failed"


def _usual(rows: Iterable[Measurement]) -> tuple[int, int]:
    counts = Counter((row.n, row.n_failed) for row in rows)
    return counts.most_common(1)[0][0] if counts else (0, 0)


def _lines(header: Sequence[str], body: Sequence[Sequence[str]], words: Sequence[str] = ()) -> str:
    rule = [":--", *(":--" if name in words else "--:" for name in header[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *body))


def _counts(columns: Iterable[tuple[str, tuple[int, int]]]) -> str:
    """How many each column counts: its metric, and how many are measured and failed.

    Example:
        >>> _counts([("eer", (3160, 0)), ("stoi", (80, 0)), ("wer", (80, 0))])
        'Each value is from 3,160 pairs of clips (EER), 80 clips (STOI, WER); none failed.'
    """
    by_n: dict[tuple[int, str], list[str]] = {}
    failed = []
    for metric, (n, n_failed) in dict.fromkeys(columns):
        label = info_of(metric).label
        unit = _UNITS.get(metric, "clips" if metric in HEARD else "points")
        by_n.setdefault((n, unit), []).append(label)
        if n_failed:
            failed.append(f"{n_failed} failed ({label})")
    counts = ", ".join(f"{n:,} {unit} ({', '.join(labels)})" for (n, unit), labels in by_n.items())
    return f"Each value is from {counts}; {', '.join(failed) or 'none failed'}."


def _table(title: str, columns: Sequence[tuple[str, dict[str, Measurement]]], order: Sequence[str]) -> NumberTable:
    """Columns of rows by line; a line that no column has is left out."""
    shown = [name for name in order if any(name in rows for _, rows in columns)]
    usual = [_usual(rows.values()) for _, rows in columns]
    names = {"floor": FLOOR_LABEL, **{name: name for name in ("input", "ceiling")}}
    body = []
    for name in shown:
        cells = [cell(rows.get(name), usually) for (_, rows), usually in zip(columns, usual, strict=True)]
        body.append([names.get(name) or text.code(name), *cells])
    labels = [next(iter(rows.values())).metric for _, rows in columns]
    header = ["layer", *(label for label, _ in columns)]
    return NumberTable(condition_words(title), _lines(header, body), _counts(zip(labels, usual, strict=True)))


def layer_facts_table(facts: CardFacts) -> str:
    """Width, rate and tap of every layer, and the size of its probe."""
    probes = any(layer.parameters is not None for layer in facts.layers)
    taps = any(layer.tap for layer in facts.layers)
    header = ["layer", "width", "a frame every", *["parameters of its probe"] * probes, *["read at"] * taps]
    body = []
    for layer in facts.layers:
        cells = [text.code(layer.name), str(layer.dim), f"{layer.stride_ms:g} ms"]
        cells += [f"{layer.parameters:,}" if layer.parameters is not None else ""] * probes
        body.append([*cells, *[text.code(layer.tap)] * taps])
    return _lines(header, body, words=("read at",))


def condition_words(condition: str) -> str:
    """A condition for reading, with its name in the result files.

    Example:
        >>> condition_words("clean"), condition_words("noise@10dB")
        ('Clean speech', 'With noise at 10 dB (noise@10dB)')
    """
    if condition == "clean":
        return "Clean speech"
    kind, at_sign, level = condition.partition("@")
    return f"With {kind} at {level.removesuffix('dB')} dB ({condition})" if at_sign else condition


def _by_layer(rows: Iterable[Measurement], condition: str, metric: str) -> dict[str, Measurement]:
    found: dict[str, Measurement] = {}
    for row in rows:
        if row.condition == condition and row.metric == metric:
            found.setdefault(row.layer, row)
    return found


def sound_tables(measured: Measured) -> list[NumberTable]:
    """One table per condition: layers down, measures across, input and ceiling first, the floor last."""
    order = ["input", "ceiling", *measured.layers, "floor"]
    made = []
    for condition in measured.conditions:
        columns = [(info_of(m).axis, _by_layer(measured.sounds, condition, m)) for m in measured.metrics]
        for reader, rows in measured.readers.items():
            label = f"read by {text.markdown(reader)}"
            columns += [(f"{info_of(m).axis}, {label}", _by_layer(rows, condition, m)) for m in metrics_of(rows)]
        columns = [(label, rows) for label, rows in columns if rows]
        if columns:
            made.append(_table(condition, columns, order))
    return made


def twin_tables(measured: Measured) -> list[NumberTable]:
    """The same of the encoder with random weights, layers only."""
    order = merge_orders(layer_orders(measured.twins).values())
    made = []
    for condition in ordered_conditions(measured.twins):
        columns = [(info_of(m).axis, _by_layer(measured.twins, condition, m)) for m in metrics_of(measured.twins)]
        made.append(_table(condition, [(label, rows) for label, rows in columns if rows], order))
    return made


def recognition_table(measured: Measured) -> NumberTable | None:
    """Error rates of the recordings themselves: conditions down. From the run made for it, else from the input."""
    rows = measured.recognition or tuple(row for row in measured.sounds if row.metric in ("wer", "cer"))
    rows = tuple(row for row in rows if row.layer == "input" and row.metric in ("wer", "cer"))
    if not rows:
        return None
    metrics = [metric for metric in ("cer", "wer") if any(row.metric == metric for row in rows)]
    usual = {metric: _usual(row for row in rows if row.metric == metric) for metric in metrics}
    body = [
        [text.markdown(condition), *(cell(at(rows, "input", condition, m), usual[m]) for m in metrics)]
        for condition in ordered_conditions(rows)
    ]
    lines = _lines(["condition", *(info_of(metric).axis for metric in metrics)], body)
    return NumberTable("recognition", lines, _counts(usual.items()))


def other_tables(measured: Measured) -> list[NumberTable]:
    """Measures of labels, geometry and invariance, one table per run; the first condition where there are several."""
    made = []
    for rows, results in zip(measured.others, measured.runs.get("others", ()), strict=True):
        run = Run("", results, rows)
        condition = ordered_conditions(row for row in rows if row.layer not in REFERENCE_LAYERS)[0]
        columns = []
        for metric in dict.fromkeys(row.metric for row in rows):
            chosen = _by_layer(sorted(rows, key=lambda row: row.encoder in NOBODY), condition, metric)
            if chosen:
                columns.append((text.markdown(run.measure(metric).axis), chosen))
        order = ["input", "ceiling", *merge_orders(layer_orders(rows).values()), "floor"]
        made.append(_table(condition, columns, order))
    return made


def highlighted(measured: Measured) -> list[str]:
    """The measures that `highlights` speaks of."""
    found = (next((name for name in choices if name in measured.metrics), None) for choices in _HIGHLIGHTS)
    return [name for name in found if name is not None]


def highlights(measured: Measured) -> list[str]:
    """One sentence each for the voice, the sound and the words: what the first and the last layer give back."""
    if not measured.sounds:
        return []
    condition, layers = measured.conditions[0], measured.layers
    said = []
    for metric in highlighted(measured):
        info = info_of(metric)
        rows = {name: at(measured.sounds, name, condition, metric) for name in ("input", "ceiling", *layers)}
        known = {name: row.value for name, row in rows.items() if row is not None and row.value is not None}
        ends = list(dict.fromkeys(name for name in (layers[0], layers[-1]) if name in known))
        if not ends:
            continue
        unit = " %" if info.percent else ""
        parts = [f"{info.text(known[name])}{unit} {_of(name)}" for name in ("input", "ceiling") if name in known]
        parts += [f"**{info.text(known[name])}{unit}** from {text.code(name)}" for name in ends]
        said.append(f"**{info.label}** ({info.meaning}): {text.listed(parts)}.")
    return said


def twin_highlights(measured: Measured) -> list[str]:
    """One sentence per highlighted measure: the last layer with trained and with random weights."""
    condition, last = next(iter(measured.conditions), ""), next(reversed(measured.layers), "")
    said = []
    for metric in highlighted(measured):
        info = info_of(metric)
        trained, random = (at(rows, last, condition, metric) for rows in (measured.sounds, measured.twins))
        if trained and random and trained.value is not None and random.value is not None:
            values = [info.text(row.value) + (" %" if info.percent else "") for row in (trained, random)]
            sides = f"{values[0]} trained, **{values[1]}** with random weights"
            said.append(f"{info.label} from {text.code(last)}: {sides}.")
    return said


def _of(side: str) -> str:
    return {"input": "for the recordings themselves", "ceiling": "for the ceiling"}[side]


def shallow_voice(measured: Measured) -> str:
    """How much of the voice the first layer gives back, as a sentence; empty where it was not measured."""
    condition = next(iter(measured.conditions), "")
    first = next(iter(measured.layers), "")
    row, natural = (at(measured.sounds, name, condition, "eer") for name in (first, "input"))
    if row is None or natural is None or row.value is None or natural.value is None:
        return ""
    info = info_of("eer")
    return (
        f"A speaker verifier errs on {info.text(row.value)} % of the pairs rebuilt from {text.code(first)}, and on "
        f"{info.text(natural.value)} % of the recordings themselves, where 50 % is guessing."
    )
