"""Alignments: forced CTC against enumeration, the rule of letters and phones, given files, what cannot be aligned."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfprobe.analysis.alignment import CTCAligner, Letters, best_spans, letter_edges, segments_at, share_phones
from hfprobe.data import SpeechBatch, SpeechStream
from hfprobe.data.alignments import Segment, load_alignments, read_ctm, read_textgrid
from hfprobe.errors import DatasetError, EncoderError

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.0
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.0
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.2
            text = ""
        intervals [2]:
            xmin = 0.2
            xmax = 0.6
            text = "the"
        intervals [3]:
            xmin = 0.6
            xmax = 1.0
            text = "ox"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.0
        intervals: size = 4
        intervals [1]:
            xmin = 0.2
            xmax = 0.3
            text = "DH"
        intervals [2]:
            xmin = 0.3
            xmax = 0.6
            text = "AH0"
        intervals [3]:
            xmin = 0.6
            xmax = 0.9
            text = "AA1"
        intervals [4]:
            xmin = 0.9
            xmax = 1.0
            text = "sp"
"""


class FakeRecogniser(torch.nn.Module):
    """Writes one letter every third frame, at a place that the test knows."""

    name, min_samples = "fake", 400
    layers = (SimpleNamespace(name="l", stride=160, offset=80, dim=1),)
    text = SimpleNamespace(tokens=("<blank>", "A", "B", "C", "<space>"), token_type="char", blank="<blank>", space="<space>")  # fmt: skip
    ctc = object()
    tokens = (1, 2, 4, 3)  # "AB C"

    def forward(self, waveforms, lengths, output_hidden_states=True):
        frames = lengths // 160
        logits = torch.zeros(len(waveforms), int(frames.max()), 5)
        logits[..., 0] = 8.0
        for place, token in enumerate(self.tokens):
            logits[:, 3 * place + 2, token] = 20.0
        return SimpleNamespace(logits=logits, hidden_lengths=(frames,))


def batch_of(texts, words=None, samples=16000):
    waveforms = torch.zeros(len(texts), samples)
    lengths = torch.full((len(texts),), samples)
    names = [f"u{i}" for i in range(len(texts))]
    return SpeechBatch(names, waveforms, lengths, waveforms, texts, names, ["clean"] * len(texts), [], words or [])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_best_path_is_the_best_of_all_paths(seed):
    scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    targets = [1, 1, 2]

    def collapse(path):
        return [token for token, _ in itertools.groupby(path) if token != 0]

    paths = [path for path in itertools.product(range(3), repeat=6) if collapse(path) == targets]
    best = max(paths, key=lambda path: sum(scores[frame, token].item() for frame, token in enumerate(path)))
    expected, start = [], 0
    for token, run in itertools.groupby(best):
        size = len(list(run))
        if token != 0:
            expected.append((start, start + size))
        start += size
    assert best_spans(scores, targets, 0) == expected


def test_too_many_letters_are_no_path():
    scores = torch.zeros(3, 4)
    assert best_spans(scores, [1, 1, 2], 0) is None and best_spans(scores, [], 0) is None
    assert best_spans(scores, [1, 3, 2], 0) == [(0, 1), (1, 2), (2, 3)]


def test_words_and_phones_at_the_planted_frames():
    aligner = CTCAligner(FakeRecogniser())
    (found,) = aligner.align(batch_of(["AB C"], [[("AB", ("EH1", "B", "AH0")), ("C", ("S", "IY0"))]]))
    # Frames 2, 5 and 11 of 10 ms each hold A, B and C; frame i goes from 10 i ms.
    first, second = found.words
    assert (first.label, second.label) == ("AB", "C")
    assert first.start == pytest.approx(0.0) and first.end == pytest.approx((0.06 + 0.11) / 2)
    assert second.start == pytest.approx(first.end) and second.end == pytest.approx(0.12 + 0.1)
    assert [(p.label, p.type) for p in found.phones] == [
        ("EH", "AB/0"), ("B", "AB/1"), ("AH", "AB/2"), ("S", "C/0"), ("IY", "C/1"),
    ]  # fmt: skip
    assert found.phones[0].end == pytest.approx(0.04 * 2 / 3, abs=1e-5)  # two thirds into the first of two letters
    assert not aligner.failures


def test_what_cannot_be_aligned_is_counted():
    aligner = CTCAligner(FakeRecogniser())
    found = aligner.align(batch_of(["AB C", "", "XYZ", "A" * 60, "AB C"]))
    assert [alignment is None for alignment in found] == [False, True, True, True, False]
    assert aligner.failures == {
        "no phones in the corpus": 2,
        "no transcript": 1,
        "letters unknown to the recogniser": 1,
        "more letters than frames": 1,
    }
    assert CTCAligner(FakeRecogniser()).align(batch_of(["A"], samples=200)) == [None]


def test_encoders_that_cannot_align():
    encoder = FakeRecogniser()
    encoder.ctc = None
    with pytest.raises(EncoderError, match="no CTC head"):
        CTCAligner(encoder)
    encoder = FakeRecogniser()
    encoder.text = SimpleNamespace(**{**vars(FakeRecogniser.text), "token_type": "bpe"})
    with pytest.raises(EncoderError, match="not single characters"):
        CTCAligner(encoder)


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.data())
def test_letters_and_phones_tile_their_word(sizes, data):
    count = sum(sizes)
    steps = data.draw(st.lists(st.floats(0.01, 0.5), min_size=2 * count, max_size=2 * count))
    spans = np.cumsum(steps).reshape(count, 2)
    words = letter_edges(spans, sizes, spaces=False)
    ends = 0.0
    for edges, size in zip(words, sizes, strict=True):
        assert len(edges) == size + 1 and (np.diff(edges) > 0).all() and edges[0] >= ends - 1e-9
        phones = share_phones(edges, ["AH0"] * 3)
        assert phones[0][1] == pytest.approx(edges[0], abs=1e-5)
        assert phones[-1][2] == pytest.approx(edges[-1], abs=1e-5)
        assert all(a[2] == b[1] for a, b in itertools.pairwise(phones))
        ends = edges[-1]


def test_letters_of_other_case_and_punctuation():
    letters = Letters({"a": 1, "'": 2}, 0, None)
    assert letters.spell("A'A-") == [1, 2, 1] and letters.spell("-") is None


def test_textgrid(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, encoding in (("u1", "utf-8"), ("u2", "utf-16")):
        (tmp_path / "sub" / f"{name}.TextGrid").write_text(TEXTGRID, encoding=encoding)
    source = load_alignments(tmp_path)
    one, two, none = source.align(SimpleNamespace(ids=["u1", "u2", "u3"]))
    assert one == two and none is None and source.failures == {"no alignment given": 1}
    assert one.words == (Segment("THE", 0.2, 0.6), Segment("OX", 0.6, 1.0))
    assert [(p.label, p.start, p.type) for p in one.phones] == [
        ("DH", 0.2, "THE/0"), ("AH", 0.3, "THE/1"), ("AA", 0.6, "OX/0"),
    ]  # fmt: skip
    assert segments_at(one.phones, [0.1, 0.25, 0.95]).tolist() == [-1, 0, -1]


def test_ctm(tmp_path):
    (tmp_path / "words.ctm").write_text("u1 1 0.20 0.40 the\nu1 1 0.60 0.40 ox 0.9\nu2 A 0.0 0.5 <eps>\n")
    (tmp_path / "phones.ctm").write_text(";; comment\nu1 1 0.20 0.10 DH_B\nu1 1 0.30 0.30 AH0_E\nu1 1 0.9 0.1 SIL\n")
    source = load_alignments(tmp_path)
    (found, empty) = source.align_utterances(["u1", "u2"])
    assert [w.label for w in found.words] == ["THE", "OX"] and [p.type for p in found.phones] == ["THE/0", "THE/1"]
    assert empty is None
    assert list(load_alignments(tmp_path / "words.ctm").align_utterances(["u1"])[0].phones) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ctm", "u1 1 zero 0.4 the\n", "line 1"),
        ("a.ctm", "u1 1 0.4\n", "line 1"),
        ("a.ctm", "u1 1 -1 0.4 the\n", "0 <= start < end"),
        ("a.txt", "nothing", "no alignment"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError, match=message):
        load_alignments(tmp_path)


def test_broken_textgrids(tmp_path):
    path = tmp_path / "u.TextGrid"
    path.write_bytes(b"\x93\xff\x00")
    with pytest.raises(DatasetError, match="UTF-8"):
        read_textgrid(path)
    path.write_text("hello")
    with pytest.raises(DatasetError, match="long text form"):
        read_textgrid(path)
    path.write_text(TEXTGRID.replace('"words"', '"a"').replace('"phones"', '"b"'))
    with pytest.raises(DatasetError, match="found: a, b"):
        read_textgrid(path)
    path.write_text(TEXTGRID.partition("item")[0])
    with pytest.raises(DatasetError, match="found: none"):
        read_textgrid(path)
    with pytest.raises(DatasetError, match="cannot read it"):
        read_ctm(tmp_path / "none.ctm")


def test_words_of_a_corpus_reach_the_batch(monkeypatch, tmp_path):
    from datasets import Dataset

    from hfprobe.audio import save_audio

    save_audio(tmp_path / "a.wav", 0.1 * np.sin(np.arange(8000)).astype(np.float32))
    audio = {"bytes": (tmp_path / "a.wav").read_bytes(), "path": None}
    row = {"id": "u", "text": "the", "speaker": "s", "gender": "f", "audio": audio}
    row["words"] = [{"text": "the", "phones": ["DH", "AH0"]}]
    Dataset.from_list([row]).to_parquet(str(tmp_path / "a.parquet"))
    batch = next(SpeechStream(f"parquet:{tmp_path}/a.parquet", shuffle=False).one_epoch(0))
    assert batch.words == [[("THE", ("DH", "AH0"))]] and batch.genders == ["f"]
    batch = next(SpeechStream("espeak:test", batch_size=1, limit=1).one_epoch(0))
    assert batch.words == [[]] and batch.genders == [""]
