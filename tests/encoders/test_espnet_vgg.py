"""The VGG front: utterances one by one, as on a CPU, and in a padded batch, as on a GPU."""

from __future__ import annotations

import pytest
import torch
from espnet.nets.pytorch_backend.rnn.encoders import VGG2L
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.encoders.espnet.vgg import flatten_map, vgg_maps, vgg_states

CHANNELS, FREQ = 2, 5


@pytest.fixture(scope="module")
def vgg() -> VGG2L:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = VGG2L(CHANNELS).eval()
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data.uniform_(0.5, 1.0)  # what comes back over the edge of the padding is seen
    return module


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    features = torch.randn(len(lengths), max(lengths), CHANNELS * FREQ, generator=generator)
    for row, size in enumerate(lengths):
        features[row, size:] = 0
    return features, torch.tensor(lengths)


@torch.no_grad()
@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 23), min_size=1, max_size=5))
def test_one_by_one_and_in_a_batch(vgg, lengths):
    features, sizes = batch(lengths)
    states = list(vgg_states(vgg, features, sizes))
    maps = list(vgg_maps(vgg, features, sizes))
    assert len(states) == len(maps) == 4
    for (state, frames), (values, counts) in zip(states, maps, strict=True):
        assert torch.equal(frames, counts)
        assert state.shape == (len(lengths), int(frames.max()), values.shape[1] * values.shape[3])
        torch.testing.assert_close(state, flatten_map(values), atol=1e-5, rtol=1e-5)
        for row, size in zip(state, frames.tolist(), strict=True):
            assert row[:size].any() and not row[size:].any()


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 30])
def test_the_last_state_is_espnets(vgg, frames):
    features, sizes = batch([frames, 31, 5])
    ours, counts = list(vgg_states(vgg, features, sizes))[-1]
    reference = vgg(features[:1, :frames], sizes[:1])[0]
    assert int(counts[0]) == reference.shape[1]
    torch.testing.assert_close(ours[:1, : counts[0]], reference, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_batch(vgg):
    features, sizes = batch([9, 4, 17])
    found = []
    for states in (
        [state for state, _ in vgg_states(vgg, features, sizes)],
        [flatten_map(values) for values, _ in vgg_maps(vgg, features, sizes)],
    ):
        vgg.zero_grad()
        sum(state.square().mean() for state in states).backward()
        found.append([parameter.grad.clone() for parameter in vgg.parameters()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
