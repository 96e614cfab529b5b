"""Triplets as properties: who is heard with whom, how often, in which place and order."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listening_fakes import Tones

from hfprobe.errors import ConfigError
from hfprobe.listening.design import NATURAL, REFERENCES, Cell, TripletDesign, reference_cell, sessions

plans = st.tuples(
    st.integers(2, 7), st.integers(2, 5), st.integers(1, 3), st.integers(1, 6), st.integers(0, 5), st.integers(0, 99)
)


def drawn(plan, references="layer"):
    speakers, utterances, layers, per_cell, catch, seed = plan
    source = Tones([f"l{n}" for n in range(layers)], speakers, utterances)
    design = TripletDesign(source, references, seed)
    return source, design, design.draw_all(source.cells, per_cell, catch)


@settings(max_examples=40, deadline=None)
@given(plans, st.sampled_from(REFERENCES))
def test_a_triplet_is_two_voices_and_another_utterance_of_one(plan, references):
    source, _, items = drawn(plan, references)
    for item in items:
        assert item.x.speaker == item.right.speaker != item.wrong.speaker
        assert item.x.utterance not in (item.right.utterance, item.wrong.utterance)
        assert item.x.cell == item.cell
        assert item.right.cell == item.wrong.cell == reference_cell(item.cell, references)
    # Two utterances each leave no choice; with three, the voices to compare do not say the same either.
    if plan[1] > 2:
        assert all(item.right.utterance != item.wrong.utterance for item in items)


@settings(max_examples=40, deadline=None)
@given(plans)
def test_cells_pairs_targets_and_positions_are_balanced(plan):
    speakers, _, layers, per_cell, catch, _ = plan
    source, design, items = drawn(plan)
    roles = Counter(item.role for item in items)
    assert roles["test"] == layers * per_cell and roles["catch"] == catch and roles["training"] == 1
    for cell in (*source.cells, NATURAL):
        own = [item for item in items if item.cell == cell and item.role != "training"]
        assert len(own) == (catch if cell == NATURAL else per_cell)
        firsts = sum(item.first for item in own)
        assert abs(2 * firsts - len(own)) <= 1
    tests = [item for item in items if item.role == "test"]
    assert abs(2 * sum(item.first for item in tests) - len(tests)) <= 1
    # No pair of speakers once more than need be.
    pairs = Counter(frozenset((item.x.speaker, item.wrong.speaker)) for item in items)
    possible = speakers * (speakers - 1) // 2
    assert max(pairs.values()) - (min(pairs.values()) if len(pairs) == possible else 0) <= 1
    targets = Counter(item.x.speaker for item in items)
    assert max(targets.values()) <= 2 * -(-len(items) // speakers)


@settings(max_examples=30, deadline=None)
@given(plans, st.integers(1, 5))
def test_every_listener_hears_everything_in_an_order_of_their_own(plan, count):
    source, _, items = drawn(plan)
    orders = sessions(items, count, plan[-1])
    wanted = sorted(place for place, item in enumerate(items) if item.role != "training")
    for order in orders:
        assert sorted(place for place, _ in order) == wanted
        tests = [items[place] for place, _ in order if items[place].role == "test"]
        if len(source.cells) > 1:
            assert all(one.cell != other.cell for one, other in zip(tests, tests[1:], strict=False))
        for block in range(plan[3]):  # blocks are heard as wholes: no layer is heard late more often than another
            places = [n for n, item in enumerate(tests) if item.block == block]
            assert places == list(range(places[0], places[0] + len(source.cells)))
        for cell in source.cells:
            firsts = sum(first for place, first in order if items[place].cell == cell)
            assert abs(2 * firsts - plan[3]) <= 1
    # The right voice changes its place from one listener to the next.
    for one, other in zip(orders, orders[1:], strict=False):
        assert {place: not first for place, first in one} == dict(other)
    assert orders == sessions(items, count, plan[-1])


def test_the_seed_decides():
    plan = (5, 4, 2, 4, 2)
    assert drawn((*plan, 1))[2] == drawn((*plan, 1))[2] != drawn((*plan, 2))[2]


def test_orders_of_many_listeners_differ():
    _, _, items = drawn((5, 4, 3, 4, 3, 0))
    assert len({tuple(place for place, _ in order) for order in sessions(items, 20)}) == 20


def test_a_bad_sound_is_never_drawn_again():
    source, design, items = drawn((4, 4, 2, 6, 0, 3))
    bad = items[0].x
    new = design.replace(items[0], bad)
    assert bad not in new.sounds and (new.cell, new.role, new.block, new.first) == (
        items[0].cell, "test", items[0].block, items[0].first,
    )  # fmt: skip
    assert all(bad not in design.draw(items[0].cell).sounds for _ in range(60))


def test_too_little_speech_is_said():
    for speakers, utterances in ((1, 5), (3, 1)):
        with pytest.raises(ConfigError, match="two speakers of whom one has two"):
            TripletDesign(Tones((), speakers, utterances)).draw(NATURAL)
    with pytest.raises(ConfigError, match="layer, ceiling, natural, got 'x'"):
        TripletDesign(Tones(), "x")


def test_one_speaker_with_two_utterances_is_enough_to_be_the_target():
    source = Tones(("one",))
    source.table = {"rich": ("u1", "u2"), "poor": ("u3",)}
    items = TripletDesign(source).draw_all(source.cells, 4, 0)
    assert {item.x.speaker for item in items} == {"rich"}


def test_references_of_noisy_layers():
    noisy = Cell("e", "l", "noise@0dB")
    assert [reference_cell(noisy, kind).condition for kind in REFERENCES] == ["noise@0dB", "clean", "clean"]
