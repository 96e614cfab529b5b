"""SpecAugment over three channels, and speed perturbation."""

import dataclasses

import numpy as np
import pytest
import torch

from hfprobe.asr.augment import CHANNELS, DeltaSpecAug, change_speed, check_speeds, perturb_speed
from hfprobe.asr.iterators import StreamIterFactory
from hfprobe.asr.tokens import CharTokens
from hfprobe.data import SpeechStream
from hfprobe.errors import ConfigError

TOKENS = ["<blank>", "<unk>", "<space>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'", "<sos/eos>"]


def test_the_same_bands_and_frames_are_masked_in_all_channels():
    torch.manual_seed(0)
    augment = DeltaSpecAug(
        apply_time_warp=False, freq_mask_width_range=[3, 6], time_mask_width_range=[4, 8], num_time_mask=1
    )
    x = torch.randn(2, 50, 3 * 20) + 10
    x[1, 30:] = 0
    lengths = torch.tensor([50, 30])
    out, out_lengths = augment(x.clone(), lengths)
    changed = (out != x).view(2, 50, CHANNELS, 20)
    assert torch.equal(out_lengths, lengths) and 0.05 < changed.float().mean() < 0.8
    for channel in range(1, CHANNELS):
        assert torch.equal(changed[:, :, 0], changed[:, :, channel])
    mean = x.sum(dim=(0, 1)) / 80  # padding does not count
    assert torch.allclose(out[(out != x)], mean.expand_as(x)[out != x])
    bands = changed[0, :, 0].all(dim=0).sum()
    frames = changed[0, :, 0].all(dim=1).sum()
    assert 3 <= bands <= 10 and 4 <= frames <= 7


def test_specaug_warps_and_refuses():
    torch.manual_seed(0)
    out, lengths = DeltaSpecAug(time_mask_width_range=[1, 2])(torch.randn(2, 40, 12), torch.tensor([40, 35]))
    assert out.shape == (2, 40, 12) and lengths.tolist() == [40, 35] and torch.isfinite(out).all()
    with pytest.raises(ConfigError, match="3 channels, got width 80"):
        DeltaSpecAug(time_mask_width_range=[1, 2])(torch.randn(1, 9, 80), torch.tensor([9]))


def test_speed_moves_duration_and_pitch():
    tone = np.sin(2 * np.pi * 400 * np.arange(16000) / 16000).astype(np.float32)
    for speed in (0.9, 1.1, 2.0):
        out = change_speed(tone, speed)
        peak = np.abs(np.fft.rfft(out)).argmax() * 16000 / len(out)
        assert abs(len(out) - 16000 / speed) < 2 and peak == pytest.approx(400 * speed, rel=0.01)
    assert change_speed(tone, 1.0) is tone
    for bad in ([0.1], [1.0, 5.0], [float("nan")]):
        with pytest.raises(ConfigError, match="hf_speeds"):
            check_speeds(bad)


def test_a_batch_is_perturbed_by_seed_epoch_and_name():
    batch = next(iter(SpeechStream("espeak:test", batch_size=6, limit=6)))
    one = perturb_speed(batch, (0.9, 1.0, 1.1), seed=3, epoch=2)
    ratio = (batch.lengths / one.lengths).tolist()
    assert {round(value, 2) for value in ratio} <= {0.9, 1.0, 1.1} and len({round(v, 2) for v in ratio}) > 1
    again = perturb_speed(dataclasses.replace(batch), (0.9, 1.0, 1.1), seed=3, epoch=2)
    assert torch.equal(one.waveforms, again.waveforms) and torch.equal(one.lengths, again.lengths)
    later = [perturb_speed(batch, (0.9, 1.0, 1.1), seed=3, epoch=epoch).lengths.tolist() for epoch in range(3, 8)]
    assert any(lengths != one.lengths.tolist() for lengths in later)
    assert one.texts == batch.texts and one.waveforms.shape[1] == int(one.lengths.max())


def test_espnet_gets_perturbed_batches_longest_first():
    stream = SpeechStream("espeak:test", batch_size=4, limit=4)
    plain = dict(zip(*_first(StreamIterFactory(stream, CharTokens(TOKENS))), strict=True))
    fast = dict(zip(*_first(StreamIterFactory(stream, CharTokens(TOKENS), speeds=(1.25,))), strict=True))
    assert plain.keys() == fast.keys()
    assert all(abs(fast[name] - length / 1.25) < 2 for name, length in plain.items())
    assert list(fast.values()) == sorted(fast.values(), reverse=True)


def _first(factory):
    ids, batch = next(iter(factory.build_iter(1)))
    return ids, batch["speech_lengths"].tolist()
