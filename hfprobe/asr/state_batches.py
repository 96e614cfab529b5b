"""ESPnet's view of stored states: batches of similar length, stretched and shifted a little each time.

Stretching in time stands for speaking rate and shifting along the frequency axis for the length of the vocal tract
(Jaitly and Hinton, "Vocal tract length perturbation improves speech recognition", ICML workshop 2013). Both are done
on feature maps, which move with their input as far as convolutions go; so nothing below has to run again.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from torch import Tensor

from hfprobe.asr.states import StoredStates, StoredUtterance
from hfprobe.asr.tokens import CharTokens
from hfprobe.errors import ConfigError, DatasetError


def stretch(states: Tensor, frames: int) -> Tensor:
    """Other speaking rate: interpolate ``(frames, width)`` linearly to another number of frames.

    Example:
        >>> stretch(torch.tensor([[0.0], [1.0], [2.0]]), 5).squeeze(1)
        tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000])
    """
    if len(states) < 2:
        return states.expand(frames, -1)
    return _interpolate(states, torch.linspace(0, len(states) - 1, frames), 0)


def shift_bands(states: Tensor, maps: int, bands: float) -> Tensor:
    """Move every feature map along frequency.

    Args:
        states: ``(frames, maps * bands_per_map)``, map after map.
        maps: Number of feature maps.
        bands: How far, upwards; what moves in at the edge repeats the edge.

    Returns:
        As ``states``.

    Example:
        >>> shift_bands(torch.tensor([[0.0, 1.0, 2.0, 5.0, 6.0, 7.0]]), 2, 1)
        tensor([[0., 0., 1., 5., 5., 6.]])
    """
    grid = states.unflatten(-1, (maps, -1))
    count = grid.shape[-1]
    return _interpolate(grid, (torch.arange(count) - bands).clamp(0, count - 1), 2).flatten(1)


def _interpolate(values: Tensor, at: Tensor, dim: int) -> Tensor:
    """Values at fractional positions along ``dim``."""
    below = at.floor().long().clamp(max=values.shape[dim] - 2)
    shape = [1] * values.dim()
    shape[dim] = -1
    share = (at - below).view(shape).to(values.dtype)
    return values.index_select(dim, below) * (1 - share) + values.index_select(dim, below + 1) * share


def is_held(speaker: str, share: float) -> bool:
    """Whether a speaker is held out of training for validation; the same speakers each time.

    Example:
        >>> sum(is_held(f"speaker {n}", 0.1) for n in range(1000))
        95
    """
    return zlib.crc32(f"held {speaker}".encode()) / 2**32 < share


class StateIterFactory(AbsIterFactory):
    """Gives ESPnet's trainer batches of stored states in place of sound.

    Args:
        stored: One folder or several of the same layer; an epoch takes every utterance once, from any of them.
        tokens: Text to ids.
        frames: Frames per batch, padding included; a CPU needs some 30 utterances a batch to be busy.
        train: Whether to shuffle, stretch and shift, on speakers that are not held out; else those that are.
        held: Share of the speakers that are held out.
        warp: Greatest change of the speaking rate, e.g. 0.15.
        shift: Greatest shift in bands of a feature map.
        maps: Feature maps of the layer (1: no shift).
        seed: Seed of order, stretches and shifts; an epoch depends on it and on its number alone.
        batches_per_epoch: Cut an ESPnet epoch after so many batches (``None``: all utterances).

    Raises:
        ConfigError: The folders are of different layers, or the maps do not divide the width.
        DatasetError: No utterance is left.
    """

    def __init__(
        self,
        stored: Sequence[StoredStates],
        tokens: CharTokens,
        frames: int = 1500,
        train: bool = True,
        held: float = 0.05,
        warp: float = 0.0,
        shift: float = 0.0,
        maps: int = 1,
        seed: int = 0,
        batches_per_epoch: int | None = None,
    ):
        kinds = {(item.fingerprint, item.layer, item.width) for item in stored}
        if len(kinds) != 1:
            raise ConfigError(f"stored states must be of one layer of one encoder, got {sorted(kinds)}")
        if stored[0].width % maps:
            raise ConfigError(f"{maps} feature maps do not divide states of {stored[0].width}")
        if not 0 <= warp < 0.5 or shift < 0:
            raise ConfigError(f"warp must be from 0 to below 0.5 and shift 0 or more, got {warp} and {shift}")
        self.tokens, self.frames, self.train, self.seed = tokens, frames, train, seed
        self.warp, self.shift, self.maps, self.batches_per_epoch = warp, shift, maps, batches_per_epoch
        # Validation hears every utterance as it is, so once.
        versions: dict[str, list[tuple[StoredStates, StoredUtterance]]] = {}
        for item in stored if train else stored[:1]:
            for utterance in item.utterances:
                if is_held(utterance.speaker, held) != train:
                    versions.setdefault(utterance.id, []).append((item, utterance))
        self.versions = list(versions.values())
        if not self.versions:
            raise DatasetError(
                f"no utterance is left to {'train' if train else 'validate'} on with a share of {held} of the "
                "speakers held out; store more utterances, or change --hf_held"
            )

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Iterator[tuple[list[str], dict]]:
        """The batches of one epoch, longest utterance first in each as ESPnet's RNN encoders want them."""
        batches, rng = self._plan(epoch)
        for batch in islice(batches, self.batches_per_epoch):
            yield self._to_espnet(batch, rng)

    def count(self, epoch: int) -> int:
        """How many batches an epoch has, without reading a state."""
        batches, _ = self._plan(epoch)
        return min(len(batches), self.batches_per_epoch or len(batches))

    def _plan(self, epoch: int) -> tuple[list[list[tuple[StoredStates, StoredUtterance]]], random.Random]:
        rng = random.Random(f"{self.seed} {epoch}" if self.train else "")
        chosen = [rng.choice(versions) for versions in self.versions]
        # A little noise on the lengths mixes batches anew each epoch at the cost of little padding.
        chosen.sort(key=lambda pair: pair[1].frames + (20 * rng.random() if self.train else 0))
        batches: list[list[tuple[StoredStates, StoredUtterance]]] = [[]]
        for pair in chosen:
            if batches[-1] and (len(batches[-1]) + 1) * pair[1].frames > self.frames:
                batches.append([])
            batches[-1].append(pair)
        if self.train:
            rng.shuffle(batches)
        return batches, rng

    def _to_espnet(self, batch, rng: random.Random) -> tuple[list[str], dict]:
        rows = [(utterance, self._varied(stored.states(utterance), rng)) for stored, utterance in batch]
        rows.sort(key=lambda row: -len(row[1]))
        texts = [torch.tensor(self.tokens(utterance.text), dtype=torch.int64) for utterance, _ in rows]
        return [utterance.id for utterance, _ in rows], {
            "speech": torch.nn.utils.rnn.pad_sequence([states for _, states in rows], batch_first=True),
            "speech_lengths": torch.tensor([len(states) for _, states in rows]),
            "text": torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=-1),
            "text_lengths": torch.tensor([len(text) for text in texts], dtype=torch.int64),
        }

    def _varied(self, states: Tensor, rng: random.Random) -> Tensor:
        if not self.train:
            return states
        if self.warp:
            states = stretch(states, max(1, round(len(states) * rng.uniform(1 - self.warp, 1 + self.warp))))
        if self.shift and self.maps > 1:
            states = shift_bands(states, self.maps, rng.uniform(-self.shift, self.shift))
        return states
