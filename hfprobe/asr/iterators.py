"""ESPnet's view of a :class:`~hfprobe.data.SpeechStream`: one iterator of ``(ids, batch)`` per epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory

from hfprobe.asr.augment import perturb_speed
from hfprobe.asr.tokens import CharTokens
from hfprobe.data import SpeechBatch, SpeechStream
from hfprobe.errors import DatasetError

logger = logging.getLogger(__name__)


class StreamIterFactory(AbsIterFactory):
    """Gives ESPnet's trainer the batches of a stream.

    Args:
        stream: Where batches come from; its seed makes an epoch repeatable, so ESPnet's resume works.
        tokens: Text to ids.
        batches_per_epoch: Cut an ESPnet epoch after so many batches (``None``: the stream's own epoch). A shorter
            epoch still starts a new pass of the stream, in a new order.
        speeds: Each utterance is played at one of these speeds; none leaves it as it is.
    """

    def __init__(
        self,
        stream: SpeechStream,
        tokens: CharTokens,
        batches_per_epoch: int | None = None,
        speeds: Sequence[float] = (),
    ):
        self.stream, self.tokens, self.batches_per_epoch = stream, tokens, batches_per_epoch
        self.speeds = tuple(speeds)

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Iterator[tuple[list[str], dict]]:
        """The batches of one epoch (1 is the first), longest utterance first as ESPnet's RNN encoders want them.

        Raises:
            DatasetError: There is not one.
        """
        number = epoch if self.stream.shuffle else 0
        known = self.stream.failures.total()
        batch = None
        for batch in islice(self.stream.one_epoch(number), self.batches_per_epoch):
            yield self._to_espnet(perturb_speed(batch, self.speeds, self.stream.seed, epoch) if self.speeds else batch)
        if batch is None:
            raise DatasetError(
                f"epoch {epoch} has no usable utterance (left out: {dict(self.stream.failures)}); check the corpus, "
                "--hf_max_seconds, and with several processes that it has a batch for each"
            )
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
