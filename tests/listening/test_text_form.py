"""The paper's public kit: sixty lines "A B X answer" on five sheets; and lines of "item answer"."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfprobe.listening.answers import gather
from hfprobe.listening.key import ListeningError
from hfprobe.listening.score import score_triplets
from hfprobe.listening.text_form import KIT_LAYERS, read_sides, read_text_key, read_text_sheet


@pytest.fixture
def kit(tmp_path):
    """Five sheets of twelve lines in the kit's form, two of each layer on each; made up, not the authors'."""
    draw, paths = random.Random(0), []
    for sheet in range(1, 6):
        lines = []
        for layer in [*KIT_LAYERS, *KIT_LAYERS]:
            folder = f"/data/musan-layer-{layer}-highway-tts/test-clean"
            side = draw.randrange(2)
            two = draw.sample(["121", "237", "8463"], 2)
            names = [f"{folder}/{s}/1/{s}-1-{draw.randrange(9999):04d}.flac" for s in (*two, two[side])]
            lines.append(" ".join([*names, str(side)]))
        draw.shuffle(lines)
        paths.append(tmp_path / f"{sheet}.txt")
        paths[-1].write_text("\n".join(lines) + "\n")
    return paths


def right(key):
    return {name: item.right for name, item in key.items.items()}


def lines_with_errors(key, wrong, write):
    swap = {"A": "B", "B": "A"}
    places = key.settings["places"]
    return "\n".join(
        write(n, name, swap[right(key)[name]] if name in wrong else right(key)[name]) for n, name in enumerate(places)
    )


WRITERS = {
    "kit names": lambda n, name, side: f"{name} {side}",
    "running number": lambda n, name, side: f"{n + 1}\t{'AB'.index(side)}",
    "only answers": lambda n, name, side: str("AB".index(side)),
    "counted from one": lambda n, name, side: f"{n + 1},{'AB'.index(side) + 1}",
    "the kit's own form": lambda n, name, side: f"a.flac b.flac x.flac {'AB'.index(side)}",
}


@pytest.mark.parametrize("form", WRITERS)
def test_a_sheet_of_sixty_answers_has_the_right_error_rate(kit, tmp_path, form):
    key = read_text_key(kit)
    assert len(key.items) == 60
    by_layer = {layer: [n for n, i in key.items.items() if i.cell.layer == layer] for layer in KIT_LAYERS.values()}
    assert [len(names) for names in by_layer.values()] == [10] * 6
    wrong = {name for n, names in enumerate(by_layer.values()) for name in names[:n]}  # 0, 1, ... 5 of ten
    answers = tmp_path / "ann.txt"
    answers.write_text(lines_with_errors(key, wrong, WRITERS[form]) + "\n")
    score = score_triplets(key, gather([answers], key, read=read_text_sheet).sheets)
    assert [each.cell.layer for each in score.cells] == ["cnn1", "cnn2", "cnn4", "blstm1", "blstm3", "blstm5"]
    assert [each.rate.value for each in score.cells] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert score.overall.value == 15 / 60 and score.overall.n == 60
    assert score.listeners[0].listener == "ann" and score.listeners[0].errors == 15
    assert (score.cells[5].rate.ci_low, score.cells[5].rate.ci_high) == pytest.approx((0.2366, 0.7634), abs=1e-4)


@given(st.lists(st.sampled_from("AB"), min_size=1, max_size=40), st.lists(st.booleans(), min_size=40, max_size=40))
def test_item_and_answer_lines(tmp_path_factory, sides, errs):
    folder = tmp_path_factory.mktemp("text")
    (folder / "key.csv").write_text("item,answer\n" + "".join(f"q{n},{side}\n" for n, side in enumerate(sides)))
    given = [side if not err else "BA"["AB".index(side)] for side, err in zip(sides, errs, strict=False)]
    (folder / "a.txt").write_text("# by hand\n" + "".join(f"q{n} {side.lower()}\n" for n, side in enumerate(given)))
    key = read_text_key([folder / "key.csv"])
    (cell,) = score_triplets(key, [read_text_sheet(folder / "a.txt", key)]).cells
    assert cell.rate.n == len(sides) and cell.rate.value == pytest.approx(sum(errs[: len(sides)]) / len(sides))


def test_a_key_may_name_layers(tmp_path):
    (tmp_path / "k.csv").write_text("item,layer,answer,condition\n1,cnn1,0,clean\n2,blstm3,1,noise@10dB\n")
    key = read_text_key([tmp_path / "k.csv"])
    assert [(i.cell.layer, i.cell.condition, i.right) for i in key.items.values()] == [
        ("cnn1", "clean", "A"), ("blstm3", "noise@10dB", "B"),
    ]  # fmt: skip


def test_all_ones_are_read_as_the_key_counts(tmp_path):
    for first, expected in (("0", "B"), ("1", "A")):
        (tmp_path / "k.txt").write_text(f"{first}\n{int(first) + 1}\n")
        (tmp_path / "a.txt").write_text("1\n1\n")
        key = read_text_key([tmp_path / "k.txt"])
        assert list(read_text_sheet(tmp_path / "a.txt", key).answers.values()) == [expected] * 2


def test_what_is_missing_is_counted(kit, tmp_path):
    key = read_text_key(kit)
    (tmp_path / "ann.txt").write_text("1-1 A\n1-2 -\n1-1 B\n60 B\n")
    sheet = read_text_sheet(tmp_path / "ann.txt", key)
    assert set(sheet.answers) == {"1-1", "5-12"} and sheet.answers["1-1"] == "A" and not sheet.complete
    assert "1 items are there twice" in sheet.notes[0] and "58 of 60 items are not answered" in sheet.notes[1]


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "has no answers"),
        ("1 A\n2 C\n", "expected answers A or B, 0 or 1, or 1 or 2"),
        ("1 0\n2 2\n", "one way throughout, got 0, 2"),
        ("1 A\n99 B\n", "the key has no item '99'"),
        ("A\nB\nA\n", "has 3 answers and the key 2"),
        ("1 A b\n", "line 1: expected 'answer'"),
        ("item,answer\n1\n", "line 2: expected 2 fields, got 1"),
    ],
)
def test_texts_that_are_refused(tmp_path, text, message):
    (tmp_path / "k.txt").write_text("1 A\n2 B\n")
    (tmp_path / "a.txt").write_text(text)
    key = read_text_key([tmp_path / "k.txt"])
    with pytest.raises(ListeningError, match=message):
        read_text_sheet(tmp_path / "a.txt", key)


def test_keys_that_are_refused(tmp_path):
    for text, message in (("1 A\n1 B\n", "item '1' twice"), ("1 A\n2 -\n", "no answer for item '2'")):
        (tmp_path / "k.txt").write_text(text)
        with pytest.raises(ListeningError, match=message):
            read_text_key([tmp_path / "k.txt"])
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ListeningError, match="as UTF-8 text in"):
        read_text_key([tmp_path / "b.txt"])
    with pytest.raises(ListeningError, match="gone.txt, cannot read it"):
        read_text_key([tmp_path / "gone.txt"])


def test_sides_are_never_mixed():
    with pytest.raises(ListeningError, match="correct '0'"):
        read_sides(["A", "0"], "x")
