"""The quality test: what is on a screen, marks that come out as planted, and who does not count."""

import json

import numpy as np
import pytest
from listening_fakes import RATE, Tones
from scipy.signal import welch

from hfprobe.errors import ConfigError
from hfprobe.listening.answers import ANSWERS_FORMAT, gather
from hfprobe.listening.design import NATURAL, Cell
from hfprobe.listening.key import ListeningError, read_key
from hfprobe.listening.ratings import LOWPASS, lowpass, make_ratings
from hfprobe.listening.score import score_triplets
from hfprobe.listening.score_ratings import score_marks
from hfprobe.reports.listening_page import write_pages
from hfprobe.reports.listening_results import figure_2b, ratings_markdown

MARKS = {"input": 100, "ceiling": 80, "one": 60, "two": 30, "lowpass": 20}


@pytest.fixture(scope="module")
def test():
    return make_ratings(Tones(), utterances=4, listeners=3, seed=2)


@pytest.fixture
def key(test, tmp_path):
    (tmp_path / "key.json").write_text(json.dumps(test.key({})))
    return read_key(tmp_path / "key.json")


@pytest.fixture
def rated(test, tmp_path):
    """A file of marks: `MARKS` by layer, plus what ``shift`` says, and the hidden reference missed so often."""

    def write(listener, missed=0, shift=0):
        answers = []
        for number, item in enumerate(each for each in test.items if each.role == "test"):
            marks = {clip: MARKS[test.sounds[clip].cell.layer] for clip in item.choices}
            marks = {
                clip: mark + shift if mark < 100 else 89 if number < missed else mark for clip, mark in marks.items()
            }
            answers.append({"item": item.id, "ratings": marks, "seconds": 20})
        content = {"format": ANSWERS_FORMAT, "version": 1, "test": test.id, "listener": listener, "answers": answers}
        path = tmp_path / f"{listener}.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_a_screen_has_all_versions_and_a_hidden_reference(test):
    assert [item.role for item in test.items] == ["test"] * 4 + ["training"]
    for item in test.items:
        cells = sorted(test.sounds[clip].cell for clip in item.choices)
        assert cells == sorted(
            [NATURAL, LOWPASS, Cell("-", "ceiling", "clean"), Cell("toy", "one", "clean"), Cell("toy", "two", "clean")]
        )
        assert item.reference not in item.choices and test.sounds[item.reference].cell == NATURAL
        assert len({(test.sounds[c].speaker, test.sounds[c].utterance) for c in item.choices}) == 1
        (hidden,) = [clip for clip in item.choices if test.sounds[clip].cell == NATURAL]
        assert np.array_equal(test.clips[hidden], test.clips[item.reference])
    assert len({item.truth["speaker"] for item in test.items if item.role == "test"}) == 4
    for order in test.orders:
        assert sorted(place for place, _ in order) == [0, 1, 2, 3]
        assert all(sorted(versions) == list(range(5)) for _, versions in order)
    assert len({json.dumps(order) for order in test.orders}) == 3
    assert "right" not in json.dumps(test.page()["items"]) and test.page()["training"][0]["right"] is None


def test_planted_marks_come_out_as_planted(test, key, rated):
    files = [rated("ann", shift=-5), rated("bob"), rated("eve", shift=5)]
    score = score_marks(key, gather(files, key).sheets)
    means = {each.cell.layer: each for each in score.cells}
    assert {layer: each.mean for layer, each in means.items()} == MARKS
    assert all(each.n == 12 and each.n_failed == 0 for each in score.cells)
    assert 55 <= means["one"].low < 60 < means["one"].high <= 65 and means["input"].low == 100
    assert score.cells[-1].cell == NATURAL and {row.metric for row in score.rows()} == {"mushra"}
    assert "| toy | clean | one | 60.0 |" in ratings_markdown(score)
    labels = [t.get_text() for axes in figure_2b(score.rows(), metric="mushra").axes for t in axes.get_xticklabels()]
    assert labels == ["one", "two"]


@pytest.mark.parametrize("missed,excluded", [(0, False), (1, True), (4, True)])
def test_who_does_not_find_the_reference_does_not_count(key, rated, missed, excluded):
    """15 % of four items are less than one."""
    score = score_marks(key, gather([rated("ann"), rated("odd", missed, shift=10)], key).sheets)
    odd = score.listeners[1]
    assert (odd.missed, odd.n, odd.excluded) == (missed, 4, excluded)
    assert next(each for each in score.cells if each.cell.layer == "one").mean == (60 if excluded else 65)
    assert any("'odd' is left out" in note for note in score.notes) == excluded


def test_marks_that_are_refused(test, key, rated):
    path = rated("ann")
    for change, message in (
        (lambda marks: marks.pop(next(iter(marks))), "not one mark per sound"),
        (lambda marks: marks.update({next(iter(marks)): 101}), "has the mark 101; marks are 0 to 100"),
        (lambda marks: marks.update({next(iter(marks)): True}), "has the mark True"),
    ):
        content = json.loads(path.read_text())
        change(content["answers"][0]["ratings"])
        path.with_name("bad.json").write_text(json.dumps(content))
        with pytest.raises(ListeningError, match=message):
            gather([path.with_name("bad.json")], key)
    sheets = gather([rated("odd", 4)], key).sheets
    with pytest.raises(ListeningError, match="no listener is left"):
        score_marks(key, sheets)
    with pytest.raises(ListeningError, match="kind 'mushra'"):
        score_triplets(key, sheets)


def test_utterances_with_a_bad_sound_are_replaced():
    def broken(sound):
        return np.zeros(RATE, np.float32) if sound.cell.layer == "one" and sound.utterance != "u3" else None

    test = make_ratings(Tones(broken=broken), utterances=3, listeners=1)
    assert {item.truth["utterance"] for item in test.items} == {"u3"} and test.left_out["silent"] > 0
    with pytest.raises(ConfigError, match="expected 9 utterances .* got 4"):
        make_ratings(Tones(broken=broken), utterances=9)


def test_a_key_with_sounds_that_are_not_its_choices_is_refused(test, tmp_path):
    content = test.key({})
    item = next(iter(content["items"].values()))
    item["stimuli"]["zz"] = item["stimuli"].pop(item["choices"][0])
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(ListeningError, match="bad.json is damaged .*stimuli that are not its choices"):
        read_key(tmp_path / "bad.json")


def test_too_many_versions_and_unknown_anchors():
    with pytest.raises(ConfigError, match="has 13 versions .* 12 can be judged"):
        make_ratings(Tones([f"l{n}" for n in range(10)]))
    with pytest.raises(ConfigError, match="lowpass, floor, got 'x'"):
        make_ratings(Tones(), anchor="x")
    with pytest.raises(ConfigError, match="got 0"):  # tones have no floor
        make_ratings(Tones(), anchor="floor")


def test_the_low_anchor_keeps_low_frequencies_only():
    noise = np.random.default_rng(0).standard_normal(RATE)
    hz, after = welch(lowpass(noise), RATE, nperseg=512)
    power = after / welch(noise, RATE, nperseg=512)[1]
    assert power[hz < 2500] == pytest.approx(np.ones(sum(hz < 2500)), abs=0.05)
    assert 10 * np.log10(power[hz > 5000].max()) < -40


def test_a_rater_in_the_browser(browser, tmp_path):
    test = make_ratings(Tones(("one",)), utterances=2, listeners=1)
    (tmp_path / "key.json").write_text(json.dumps(test.key({})))
    key = read_key(tmp_path / "key.json")
    (path,) = write_pages(test, tmp_path / "pages")
    browser.open(path, width=390, height=800)
    browser.run("localStorage.clear()")
    browser.open(path, width=390, height=800)
    browser.one("#name").send_keys("1")
    browser.one("#enter .main").click()
    browser.wait("!document.querySelector('#item').hidden")
    state = "JSON.parse(localStorage.getItem(Object.keys(localStorage).find((k) => k.endsWith(':1'))))"
    heard = "[...document.querySelectorAll('.play.heard')].length === 5"
    put = "(([s, v]) => { s.value = v; s.dispatchEvent(new Event('input')); })([arguments[0], arguments[1]])"
    for number in range(3):
        assert not browser.one("#next").is_enabled()
        browser.press("a")
        browser.wait(heard)
        assert not browser.one("#next").is_enabled()  # heard, but not rated
        page = browser.run("JSON.parse(document.querySelector('#test').textContent)")
        item = browser.run(f"{state}.now.item")
        entries = {each["id"]: each for each in (*page["items"], *page["training"])}
        order = range(4) if number == 0 else page["sessions"][0][number - 1][1]
        for slider, place in zip(browser.all("input[type=range]"), order, strict=True):
            browser.run(put, slider, MARKS[test.sounds[entries[item]["choices"][place]].cell.layer])
        if number == 1:  # by keys: version 1 is played, its slider follows the arrows
            before = browser.all("input[type=range]")[0].get_property("value")
            browser.press("1", "ARROW_LEFT", "ARROW_RIGHT")
            assert browser.all("input[type=range]")[0].get_property("value") == before
            browser.driver.refresh()
            browser.wait("!document.querySelector('#rest').hidden")
            browser.one("#resume").click()
            assert [o.text for o in browser.all("output")] == [
                str(MARKS[test.sounds[entries[item]["choices"][p]].cell.layer]) for p in order
            ]
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        browser.one("#next").click()
    browser.wait("!document.querySelector('#end').hidden")
    (tmp_path / "answers.json").write_text(browser.run("document.querySelector('#text').value"))
    score = score_marks(key, gather([tmp_path / "answers.json"], key).sheets)
    assert {each.cell.layer: each.mean for each in score.cells} == {k: v for k, v in MARKS.items() if k != "two"}
    assert browser.console() == [] and {a for a in browser.requests() if not a.startswith("file:")} == set()
