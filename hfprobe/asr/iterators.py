"""ESPnet's view of a :class:`~hfprobe.data.SpeechStream`: one iterator of ``(ids, batch)`` per epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory

from hfprobe.data import SpeechBatch, SpeechStream

logger = logging.getLogger(__name__)


class CharTokens:
    """Characters to token ids by an ESPnet token list (``<blank>`` first, ``<space>``, ``<unk>``, ``<sos/eos>``)."""

    def __init__(self, token_list: list[str]):
        self.ids = {token: index for index, token in enumerate(token_list)}
        self.unknown = self.ids["<unk>"]

    def __call__(self, text: str) -> list[int]:
        return [self.ids.get("<space>" if c == " " else c, self.unknown) for c in text]


class StreamIterFactory(AbsIterFactory):
    """Gives ESPnet's trainer the batches of a stream.

    Args:
        stream: Where batches come from; its seed makes an epoch repeatable, so ESPnet's resume works.
        tokens: Text to ids.
        batches_per_epoch: Cut an ESPnet epoch after so many batches (``None``: the stream's own epoch). A shorter
            epoch still starts a new pass of the stream, in a new order.
    """

    def __init__(self, stream: SpeechStream, tokens: CharTokens, batches_per_epoch: int | None = None):
        self.stream, self.tokens, self.batches_per_epoch = stream, tokens, batches_per_epoch

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Iterator[tuple[list[str], dict]]:
        """The batches of one epoch (1 is the first), longest utterance first as ESPnet's RNN encoders want them."""
        number = epoch if self.stream.shuffle else 0
        known = self.stream.failures.total()
        for batch in islice(self.stream.one_epoch(number), self.batches_per_epoch):
            yield self._to_espnet(batch)
        if self.stream.failures.total() > known:
            logger.warning("utterances left out so far: %s", dict(self.stream.failures))

    def _to_espnet(self, batch: SpeechBatch) -> tuple[list[str], dict]:
        order = torch.argsort(batch.lengths, descending=True, stable=True).tolist()
        texts = [torch.tensor(self.tokens(batch.texts[i]), dtype=torch.int64) for i in order]
        ids = [batch.ids[i] for i in order]
        return ids, {
            "speech": batch.waveforms[order],
            "speech_lengths": batch.lengths[order],
            "text": torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=-1),
            "text_lengths": torch.tensor([len(t) for t in texts], dtype=torch.int64),
        }
