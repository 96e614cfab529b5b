"""Word and character error rates of a recogniser, by condition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.test_set import TestSet, length_batches
from hfprobe.data import NoiseCorpus, pad_waveforms
from hfprobe.metrics import cer, wer
from hfprobe.results import ResultRow

BATCH_SAMPLES = 16000 * 60


def recognise(
    encoder: Any,
    test: TestSet,
    conditions: Sequence[Condition],
    noise: NoiseCorpus | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[list[ResultRow], dict[str, list[str]]]:
    """Transcribe a test set under each condition.

    Args:
        encoder: An encoder with ``transcribe``.
        test: Utterances with transcripts.
        conditions: Conditions.
        noise: Noise for the noisy ones.
        seed: Seed of the noise draws and of the bootstrap.
        device: Where to run.

    Returns:
        Rows for ``wer`` and ``cer`` (fractions, 95 % interval by bootstrap over speakers) at layer ``input``, and
        the transcripts by condition name. Utterances without a transcript count in ``n_failed``.
    """
    encoder = encoder.to(device).eval()
    rows, transcripts = [], {}
    known = [i for i, text in enumerate(test.texts) if text.strip()]
    for condition in conditions:
        heard = [
            apply_condition(waveform, utterance, condition, noise, seed)
            for utterance, waveform in zip(test.ids, test.waveforms, strict=True)
        ]
        texts = [""] * len(heard)
        for batch in length_batches([len(w) for w in heard], BATCH_SAMPLES):
            waveforms, lengths = pad_waveforms([heard[i] for i in batch])
            with torch.no_grad():
                for index, text in zip(
                    batch, encoder.transcribe(waveforms.to(device), lengths.to(device)), strict=True
                ):
                    texts[index] = text
        transcripts[condition.name] = texts
        for name, rate in (("wer", wer), ("cer", cer)):
            value = rate([test.texts[i] for i in known], [texts[i] for i in known]) if known else None
            low, high = _interval(rate, test, texts, known, seed)
            counts = len(known), len(texts) - len(known)
            rows.append(ResultRow(encoder.name, "input", condition.name, name, value, low, high, *counts))
    return rows, transcripts


def _interval(rate: Callable, test: TestSet, texts: list[str], known: list[int], seed: int, replicates: int = 200):
    """95 % interval of a corpus-level error rate by bootstrap over speakers."""
    members = defaultdict(list)
    for index in known:
        members[test.speakers[index]].append(index)
    if len(members) < 2:
        return None, None
    # Errors and reference length add up, so each speaker is counted once and only sums are drawn.
    sums = np.array([_errors(rate, [test.texts[i] for i in m], [texts[i] for i in m]) for m in members.values()])
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(sums), size=(replicates, len(sums)))
    errors, units = sums[draws].sum(axis=1).T
    return tuple(float(q) for q in np.quantile(errors / units, [0.025, 0.975]))


def _errors(rate: Callable, references: list[str], hypotheses: list[str]) -> tuple[float, int]:
    units = sum(len(r.split()) if rate is wer else len(" ".join(r.split())) for r in references)
    return rate(references, hypotheses) * units, units
