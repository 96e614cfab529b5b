"""Several runs side by side: planted numbers arrive in the right column, conflicts are named."""

import pytest

from hfprobe.reports import ReportError
from hfprobe.reports.charts import chart
from hfprobe.reports.paper_section import paper_figures
from hfprobe.reports.run_figures import caption, finish, run_figure
from hfprobe.reports.runs import Measure, load_runs
from hfprobe.reports.side_by_side import (
    encoder_names,
    make_section,
    ordered_measures,
    pair_maps,
    summary_tables,
    titles,
)
from hfprobe.reports.tables import metric_info
from hfprobe.results import METRICS, ResultRow, Results

LAYERS = ("cnn1", "blstm1", "blstm2")


def row(encoder, layer, metric, value, condition="clean", n=50, n_failed=0):
    bounds = (None, None) if value is None else (value - 0.01, value + 0.01)
    return ResultRow(encoder, layer, condition, metric, value, *bounds, n, n_failed)


def saved(folder, rows, command="evaluate", **config):
    stamp = {"command": f"hfprobe {command} --x <y>", "seed": 3, "date": "2026-01-02", "versions": {"hfprobe": "0.1.0"}}
    Results(tuple(rows), stamp, config).to_json(folder / "results.json")
    return folder


@pytest.fixture
def folders(tmp_path):
    """Evaluation under two conditions, two targets, words, and noise: each with values of its own."""
    speech = [
        row("-", "input", "eer", 0.03),
        row("-", "input", "eer", 0.2, "noise@0dB"),
        row("vgg", "floor", "eer", 0.5),
    ]
    for place, layer in enumerate(LAYERS):
        speech += [
            row("vgg", layer, "eer", 0.1 + 0.1 * place),
            row("vgg", layer, "stoi", 0.9 - 0.1 * place, n_failed=2),
        ]
        speech += [row("vgg", layer, "eer", 0.3 + 0.05 * place, "noise@0dB")]
    made = [saved(tmp_path / "speech", speech, dataset="d:test", left_out={"too long": 4})]
    for target, start in (("phone", 0.4), ("speaker", 0.6)):
        rows = [row("-", "floor", "accuracy", 0.05), row("-", "input", "accuracy", 0.25)]
        for name, shift in (("vgg", 0.0), ("random:vgg", -0.2)):
            for place, layer in enumerate(LAYERS):
                rows.append(row(name, layer, "accuracy", start + shift + 0.01 * place))
                rows.append(row(name, layer, "control_accuracy", 0.07))
        made.append(saved(tmp_path / target, rows, "classify", target=target, probe="linear"))
    rows = [row("vgg", layer, m, 0.1) for layer in LAYERS for m in ("capacity", "capacity_shuffled")]
    made.append(saved(tmp_path / "words", rows, "untangle", by="word", pool="frame", random_capacity=0.04))
    rows = [row("vgg", layer, "invariance", 0.7, f"noise@{snr}dB") for snr in (20, 0) for layer in LAYERS]
    made.append(saved(tmp_path / "noise", rows, "invariance"))
    return made


def test_every_metric_has_a_name_of_its_own():
    assert [name for name in METRICS if metric_info(name).meaning == name] == []
    labels = [metric_info(name).label for name in METRICS]
    assert len(set(labels)) == len(labels)
    assert metric_info("accuracy").text(0.4567) == "45.7" and metric_info("capacity_shuffled").text(0.1234) == "0.123"


def test_measures_are_named_by_their_target_and_ordered_for_reading(folders):
    runs = load_runs(folders)
    assert list(titles(ordered_measures(runs)).values()) == [
        "EER (%)", "STOI", "phone accuracy (%)", "speaker accuracy (%)", "capacity by word", "invariance",
    ]  # fmt: skip
    assert encoder_names(runs) == ("vgg", "random:vgg")


def test_a_control_without_its_measure_is_shown(tmp_path):
    runs = load_runs([saved(tmp_path / "a", [row("e", "x", "control_accuracy", 0.1)], "classify", target="phone")])
    assert [measure.label for measure in ordered_measures(runs)] == ["phone control accuracy"]


def test_summary_has_planted_values(folders):
    runs = load_runs(folders)
    measures = titles(ordered_measures(runs))
    trained, random = summary_tables(runs, measures, encoder_names(runs))
    assert trained.caption == "vgg" and random.caption == "random:vgg"
    assert trained.header == (
        "layer", "EER (%)", "STOI", "phone accuracy (%)", "speaker accuracy (%)", "capacity by word",
        "invariance, noise@20dB",
    )  # fmt: skip
    assert [line[0] for line in trained.rows] == ["input", *LAYERS, "floor"]
    lines = {line[0]: line[1:] for line in trained.rows}
    assert lines["blstm1"] == ("20.00", "0.800", "41.0", "61.0", "0.100", "0.700")
    assert lines["input"] == ("3.00", "", "25.0", "25.0", "", "")
    assert lines["floor"] == ("50.00", "", "5.0", "5.0", "", "")
    assert {line[0]: line[1:] for line in random.rows}["blstm2"] == ("22.0", "42.0")


def test_second_reader_is_a_column(tmp_path):
    rows = [row(name, "cnn1", "wer", value) for name, value in (("vgg", 0.5), ("vgg > whisper", 0.4))]
    runs = load_runs([saved(tmp_path / "a", rows)])
    (table,) = summary_tables(runs, titles(ordered_measures(runs)), encoder_names(runs))
    assert table.header == ("layer", "WER (%)", "WER (%), read by whisper") and table.rows == (
        ("cnn1", "50.00", "40.00"),
    )


def test_curves_have_the_planted_heights(folders):
    run = load_runs(folders)[1]
    measure = run.measure("accuracy")
    rows = (*run.of(measure), *run.of(run.measure("control_accuracy")))
    figure = run_figure(rows, measure, ["vgg", "random:vgg"])
    lines = {str(line.get_label()): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["vgg"] == pytest.approx([40, 41, 42]) and lines["vgg, control task"] == pytest.approx([7, 7, 7])
    assert lines["random weights"] == pytest.approx([20, 21, 22])
    assert lines["input mel"] == pytest.approx([25, 25]) and lines["majority class"] == pytest.approx([5, 5])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(LAYERS)
    finish([figure], ["vgg", "random:vgg"], metric_info("accuracy"))
    assert figure.axes[0].get_ylim()[0] == 0
    words = caption(rows, measure)
    assert "control task" in words and "random weights" in words and "majority class" in words


def test_conditions_are_panels_with_clean_first_and_runs_share_limits(tmp_path):
    rows = [row("e", x, "stoi", 0.2, c) for c in ("noise@0dB", "clean") for x in "ab"]
    first = run_figure(rows, Measure("stoi"), ["e"])
    second = run_figure([row("f", x, "stoi", 0.9) for x in "ab"], Measure("stoi"), ["e", "f"])
    assert [axes.get_title(loc="left") for axes in first.axes] == ["clean", "noise@0dB"]
    finish([first, second], ["e", "f"], metric_info("stoi"))
    assert {axes.get_ylim() for figure in (first, second) for axes in figure.axes} == {first.axes[0].get_ylim()}
    low, high = first.axes[0].get_ylim()
    assert low < 0.2 and high > 0.9


def test_negative_per_cent_is_not_cut_off():
    figure = run_figure([row("e", x, "selectivity", -0.2) for x in "ab"], Measure("selectivity", "phone"), ["e"])
    finish([figure], ["e"], metric_info("selectivity"))
    assert figure.axes[0].get_ylim()[0] < -21


def test_layers_against_layers(tmp_path):
    rows = [row("e", pair, "linear_cka", value) for pair, value in (("a~b", 0.5), ("a~c", 0.2), ("b~c", None))]
    rows += [row("e", f"{x}~{x}", "linear_cka", 0.8, "noise@0dB") for x in "abc"]
    (run,) = load_runs([saved(tmp_path / "a", rows, "similarity")])
    assert [(r.layer, r.condition) for r in run.rows] == [(x, "noise@0dB") for x in "abc"]
    (grid,) = pair_maps(run)
    assert grid["header"] == ["a", "b", "c"]
    assert grid["lines"][0] == ("a", [("1.000", 100), ("0.500", 50), ("0.200", 20)])
    assert grid["lines"][2] == ("c", [("0.200", 20), ("–", 0), ("1.000", 100)])


def test_same_rows_twice_are_shown_once_and_other_values_are_an_error(tmp_path):
    rows = [row("e", x, "eer", 0.1) for x in "ab"]
    first = saved(tmp_path / "first", rows)
    runs = load_runs([first, saved(tmp_path / "second", [*rows, row("e", "c", "eer", 0.3)])])
    assert [r.layer for r in runs[1].rows] == ["c"] and runs[1].repeated == 2
    copies = [saved(tmp_path / name, [*rows, row("-", "input", "eer", 0.02)]) for name in ("fourth", "fifth")]
    copies = load_runs(copies)
    assert copies[1].repeated == 2
    assert [panel.run for panel in make_section(copies, Measure("eer"), "EER", ["e"], "m0").panels] == ["fourth"]
    bad = saved(tmp_path / "third", [rows[0], row("e", "b", "eer", 0.25)])
    with pytest.raises(
        ReportError, match="'first' and 'third' hold different values for EER / e / b / clean: 0.1 .*0.25"
    ):
        load_runs([first, bad])


def test_another_target_and_the_input_are_no_conflict(tmp_path):
    made = []
    for place, target in enumerate(("phone", "gender")):
        rows = [row("e", "a", "accuracy", 0.1 + place), row("-", "input", "accuracy", 0.2 + place)]
        made.append(saved(tmp_path / target, rows, "classify", target=target))
    made.append(
        saved(tmp_path / "c", [row("f", "a", "accuracy", 0.5), row("-", "input", "accuracy", 0.9)], target="phone")
    )
    assert [len(run.rows) for run in load_runs(made)] == [2, 2, 2]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "does not exist"), ("{", "not valid JSON"), ('{"rows": []}', "lacks 'config'"), ("[" * 99999, "run"),
        ('{"rows": [], "config": {}, "environment": {}}', "holds no rows"), (b"\xff\xfe", "as UTF-8 text"),
    ],
)  # fmt: skip
def test_what_is_no_run_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReportError, match=message) as caught:
        load_runs([path])
    assert "mine.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"differences": [{}]}', '{"differences": [{"encoder": 3}]}', '{"differences": 5}']
)
def test_broken_differences_are_refused_by_name(tmp_path, content):
    folder = saved(tmp_path / "mine", [row("e", x, "stoi", 0.5) for x in "ab"])
    assert load_runs([folder])[0].differences == ()
    (folder / "differences.json").write_text(content)
    with pytest.raises(ReportError, match="differences.json of run .*mine") as caught:
        load_runs([folder])
    assert "\n" not in str(caught.value)


def test_figures_of_the_paper_when_only_the_input_was_heard_clean(tmp_path):
    rows = [row("-", "input", "eer", 0.1), *(row("e", x, "eer", 0.2, "noise@0dB") for x in "ab")]
    (figure,) = (one for one in paper_figures(load_runs([saved(tmp_path / "a", rows)]), ["e"]) if one.charts)
    assert figure.charts[0][1]["panels"][0]["layers"] == ["a", "b"] and "noise@0dB" in figure.caption


def test_folder_without_results_twice_and_no_layers(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match="without results.json"):
        load_runs([tmp_path / "empty"])
    plain = saved(tmp_path / "input", [row("e", "input", "wer", 0.5)])
    with pytest.raises(ReportError, match="is about a layer"):
        load_runs([plain])
    with pytest.raises(ReportError, match="given twice"):
        load_runs([plain, plain / "results.json"])


def test_data_of_a_chart_is_what_the_figure_draws(folders):
    run = load_runs(folders)[1]
    measure = run.measure("accuracy")
    rows = (*run.of(measure), *run.of(run.measure("control_accuracy")))
    made = chart(rows, measure, ["other", "vgg"])
    assert (made["axis"], made["percent"], made["low"], made["high"]) == ("phone accuracy (%)", True, 0.0, 0.43)
    (panel,) = made["panels"]
    assert panel["title"] == "clean" and panel["layers"] == list(LAYERS)
    kinds = {one["kind"]: one for one in panel["series"]}
    assert [point[0] for point in kinds["layer"]["points"]] == [0.4, 0.41, 0.42] and kinds["layer"]["encoder"] == 1
    assert [point[0] for point in kinds["random"]["points"]] == pytest.approx([0.2, 0.21, 0.22])
    assert kinds["control"]["points"][0] == [0.07, 0.06, 0.08, 50, 0] and "control task" in kinds["control"]["label"]
    assert {line["label"]: line["point"][0] for line in panel["lines"]} == {"input mel": 0.25, "majority class": 0.05}


def test_a_layer_that_was_not_measured_and_one_that_failed_stay_apart():
    rows = [
        row("e", "a", "stoi", None, n=0, n_failed=3),
        row("e", "b", "stoi", 0.5),
        row("f", "a", "stoi", 0.4),
        row("f", "b", "stoi", 0.5),
    ]
    rows += [row("e", "a", "stoi", 0.4, "noise@0dB")]
    made = chart(rows, Measure("stoi"), ["e", "f"])
    points = {(panel["title"], one["label"]): one["points"] for panel in made["panels"] for one in panel["series"]}
    assert points["clean", "e"] == [[None, None, None, 0, 3], [0.5, 0.49, 0.51, 50, 0]]
    assert points["noise@0dB", "e"] == [[0.4, 0.39, 0.41, 50, 0], None] and ("noise@0dB", "f") not in points


def test_sections_of_runs_share_limits(tmp_path):
    runs = [
        saved(tmp_path / name, [row(name, x, "stoi", value) for x in "ab"]) for name, value in (("e", 0.2), ("f", 0.9))
    ]
    section = make_section(load_runs(runs), Measure("stoi"), "STOI", ["e", "f"], "m0")
    assert [(p.chart["low"], p.chart["high"]) for p in section.panels] == [(0.19, 0.91)] * 2
