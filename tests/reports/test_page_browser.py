"""The page in a real Chromium: sounds play, choices hold the position, values are those of the run, hostile text is text."""

import functools
import http.server
import json
import threading

import pytest
from made_up import ENCODERS, HOSTILE, LAYERS, along_training, clip, rows, saved, value_of, view, without_drawing

from hfprobe.reports import ConditionView, UtteranceView, run_of, write_page
from hfprobe.reports.runs import load_runs
from hfprobe.results import ResultRow, Results

# What is played, and when: the times that the page gives to WebAudio.
SPY = """
window.played = [];
const start = AudioBufferSourceNode.prototype.start, stop = AudioBufferSourceNode.prototype.stop;
AudioBufferSourceNode.prototype.start = function (when, offset) {
  window.played.push({ node: this, when, offset, stop: Infinity, seconds: this.buffer.duration });
  return start.apply(this, arguments);
};
AudioBufferSourceNode.prototype.stop = function (when) {
  for (const one of window.played) if (one.node === this) one.stop = when;
  return stop.apply(this, arguments);
};
"""
# Pitch of the sound that plays, from its zero crossings between 0.5 and 1 s.
PITCH = """(() => {
  const data = hfprobeRoom.engine.source.buffer.getChannelData(0);
  let crossings = 0;
  for (let i = 8000; i < 16000; i += 1) crossings += data[i - 1] < 0 && data[i] >= 0 ? 1 : 0;
  return crossings / 0.5;
})()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder with FLAC, one file with Opus, and pages where all text is hostile."""
    root = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:  # drawing files is slow, and tested elsewhere
        without_drawing(patch)
        sounds = [view("u1", seconds=3.0), view("u2", seconds=3.0, transcript=None)]
        training = saved(root / "training", along_training(), command="similarity")
        folder = write_page(
            load_runs([saved(root / "evaluation", rows(), sounds), training]), root / "folder", single_file=False
        )
        short = saved(root / "short", rows(), [view("u1", seconds=1.5)])  # Opus takes its time
        single = write_page(load_runs([short, training]), root / "single", audio_format="opus")
        evil = clip(300, 0.3, text=HOSTILE, note=HOSTILE)
        names = (ConditionView(HOSTILE, evil, evil, {HOSTILE: {HOSTILE: evil}}), ConditionView("clean", evil, None, {}))
        results = [
            ResultRow(HOSTILE, layer, "clean", m, 0.5, 0.4, 0.6, 9)
            for m in ("eer", "stoi")
            for layer in (HOSTILE, "$x^{")
        ]
        results += [
            ResultRow(f"{HOSTILE}@{k}", pair, "clean", "linear_cka", 0.5)
            for k in (1, 2)
            for pair in ("p<b>~<i>q", "p<b>~p<b>")
        ]
        results += [ResultRow("e", pair, "clean", "linear_cka", 0.5) for pair in ("p<b>~<i>q", "p<b>~r")]
        stamp = {"command": HOSTILE, HOSTILE: HOSTILE}
        made = run_of(
            HOSTILE,
            Results(tuple(results), stamp, {HOSTILE: HOSTILE, "left_out": HOSTILE}),
            [UtteranceView(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), names)] * 2,
        )
        other = run_of("other", Results(()), [view("u3", seconds=0.3)])
        hostile = {
            single: write_page([made, other], root / f"hostile{single}", HOSTILE, [HOSTILE], single_file=single)
            for single in (True, False)
        }
    return {"folder": folder, "single": single, "hostile": hostile[True], "hostile folder": hostile[False]}


@pytest.fixture(scope="module")
def spied(browser):
    browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": SPY})
    return browser


def data_of(browser):
    return json.loads(browser.run("document.getElementById('data').textContent"))


def play(browser):
    browser.one(".main-play").click()
    browser.wait("hfprobeRoom.engine.source && hfprobeRoom.position > 0.05")


def choose(browser, name, value):
    """Click a radio button as one does: on its label."""
    browser.run("arguments[0].scrollIntoView({block: 'center'})", browser.one(f'input[name="{name}"][value="{value}"]'))
    browser.one(f'input[name="{name}"][value="{value}"]').click()


def settled(browser, key):
    browser.wait("hfprobeRoom.engine.key === arguments[0] && hfprobeRoom.engine.source !== null", key)


def quiet(browser, path, single=False):
    """No message in the console, and no request but for the page's own files."""
    assert browser.console() == []
    home = path.parent.resolve().as_uri()
    asked = browser.requests()
    assert all(url.startswith(home + "/") for url in asked), asked
    if single:
        assert set(asked) <= {path.resolve().as_uri()}


@pytest.mark.parametrize("kind", ["folder", "single"])
def test_switching_goes_on_at_the_same_moment_without_a_gap(spied, pages, kind):
    browser = spied.open(pages[kind])
    assert browser.run("hfprobeRoom.engine.decoded") == 0  # nothing is decoded before it is needed
    browser.one(".loop-box").click()  # so that a slow machine does not reach the end
    play(browser)
    before = browser.run("hfprobeRoom.engine.context.currentTime")
    browser.wait("hfprobeRoom.engine.context.currentTime > arguments[0] + 0.1", before)
    assert browser.run(PITCH) == pytest.approx(200 + 80 * 0.75, abs=12)
    origin, seconds = browser.run("[hfprobeRoom.engine.origin, hfprobeRoom.engine.duration]")
    assert seconds == pytest.approx(3.0 if kind == "folder" else 1.5, abs=0.01)
    places = [
        ("layer", "blstm1", "u0-c0-e0-l1", 270),
        ("encoder", "1", "u0-c0-e1-l1", 370),
        ("condition", "1", "u0-c1-e1-l1", 770),
        ("layer", "ceiling", "u0-c1-ceiling", 620),
    ]
    for name, value, key, pitch in places:
        choose(browser, name, value)
        settled(browser, key)
        assert browser.run(PITCH) == pytest.approx(pitch + 80 * 0.75, abs=12)
        now = browser.run("hfprobeRoom.engine.origin")
        assert (now - origin + seconds / 2) % seconds - seconds / 2 == pytest.approx(0, abs=0.002)
    parts = browser.run("played.map(({ when, stop }) => [when, stop === Infinity ? null : stop])")
    assert len(parts) == 5 and parts[-1][1] is None
    for (_, end), (begin, _) in zip(parts, parts[1:], strict=False):
        assert 0.005 < end - begin < 0.1  # two sounds overlap for a moment: no gap
    assert browser.run("[...document.querySelectorAll('.clip[aria-current]')].map((one) => one.dataset.key)") == [
        "u0-c1-ceiling"
    ]
    assert browser.run("document.querySelector('.now').innerText").split("\n") == ["ceiling", "noise at 10 dB"]
    # Only sounds of this utterance were taken.
    assert browser.run("[...hfprobeRoom.engine.buffers.keys()].every((key) => key.startsWith('u0-'))")
    quiet(browser, pages[kind], kind == "single")


def test_a_and_b_change_with_one_key_and_keep_their_choices(spied, pages):
    browser = spied.open(pages["folder"])
    browser.one(".loop-box").click()
    play(browser)
    origin, seconds = browser.run("[hfprobeRoom.engine.origin, hfprobeRoom.engine.duration]")
    sides = "[...document.querySelectorAll('.side')].map((one) => [one.textContent, one.getAttribute('aria-pressed')])"
    assert browser.run(sides) == [["Ainput · clean", "true"], ["Bblstm2 · vgg-robust · clean", "false"]]
    browser.press("x")
    settled(browser, "u0-c0-e0-l2")
    choose(browser, "encoder", "1")
    settled(browser, "u0-c0-e1-l2")
    for key, name in (("x", "u0-c0-input"), ("x", "u0-c0-e1-l2"), ("a", "u0-c0-input"), ("b", "u0-c0-e1-l2")):
        browser.press(key)
        settled(browser, name)
        now = browser.run("hfprobeRoom.engine.origin")
        assert (now - origin + seconds / 2) % seconds - seconds / 2 == pytest.approx(0, abs=0.002)
    assert browser.run(sides) == [["Ainput · clean", "false"], ["Bblstm2 · vgg-baseline · clean", "true"]]
    browser.one(".flip").click()
    settled(browser, "u0-c0-input")
    browser.all(".side")[1].click()
    settled(browser, "u0-c0-e1-l2")
    assert browser.run("document.activeElement.dataset.side") == "B"  # the focus stays where it was


def test_every_key_of_the_room(spied, pages):
    browser = spied.open(pages["folder"])
    choice = "[hfprobeRoom.clip.key, hfprobeRoom.loop, hfprobeRoom.playing]"
    browser.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert browser.run(choice)[0] == "u0-c0-e0-l0"
    browser.press("e", "c", "ARROW_LEFT", "l")
    assert browser.run(choice) == ["u0-c1-ceiling", True, False]
    browser.press("SPACE")
    settled(browser, "u0-c1-ceiling")
    browser.press(".")
    browser.wait("hfprobeRoom.position > 1")
    browser.press("SPACE")
    browser.wait("!hfprobeRoom.playing")
    at = browser.run("hfprobeRoom.at")
    browser.press(",")
    assert browser.run("hfprobeRoom.at") == pytest.approx(max(0, at - 1), abs=0.01)
    assert browser.run("document.getElementById('room').style.getPropertyValue('--position')") != "0"
    # Arrow keys in a row of buttons move its choice, and the focus stays with it.
    browser.run("document.querySelector('input[name=layer]:checked').focus()")
    browser.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert browser.run("[hfprobeRoom.clip.key, document.activeElement.value]") == ["u0-c1-e1-l1", "blstm1"]
    browser.press("SPACE")
    browser.wait("hfprobeRoom.playing")
    browser.press("SPACE")
    browser.run("hfprobeRoom.choose({ layer: 'ceiling' })")
    # In a field, a key means what it means there.
    browser.run("document.getElementById('utterance').focus()")
    browser.press("e")
    assert browser.run(choice)[0] == "u0-c1-ceiling"


def test_controls_of_the_room(spied, pages, tmp_path):
    browser = spied.open(pages["folder"])
    browser.downloads_to(tmp_path)
    seek = browser.one(".seek")
    browser.run("arguments[0].value = 1.5, arguments[0].dispatchEvent(new Event('input'))", seek)
    assert browser.run("document.querySelector('.at').textContent") == "0:01.5"
    left, width = browser.run(
        "[document.querySelector('.stage .cursor').offsetLeft, document.querySelector('.stage').clientWidth]"
    )
    assert left == pytest.approx(width / 2, abs=3)  # the cursor moves in the picture
    card = browser.one('.clip[data-key="u0-c0-e1-l0"]')
    browser.hover(card)
    assert "0.91" in card.text and "0.82" in card.text and "cnn1 of vgg-baseline, clean" in card.text
    button = card.find_element("css selector", ".play")
    button.click()
    settled(browser, "u0-c0-e1-l0")
    assert browser.run("played.at(-1).offset") == pytest.approx(1.5, abs=0.01)
    assert (
        button.get_attribute("aria-pressed") == "true"
        and button.get_attribute("aria-label") == "Pause cnn1 of vgg-baseline"
    )
    card.find_element("css selector", ".mel").click()  # in the middle: plays from there
    browser.wait("played.length === 2")
    assert browser.run("played.at(-1).offset") == pytest.approx(1.5, abs=0.02)
    card.find_element("css selector", ".save").click()
    browser.wait("true")
    browser.one(".main-play").click()
    browser.wait("!hfprobeRoom.playing")
    name = tmp_path / "u1_clean_vgg-baseline_cnn1.flac"
    for _ in range(600):
        if name.is_file() and name.stat().st_size:
            break
        threading.Event().wait(0.1)
    assert name.read_bytes() == (pages["folder"].parent / "sounds" / "u0-c0-e1-l0.flac").read_bytes()
    picked = "[...document.querySelectorAll('.spectrograms .line-name')].map((one) => one.textContent)"
    assert browser.run(picked) == ["vgg-baseline", "vgg-robust"]  # the baseline above, as in the paper
    cells = browser.run(
        "[...document.querySelectorAll('.spectrograms .line:first-child .cell')].map((one) => [one.textContent, one.dataset.key])"
    )
    assert cells == [
        ["clean", "u0-c0-input"],
        ["noise at 10 dB", "u0-c1-input"],
        *([layer, f"u0-c1-e1-l{k}"] for k, layer in enumerate(LAYERS)),
    ]
    browser.run("document.querySelector('.spectrograms .cell[data-key=\"u0-c1-e1-l2\"]').click()")
    settled(browser, "u0-c1-e1-l2")
    select = browser.one("#utterance")
    browser.run("arguments[0].value = '1', arguments[0].dispatchEvent(new Event('change'))", select)
    assert browser.run(
        "[hfprobeRoom.playing, hfprobeRoom.clip.key, document.querySelectorAll('.transcript').length]"
    ) == [False, "u1-c0-input", 0]
    browser.wait("[...document.querySelectorAll('.stage img')].every((one) => one.naturalWidth > 100)")
    play(browser)
    browser.wait("!hfprobeRoom.playing && hfprobeRoom.at === 0")  # the end
    quiet(browser, pages["folder"])


def test_over_http_sounds_are_fetched_when_they_are_needed(spied, pages):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=pages["folder"].parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}/"
        browser = spied.open(home)
        play(browser)
        asked = browser.requests()
        assert all(url.startswith(home) for url in asked) and home + "sounds/u0-c0-input.flac" in asked
        assert not any(url.endswith((".js", "ico")) or "/u1-" in url for url in asked)
        assert browser.console() == []
        browser.driver.get("about:blank")
        server.shutdown()


def tips(browser, key):
    """Text of the tip of a chart, its lines as (label and value), and the places of its panel."""
    return browser.run(
        '[...document.querySelectorAll(`[data-chart="${arguments[0]}"] .tip:not([hidden]) :is(h5, p)`)].map((one) => one.innerText.trim())',
        key,
    )


def test_values_on_hover_and_by_keyboard_are_those_of_the_run(spied, pages):
    browser = spied.open(pages["folder"])
    browser.run("document.querySelector('[data-chart=\"m0-0\"]').scrollIntoView({block: 'center'})")
    browser.wait("document.querySelectorAll('[data-chart=\"m0-0\"] .panel-chart').length === 2")
    charts = data_of(browser)["charts"]
    panels = browser.all('[data-chart="m0-0"] .panel-chart')
    for panel, condition in zip(panels, ("clean", "noise@10dB"), strict=True):
        browser.hover(panel)  # the middle of three layers
        browser.wait("document.querySelectorAll('.tip:not([hidden])').length === 1")
        title, *lines = tips(browser, "m0-0")
        assert title == "blstm1, EER (%)"
        for encoder in ENCODERS:
            value = 100 * value_of("eer", encoder, "blstm1", condition)
            assert f"{encoder} {value:.2f} ({value - 2:.2f} to {value + 2:.2f}), n 40, 1 failed" in lines
        assert "ceiling 6.00 (5.00 to 7.00), n 40" in lines and "mean mel (floor) 50.00 (48.00 to 52.00), n 40" in lines
    browser.hover(browser.one("h1"))
    browser.wait("document.querySelectorAll('.tip:not([hidden])').length === 0")
    browser.run("arguments[0].focus()", panels[0])
    assert tips(browser, "m0-0")[0] == "cnn1, EER (%)"
    browser.press("ARROW_RIGHT", "ARROW_RIGHT", "ARROW_RIGHT")
    title, first, *_ = tips(browser, "m0-0")
    point = next(one for one in charts["m0-0"]["panels"][0]["series"] if one["label"] == ENCODERS[0])["points"][2]
    assert title == "blstm2, EER (%)" and f"{100 * point[0]:.2f}" in first
    browser.press("HOME")
    assert tips(browser, "m0-0")[0] == "cnn1, EER (%)" and browser.run("hfprobeRoom.clip.layer") == "input"
    browser.press("ESCAPE")
    assert tips(browser, "m0-0") == []
    label = panels[0].get_attribute("aria-label")
    assert "EER (%) by layer, clean" in label and "arrow keys" in label
    quiet(browser, pages["folder"])


def test_marks_are_where_the_values_are(spied, pages):
    browser = spied.open(pages["folder"])
    browser.run("document.querySelector('[data-chart=\"figure4-0\"]').scrollIntoView()")
    browser.wait("document.querySelectorAll('[data-chart=\"figure4-0\"] .panel-chart').length === 2")
    heights = browser.run(
        "[...document.querySelectorAll('[data-chart=\"figure4-0\"] .chart-panel:first-child .mark.layer')].map((one) => one.getCTM().f)"
    )
    values = [value_of("stoi", encoder, layer, "clean") for encoder in ENCODERS for layer in LAYERS]
    slope = (heights[0] - heights[2]) / (values[2] - values[0])
    assert slope > 0 and [heights[0] - slope * (value - values[0]) for value in values] == pytest.approx(
        heights, abs=0.6
    )


def test_the_slider_moves_through_the_checkpoints(spied, pages):
    browser = spied.open(pages["single"])
    browser.run("document.getElementById('training').scrollIntoView()")
    browser.wait("document.querySelectorAll('.training input[type=range]').length === 2")
    curve, grid = browser.all(".training input[type=range]")
    cells = "[...document.querySelectorAll('.training-stage tbody tr:first-child td')].map((one) => one.textContent)"
    assert browser.run(cells) == ["1.000", "0.090", "0.082"]
    browser.run("arguments[0].focus()", grid)
    browser.press("HOME")
    assert browser.run(cells) == ["1.000", "0.900", "0.450"] and grid.get_attribute("aria-valuetext") == "1"
    browser.press("ARROW_RIGHT")
    assert browser.run(cells) == ["1.000", "0.450", "0.300"]
    browser.run("arguments[0].focus()", curve)
    browser.press("HOME")
    browser.wait(
        "document.querySelector('.training-stage .panel-chart').getAttribute('aria-label').includes('checkpoint 1')"
    )
    browser.hover(browser.one(".training-stage .panel-chart"))
    browser.wait("document.querySelectorAll('.training .tip:not([hidden])').length === 1")
    assert "checkpoint 1 0.440 (0.390 to 0.490), n 500" in browser.one(".training .tip").text
    quiet(browser, pages["single"], single=True)


def test_all_can_be_reached_by_keyboard_with_the_focus_to_be_seen(spied, pages):
    browser = spied.open(pages["folder"])
    browser.press("TAB")
    assert browser.run("document.activeElement.className") == "skip"
    browser.wait("[...document.querySelectorAll('[data-chart]')].every((one) => one.querySelector('.panel-chart'))")
    # An outline, on the element itself or on what stands for it.
    seen = """(() => {
      const here = document.activeElement, shown = here.matches('.segments input') ? here.nextElementSibling : here;
      const style = getComputedStyle(shown), box = shown.getBoundingClientRect();
      return [here.tagName + "." + (here.getAttribute("class") || here.name || ""), parseFloat(style.outlineWidth) >= 1 && style.outlineStyle !== "none", box.width > 0];
    })()"""
    reached = []
    for _ in range(60):
        browser.press("TAB")
        name, outlined, visible = browser.run(seen)
        assert outlined and visible, name
        reached.append(name)
    for name in (
        "INPUT.condition",
        "INPUT.encoder",
        "INPUT.layer",
        "BUTTON.main-play",
        "INPUT.seek",
        "INPUT.loop-box",
        "BUTTON.side",
        "BUTTON.flip",
        "BUTTON.play",
        "BUTTON.save",
        "SELECT.",
        "SUMMARY.",
    ):
        assert name in reached, (name, reached)
    stops = browser.run(
        "[...document.querySelectorAll('.panel-chart, .training input, .wide')].every((one) => one.tabIndex === 0)"
    )
    assert stops


@pytest.mark.parametrize("kind", ["folder", "hostile"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_narrow_page_has_no_sideways_scroll_and_dark_mode_can_be_read(spied, pages, kind, dark):
    browser = spied.open(pages[kind], 375, 720, dark)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.wait("[...document.querySelectorAll('[data-chart]')].every((one) => one.querySelector('.panel-chart'))")
    browser.run("[...document.querySelectorAll('.panel-chart')].at(-1).focus()")
    assert browser.run("innerWidth") == 375
    assert browser.run("document.scrollingElement.scrollWidth <= document.scrollingElement.clientWidth")
    assert browser.run("(scrollTo(100, 0), scrollX)") == 0
    contrast = browser.run("""(() => {
      const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const light = (colour) => {
        paint.fillStyle = colour;
        paint.fillRect(0, 0, 1, 1);
        const part = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255)
          .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
        return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
      };
      const style = getComputedStyle(document.documentElement);
      const ground = light(style.backgroundColor);
      const against = (colour) => { const ink = light(colour); return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05); };
      const own = (name) => style.getPropertyValue(name).trim();
      return { ground, text: against(style.color), muted: against(own("--muted")), encoders: [against(own("--encoder-0")), against(own("--encoder-1"))], focus: against(own("--focus")) };
    })()""")
    assert (contrast["ground"] < 0.05) is dark
    assert contrast["text"] > 7 and contrast["muted"] > 4.5 and min(contrast["encoders"]) > 4 and contrast["focus"] > 3
    assert browser.console() == []


@pytest.mark.parametrize("kind", ["hostile", "hostile folder"])
def test_hostile_text_does_nothing(spied, pages, kind):
    browser = spied.open(pages[kind])
    assert browser.run("document.title") == " ".join(HOSTILE.split())
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.wait("[...document.querySelectorAll('[data-chart]')].every((one) => one.querySelector('.panel-chart'))")
    for place in browser.all(".panel-chart"):
        browser.run("arguments[0].focus()", place)
    browser.press("ESCAPE")
    browser.run("document.activeElement.blur()")
    browser.press("ARROW_RIGHT", "ARROW_RIGHT", "x", "c", "e", "l")
    play(browser)
    assert "</script><img" in browser.one(".transcript").text and "</script><img" in browser.one(".stage-facts").text
    browser.run(
        "(() => { const select = document.getElementById('utterance'); select.value = '2'; select.dispatchEvent(new Event('change')); })()"
    )
    assert "pwned" not in browser.run("document.title").replace("document.title='pwned'", "")
    assert browser.run(
        "[document.querySelectorAll('img:not([alt])').length, document.querySelectorAll('script:not([type])').length, document.querySelectorAll('[onerror]').length]"
    ) == [0, 1, 0]
    assert browser.run("[...document.querySelectorAll('optgroup')].map((one) => one.label)") == [HOSTILE, "other"]
    quiet(browser, pages[kind], kind == "hostile")


def test_a_sound_that_is_gone_is_said(spied, pages, tmp_path):
    import shutil

    shutil.copytree(pages["folder"].parent, tmp_path / "page")
    (tmp_path / "page" / "sounds" / "u0-c0-input.flac.js").unlink()
    browser = spied.open(tmp_path / "page" / "index.html")
    browser.one(".main-play").click()
    browser.wait("document.querySelector('[role=status]').textContent.includes('cannot be played')")
    assert browser.run("getComputedStyle(document.querySelector('[role=status]')).position") != "absolute"
    choose(browser, "layer", "blstm1")
    play(browser)
    assert "cannot" not in browser.run("document.querySelector('[role=status]').textContent")


def test_without_scripts_tables_and_files_are_there(browser, pages):
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.driver.get(pages["folder"].as_uri())
        text = browser.one("body").text
        assert "Listening needs JavaScript" in text and "Table 2: EER (%)" in text and "PNG" in text
        assert browser.all(".main-play") == [] and len(browser.all("table")) > 5
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
