"""Curves and tables show the planted numbers, in the paper's shape, with their counts."""

import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

from hfprobe.reports import ReportError
from hfprobe.reports.figures import STYLES, layer_curves, save_figure
from hfprobe.reports.tables import csv_text, interval_table, layer_table, markdown_tables

LAYERS = {"vgg": ("cnn1", "cnn2", "blstm1"), "pure": ("blstm1", "blstm2")}
EER = {
    ("clean", "vgg-robust"): (0.0438, 0.0468, 0.1648),
    ("noise@10dB", "vgg-robust"): (0.0981, 0.1075, 0.2087),
}


def row(encoder, layer, condition, value, metric="eer", n=100, n_failed=0):
    interval = (None, None) if value is None else (value - 0.01, value + 0.01)
    return dict(
        encoder=encoder, layer=layer, condition=condition, metric=metric, value=value, ci_low=interval[0],
        ci_high=interval[1], n=n, n_failed=n_failed,
    )  # fmt: skip


@pytest.fixture
def rows():
    planted = []
    for condition in ("noise@10dB", "clean"):
        planted.append(row("-", "input", condition, 0.0334))
        planted += [
            row("vgg-robust", layer, condition, value)
            for layer, value in zip(LAYERS["vgg"], EER[condition, "vgg-robust"], strict=True)
        ]
        planted += [row("vgg-baseline", layer, condition, 0.2) for layer in LAYERS["vgg"]]
        planted += [
            row("pure-robust", "blstm1", condition, 0.0692),
            row("pure-robust", "blstm2", condition, None, n=0),
        ]
        planted.append(row("vgg-robust", "cnn1", condition, 0.93, metric="stoi", n_failed=3))
    return planted


def test_table_has_the_shape_of_table_2(rows):
    table = layer_table(rows, "eer")
    assert table.header == ("condition", "encoder", "input", "cnn1", "cnn2", "blstm1", "blstm2")
    assert [line[0] for line in table.rows] == ["clean"] * 3 + ["noise@10dB"] * 3
    assert table.rows[0] == ("clean", "vgg-robust", "3.34", "4.38", "4.68", "16.48", "")
    # no such layer is empty; a layer whose value could not be computed is a dash, not 0
    assert table.rows[2] == ("clean", "pure-robust", "3.34", "", "", "6.92", "–")


def test_intervals_and_counts(rows):
    table = interval_table(rows, "stoi")
    assert table.rows[0] == ("clean", "vgg-robust", "cnn1", "0.930", "0.920 to 0.940", "100", "3")
    assert ("clean", "pure-robust", "blstm2", "–", "–", "0", "0") in interval_table(rows, "eer").rows
    with pytest.raises(ReportError, match="'pesq'; metrics there are: eer, stoi"):
        interval_table(rows, "pesq")


def test_markdown_is_a_table_and_hostile_names_stay_in_their_cell(rows):
    text = layer_table([row("a|b\n<script>*x*", "cnn1", "clean", 0.1)], "eer").to_markdown()
    lines = text.splitlines()[2:]
    assert len(lines) == 3 and len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "<script>" not in text and "a\\|b &lt;script&gt;\\*x\\*" in text
    assert markdown_tables(rows).count("| condition |") == 4


def test_csv_keeps_fractions_and_empties(rows):
    back = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert len(back) == len(rows)
    for read, wrote in zip(back, rows, strict=True):
        assert read["encoder"] == wrote["encoder"] and int(read["n_failed"]) == wrote["n_failed"]
        assert (float(read["value"]) if read["value"] else None) == wrote["value"]


def test_curves_show_the_planted_values(rows):
    figure = layer_curves(rows, "eer")
    # two architectures x two conditions
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["clean", "noise@10dB"] * 2
    curves = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert set(curves) == {"vgg-robust", "vgg-baseline", "input"}
    np.testing.assert_allclose(curves["vgg-robust"].get_ydata(), [4.38, 4.68, 16.48])
    np.testing.assert_allclose(curves["input"].get_ydata(), 3.34)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["cnn1", "cnn2", "blstm1"]
    pure = {line.get_label(): line for line in figure.axes[2].get_lines()}["pure-robust"].get_ydata()
    assert np.isnan(pure[1]) and pure[0] == pytest.approx(6.92)
    looks = {(line.get_linestyle(), line.get_marker(), line.get_color()) for line in curves.values()}
    assert len(looks) == 3


def test_colours_follow_the_page_not_the_rows(rows):
    names = ("other", "vgg-baseline", "vgg-robust", "pure-robust")
    curves = {line.get_label(): line for line in layer_curves(rows, "eer", names).axes[0].get_lines()}
    assert curves["vgg-robust"].get_color() == STYLES[2].light


def test_files_of_a_figure_with_a_hostile_name(rows, tmp_path):
    hostile = [{**each, "encoder": "$x<script>alert(1)</script>é#0072b2"} for each in rows if each["metric"] == "stoi"]
    figure = layer_curves(hostile, "stoi", columns=1)
    png, pdf = save_figure(figure, tmp_path / "stoi")
    assert Image.open(png).size[0] > 500 and pdf.read_bytes()[:4] == b"%PDF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stoi.pdf", "stoi.png"]


def test_error_rates_without_layers_have_a_line_per_encoder():
    rows = [
        {"encoder": name, "layer": "input", "condition": "clean", "metric": "cer", "value": value}
        for name, value in (("robust", 0.25), ("baseline", 0.5))
    ]
    lines = layer_table(rows, "cer").to_markdown().splitlines()
    assert lines[-2:] == ["| clean | robust | 25.00 |", "| clean | baseline | 50.00 |"]
