"""Word and phone times by forced CTC alignment of the transcript with one of our recognisers.

The best path of the transcript's letters through the recogniser's frames is torchaudio's `forced_align` (Viterbi over
the CTC lattice; Graves et al. 2006, Kürzinger et al., "CTC-segmentation", 2020). CTC marks where a letter is decided,
not where it begins and ends, so the rest is a rule, and it is this one:

- two neighbouring letters of a word meet in the middle between their frames;
- a word begins and ends half-way to its neighbours' letters, but never more than 100 ms from its own;
- the phones of a word (from the corpus; letters say nothing of them) share the word in equal parts of its letters:
  phone i of P in a word of C letters goes from letter ``i C / P`` to letter ``(i + 1) C / P``.

These phone times are rough (tens of milliseconds): enough to say which phone a 40 ms frame mostly holds, not to measure
durations. For exact ones give the alignment of a real aligner (`hfprobe.data.alignments.load_alignments`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hfprobe.analysis.test_set import length_batches
from hfprobe.data import SpeechBatch, pad_waveforms
from hfprobe.data.alignments import Alignment, Segment, plain_phone
from hfprobe.errors import EncoderError

REACH = 0.1  # seconds that a word may go beyond its letters
BATCH_SAMPLES = 16000 * 60
RATE = 16000


@dataclass(frozen=True)
class Letters:
    """Index of each letter among a recogniser's tokens, of the blank, and of the space (None where there is none)."""

    index: dict[str, int]
    blank: int
    space: int | None

    def spell(self, word: str) -> list[int] | None:
        """Tokens of a word's letters; None if one is unknown. Punctuation that the recogniser lacks is left out.

        Example:
            >>> letters = Letters({"A": 1, "B": 2}, 0, None)
            >>> letters.spell("ab'"), letters.spell("C")
            ([1, 2], None)
        """
        found = []
        for letter in word:
            known = next(
                (self.index[way] for way in (letter, letter.upper(), letter.lower()) if way in self.index), None
            )
            if known is None and letter.isalnum():
                return None
            if known is not None:
                found.append(known)
        return found or None


def letters_of(encoder) -> Letters:
    """The letters that a recogniser writes.

    Args:
        encoder: A `SpeechEncoder` with a CTC head over characters.

    Raises:
        EncoderError: It has no CTC head, or its tokens are not characters.
    """
    text = getattr(encoder, "text", None)
    if getattr(encoder, "ctc", None) is None or text is None:
        raise EncoderError(
            f"encoder {encoder.name} cannot align a transcript: it has no CTC head with tokens; "
            "use e.g. --aligner vgg-blstm-baseline, or give --alignments"
        )
    tokens = getattr(text, "tokens", None)
    if tokens is not None:
        blank, space = text.blank, text.space
        vocabulary = {token: index for index, token in enumerate(tokens)}
        characters = text.token_type == "char"
    else:
        tokenizer = text.tokenizer
        vocabulary = tokenizer.get_vocab()
        blank, space = tokenizer.pad_token, getattr(tokenizer, "word_delimiter_token", None)
        characters = space in vocabulary
    index = {token: place for token, place in vocabulary.items() if len(token) == 1 and token != space}
    if not characters or blank not in vocabulary or not index:
        raise EncoderError(
            f"encoder {encoder.name} writes tokens that are not single characters, which align no letters; "
            "use a recogniser of characters, e.g. --aligner vgg-blstm-baseline, or give --alignments"
        )
    return Letters(index, vocabulary[blank], vocabulary.get(space))


class CTCAligner:
    """Aligns transcripts with a recogniser; see the top of this module.

    Args:
        encoder: A `SpeechEncoder` with a CTC head over characters; it is moved to ``device`` and to ``eval()``.
        device: Where it runs.

    Attributes:
        failures: Utterances that could not be aligned so far, by reason; ``"no phones in the corpus"`` counts those
            that have words only.

    Raises:
        EncoderError: See `letters_of`.
    """

    def __init__(self, encoder, device: str = "cpu"):
        self.letters = letters_of(encoder)
        self.encoder, self.device = encoder.to(device).eval(), device
        self.failures: Counter[str] = Counter()

    def align(self, batch: SpeechBatch) -> list[Alignment | None]:
        """One alignment per utterance of a batch, of its clean sound; None where there is none."""
        words = batch.words or [[] for _ in batch.ids]
        return self._align(batch.clean, batch.lengths, batch.texts, words)

    def align_utterances(
        self, ids: Sequence[str], waveforms: Sequence[np.ndarray], texts: Sequence[str], words=None
    ) -> list[Alignment | None]:
        """One alignment per utterance.

        Args:
            ids: Utterance ids (not needed here; files are found by them).
            waveforms: float32 ``(samples,)`` each at 16 kHz.
            texts: Transcripts.
            words: Words with their phones, as `SpeechBatch.words`; None where unknown.
        """
        words = words or [[] for _ in texts]
        result: list[Alignment | None] = [None] * len(texts)
        for part in length_batches([len(w) for w in waveforms], BATCH_SAMPLES):
            padded, lengths = pad_waveforms([waveforms[i] for i in part])
            found = self._align(padded, lengths, [texts[i] for i in part], [words[i] for i in part])
            for i, alignment in zip(part, found, strict=True):
                result[i] = alignment
        return result

    @torch.no_grad()
    def _align(self, waveforms, lengths, texts, words) -> list[Alignment | None]:
        result: list[Alignment | None] = [None] * len(texts)
        long_enough = [i for i, n in enumerate(lengths.tolist()) if n >= self.encoder.min_samples]
        if len(long_enough) < len(texts):
            self.failures["too short to encode"] += len(texts) - len(long_enough)
        if not long_enough:
            return result
        sizes = lengths[long_enough]
        output = self.encoder(
            waveforms[long_enough][:, : int(sizes.max())].to(self.device), sizes.to(self.device), False
        )  # fmt: skip
        scores = output.logits.float().log_softmax(dim=-1).cpu()
        counts = output.hidden_lengths[-1].tolist()
        # torchaudio aligns one utterance at a time; the work is in its compiled code.
        for place, i in enumerate(long_enough):
            result[i] = self._one(scores[place, : counts[place]], texts[i], words[i])
        return result

    def _one(self, scores: torch.Tensor, text: str, words) -> Alignment | None:
        names = [word for word, _ in words] or text.split()
        spelled = [letters for letters in map(self.letters.spell, names) if letters is not None]
        if not names or len(spelled) < len(names):
            self.failures["letters unknown to the recogniser" if names else "no transcript"] += 1
            return None
        spans = best_spans(scores, _targets(spelled, self.letters.space), self.letters.blank)
        if spans is None:
            self.failures["more letters than frames"] += 1
            return None
        spec = self.encoder.layers[-1]
        times = (spec.offset + (np.asarray(spans, dtype=float) - 0.5) * spec.stride) / RATE
        edges = letter_edges(times.clip(min=0.0), [len(word) for word in spelled], self.letters.space is not None)
        kept = tuple(Segment(n.upper(), float(e[0]), float(e[-1])) for n, e in zip(names, edges, strict=True))
        if not any(phones for _, phones in words):
            self.failures["no phones in the corpus"] += 1
            return Alignment(kept)
        phones = [
            Segment(label, start, end, f"{name.upper()}/{place}")
            for name, edge, (_, symbols) in zip(names, edges, words, strict=True)
            for place, (label, start, end) in enumerate(share_phones(edge, symbols))
        ]
        return Alignment(kept, tuple(phones))


def _targets(spelled: Sequence[Sequence[int]], space: int | None) -> list[int]:
    targets: list[int] = []
    for number, word in enumerate(spelled):
        targets += [space] if number and space is not None else []
        targets += word
    return targets


def best_spans(scores: torch.Tensor, targets: Sequence[int], blank: int) -> list[tuple[int, int]] | None:
    """Frames of each target on the best CTC path.

    Args:
        scores: Log-probabilities ``(frames, tokens)``.
        targets: Tokens in order, without blanks.
        blank: Index of the blank.

    Returns:
        First frame and the one after the last of each target; None if there are more targets than frames allow.

    Example:
        >>> scores = torch.full((4, 3), -9.0)
        >>> scores[[0, 1, 2, 3], [1, 0, 2, 2]] = 0.0
        >>> best_spans(scores, [1, 2], 0)
        [(0, 1), (2, 4)]
    """
    from torchaudio.functional import forced_align, merge_tokens

    repeats = sum(a == b for a, b in zip(targets, targets[1:], strict=False))
    if not targets or len(targets) + repeats > len(scores):
        return None
    path, along = forced_align(scores[None], torch.tensor([list(targets)], dtype=torch.int32), blank=blank)
    return [(span.start, span.end) for span in merge_tokens(path[0], along[0], blank)]


def letter_edges(spans: np.ndarray, sizes: Sequence[int], spaces: bool) -> list[np.ndarray]:
    """Where letters begin and end, by the rule at the top of this module.

    Args:
        spans: Start and end of each target in seconds ``(targets, 2)``.
        sizes: Letters of each word.
        spaces: Whether one target between two words is a space.

    Returns:
        For each word the edges of its letters ``(letters + 1,)``.

    Example:
        >>> letter_edges(np.array([[0.1, 0.2], [0.4, 0.5], [1.0, 1.1]]), [2, 1], False)[0].round(3).tolist()
        [0.0, 0.3, 0.6]
    """
    firsts = np.cumsum([0, *(size + spaces for size in sizes[:-1])])
    letters = [spans[first : first + size] for first, size in zip(firsts, sizes, strict=True)]
    edges = []
    for number, own in enumerate(letters):
        before = letters[number - 1][-1, 1] if number else -np.inf
        after = letters[number + 1][0, 0] if number + 1 < len(letters) else np.inf
        start = max(0.0, own[0, 0] - min(REACH, (own[0, 0] - before) / 2))
        end = own[-1, 1] + min(REACH, (after - own[-1, 1]) / 2)
        edges.append(np.concatenate([[start], (own[:-1, 1] + own[1:, 0]) / 2, [end]]))
    return edges


def share_phones(edges: np.ndarray, symbols: Sequence[str]) -> list[tuple[str, float, float]]:
    """The phones of a word with start and end: equal parts of its letters.

    Example:
        >>> share_phones(np.array([0.0, 0.1, 0.3]), ["S", "AH1", "M", "T"])
        [('S', 0.0, 0.05), ('AH', 0.05, 0.1), ('M', 0.1, 0.2), ('T', 0.2, 0.3)]
    """
    places = np.linspace(0, len(edges) - 1, len(symbols) + 1)
    times = np.interp(places, np.arange(len(edges)), edges).round(6).tolist()
    return [(plain_phone(s), a, b) for s, a, b in zip(symbols, times, times[1:], strict=False)]


def segments_at(segments: Sequence[Segment], times) -> np.ndarray:
    """Which segment holds each point in time.

    Args:
        segments: In time order, not overlapping.
        times: Seconds ``(points,)``.

    Returns:
        int64 ``(points,)``, -1 where none does.

    Example:
        >>> segments_at([Segment("A", 0.0, 1.0), Segment("B", 2.0, 3.0)], [0.5, 1.0, 2.0]).tolist()
        [0, -1, 1]
    """
    times = np.asarray(times, dtype=float)
    if not segments:
        return np.full(len(times), -1)
    starts, ends = np.array([[s.start, s.end] for s in segments]).T
    index = np.searchsorted(starts, times, side="right") - 1
    return np.where((index >= 0) & (times < ends[index]), index, -1)
