"""The page: everything inside, nothing from outside, hostile text harmless, missing numbers said."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from hfprobe.reports import Clip, ConditionView, Page, UtteranceView, write_page

HOSTILE = """</script><script>document.title='pwned'</script>"'><img src=x onerror="document.title='pwned'">&amp;{{ 7*7 }} 日本語é"""
VOID = {"meta", "img", "input", "link", "br", "path", "use", "hr"}


class Reader(HTMLParser):
    """All elements with their attributes, all text, and whether the tags nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag, name=None):
        found = [attrs for each, attrs in self.elements if each == tag]
        return found if name is None else [attrs for attrs in found if name in (attrs.get("class") or "").split()]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def chirp(start, samples=4000):
    time = np.arange(samples) / 16000
    return (0.4 * np.sin(2 * np.pi * (start + 2000 * time) * time)).astype(np.float32)


def clip(start=300, **kwargs):
    mel = np.random.default_rng(start).normal(size=(26, 8)).astype(np.float32)
    return Clip(chirp(start), mel, **{"stoi": 0.91, "similarity": 0.82, "text": "a word", **kwargs})


def view(name="u", encoders=("baseline", "robust"), layers=("cnn1", "blstm1"), **kwargs):
    conditions = tuple(
        ConditionView(condition, clip(), clip(310), {
            encoder: {layer: clip(400 + 10 * i + 3 * j) for i, layer in enumerate(layers)}
            for j, encoder in enumerate(encoders)
        })
        for condition in ("clean", "noise@10dB")
    )  # fmt: skip
    return UtteranceView(name, f"Utterance {name}", conditions=conditions, **kwargs)


def read(path):
    return Reader(path.read_text(encoding="utf-8"))


ROWS = [
    dict(
        encoder=e,
        layer=layer,
        condition="clean",
        metric=m,
        value=0.25,
        ci_low=0.2,
        ci_high=0.3,
        n=9,
        n_failed=f,
    )
    for m, f in (("eer", 0), ("stoi", 2))
    for e in ("baseline", "robust")
    for layer in ("cnn1", "blstm1")
]


def test_every_sound_is_in_the_one_file_and_is_the_right_one(tmp_path):
    path = write_page(Page("Hear", (view(),)), tmp_path)
    assert path == tmp_path / "index.html" and [p.name for p in tmp_path.iterdir()] == ["index.html"]
    page = read(path)
    assert page.open == []
    sounds = page.all("audio")
    assert len(sounds) == 2 * (2 + 2 * 2) == len(page.all("article", "clip")) == len(page.all("img"))
    for attrs in page.all("img") + sounds:
        assert attrs["src"].startswith("data:") and (attrs.get("alt") or attrs.get("aria-label"))
    by_label = {attrs["aria-label"]: attrs["src"] for attrs in sounds}
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(by_label["blstm1 of robust"].partition(",")[2])))
    assert rate == 16000
    np.testing.assert_allclose(wave, chirp(413), atol=2 / 32768)


def test_nothing_comes_from_outside(tmp_path):
    path = write_page(Page("Hear", (view(),), ROWS, command="hfprobe listen a.wav"), tmp_path)
    page = read(path)
    for _, attrs in page.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            if name in attrs:
                assert re.match(r"data:|#|[\w.-]+$", attrs[name]), attrs[name][:80]
    script = re.search(r"<script>(.*?)</script>", path.read_text(encoding="utf-8"), re.DOTALL)[1]
    policy = next(attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy and "http" not in policy
    assert "@import" not in path.read_text() and "url(http" not in path.read_text()


def hostile_page():
    rows = [{**row, "encoder": HOSTILE} for row in ROWS if row["encoder"] == "robust"]
    sound = clip(text=HOSTILE, note=HOSTILE)
    conditions = (ConditionView(HOSTILE, sound, sound, {HOSTILE: {HOSTILE: sound}}),)
    utterance = UtteranceView(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), conditions)
    return Page(HOSTILE, (utterance, view()), rows, {HOSTILE: HOSTILE}, {"x": [HOSTILE]}, HOSTILE, (HOSTILE,))


def test_hostile_text_stays_text(tmp_path):
    path = write_page(hostile_page(), tmp_path)
    page = read(path)
    assert page.open == [] and len(page.all("script")) == 1
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert len(page.all("img")) == len(page.all("article", "clip"))
    assert " ".join(HOSTILE.split()) in page.text and "49" not in page.all("article", "clip")[0]["aria-label"]
    names = [attrs["data-name"] for attrs in page.all("button", "save")]
    assert all(re.fullmatch(r"[\w.-]+\.flac", name) for name in names)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_missing_is_a_dash_with_its_reason_and_never_zero(tmp_path):
    silent = clip(stoi=None, similarity=float("nan"), text=None, note="no speech found")
    conditions = (ConditionView("clean", clip(text=""), None, {"e": {"blstm5": silent}}),)
    text = read(write_page(Page("t", (UtteranceView("u", "u", conditions=conditions),)), tmp_path)).text
    assert text.count("– no speech found") == 2 and "– recogniser not run" in text
    assert "Reads nothing" in text
    assert "0.00" not in text
    assert "without STOI: 1" in text and "without speaker similarity: 1" in text


def test_a_layer_that_an_encoder_lacks_is_said(tmp_path):
    mixed = ConditionView("clean", clip(), None, {"vgg": {"cnn1": clip(), "l1": clip()}, "pure": {"l1": clip()}})
    page = read(write_page(Page("t", (UtteranceView("u", "u", conditions=(mixed,)),)), tmp_path))
    assert "pure has no cnn1" in page.text
    assert [attrs["value"] for attrs in page.all("input") if attrs.get("name") == "layer-u0"] == [
        "input",
        "ceiling",
        "cnn1",
        "l1",
    ]


def test_an_utterance_offers_only_encoders_one_can_hear(tmp_path):
    rows = [{**row, "encoder": "not heard"} for row in ROWS[:2]]
    two, one = view("a", ("x", "y")), view("b", ("z",))
    page = read(write_page(Page("t", (two, one), rows), tmp_path))
    boxes = [attrs for attrs in page.all("input") if attrs.get("name", "").startswith("show-")]
    assert [(attrs["name"], attrs["value"], "checked" in attrs) for attrs in boxes] == [
        ("show-u0", "0", True),
        ("show-u0", "1", True),
    ]


def test_results_come_with_their_files(tmp_path):
    config = {"snr": ["clean", 10], "nested": {"a": 1}}
    page = Page("t", (), ROWS, {"seed": 3, "torch": "2.8"}, config, "hfprobe evaluate --seed 3")
    read_back = read(write_page(page, tmp_path))
    names = {"index.html", "results.csv", "results.md", "eer.png", "eer.pdf", "stoi.png", "stoi.pdf"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for attrs in read_back.all("a"):
        assert attrs["href"].startswith("#") or (tmp_path / attrs["href"]).is_file()
    assert len(read_back.all("svg")) == 2 and len(read_back.all("table")) == 4
    for words in (
        "25.00",
        "hfprobe evaluate --seed 3",
        '{"a": 1}',
        "STOI: 8 measurements failed",
        "EER: none",
    ):
        assert words in read_back.text
    assert "cnn1" in (tmp_path / "results.md").read_text()


def test_sounds_beside_the_page(tmp_path):
    path = write_page(Page("t", (view(),)), tmp_path, single_file=False)
    page = read(path)
    for attrs in page.all("audio") + page.all("img"):
        assert (tmp_path / attrs["src"]).is_file()
    assert path.stat().st_size < 120_000


def test_an_empty_page_and_a_failure_leave_no_half_written_file(tmp_path):
    assert "How this was made" in read(write_page(Page("Nothing yet"), tmp_path / "a")).text
    with pytest.raises(ValueError, match="audio format"):
        write_page(Page("t", (view(),)), tmp_path / "b", audio_format="mp3")
    assert not list((tmp_path / "b").rglob("*")) if (tmp_path / "b").exists() else True


def test_the_same_page_twice_is_the_same_file(tmp_path):
    page = Page("t", (view(),), ROWS[:2])
    assert write_page(page, tmp_path / "a").read_bytes() == write_page(page, tmp_path / "b").read_bytes()


@pytest.mark.parametrize("make", [lambda: Page("Hear", (view(), view("v"))), hostile_page], ids=["plain", "hostile"])
def test_in_a_real_browser_the_script_runs_and_hostile_text_does_not(make, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium installed")
    path = write_page(make(), tmp_path / "page")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    page = Reader(done.stdout)
    html = page.all("html")[0]
    assert html.get("class") == "js"
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]
    assert "pwned" not in title or title.startswith("&lt;/script&gt;")
    # the script has chosen the input of each utterance and shows one condition and one utterance
    assert len([1 for attrs in page.all("article", "clip") if attrs.get("aria-current")]) == 2
    assert len([1 for attrs in page.all("section", "utterance") if "hidden" not in attrs]) == 1
    assert json.loads(page.all("section", "utterance")[0]["data-seconds"]) == 0.25
