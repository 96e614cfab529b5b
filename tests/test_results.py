"""Result files: round trips, strict JSON, and everything that must be refused."""

import csv
import dataclasses
import json
import platform

import numpy as np
import pytest

from hfprobe.results import COLUMNS, ResultRow, Results, ResultsError, environment_stamp

ROWS = [
    ResultRow("vgg", "cnn1", "clean", "eer", 0.05, 0.04, 0.06, 100, 0),
    ResultRow("vgg", "cnn1", "noise@10dB", "eer", np.float32(0.25), n=np.int64(90), n_failed=10),
    ResultRow("vgg", "blstm5", "noise@-2.5dB", "pesq", None, n=0, n_failed=3),
    ResultRow('lstm, "quoted"', "input", "clean", "wer", 0.3, n=5),
]


def test_json_round_trip_is_strict_and_atomic(tmp_path):
    path = tmp_path / "new" / "results.json"
    results = Results(ROWS, environment_stamp(1, "hfprobe evaluate"), {"snr": [20, 10], "nested": {"a": None}})
    results.to_json(path)
    assert Results.from_json(path) == results
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert list(content) == ["rows", "environment", "config"]
    assert list(content["rows"][0]) == list(COLUMNS)
    assert content["rows"][2]["value"] is None
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_csv(tmp_path):
    Results(ROWS).to_csv(tmp_path / "r.csv")
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["encoder"] for row in rows] == [row.encoder for row in ROWS]
    assert rows[2]["value"] == "" and float(rows[1]["value"]) == 0.25 and rows[1]["n_failed"] == "10"


def test_select():
    results = Results(ROWS, config={"a": 1})
    assert [r.layer for r in results.select(encoder="vgg", condition=["clean", "noise@-2.5dB"])] == ["cnn1", "blstm5"]
    assert results.select(metric="pesq").config == {"a": 1}
    assert len(results.select()) == 4
    with pytest.raises(ResultsError, match="columns: encoder"):
        results.select(layers="cnn1")


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ROWS[0].value = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        Results(ROWS).rows = ()


@pytest.mark.parametrize(
    "change,word",
    [
        ({"value": float("nan")}, "finite"),
        ({"value": float("inf")}, "finite"),
        ({"ci_low": float("nan"), "ci_high": 1.0}, "finite"),
        ({"value": "0.5"}, "finite"),
        ({"value": True}, "finite"),
        ({"metric": "mos"}, "known: eer"),
        ({"metric": "EER"}, "known: eer"),
        ({"layer": ""}, "layer"),
        ({"encoder": None}, "encoder"),
        ({"condition": "noise 10"}, "noise@10dB"),
        ({"n": -1}, "n must"),
        ({"n_failed": 1.5}, "n_failed"),
        ({"ci_low": 0.1}, "both"),
        ({"ci_low": 0.9, "ci_high": 0.1}, "exceed"),
        ({"value": None, "ci_low": 0.1, "ci_high": 0.2}, "both"),
    ],
)
def test_bad_rows_are_refused_in_one_line(change, word):
    good = {"encoder": "e", "layer": "l", "condition": "clean", "metric": "eer", "value": 0.5, "n": 1}
    with pytest.raises(ResultsError, match=word) as error:
        ResultRow(**{**good, **change})
    assert "\n" not in str(error.value)


def test_duplicates_and_foreign_rows():
    with pytest.raises(ResultsError, match="two rows"):
        Results([ROWS[0], ROWS[0]])
    with pytest.raises(ResultsError, match="ResultRow"):
        Results([{"encoder": "e"}])


def test_nan_in_config_is_refused_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.json"
    Results(ROWS).to_json(path)
    before = path.read_bytes()
    for config in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises(ResultsError):
            Results(ROWS, config=config).to_json(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"rows": []}', '{"rows": {}, "environment": {}, "config": {}}',
        '{"rows": [], "environment": {}, "config": {}, "more": 1}',
        '{"rows": [{"encoder": "e"}], "environment": {}, "config": {}}',
        '{"rows": [], "environment": {"a": NaN}, "config": {}}',
    ],
)  # fmt: skip
def test_bad_files(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ResultsError):
        Results.from_json(tmp_path / "r.json")
    with pytest.raises(ResultsError):
        Results.from_json(tmp_path / "missing.json")


def test_environment_says_versions_but_no_place():
    stamp = environment_stamp(7, "hfprobe demo")
    assert stamp["seed"] == 7 and stamp["command"] == "hfprobe demo"
    assert set(stamp["versions"]) == {"hfprobe", "python", "torch", "espnet", "transformers", "datasets"}
    assert stamp["git_hash"] is None or len(stamp["git_hash"]) == 40
    assert stamp["date"].endswith("+00:00")
    text = json.dumps(stamp)
    assert "/" not in text and platform.node() not in text


def test_runs_on_the_same_speech_are_joined_and_others_refused():
    natural = ResultRow("-", "input", "clean", "eer", 0.1, 0.05, 0.2, n=10)
    trained = ResultRow("vgg", "cnn1", "clean", "eer", 0.2, n=10)
    twin = ResultRow("random:vgg", "cnn1", "clean", "eer", None, n_failed=10)
    one = Results([natural, trained], {"seed": 1}, {"a": 1})
    joined = one.joined(Results([natural, twin]), Results([twin]))
    assert joined.rows == (natural, trained, twin) and (joined.environment, joined.config) == ({"seed": 1}, {"a": 1})
    assert one.joined() == one
    for changed in ({"value": 0.11}, {"n": 9}, {"n_failed": 1}, {"value": None, "ci_low": None, "ci_high": None}):
        with pytest.raises(ResultsError, match="disagree on - / input / clean / eer"):
            one.joined(Results([dataclasses.replace(natural, **changed)]))
