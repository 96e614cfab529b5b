"""Word and character error rates of a recogniser on the sound that goes in, by condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.test_set import TestSet, length_batches
from hfprobe.analysis.words import Reader, error_rows
from hfprobe.data import NoiseCorpus
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
    reader = Reader(encoder.to(device).eval(), encoder.name)
    rows, transcripts = [], {}
    for condition in conditions:
        heard = [
            apply_condition(waveform, utterance, condition, noise, seed)
            for utterance, waveform in zip(test.ids, test.waveforms, strict=True)
        ]
        texts = [""] * len(heard)
        for batch in length_batches([len(w) for w in heard], BATCH_SAMPLES):
            for index, text in zip(batch, reader.read([heard[i] for i in batch], device), strict=True):
                texts[index] = text
        transcripts[condition.name] = texts
        rows += error_rows(encoder.name, "input", condition.name, texts, test.texts, test.speakers, seed)
    return rows, transcripts
