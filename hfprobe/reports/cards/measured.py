"""Result files as a card needs them: what belongs to one encoder, and in which of its tables it stands.

A file that measured sounds of layers (``hfprobe evaluate``) gives the main table. One with error rates of the recording
itself only gives the table of the recogniser. Rows of the encoder with random weights may come from a run of their own.
Anything else by layer (labels, geometry, invariance) gives further tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hfprobe.reports.model import REFERENCE_LAYERS, Measurement, ReportError, merge_orders
from hfprobe.reports.runs import NOBODY
from hfprobe.reports.tables import layer_orders, ordered_conditions, twin_of
from hfprobe.results import Results

# In reading order; minDCF stays in the result files.
HEARD = tuple(
    name + against
    for name in ("eer", "her", "stoi", "estoi", "pesq", "pesq_nb", "si_sdr", "log_mel", "wer", "cer")
    for against in ("", "_input")
)
_LEFT_OUT = ("mindcf", "mel_l1")
READER = " > "
_PAIR = "~"
# Settings that two runs must share for their numbers to be compared without a word.
_SETTINGS = ("dataset", "utterances", "test_speakers", "speakers", "per_speaker", "trials", "verifier", "vocoder",
             "iterations", "noise", "noise_type", "against", "seed")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """The rows of one encoder.

    Attributes:
        sounds: Of its layers' sounds, with input, ceiling and floor; the encoder's own name in all of them.
        twins: The same of the encoder with random weights, at its layers only.
        readers: Error rates that further recognisers read from the sounds, by the recogniser's name.
        recognition: Error rates of the recordings themselves, from a run that measured nothing else.
        others: Other measures by layer, one group of rows per run.
        runs: The runs of `sounds`, of `twins`, of `recognition` and of `others`.
    """

    sounds: tuple[Measurement, ...] = ()
    twins: tuple[Measurement, ...] = ()
    readers: Mapping[str, tuple[Measurement, ...]] = field(default_factory=dict)
    recognition: tuple[Measurement, ...] = ()
    others: tuple[tuple[Measurement, ...], ...] = ()
    runs: Mapping[str, tuple[Results, ...]] = field(default_factory=dict)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions of the sounds, clean first."""
        return ordered_conditions(self.sounds)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Measures of the sounds, in reading order."""
        return metrics_of(self.sounds)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of the sounds, from shallow to deep."""
        return merge_orders(layer_orders(self.sounds).values())


def metrics_of(rows: Iterable[Measurement]) -> tuple[str, ...]:
    """Measures of some rows, in reading order."""
    there = {row.metric for row in rows}
    return tuple(name for name in HEARD if name in there)


def gather(results: Sequence[Results], encoder: str) -> Measured:
    """Sort the rows of one encoder out of result files.

    Args:
        results: Result files in the order given; those without this encoder are passed over.
        encoder: Its name in the rows; rows of ``random:NAME`` and ``NAME > RECOGNISER`` are found by it.

    Returns:
        Its rows.

    Raises:
        ReportError: Two files hold different values for the same row.

    Example:
        >>> from hfprobe.results import ResultRow
        >>> rows = [ResultRow(name, "blstm1", "clean", "eer", 0.25, n=10) for name in ("vgg", "random:vgg", "pure")]
        >>> measured = gather([Results(rows)], "vgg")
        >>> [row.encoder for row in (*measured.sounds, *measured.twins)]
        ['vgg', 'random:vgg']
    """
    parts: dict[str, dict[tuple, Measurement]] = {}
    runs: dict[str, list[Results]] = {}
    others: list[tuple[Measurement, ...]] = []
    for run in results:
        rows = [Measurement.of(row) for row in run.rows if _PAIR not in row.layer]
        own = [row for row in rows if row.encoder == encoder]
        heard_here = any(row.layer not in REFERENCE_LAYERS and row.metric in HEARD for row in own)
        found: dict[str, list[Measurement]] = {"sounds": [], "twins": [], "recognition": []}
        elsewhere = []
        for row in rows:
            reference, twin = row.layer in REFERENCE_LAYERS, twin_of(row.encoder)
            if row.metric in _LEFT_OUT:
                continue
            if row.metric not in HEARD:
                if row.encoder == encoder or (row.encoder in NOBODY and reference):
                    elsewhere.append(row)
            elif row.encoder == encoder or (row.encoder in NOBODY and reference and heard_here):
                found["sounds" if heard_here else "recognition"].append(row)
            # Its words are read by the trained recogniser, which some runs say in the name.
            elif twin in (encoder, f"{encoder}{READER}{encoder}") and not reference:
                found["twins"].append(row)
            elif row.encoder.startswith(encoder + READER):
                found.setdefault(row.encoder.removeprefix(encoder + READER), []).append(row)
        for part, those in found.items():
            if those:
                kind = part if part in ("sounds", "twins", "recognition") else "sounds"
                runs.setdefault(kind, []).append(run)
                _add(parts.setdefault(part, {}), those, encoder)
        if any(row.encoder == encoder and row.layer not in REFERENCE_LAYERS for row in elsewhere):
            others.append(tuple(elsewhere))
            runs.setdefault("others", []).append(run)
    rows_of = {part: tuple(those.values()) for part, those in parts.items()}
    main = {part: rows_of.pop(part, ()) for part in ("sounds", "twins", "recognition")}
    once = {kind: tuple({id(run): run for run in those}.values()) for kind, those in runs.items()}
    return Measured(**main, readers=rows_of, others=tuple(others), runs=once)


def _add(known: dict[tuple, Measurement], rows: list[Measurement], encoder: str) -> None:
    """Add rows by place; the input belongs to no encoder, so the encoder's own row of it wins in one file."""
    for row in sorted(rows, key=lambda row: row.encoder in NOBODY):
        key = (row.layer, row.condition, row.metric)
        first = known.setdefault(key, row)
        numbers = [(one.value, one.ci_low, one.ci_high, one.n, one.n_failed) for one in (first, row)]
        if numbers[0] != numbers[1] and row.encoder == first.encoder:
            raise ReportError(
                f"two result files hold different values for {' / '.join((row.encoder or encoder, *key))}: "
                f"{first.value} and {row.value}; give one of them"
            )


def at(rows: Iterable[Measurement], layer: str, condition: str, metric: str) -> Measurement | None:
    """The row of one place, or None."""
    return next((r for r in rows if (r.layer, r.condition, r.metric) == (layer, condition, metric)), None)


def setting_differences(one: Results, other: Results) -> list[str]:
    """Settings in which two runs differ, as words; none where a run does not say.

    Example:
        >>> setting_differences(Results((), config={"utterances": 80}), Results((), config={"utterances": 24}))
        ['utterances 24 instead of 80']
    """
    found = []
    for name in _SETTINGS:
        if name in one.config and name in other.config and one.config[name] != other.config[name]:
            found.append(f"{name.replace('_', ' ')} {other.config[name]} instead of {one.config[name]}")
    return found
