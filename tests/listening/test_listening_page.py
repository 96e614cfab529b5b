"""The page of a listening test in a real browser: a listener made of clicks and keys, whose answers score as planted."""

import json
import re
from pathlib import Path

import pytest
from listening_fakes import Tones

from hfprobe.listening.answers import gather
from hfprobe.listening.key import read_key
from hfprobe.listening.make import make_triplets
from hfprobe.listening.score import score_triplets
from hfprobe.reports.listening_page import encode_clips, write_pages
from hfprobe.reports.model import ReportError

PART = "document.querySelector('[data-part={}]')"
ON_ITEM = "!document.querySelector('#item').hidden"


@pytest.fixture(scope="module")
def test():
    return make_triplets(Tones(speakers=4, utterances=4), per_cell=2, catch=1, listeners=2)


@pytest.fixture(scope="module")
def path(test, tmp_path_factory):
    (path,) = write_pages(test, tmp_path_factory.mktemp("pages"))
    return path


class Listener:
    """Somebody who takes the test by clicking."""

    def __init__(self, browser, test):
        self.browser, self.truth = browser, {item.id: item.truth for item in test.items}

    def begin(self, name):
        self.browser.wait("!document.querySelector('#start').hidden")
        self.browser.one("#name").send_keys(name)
        self.browser.one("#enter .main").click()
        self.browser.wait(ON_ITEM)

    def hear(self, part):
        if not self.heard(part):
            self.browser.one(f"[data-part={part}]").click()
        self.browser.wait(f"{PART.format(part)}.classList.contains('heard')")

    def heard(self, part):
        return self.browser.run(f"{PART.format(part)}.classList.contains('heard')")

    def kept(self, name):
        return json.loads(
            self.browser.run("Object.entries(localStorage).find(([k]) => k.endsWith(arguments[0]))[1]", ":" + name)
        )

    def count(self):
        return self.browser.run("document.querySelector('#count').textContent")

    def answer(self, name, wrong=False):
        """Hear all three, choose by the key, and go on."""
        for part in ("voice1", "voice2", "x"):
            self.hear(part)
        right = self.truth[self.kept(name)["now"]["item"]]["right"]
        (button,) = [b for b in self.browser.all(".choose") if (b.get_attribute("data-choice") == right) != wrong]
        button.click()
        before = self.count()
        self.browser.one("#next").click()
        if before == "Practice":  # it tells what is right first
            self.browser.wait("!document.querySelector('#feedback').hidden")
            told = self.browser.run("document.querySelector('#feedback').textContent")
            assert told.startswith("Not quite." if wrong else "Right.")
            self.browser.one("#next").click()
        self.browser.wait(
            "document.querySelector('#item').hidden || document.querySelector('#count').textContent !== arguments[0]",
            before,
        )


def fresh(browser, path, **look):
    browser.open(path, **look)
    browser.run("localStorage.clear()")
    return browser.open(path, **look)


def saved(browser, folder, selector):
    browser.downloads_to(folder)
    (button,) = [each for each in browser.all(selector) if each.is_displayed()]
    button.click()
    for _ in range(600):
        files = [each for each in Path(folder).glob("answers-*.json")]
        if files:
            return files[0]
        browser.run("new Promise(done => setTimeout(done, 50))")
    raise AssertionError("nothing was saved")


def test_a_listener_from_the_first_click_to_the_score(browser, test, path, tmp_path):
    fresh(browser, path)
    ann = Listener(browser, test)
    ann.begin("Ann <b>&")
    ann.answer("Ann <b>&", wrong=True)  # the practice
    assert ann.count() == "1 of 5"
    wrong = {item.id for item in test.items if item.cell.layer == "two" and item.role == "test"}
    for number in range(5):
        item = ann.kept("Ann <b>&")["now"]["item"]
        if number == 2:  # in the middle: half heard, then loaded again
            ann.hear("voice1")
            browser.driver.refresh()
            browser.wait("!document.querySelector('#rest').hidden")
            assert browser.run("document.querySelector('#rest-title').textContent") == "Welcome back, Ann <b>&"
            assert "2 of 5 done" in browser.run("document.querySelector('#rest-text').textContent")
            part = json.loads(saved(browser, tmp_path / "part", ".save").read_text())
            assert len(part["answers"]) == 2 and part["complete"] is False
            browser.one("#resume").click()
            assert ann.heard("voice1") and not ann.heard("voice2") and ann.kept("Ann <b>&")["now"]["item"] == item
        if number == 3:
            browser.one("#pause").click()
            browser.one("#resume").click()
        ann.answer("Ann <b>&", wrong=item in wrong)
    browser.wait("!document.querySelector('#end').hidden")
    file = saved(browser, tmp_path / "whole", "#end .save")
    assert re.fullmatch(rf"answers-{test.id}-Ann-b-\.json", file.name)
    content = json.loads(file.read_text())
    assert browser.run("JSON.parse(document.querySelector('#text').value)") == content
    assert (content["listener"], content["complete"], content["pauses"], content["loads"]) == ("Ann <b>&", True, 1, 2)
    assert content["test"] == test.id and content["kind"] == "triplet" and content["hfprobe"]
    for answer in content["answers"]:
        assert answer["seconds"] > 1 and answer["position"] in (1, 2) and re.match(r"\d{4}-\d\d-\d\dT", answer["at"])
        assert set(answer["plays"]) == {"voice1", "voice2", "x"} and min(answer["plays"].values()) >= 1
    (tmp_path / "key.json").write_text(json.dumps(test.key({})))
    key = read_key(tmp_path / "key.json")
    score = score_triplets(key, gather([file], key).sheets)
    assert {e.cell.layer: (e.rate.value, e.rate.n) for e in score.cells} == {
        "one": (0, 2),
        "two": (1, 2),
        "input": (0, 1),
    }
    browser.driver.refresh()  # who is done stays done
    browser.wait("!document.querySelector('#end').hidden")
    assert browser.console() == []
    assert {address for address in browser.requests() if not address.startswith("file:")} == set()


def test_keys_and_that_nothing_can_be_skipped(browser, test, path):
    fresh(browser, path)
    browser.press("TAB", "TAB")  # past "Play a sound" to the name
    assert browser.run("document.activeElement.id") == "name"
    browser.press("2", "ENTER")
    browser.wait(ON_ITEM)
    state = "JSON.parse(localStorage.getItem(Object.keys(localStorage).find((k) => k.endsWith(':2'))))"
    assert browser.run(f"{state}.session") == 1
    browser.press("ARROW_LEFT", "ARROW_RIGHT", "ENTER")
    assert browser.run(f"{state}.now.choice") is None and browser.run(f"{state}.trained") == 0
    assert all(not button.is_enabled() for button in [*browser.all(".choose"), browser.one("#next")])
    browser.run("document.querySelectorAll('.choose, #next').forEach((b) => { b.disabled = false; b.click(); })")
    assert browser.run(f"{state}.now.choice") is None and browser.run(f"{state}.trained") == 0
    for key, part in (("1", "voice1"), ("2", "voice2")):
        browser.press(key)
        browser.wait(f"{PART.format(part)}.classList.contains('heard')")
    browser.press("ARROW_LEFT", "ENTER")
    assert browser.run(f"{state}.now.choice") is None  # X is still missing
    assert "the other sound to the end" in browser.run("document.querySelector('#hint').textContent")
    browser.press("x")
    browser.wait(f"{PART.format('x')}.classList.contains('heard')")
    browser.press("ARROW_LEFT")
    pressed = "[...document.querySelectorAll('.choose')].map((b) => b.getAttribute('aria-pressed')).join()"
    assert browser.run(pressed) == "true,false"
    browser.press("ARROW_RIGHT")
    assert browser.run(pressed) == "false,true"
    browser.press("ENTER", "ENTER")
    browser.wait("document.querySelector('#count').textContent === '1 of 5'")
    browser.press("a")  # all of them, one after the other
    for part in ("voice1", "voice2", "x"):
        browser.wait(f"{PART.format(part)}.classList.contains('heard')")
    browser.press("p")
    browser.wait("!document.querySelector('#rest').hidden")
    assert browser.console() == []


def test_sound_really_plays_and_only_to_its_end_counts(browser, test, path):
    watch = "const Plain = window.Audio; window.Audio = function () { return (window.audio = new Plain()); };"
    script = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    try:
        fresh(browser, path)
        Listener(browser, test).begin("3")
        browser.one("[data-part=x]").click()
        browser.wait("audio.currentTime > 0.05 && !audio.paused")
        assert browser.run("audio.duration") == pytest.approx(0.5, abs=0.01)
        assert browser.run(f"{PART.format('x')}.getAttribute('aria-pressed')") == "true"
        browser.one("[data-part=voice1]").click()  # cuts X off
        browser.wait(f"{PART.format('voice1')}.classList.contains('heard')")
        assert browser.run("audio.ended") and not Listener(browser, test).heard("x")
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script["identifier"]})


def test_a_sound_that_does_not_play_can_be_passed_over(browser, test, tmp_path, path):
    text = path.read_text()
    clips = encode_clips(test)["data"]
    for item in test.items:  # every X is spoilt
        text = text.replace(clips[item.reference], "AAAA")
    (tmp_path / "spoilt.html").write_text(text)
    fresh(browser, tmp_path / "spoilt.html")
    Listener(browser, test).begin("4")
    for expected in ("Practice", "1 of 5"):
        browser.wait("document.querySelector('#count').textContent === arguments[0]", expected)
        browser.press("x")
        browser.wait("!document.querySelector('#skip').hidden")
        assert "could not be played" in browser.run("document.querySelector('#hint').textContent")
        browser.one("#skip").click()
    browser.wait("document.querySelector('#count').textContent === '2 of 5'")
    (answer,) = Listener(browser, test).kept("4")["answers"]
    assert answer["failed"] is True and answer["answer"] is None


HOSTILE = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">{{ 7*7 }}"


def test_hostile_words_do_nothing(browser, test, tmp_path):
    (path,) = write_pages(test, tmp_path, title=HOSTILE, note=HOSTILE)
    fresh(browser, path)
    assert browser.run("document.querySelector('h1').textContent") == HOSTILE
    Listener(browser, test).begin(HOSTILE[:60])
    browser.press("p")
    browser.driver.refresh()
    browser.wait("!document.querySelector('#rest').hidden")
    assert HOSTILE[:60] in browser.run("document.querySelector('#rest-title').textContent")
    assert browser.run("document.title") == HOSTILE and browser.all("img") == []
    assert browser.console() == []
    # What else is kept under the page's name is not believed.
    browser.run('Object.keys(localStorage).forEach((k) => localStorage.setItem(k, \'{"test": 1, "session": 99}\'))')
    browser.driver.refresh()
    browser.wait("!document.querySelector('#start').hidden")
    assert browser.console() == []


def test_no_request_can_leave(browser, path):
    fresh(browser, path)
    found = browser.run("fetch('http://127.0.0.1:9/x').then(() => 'sent', (error) => error.name)")
    assert found == "TypeError" and any("Content Security Policy" in line for line in browser.console())
    assert not re.search(
        r"(?:src|href)\s*=|url\(|@import", re.sub(r"<script>.*?</script>", "", path.read_text(), flags=re.S)
    )


@pytest.mark.parametrize("width,dark", [(360, False), (360, True), (1280, True)])
def test_it_fits_a_phone_and_the_dark(browser, test, path, width, dark):
    fresh(browser, path, width=width, height=700, dark=dark)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert browser.run(fits)
    Listener(browser, test).begin("a very long name of a listener who likes long names a lot")
    assert browser.run(fits)
    small = "[...document.querySelectorAll('#item button')].filter((b) => !b.hidden && b.getBoundingClientRect().height < 43).length"
    assert browser.run(small) == 0
    light = "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).every((v) => v > 128)"
    assert browser.run(light) is not dark
    browser.press("p")
    assert browser.run(fits)


def test_files_of_single_listeners_keep_apart(browser, test, tmp_path):
    paths = write_pages(test, tmp_path, each=True)
    assert [path.name for path in paths] == ["listener-01.html", "listener-02.html"]
    orders = []
    for number, path in enumerate(paths, start=1):
        if number == 1:
            fresh(browser, path)
        else:
            browser.open(path)
        assert browser.all("#name") == [] and browser.run("document.querySelector('#fixed-name').textContent") == str(
            number
        )
        browser.one("#enter .main").click()
        browser.wait(ON_ITEM)
        orders.append(browser.run("JSON.parse(document.querySelector('#test').textContent).sessions[0]"))
        browser.press("p")
        content = json.loads(saved(browser, tmp_path / str(number), "#rest .save").read_text())
        assert content["listener"] == str(number) and content["session"] == number
    assert orders[0] != orders[1]
    assert browser.console() == []


def test_two_listeners_on_one_device(browser, test, path):
    fresh(browser, path)
    ann = Listener(browser, test)
    ann.begin("1")
    ann.answer("1")
    browser.press("p")
    browser.one("#leave").click()
    ann.begin("2")
    assert ann.count() == "Practice"
    browser.press("p")
    browser.one("#leave").click()
    ann.begin("1")
    assert ann.count() == "1 of 5"
    assert [ann.kept(name)["session"] for name in "12"] == [0, 1]


def test_opus_is_smaller_and_other_formats_are_refused(test, tmp_path):
    sizes = [
        write_pages(test, tmp_path / name, audio_format=name)[0].stat().st_size for name in ("opus", "flac", "wav")
    ]
    assert sizes[0] < sizes[1] < sizes[2]
    with pytest.raises(ReportError, match="flac, opus, wav, got 'mp3'"):
        write_pages(test, tmp_path, audio_format="mp3")
