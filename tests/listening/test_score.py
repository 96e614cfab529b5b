"""Answers that were planted come out as planted; what is wrong with files is said or counted."""

import json

import pytest
from listening_fakes import Tones, answers_of

from hfprobe.listening.answers import gather, read_sheet
from hfprobe.listening.key import ListeningError, read_key
from hfprobe.listening.make import make_triplets
from hfprobe.listening.score import rank_correlation, score_triplets
from hfprobe.results import ResultRow

LAYERS = ("one", "two", "three", "four")


@pytest.fixture(scope="module")
def test():
    return make_triplets(Tones(LAYERS, speakers=5, utterances=5), per_cell=10, catch=8, listeners=2)


@pytest.fixture
def key(test, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(test.key({})))
    return read_key(path)


@pytest.fixture
def save(tmp_path):
    def write(content, name="a.json"):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / name

    return write


def wrong_items(test, **counts):
    """The first so many items of each layer."""
    return {
        i.id
        for layer, n in counts.items()
        for i in [i for i in test.items if i.cell.layer == layer and i.role != "training"][:n]
    }


def test_planted_errors_score_as_planted(test, key, save):
    wrong = wrong_items(test, one=0, two=1, three=3, four=10)
    files = [save(answers_of(test, name, wrong), f"{name}.json") for name in ("ann", "bob", "eve")]
    score = score_triplets(key, gather(files, key).sheets)
    rates = {each.cell.layer: each.rate for each in score.cells}
    assert {layer: rate.value for layer, rate in rates.items()} == {
        "one": 0, "two": 0.1, "three": 0.3, "four": 1, "input": 0,
    }  # fmt: skip
    assert [rate.n for rate in rates.values()] == [30, 30, 30, 30, 24]
    # Wilson for 3 of 30, from R's binom.wilson and Newcombe's formula.
    assert (rates["two"].ci_low, rates["two"].ci_high) == pytest.approx((0.0346, 0.2562), abs=1e-4)
    assert score.alpha == 1  # all three chose alike, right or wrong
    assert score.cells[1].over_listeners is None  # no two listeners differ
    rows = score.rows()
    assert {row.metric for row in rows} == {"her"} and rows[0].encoder == "toy" and rows[-1].encoder == "-"


@pytest.mark.parametrize(
    "n,errors,low,high",
    [(10, 5, 0.2366, 0.7634), (10, 0, 0, 0.2775), (20, 1, 0.0089, 0.2361), (263, 81, 0.2553, 0.3662)],
)
def test_published_wilson_intervals(n, errors, low, high):
    """Newcombe 1998 (two-sided intervals for the single proportion), Table I, method 3, and R's prop.test."""
    from hfprobe.metrics.human import wilson

    assert wilson(errors, n) == pytest.approx((low, high), abs=1e-4)


def test_drawn_errors_come_out_within_their_intervals(test, key, save):
    rates = {"one": 0.02, "two": 0.1, "three": 0.3, "four": 0.5}
    files = [save(answers_of(test, f"l{n}", rates=rates, seed=n), f"{n}.json") for n in range(30)]
    score = score_triplets(key, gather(files, key).sheets)
    for each in score.cells:
        planted = rates.get(each.cell.layer, 0)
        assert each.rate.n == 30 * (8 if each.cell.layer == "input" else 10)
        # Four standard errors: one test in some thousands would fail for another seed.
        assert abs(each.rate.value - planted) <= 4 * (planted * (1 - planted) / each.rate.n) ** 0.5
    by_layer = {each.cell.layer: each for each in score.cells}
    # Nearly all right is agreement, guessing is none.
    assert by_layer["one"].alpha > 0.7 and abs(by_layer["four"].alpha) < 0.1
    assert by_layer["three"].over_listeners[0] < 0.3 < by_layer["three"].over_listeners[1]


def test_what_tells_two_layers_apart(test, key, save):
    wrong = wrong_items(test, one=0, two=1, three=4, four=4)
    files = [save(answers_of(test, f"l{n}", wrong), f"{n}.json") for n in range(3)]
    pairs = {(p.first.layer, p.second.layer): p for p in score_triplets(key, gather(files, key).sheets).separations}
    assert len(pairs) == 6
    for pair in pairs.values():
        assert (pair.more == 0) == pair.separated or pair.difference == 0
        assert pair.low <= pair.difference <= pair.high
    far, near = pairs["one", "four"], pairs["one", "two"]
    assert far.separated and far.more == 0 and not near.separated and near.more > 0
    # With that many answers at the same rates the interval does leave out 0.
    from hfprobe.metrics import rate_difference

    rate = {each.cell.layer: each.rate for each in score_triplets(key, gather(files, key).sheets).cells}
    n = near.needed
    errors = [rate[layer].value * n for layer in ("two", "one")]
    assert near.more == n - 30 and rate_difference(errors[0], n, errors[1], n)[1] > 0
    # ... and with one fewer it does not.
    assert rate_difference(rate["two"].value * (n - 1), n - 1, 0, n - 1)[1] <= 0


def test_equal_rates_cannot_be_told_apart(test, key, save):
    (pair, *_) = score_triplets(key, gather([save(answers_of(test))], key).sheets).separations
    assert pair.needed is None and pair.more is None and not pair.separated


@pytest.mark.parametrize(
    "errors,most,excluded", [(2, 0.25, False), (3, 0.25, True), (1, 0.0, True), (0, 0.0, False), (8, 1.0, False)]
)
def test_catch_items_say_who_counts(test, key, save, errors, most, excluded):
    files = [save(answers_of(test, "good"), "g.json")]
    files.append(save(answers_of(test, "odd", wrong_items(test, input=errors, four=10)), "o.json"))
    score = score_triplets(key, gather(files, key).sheets, most)
    odd = next(each for each in score.listeners if each.listener == "odd")
    assert odd.excluded == excluded and odd.catch_errors == errors and odd.catch_n == 8
    four = next(each for each in score.cells if each.cell.layer == "four").rate
    assert four.value == (0 if excluded else 0.5) and four.n == (10 if excluded else 20)
    assert any("listener 'odd' is left out" in note for note in score.notes) == excluded


def test_without_listeners_there_is_no_score(test, key, save):
    sheets = gather([save(answers_of(test, "odd", wrong_items(test, input=8)))], key).sheets
    with pytest.raises(ListeningError, match="no listener is left: listener 'odd' is left out: 8 of 8"):
        score_triplets(key, sheets)


def test_unanswered_items_are_counted_not_scored(test, key, save):
    content = answers_of(test)
    first = next(answer for answer in content["answers"] if key.items[answer["item"]].cell.layer == "one")
    first.update(answer=None, failed=True)
    content["answers"] = [first, *[a for a in content["answers"] if key.items[a["item"]].cell.layer != "one"]]
    gathered = gather([save(content)], key)
    score = score_triplets(key, gathered.sheets)
    rate = score.cells[0].rate
    assert rate.value is None and rate.n == 0 and rate.n_failed == 10
    assert any("9 of 48 items are not answered" in note for note in gathered.notes)
    assert any("1 items have no answer because a sound did not play" in note for note in gathered.notes)
    assert score.rows()[0].value is None


def changed(made, /, **changes):
    return {**answers_of(made), **changes}


def test_files_that_are_refused(test, key, save):
    whole = json.dumps(answers_of(test))
    with_item = answers_of(test)
    with_item["answers"][0]["item"] = "nonsense"
    with_choice = answers_of(test)
    with_choice["answers"][0]["answer"] = test.items[5].choices[0]
    training = answers_of(test)
    training["answers"][0]["item"] = next(item.id for item in test.items if item.role == "training")
    for content, message in (
        (whole[: len(whole) // 2], "a.json is not valid JSON .* cut off"),
        (changed(test, test="0123456789ab"), "is of test '0123456789ab', the key of"),
        (changed(test, format="something"), "no file of answers"),
        (changed(test, version=9), "expected version 1, got 9"),
        (changed(test, listener=""), "lacks the listener"),
        (changed(test, answers={}), "lacks the listener or the answers"),
        (changed(test, answers=["x"]), "an answer has no item"),
        ("[1]", "holds a list"),
        (with_item, "no item 'nonsense'"),
        (with_choice, "none of its choices"),
        (training, "the key has no item"),
    ):
        with pytest.raises(ListeningError, match=message):
            read_sheet(save(content), key)
    with pytest.raises(ListeningError, match="none.json, cannot read it"):
        read_sheet("none.json", key)


def test_bad_files_stop_or_are_named(test, key, save):
    good, bad = save(answers_of(test, "ann"), "good.json"), save("{", "bad.json")
    with pytest.raises(ListeningError, match="bad.json is not valid JSON .* --skip-bad"):
        gather([good, bad], key)
    gathered = gather([good, bad], key, skip_bad=True)
    assert len(gathered.sheets) == 1 and gathered.notes[0].startswith("left out: bad.json")
    with pytest.raises(ListeningError, match="no file of answers can be used"):
        gather([bad], key, skip_bad=True)


def test_an_item_that_is_there_twice_counts_once(test, key, save):
    content = answers_of(test)
    other = dict(content["answers"][0])
    other["answer"] = next(c for c in key.items[other["item"]].choices if c != other["answer"])
    content["answers"].append(other)
    sheet = read_sheet(save(content), key)
    assert sheet.answers[other["item"]] != other["answer"] and "1 items are there twice" in sheet.notes[0]


def test_two_files_of_one_listener(test, key, save):
    part = answers_of(test, "ann")
    part["answers"] = part["answers"][:7]
    files = [save(part, "part.json"), save(answers_of(test, "ann"), "whole.json")]
    gathered = gather(files, key)
    assert len(gathered.sheets) == 1 and gathered.sheets[0].file == "whole.json"
    assert any("both" not in note and "agree; whole.json counts" in note for note in gathered.notes)
    files.append(save(answers_of(test, "ann", wrong_items(test, one=1)), "other.json"))
    with pytest.raises(ListeningError, match="both by listener 'ann' and differ"):
        gather(files, key)


def test_keys_that_are_refused(test, save):
    content = test.key({})
    name, item = next(iter(content["items"].items()))

    def with_item(**changes):
        return {**content, "items": content["items"] | {name: item | changes}}

    for bad, message in (
        ({**content, "format": "x"}, "is not a key"),
        ({**content, "version": 7}, "expected version 1 of the key, got 7"),
        ({**content, "items": {"a": {}}}, "is damaged"),
        ({**content, "items": [1]}, "is damaged"),
        (with_item(role="tast"), "has the role 'tast'; roles are test, catch, training"),
        (with_item(right="zz"), "the right choice 'zz' is none of its choices"),
        (with_item(right=["zz"]), "is none of its choices"),
    ):
        with pytest.raises(ListeningError, match=message):
            read_key(save(bad))


def test_rank_correlation_with_the_machine(test, key, save):
    rates = {"one": 0.0, "two": 0.1, "three": 0.3, "four": 0.5}
    files = [save(answers_of(test, f"l{n}", rates=rates, seed=n), f"{n}.json") for n in range(12)]
    score = score_triplets(key, gather(files, key).sheets)
    machine = [ResultRow("toy", layer, "clean", "eer", 0.05 + 0.1 * n) for n, layer in enumerate(LAYERS)]
    assert rank_correlation(score, machine) == pytest.approx(1)
    assert rank_correlation(score, machine[:3]) is None and rank_correlation(score, ()) is None
