"""Which sounds of an evaluation are kept, who reads them, and what is said where a number is missing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hfprobe.analysis.keep import SoundKeeper, chosen_utterances
from hfprobe.analysis.systems import ANY, Measured
from hfprobe.analysis.test_set import TestSet
from hfprobe.errors import EncoderError


class Encoder(torch.nn.Module):
    """Reads its own name, or cannot read."""

    def __init__(self, name, reads=True):
        super().__init__()
        self.name, self.reads, self.weight = name, reads, torch.nn.Parameter(torch.zeros(1))

    def transcribe(self, waveforms, lengths):
        if not self.reads:
            raise EncoderError("no head")
        return [self.name] * len(waveforms)


class Verifier:
    """The mean of a sound on one axis; a silent one has no voice."""

    def embed(self, waveforms, lengths):
        means = np.asarray([float(w[: int(n)].mean()) for w, n in zip(waveforms, lengths, strict=True)])
        return np.stack([np.where(means == 0, np.nan, means), np.ones(len(means))], axis=1)


def test_utterances_come_from_as_many_speakers_as_there_are():
    assert chosen_utterances(list("aaabbc"), 3) == [0, 3, 5]
    assert chosen_utterances(list("aaabbc"), 5) == [0, 1, 3, 4, 5]
    assert chosen_utterances(list("ab"), 9) == [0, 1]


def test_kept_are_chosen_utterances_with_texts_of_their_own_reader():
    test = TestSet(
        [f"u{k}" for k in range(4)], [np.full(1600, k + 1.0, np.float32) for k in range(4)], ["T"] * 4, list("aabb")
    )
    written = []
    pairs = [(Encoder("vgg"), None), (Encoder("random:vgg", reads=False), None), (Encoder("mute", reads=False), None)]
    keeper = SoundKeeper(test, 2, pairs, lambda *place, text: written.append((place[:4], text)))
    assert keeper.indices == [0, 2]
    mel = np.zeros((11, 4), np.float32)
    systems = ((ANY, "input"), ("vgg", "cnn1"), ("vgg", "floor"), ("random:vgg", "cnn1"), ("mute", "cnn1"))
    for encoder, layer in systems:
        for batch in ([0, 1], [3, 2]):
            keeper("clean", encoder, layer, batch, [test.waveforms[i] for i in batch], [mel, mel])
    assert written == [
        ((name, "clean", who, layer), text)
        for who, layer, text in (
            (None, "input", "vgg"),
            ("vgg", "cnn1", "vgg"),
            ("random:vgg", "cnn1", "vgg"),
            ("mute", "cnn1", None),
        )
        for name in ("u0", "u2")
    ]
    measured = Measured(test, SimpleNamespace(), ("vgg", "random:vgg", "mute"), {})
    for encoder, layer in systems:
        system = measured.systems["clean", encoder, layer]
        waves = torch.stack([torch.from_numpy(w) for w in test.waveforms])
        system.embeddings.update(enumerate(Verifier().embed(waves * (encoder != "mute"), torch.full((4,), 1600))))
        if encoder != "random:vgg":
            system.quality["stoi"].update({0: 0.5, 1: 0.6, 2: None, 3: 0.8})
    facts = dict(keeper.numbers(measured, Verifier()))
    assert len(facts) == 8
    first = facts["u0", "clean", None, "input"]
    assert first["stoi"] == 0.5 and first["similarity"] == pytest.approx(1) and first["note"] is None
    assert facts["u2", "clean", "vgg", "cnn1"]["note"] == "STOI could not be computed"
    assert facts["u0", "clean", "random:vgg", "cnn1"]["note"] == "STOI was not measured"
    lost = facts["u2", "clean", "mute", "cnn1"]
    assert lost["stoi"] is None and lost["similarity"] is None
    assert lost["note"] == "no speaker similarity: no voice was found in this sound; STOI could not be computed"
