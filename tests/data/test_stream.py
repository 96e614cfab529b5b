"""The stream: exact resumption, fair shares, and noise that depends on nothing but the utterance."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hfprobe.audio import save_audio
from hfprobe.data import NoiseRecipe, SpeechStream, decode_row, load_corpus, load_noise, weighted_corpora
from hfprobe.data import stream as stream_module
from hfprobe.errors import AudioError, ConfigError, DatasetError

ROWS = 11


@pytest.fixture(autouse=True)
def quick_speech(monkeypatch):
    """Each row of espeak is spoken once for the whole module."""
    decode = stream_module.decode_row

    def cached(row, rng=None):
        if row["id"] not in SPOKEN:
            SPOKEN[row["id"]] = decode(row, rng)
        return SPOKEN[row["id"]]

    monkeypatch.setattr(stream_module, "decode_row", cached)


SPOKEN: dict[str, np.ndarray] = {}


def make(**options):
    options = {"batch_size": 2, "pool": 5, "limit": ROWS, "seed": 3, **options}
    return SpeechStream("espeak:test", **options)


def same(one, other):
    return one.ids == other.ids and torch.equal(one.waveforms, other.waveforms) and torch.equal(one.clean, other.clean)


def break_rows(monkeypatch, broken):
    decode = stream_module.decode_row

    def breaking(row, rng=None):
        if row["id"] in broken:
            raise AudioError(f"{row['id']}: broken on purpose")
        return decode(row, rng)

    monkeypatch.setattr(stream_module, "decode_row", breaking)


@pytest.mark.parametrize("drop", [None, 0, 2, 5])
def test_resume_at_every_cut_gives_the_same_batches(monkeypatch, drop):
    """Also when one batch of the epoch (number ``drop``) has no usable row at all."""
    if drop is not None:
        break_rows(monkeypatch, list(make().one_epoch(0))[drop].ids)
    noise = load_noise("generated", "train")
    whole, states, straight = [], [], make(noise=noise)
    states.append(straight.state_dict())
    for batch in islice(straight, 9):  # one epoch has 6 batches or so: this reaches into the second
        whole.append(batch)
        states.append(straight.state_dict())
    assert states[-1]["epoch"] == 1
    for cut, state in enumerate(states[:-1]):
        resumed = make(noise=noise)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        for expected, got, later in zip(whole[cut : cut + 3], resumed, states[cut + 1 :], strict=False):
            assert same(expected, got), f"cut at {cut}"
            assert resumed.state_dict() == later


@pytest.mark.parametrize("world", [2, 3])
def test_shares_are_disjoint_and_complete(world):
    alone = [batch.ids for batch in make().one_epoch(1)]
    shares = [[batch.ids for batch in make(rank=rank, world=world).one_epoch(1)] for rank in range(world)]
    assert sorted(ids for share in shares for ids in share) == sorted(alone)
    assert [shares[i % world][i // world] for i in range(len(alone))] == alone


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_comes_once_per_epoch(shuffle):
    expected = sorted(row["id"] for row in load_corpus("espeak:test").take(ROWS))
    orders = []
    for epoch in (0, 1):
        orders.append([name for batch in make(shuffle=shuffle).one_epoch(epoch) for name in batch.ids])
        assert sorted(orders[-1]) == expected
    assert (orders[0] == orders[1]) is not shuffle


def by_id(stream, epoch=0):
    return {
        name: (condition, waveform[:length])
        for batch in stream.one_epoch(epoch)
        for name, condition, waveform, length in zip(
            batch.ids, batch.conditions, batch.waveforms, batch.lengths, strict=True
        )
    }


def test_noise_depends_on_seed_epoch_and_utterance_alone():
    noise, recipe = load_noise("generated", "train"), NoiseRecipe(clean_share=0.3)
    reference = by_id(make(noise=noise, recipe=recipe))
    assert len({condition for condition, _ in reference.values()}) > 3
    others = [
        by_id(make(noise=noise, recipe=recipe, shuffle=False, batch_size=3)),
        by_id(make(noise=noise, recipe=recipe, pool=4))
        | by_id(make(noise=noise, recipe=recipe, limit=4, shuffle=False, batch_size=1)),
        {k: v for r in range(2) for k, v in by_id(make(noise=noise, recipe=recipe, rank=r, world=2)).items()},
    ]
    for other in others:
        assert other.keys() == reference.keys()
        for name, (condition, waveform) in reference.items():
            assert other[name][0] == condition and torch.equal(other[name][1], waveform)
    assert {k: c for k, (c, _) in by_id(make(noise=noise, recipe=recipe), 1).items()} != {
        k: c for k, (c, _) in reference.items()
    }


def test_batches_hold_the_clean_speech_and_its_length():
    batch = next(iter(make(noise=load_noise("generated"), recipe=NoiseRecipe(clean_share=0))))
    for name, length, clean, heard in zip(batch.ids, batch.lengths, batch.clean, batch.waveforms, strict=True):
        assert np.array_equal(clean[:length].numpy(), SPOKEN[name])
        assert not clean[length:].any() and not heard[length:].any() and not torch.equal(clean, heard)


def test_left_out_rows_are_counted_and_an_empty_corpus_is_an_error(monkeypatch):
    short = make(max_seconds=0.1)
    with pytest.raises(DatasetError, match="no usable utterance.*too long.*11"):
        next(iter(short))
    everything = {row["id"] for row in load_corpus("espeak:test").take(ROWS)}
    break_rows(monkeypatch, everything)
    with pytest.raises(DatasetError, match="unreadable.*11.*broken on purpose"):
        next(iter(make()))
    with pytest.raises(ConfigError, match="batch_size and pool"):
        make(batch_size=0)


def test_an_utterance_counts_once_however_often_it_fails(monkeypatch):
    stream = make()
    broken = [row["id"] for row in load_corpus("espeak:test").take(2)]
    break_rows(monkeypatch, broken)
    for epoch in range(3):
        assert sum(len(batch) for batch in stream.one_epoch(epoch)) == ROWS - 2
    assert stream.failures == {"unreadable": 2}


def test_more_processes_than_batches_is_said():
    with pytest.raises(DatasetError, match="fewer batches than the 9 processes"):
        next(iter(make(rank=8, world=9)))
    with pytest.raises(ConfigError, match="rank"):
        make(rank=2, world=2)


@given(st.lists(st.tuples(st.sampled_from(["espeak", "kaldi:a@b/c", "user/name:x"]), st.floats(0.01, 99)), min_size=2))
def test_weights_are_read_back(pairs):
    assert weighted_corpora([f"{name}@{weight!r}" for name, weight in pairs]) == pairs
    assert weighted_corpora([pairs[0][0]]) == pairs[0][0]


@pytest.mark.parametrize("words", [[], ["espeak@0"], ["espeak@-1"], ["espeak@nan"], ["@0.5"]])
def test_bad_weights_are_refused(words):
    with pytest.raises(DatasetError, match="positive weight|no corpus"):
        weighted_corpora(words)


def test_spoken_and_espeak_rows_can_be_mixed(monkeypatch):
    monkeypatch.undo()
    mixed = SpeechStream([("spoken:100-120:espeak:test", 1.0), ("espeak:test", 1.0)], batch_size=1, limit=6)
    batches = list(mixed.one_epoch(0))
    assert not mixed.failures and {batch.ids[0].split("-")[0] for batch in batches} == {"spoken", "espeak"}
    own = {row["id"]: row for row in load_corpus("espeak:test").take(6)}
    for batch in batches:
        if batch.ids[0] in own:
            assert np.array_equal(batch.clean[0].numpy(), decode_row(own[batch.ids[0]]))


def test_interleaved_corpora_both_come():
    train = load_corpus("espeak:train").take(6)
    mixed = SpeechStream([("espeak:test", 1.0), (train, 1.0)], batch_size=2, pool=4, shuffle=False)
    ids = [name for batch in mixed.one_epoch(0) for name in batch.ids]
    assert len(ids) == len(set(ids)) and {name.split("-")[1] for name in ids} == {"train", "test"}


def test_identity_tells_what_the_batches_depend_on(tmp_path):
    noise = load_noise("generated", "train")
    plain = make(noise=noise).identity()
    assert plain == json.loads(json.dumps(plain))
    changed = [
        make(noise=noise, batch_size=3), make(noise=noise, limit=4), make(noise=noise, seed=4), make(),
        make(noise=load_noise("generated", "test")),
        make(noise=noise, max_seconds=2.0), make(noise=noise, pool=6), make(noise=noise, shuffle=False),
        make(noise=noise, recipe=NoiseRecipe(clean_share=0.9)),
    ]  # fmt: skip
    identities = [json.dumps(stream.identity()) for stream in changed]
    assert len({json.dumps(plain), *identities}) == 1 + len(changed)
    # Threads, processes and where it stands change no batch.
    assert make(noise=noise, workers=2, rank=1, world=2).identity() == plain
    going = make(noise=noise)
    next(iter(going))
    assert going.identity() == plain


def test_identity_of_a_folder_that_was_moved(tmp_path):
    def stream(folder):
        (folder / "ann").mkdir(parents=True)
        save_audio(folder / "ann" / "a.wav", 0.1 * np.sin(np.arange(16000) / 20).astype(np.float32))
        return SpeechStream(f"audiofolder:{folder}").identity()

    here = stream(tmp_path / "here" / "corpus")
    assert stream(tmp_path / "there" / "corpus") == here
    assert stream(tmp_path / "there" / "another") != here
    weights = [("espeak:test", 1.0), ("espeak:train", 2.0)]
    assert SpeechStream(weights).identity()["corpus"] == [["espeak:test", 1.0], ["espeak:train", 2.0]]
