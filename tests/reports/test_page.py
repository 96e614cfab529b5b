"""The page as a file: everything inside or beside it, nothing from outside, hostile text harmless, all numbers there."""

import base64
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from made_up import ENCODERS, HOSTILE, LAYERS, along_training, clip, rows, saved, tone, value_of, view, without_drawing

from hfprobe.reports import ConditionView, UtteranceView, run_of, write_page
from hfprobe.reports.runs import load_runs
from hfprobe.results import ResultRow, Results

VOID = {"meta", "img", "input", "link", "br", "path", "use", "hr"}


class Reader(HTMLParser):
    """All elements with their attributes, all text, scripts by id, and whether the tags nest."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.open, self.scripts = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append([dict(attrs), ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attrs for each, attrs in self.elements if each == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    @property
    def data(self):
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "data"))

    def block(self, name):
        return base64.b64decode(next(text for attrs, text in self.scripts if attrs.get("id") == f"block-{name}"))


def run(results=(), sounds=(), name="mine", **config):
    return run_of(name, Results(tuple(results), {"command": "hfprobe x", "seed": 3}, config), sounds)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A page of everything: sounds, measures, similarity, training; beside it and in one file."""
    root = tmp_path_factory.mktemp("whole")
    short = view(seconds=0.25)
    differences = [
        {"condition": "clean", "metric": "stoi", "encoder": ENCODERS[0], "layer": layer, "other_encoder": ENCODERS[1],
         "other_layer": layer, "difference": -0.02, "ci_low": -0.03, "ci_high": -0.01, "p_value": 0.01, "n": 9, "n_dropped": 0}
        for layer in LAYERS
    ]  # fmt: skip
    folder = saved(root / "evaluation", rows(), [short], dataset="d:test", left_out={"too long": 4})
    (folder / "differences.json").write_text(json.dumps({"differences": differences}))
    runs = load_runs([folder, saved(root / "training", along_training(), command="similarity")])
    beside = write_page(runs, root / "beside", "Mine & yours", single_file=False)
    with pytest.MonkeyPatch.context() as patch:
        without_drawing(patch)
        return beside, write_page(runs, root / "single", "Mine & yours")


def test_one_file_holds_everything(whole):
    _, path = whole
    assert [each.name for each in path.parent.iterdir()] == ["index.html"]
    page = Reader(path)
    assert page.open == [] and page.data["room"]["suffix"] == ".flac"
    (utterance,) = page.data["room"]["utterances"]
    by_place = {(c, one["encoder"], one["layer"]): one for c in (0, 1) for one in utterance["conditions"][c]["clips"]}
    assert len(by_place) == 2 * (2 + 2 * 3)
    place = by_place[1, 0, "blstm1"]
    assert place["reads"] == "blstm1 of vgg-robust, noise@10dB" and place["stoi"] == 0.91
    wave, rate = soundfile.read(io.BytesIO(page.block(place["key"])))
    assert rate == 16000
    np.testing.assert_allclose(wave, tone(200 + 400 + 50 + 20, 0.25), atol=2 / 32768)
    assert page.block(place["key"] + ".png")[:4] == b"\x89PNG"
    for attrs in page.all("a"):
        assert attrs["href"].startswith(("#", "data:"))


def test_a_folder_holds_sounds_figures_and_data_beside_the_page(whole):
    path, _ = whole
    page, folder = Reader(path), whole[0].parent
    assert not any(attrs.get("id", "").startswith("block-") for attrs, _ in page.scripts)
    for one in page.data["room"]["utterances"][0]["conditions"][0]["clips"]:
        sound = (folder / "sounds" / f"{one['key']}.flac").read_bytes()
        handed = re.fullmatch(
            r'hfprobeSound\("([^"]+)","([^"]+)"\);\n', (folder / "sounds" / f"{one['key']}.flac.js").read_text()
        )
        assert handed[1] == one["key"] and base64.b64decode(handed[2]) == sound
        assert (folder / "sounds" / f"{one['key']}.png").is_file()
    links = [attrs["href"] for attrs in page.all("a") if not attrs["href"].startswith("#")]
    for name in links:
        assert (folder / name).stat().st_size > 200
    kinds = [name.rpartition(".")[2] for name in links]
    # Figures 2, 3 and 4, EER and STOI; rows of both runs, and of EER and STOI
    assert kinds.count("png") == kinds.count("pdf") == 5 and kinds.count("csv") == 4
    (own,) = (folder / name for name in links if "m1-0" in name and name.endswith("csv"))
    with open(own, encoding="utf-8") as file:
        assert {line["metric"] for line in csv.DictReader(file)} == {"stoi"}
    with open(folder / "data" / "0-evaluation.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(rows()) and float(lines[0]["value"]) == 0.05
    assert path.stat().st_size < 150_000
    assert not list(folder.rglob(".*"))


def test_numbers_of_the_charts_and_tables_are_those_of_the_run(whole):
    page = Reader(whole[0])
    charts = page.data["charts"]
    assert {"m0-0", "m1-0", "figure2-0", "figure4-0", "figure4-0-less"} == set(charts)
    for key, metric in (("m0-0", "eer"), ("m1-0", "stoi"), ("figure4-0", "stoi")):
        for panel in charts[key]["panels"]:
            assert [line["kind"] for line in panel["lines"]] == ["input", "ceiling", "floor"]
            for series in panel["series"]:
                for layer, point in zip(panel["layers"], series["points"], strict=True):
                    value = value_of(metric, series["label"], layer, panel["title"])
                    assert point == pytest.approx([value, value - 0.02, value + 0.02, 40, 1])
    assert [panel["title"] for panel in charts["figure2-0"]["panels"]] == ["vgg"]
    (less,) = charts["figure4-0-less"]["panels"]
    assert less["series"][0]["points"][0] == [-0.02, -0.03, -0.01, 9, 0] and less["title"] == "clean"
    assert "Table 2: EER (%)" in page.text and "10 dB robust 5.00 6.00 13.00 18.00 23.00" in page.text
    assert "STOI: 12" in page.text and "hfprobe evaluate --x <y>" in page.text and "too long" in page.text


def test_checkpoints_are_a_slider_and_no_curves_of_their_own(whole):
    page = Reader(whole[0])
    curve, maps = page.data["training"]
    assert curve["steps"] == ["1", "2"] and maps["steps"] == ["1", "2", "10"]
    assert [point[0] for point in curve["curves"][1]] == pytest.approx([0.58, 0.48, 0.38])
    assert maps["maps"][2][0] == [1.0, 0.09, pytest.approx(0.0818182)] and maps["layers"] == ["a", "b", "c"]
    assert not any("@" in name for name in page.data["encoders"])
    assert "PWCCA layers against layers by checkpoint of asr, clean" in page.text


def test_nothing_comes_from_outside_and_only_one_script_runs(whole):
    for path in whole:
        page = Reader(path)
        running = [text for attrs, text in page.scripts if "type" not in attrs]
        assert len(running) == 1 and not any("src" in attrs for attrs, _ in page.scripts)
        policy = next(attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv"))
        digest = base64.b64encode(hashlib.sha256(running[0].encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy and "http" not in policy
        for _, attrs in page.elements:
            assert not any(name.startswith("on") for name in attrs)
            for name in ("src", "href", "action", "poster", "srcset"):
                assert re.match(r"data:|#|[\w.-]+(/[\w.%-]+)*$", attrs.get(name, "#")), attrs
        ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        text = path.read_text(encoding="utf-8")
        assert "@import" not in text and "url(" not in text


def test_hostile_text_is_text_everywhere(tmp_path):
    sound = clip(300, 0.25, text=HOSTILE, note=HOSTILE)
    evil = UtteranceView(
        HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), (ConditionView(HOSTILE, sound, sound, {HOSTILE: {HOSTILE: sound}}),)
    )
    results = [ResultRow(HOSTILE, layer, "clean", "eer", 0.5) for layer in (HOSTILE, "$x^{")]
    results += [ResultRow(f"{HOSTILE}@{k}", "p<b>~<i>q", "clean", "linear_cka", 0.5) for k in (1, 2)]
    results += [ResultRow("e", pair, "clean", "linear_cka", 0.5) for pair in ("p<b>~<i>q", "p<b>~r")]
    stamp = {"command": HOSTILE, HOSTILE: HOSTILE}
    made = run_of(HOSTILE, Results(tuple(results), stamp, {HOSTILE: HOSTILE, "left_out": HOSTILE}), [evil])
    quiet = run_of(HOSTILE, Results((), stamp, {HOSTILE: HOSTILE}), [evil])
    for single, one in ((True, quiet), (False, made)):
        page = Reader(write_page([one], tmp_path / str(single), HOSTILE, [HOSTILE], single_file=single))
        assert page.open == [] and not {"img", "i", "b"} & {
            tag for tag, attrs in page.elements if attrs or tag == "img"
        } - {"i"}
        assert len([1 for attrs, _ in page.scripts if "type" not in attrs]) == 1
        assert " ".join(HOSTILE.split()) in page.text and "49" not in page.all("h1")
        room = page.data["room"]["utterances"][0]
        assert room["title"] == room["conditions"][0]["clips"][0]["reads"] == HOSTILE
        assert re.fullmatch(r"[\w.-]+", room["id"])
        assert not [name for name in (tmp_path / str(single)).rglob("*") if re.search("[<>&\"']", name.name)]


def test_missing_numbers_are_left_out_and_counted(tmp_path):
    silent = clip(300, 0.25, stoi=None, similarity=float("nan"), text=None, note="no speech found")
    conditions = (ConditionView("clean", clip(200, 0.25, text=""), None, {"e": {"blstm5": silent}}),)
    page = Reader(write_page([run((), [UtteranceView("u", "u", conditions=conditions)])], tmp_path))
    heard, lost = page.data["room"]["utterances"][0]["conditions"][0]["clips"]
    assert heard["reads"] == "" and lost.keys() == {"key", "encoder", "layer", "note"}
    assert "2 sounds of 1 utterance; without STOI: 1; without speaker similarity: 1" in page.text


@pytest.mark.parametrize("audio_format", ["flac", "opus"])
def test_kept_sounds_are_copied_or_made_small(tmp_path, audio_format):
    (kept,) = load_runs([saved(tmp_path / "run", (), [view(seconds=1.0)], "listen")])
    page = Reader(write_page([kept], tmp_path / "out", single_file=False, audio_format=audio_format))
    suffix = page.data["room"]["suffix"]
    key = page.data["room"]["utterances"][0]["conditions"][0]["clips"][0]["key"]
    sound = tmp_path / "out" / "sounds" / f"{key}{suffix}"
    original = tmp_path / "run" / "sounds" / "u1" / "clean" / "reference-input.flac"
    if audio_format == "flac":
        assert sound.read_bytes() == original.read_bytes()
    else:
        assert sound.stat().st_size < original.stat().st_size and soundfile.info(sound).subtype == "OPUS"
        assert page.data["room"]["mime"] == "audio/ogg"


def test_a_page_of_several_runs_says_whose_sounds_they_are(tmp_path):
    runs = [run((), [view("a", ("x",), seconds=0.25)], "one"), run((), [view("b", ("y",), seconds=0.25)], "two")]
    room = Reader(write_page(runs, tmp_path)).data["room"]
    assert [entry["run"] for entry in room["utterances"]] == ["one", "two"] and room["encoders"] == ["x", "y"]


def test_the_picture_of_an_invariance_run_is_figure_3(tmp_path):
    folder = saved(
        tmp_path / "noise", [ResultRow("e", x, "noise@0dB", "invariance", 0.5) for x in "ab"], command="invariance"
    )
    (folder / "spectrograms.png").write_bytes(b"<script>no picture</script>")
    assert "Figure 3" not in Reader(write_page(load_runs([folder]), tmp_path / "a")).text
    picture = b"\x89PNG\r\n\x1a\n" + bytes(100)
    (folder / "spectrograms.png").write_bytes(picture)
    page = Reader(write_page(load_runs([folder]), tmp_path / "b", single_file=False))
    (image,) = page.all("img")
    assert "Figure 3" in page.text and (tmp_path / "b" / image["src"]).read_bytes() == picture


def test_an_empty_page_and_a_failure_leave_no_half_written_file(tmp_path):
    page = Reader(write_page([run()], tmp_path / "a"))
    assert "What was run" in page.text and page.data["room"] is None
    with pytest.raises(ValueError, match="audio format"):
        write_page([run((), [view(seconds=0.25)])], tmp_path / "b", audio_format="mp3")
    assert not (tmp_path / "b").exists()


def test_the_same_runs_give_the_same_page(tmp_path):
    runs = [run(rows(("pesq",)), [view(seconds=0.25)])]
    assert write_page(runs, tmp_path / "a").read_bytes() == write_page(runs, tmp_path / "b").read_bytes()
