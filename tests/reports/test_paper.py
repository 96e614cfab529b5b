"""Table 2 and Figures 2, 3 and 4 in the paper's layout, with planted numbers."""

import numpy as np
import pytest
from PIL import Image

from hfprobe.analysis.differences import Difference
from hfprobe.reports import ReportError
from hfprobe.reports.differences import difference_markdown, difference_table
from hfprobe.reports.figures import layer_curves, save_figure
from hfprobe.reports.invariance import spectrogram_figure
from hfprobe.reports.panels import RANDOM_LABEL
from hfprobe.reports.paper import figure_2, figure_4, snr_name, split_role, table_2
from hfprobe.reports.tables import measurements, split_twins, twin_of

VGG, PURE = ("cnn1", "cnn2", "blstm1"), ("blstm1", "blstm2")
# Lines (a), (b), (e) and (f) of the paper's Table 2, in per cent.
PAPER = {
    ("clean", "robust"): ((4.38, 4.68, 16.48), (6.92, 12.63)),
    ("clean", "baseline"): ((4.47, 4.72, 16.20), (7.03, 13.97)),
    ("noise@10dB", "robust"): ((9.81, 10.75, 20.87), (13.89, 19.66)),
    ("noise@10dB", "baseline"): ((9.89, 10.92, 24.00), (14.64, 24.31)),
}


def row(encoder, layer, condition, value, metric="eer"):
    return {
        "encoder": encoder, "layer": layer, "condition": condition, "metric": metric, "value": value,
        "ci_low": value - 0.01, "ci_high": value + 0.02, "n": 100, "n_failed": 0,
    }  # fmt: skip


@pytest.fixture
def rows():
    planted = []
    for condition in ("noise@10dB", "clean"):
        planted += [row("-", "input", condition, 0.0334), row("-", "ceiling", condition, 0.04)]
        for role in ("baseline", "robust"):
            for name, layers, values in zip(("vgg", "pure"), (VGG, PURE), PAPER[condition, role], strict=True):
                for layer, value in zip(layers, values, strict=True):
                    planted.append(row(f"{name}-{role}", layer, condition, value / 100))
                    planted.append(row(f"{name}-{role}", layer, condition, 1 - value / 100, "stoi"))
                planted.append(row(f"{name}-{role}", "floor", condition, 0.5))
        for layer in VGG:
            planted.append(row("random:vgg-robust@2", layer, condition, 0.07))
            planted.append(row("random:vgg-robust@2", layer, condition, 0.8, "stoi"))
    return planted


def test_table_2_is_laid_out_as_in_the_paper(rows):
    table = table_2(rows)
    assert table.header == (
        "SNR", "model", "input", "ceiling", "vgg: cnn1", "vgg: cnn2", "vgg: blstm1", "pure: blstm1", "pure: blstm2",
    )  # fmt: skip
    random = "robust, random weights"
    assert [line[:2] for line in table.rows] == [
        (snr, model) for snr in ("clean", "10 dB") for model in ("robust", "baseline", random)
    ]
    for line in table.rows:
        if line[1] != random:
            condition = "clean" if line[0] == "clean" else "noise@10dB"
            expected = [f"{value:.2f}" for values in PAPER[condition, line[1]] for value in values]
            assert list(line[2:]) == ["3.34", "4.00", *expected]
    assert table.rows[2][4:] == ("7.00", "7.00", "7.00", "", "")
    assert table_2(rows, intervals=True).rows[0][4] == "4.38 [3.38, 6.38]"
    with pytest.raises(ReportError, match="'wer'"):
        table_2(rows, "wer")


def test_table_2_of_encoders_without_roles():
    planted = [row(name, "layer1", "music@-5dB", 0.1) for name in ("wav2vec2-base", "whisper_tiny")]
    table = table_2(planted)
    assert table.header == ("SNR", "model", "wav2vec2-base: layer1", "whisper_tiny: layer1")
    assert table.rows == (("-5 dB music", "wav2vec2-base", "10.00", ""), ("-5 dB music", "whisper_tiny", "", "10.00"))


def test_names_are_taken_apart():
    assert split_role("blstm_robust") == ("blstm", "robust") and split_role("robust") == ("robust", "robust")
    assert split_role("robustness-net") == ("robustness-net", None)
    assert split_role("exp-baseline-3") == ("exp-3", "baseline")
    assert snr_name("babble") == "babble" and snr_name("noise@2.5dB") == "2.5 dB"
    assert twin_of("randomised") is None and twin_of("random:a/b") == "a/b"


def test_random_twins_are_thin_grey_and_beside_their_encoder(rows):
    figure = layer_curves(rows, "eer")
    first = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert set(first) == {"vgg-baseline", "vgg-robust", "input", "ceiling", "mean mel (floor)", RANDOM_LABEL}
    np.testing.assert_allclose(first[RANDOM_LABEL].get_ydata(), 7)
    red, green, blue = (int(first[RANDOM_LABEL].get_color()[i : i + 2], 16) for i in (1, 3, 5))
    assert max(red, green, blue) - min(red, green, blue) < 16
    assert first[RANDOM_LABEL].get_linewidth() < first["vgg-robust"].get_linewidth()
    assert first[RANDOM_LABEL].get_marker() == first["vgg-robust"].get_marker()
    # Alone, it is an encoder like others.
    alone, twins = split_twins(measurements([r for r in rows if r["encoder"].startswith("random")]))
    assert not twins and len(alone) == 12


def test_figure_2_shows_clean_speech(rows):
    axes = figure_2(rows).axes
    assert [each.get_title(loc="left") for each in axes] == ["clean", "clean"]
    noisy = figure_2([r for r in rows if r["condition"] != "clean"]).axes
    assert noisy[0].get_title(loc="left") == "noise@10dB"


def difference(layer, value, low, high, condition="clean", other="vgg-baseline"):
    place = ("vgg-robust", layer, other, layer)
    return Difference(condition, "stoi", *place, 0.8, 0.8 - value, value, low, high, 0.03, 100, 2)


def test_figure_4_shows_the_gap_with_its_interval(rows, tmp_path):
    gaps = [
        difference("cnn1", 0.0, -0.01, 0.01), difference("blstm1", 0.1, 0.06, 0.14),
        difference("cnn1", 0.5, 0.4, 0.6, other="random:vgg-robust@2"),
    ]  # fmt: skip
    figure = figure_4(rows, gaps)
    # Two conditions; curves and differences of the one architecture, curves of the other, which has no differences.
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 6
    lower = shown[2]
    points = {line.get_xdata()[0]: line for line in lower.get_lines() if len(line.get_xdata()) == 1}
    assert {place: point.get_ydata()[0] for place, point in points.items()} == {0: 0.0, 2: pytest.approx(0.1)}
    # Filled where the interval leaves out 0.
    assert points[0].get_markerfacecolor() == "#ffffff" != points[2].get_markerfacecolor()
    assert lower.get_ylabel() == "robust\nless baseline"
    assert len({axes.get_ylim() for axes in shown[:2] + shown[4:]}) == 1  # one scale
    png, pdf = save_figure(figure, tmp_path / "figure4")
    assert Image.open(png).size[0] > 500 and pdf.read_bytes()[:4] == b"%PDF"
    plain = figure_4(rows)
    assert len([axes for axes in plain.axes if axes.get_visible()]) == 4


def test_the_legend_fits_its_figure(rows):
    long = [{**each, "encoder": each["encoder"].replace("vgg", "a-rather-long-name-of-vgg")} for each in rows]
    for figure in (figure_2(long), figure_4(long)):
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1


def test_difference_table():
    table = difference_table([difference("blstm1", 0.1, 0.06, 0.14)], "stoi")
    assert table.rows == (
        ("clean", "vgg-robust blstm1", "vgg-baseline blstm1", "+0.100", "+0.060 to +0.140", "0.030", "100", "2"),
    )
    missing = Difference("clean", "eer", "vgg", "cnn1", "-", "ceiling")
    assert difference_table([missing], "eer").rows[0][1:6] == ("vgg cnn1", "ceiling", "–", "–", "–")
    assert difference_markdown([missing, difference("cnn1", 0, 0, 0)]).count("not corrected") == 2


def test_figure_3_has_the_baseline_above_the_robust_model():
    mel = np.zeros((20, 8))
    rows = {name: {"clean": mel, "noisy": mel, "cnn1": mel + 1} for name in ("vgg-robust", "vgg-baseline", "other")}
    figure = spectrogram_figure(rows, "noise@10dB")
    named = [axes.get_ylabel().split("\n")[0] for axes in figure.axes if axes.get_ylabel()]
    assert named == ["vgg-baseline", "vgg-robust", "other"]
    assert [axes.get_title() for axes in figure.axes[:3]] == ["clean", "noise@10dB", "cnn1"]
    assert {image.get_clim() for axes in figure.axes for image in axes.images} == {(-12.0, 1.0)}  # one scale
