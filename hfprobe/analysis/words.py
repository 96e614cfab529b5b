"""Which words are left in a sound: recognisers that read it, and error rates with intervals over speakers.

A rate is pooled: all edits of a test set over all its reference words (or characters), as papers print it. Errors and
reference lengths add up, so the bootstrap over speakers (Bisani and Ney, "Bootstrap estimates for confidence intervals
in ASR performance evaluation", 2004) draws nothing but sums.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hfprobe.data import pad_waveforms
from hfprobe.errors import EncoderError
from hfprobe.metrics.recognition import edit_distance
from hfprobe.results import ResultRow

REPLICATES = 200
_NO_WORD = re.compile(r"[^\w' ]|_")


@dataclass(frozen=True)
class Reader:
    """A recogniser that reads sounds.

    Attributes:
        model: An encoder with ``transcribe``.
        name: Its name, by which the texts it read are kept.
        second: Whether it was given to read along, rather than being one of the encoders under study. Its spelling may
            be another than the transcripts', so both are then compared by `plain_words`.
    """

    model: Any
    name: str
    second: bool = False

    @property
    def key(self) -> tuple[str, bool]:
        """What tells its texts from those of other readers."""
        return self.name, self.second

    @torch.no_grad()
    def read(self, waveforms: Sequence[np.ndarray], device: str = "cpu") -> list[str]:
        """One text per waveform ``(samples,)``."""
        batch, lengths = pad_waveforms(list(waveforms))
        return self.model.transcribe(batch.to(device), lengths.to(device))


def can_transcribe(encoder: Any) -> bool:
    """Whether an encoder has a recognition head; tried on a second of silence.

    Example:
        >>> can_transcribe(torch.nn.Linear(1, 1))
        False
    """
    if not hasattr(encoder, "transcribe"):
        return False
    home = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))
    samples = max(16000, getattr(encoder, "min_samples", 1))
    try:
        with torch.no_grad():
            encoder.transcribe(torch.zeros(1, samples, device=home), torch.tensor([samples], device=home))
    except EncoderError:
        return False
    return True


def reading_name(encoder: str, reader: Reader) -> str:
    """What stands in the column ``encoder`` of a row of error rates.

    Args:
        encoder: Whose layers the sounds were rebuilt from.
        reader: Who read them.

    Returns:
        The encoder's name where its own recogniser read; ``"NAME > READER"`` for a second one. Input and ceiling have
        a row under each of these names, so that all rows of one name are by one reader.

    Example:
        >>> reading_name("vgg", Reader(None, "vgg")), reading_name("vgg", Reader(None, "wav2vec2", second=True))
        ('vgg', 'vgg > wav2vec2')
    """
    return f"{encoder} > {reader.name}" if reader.second else encoder


def plain_words(text: str) -> str:
    """Text without case, accents and punctuation (apostrophes stay), for recognisers of different spelling.

    Example:
        >>> plain_words("It's   late, she said -- café!")
        "it's late she said cafe"
    """
    letters = unicodedata.normalize("NFKD", text.replace("\u2019", "'").casefold())
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(_NO_WORD.sub(" ", kept).split())


def error_counts(reference: str, hypothesis: str) -> tuple[int, int, int, int]:
    """Word errors, words, character errors and characters of one utterance (runs of white space are one space).

    Example:
        >>> error_counts("A B  C", "A X C")
        (1, 3, 1, 5)
    """
    words, heard = reference.split(), hypothesis.split()
    letters = " ".join(words)
    return edit_distance(words, heard), len(words), edit_distance(letters, " ".join(heard)), len(letters)


def error_rows(
    name: str,
    layer: str,
    condition: str,
    texts: Sequence[str],
    references: Sequence[str],
    speakers: Sequence[str],
    seed: int = 0,
) -> list[ResultRow]:
    """Rows of word and character error rate over a test set.

    Args:
        name: See `reading_name`.
        layer: Layer, ``input``, ``ceiling`` or ``floor``.
        condition: Name of the condition.
        texts: What was read, one text per utterance.
        references: Transcripts in the same order; utterances with an empty one count in ``n_failed``.
        speakers: Speaker of each utterance.
        seed: Seed of the bootstrap.

    Returns:
        A row for ``wer`` and one for ``cer``, fractions; without interval for a single speaker.

    Example:
        >>> rows = error_rows("vgg", "cnn1", "clean", ["A X", "B"], ["A A", ""], ["s", "t"])
        >>> [(row.metric, row.value, row.n, row.n_failed) for row in rows][0]
        ('wer', 0.5, 1, 1)
    """
    known = [i for i, text in enumerate(references) if text.strip()]
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4))
    for i in known:
        sums[speakers[i]] += error_counts(references[i], texts[i])
    table = np.array(list(sums.values())).reshape(-1, 4)
    rows = []
    for place, metric in enumerate(("wer", "cer")):
        errors, units = table[:, 2 * place], table[:, 2 * place + 1]
        value = float(errors.sum() / units.sum()) if known else None
        low, high = _interval(errors, units, seed)
        rows.append(ResultRow(name, layer, condition, metric, value, low, high, len(known), len(texts) - len(known)))
    return rows


def _interval(errors: np.ndarray, units: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    """95 % interval of a pooled rate, whole speakers drawn."""
    if len(errors) < 2:
        return None, None
    draws = np.random.default_rng(seed).integers(len(errors), size=(REPLICATES, len(errors)))
    low, high = np.quantile(errors[draws].sum(axis=1) / units[draws].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)
