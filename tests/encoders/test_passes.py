"""Padding of kept states is zeroed in place where nobody needs it, and in a copy where somebody does."""

import pytest
import torch

from hfprobe.encoders.huggingface.passes import Recorder, zero_padding, zero_padding_

LENGTHS = torch.tensor([5, 2, 0])


@torch.no_grad()
@pytest.mark.parametrize("turned", [False, True])
def test_in_place_gives_what_a_copy_gives(turned):
    values = torch.randn(3, 4, 5).transpose(1, 2) if turned else torch.randn(3, 5, 4)
    expected = zero_padding(values, LENGTHS)
    assert zero_padding_(values, LENGTHS) is values and torch.equal(values, expected)
    assert values[1, 1].abs().sum() > 0 and not values[1, 2:].any() and not values[2].any()


def test_what_autograd_needs_is_left_alone():
    values = torch.randn(3, 5, 4, requires_grad=True)
    before = values.detach().clone()
    zeroed = zero_padding_(values, LENGTHS)
    zeroed.sum().backward()
    assert torch.equal(values, before) and torch.equal(zeroed, zero_padding(values, LENGTHS))
    assert torch.equal(values.grad[:, :, 0].sum(dim=1), LENGTHS.float())


@torch.no_grad()
@pytest.mark.parametrize("in_place", [False, True])
def test_a_recorder_edits_what_the_model_hands_on_only_if_it_may(in_place):
    values = torch.ones(3, 5, 4)
    recorder = Recorder(frozenset({"one"}), "two", in_place)
    recorder.put("one", values, LENGTHS)
    recorder.put("other", values, LENGTHS)
    assert (recorder.states["one"] is values) is in_place and bool((values == 1).all()) is not in_place
    assert list(recorder.states) == ["one"] and recorder.states["one"].sum() == 4 * 7


def test_a_frozen_layer_below_a_trained_one_is_left_alone():
    frozen, trained = torch.ones(3, 5, 4), torch.nn.Linear(4, 1)
    output = trained(frozen)
    assert zero_padding_(frozen, LENGTHS) is not frozen
    output.sum().backward()
    assert torch.equal(trained.weight.grad, torch.full((1, 4), 15.0))


def test_frames_past_the_longest_are_cut_off_and_freed():
    values = torch.ones(3, 9, 4)
    recorder = Recorder(frozenset(), "one", in_place=True)
    recorder.put("one", values, LENGTHS)
    assert recorder.states["one"].shape == (3, 5, 4) and (values == 1).all()
    assert recorder.states["one"].untyped_storage().nbytes() == 3 * 5 * 4 * 4
