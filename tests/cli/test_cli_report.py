"""``hfprobe report`` as typed: the page, one-line errors with nothing written, and no torch."""

import subprocess
import sys

import pytest

from hfprobe.cli import main
from hfprobe.results import ResultRow, Results


def saved(folder, value, encoder="vgg", config=None):
    rows = [ResultRow(encoder, f"blstm{k}", "clean", "accuracy", value, value, value, 10) for k in (1, 2)]
    Results(tuple(rows), {"command": "hfprobe classify"}, config or {"target": "phone"}).to_json(
        folder / "results.json"
    )
    return str(folder)


def test_page_is_written(tmp_path, capsys):
    runs = [saved(tmp_path / "a", 0.25), saved(tmp_path / "b", 0.5, "pure")]
    assert main(["report", *runs, "--output", str(tmp_path / "out"), "--title", "Mine"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"2 runs are side by side in {tmp_path / 'out' / 'index.html'}"
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "phone accuracy (%)" in text and "25.0" in text and "50.0" in text and "<h1>Mine</h1>" in text
    settings = str(tmp_path / "out" / "config.yaml")
    assert main(["report", "--config", settings, "--output", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "index.html").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("case", ["no run", "broken", "conflict", "output is a run", "output is a file", "no layer"])
def test_errors_are_one_line_and_leave_nothing(tmp_path, capsys, case):
    good, out = saved(tmp_path / "good", 0.25), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text('{"rows": [NaN]}', encoding="utf-8")
    Results((ResultRow("e", "input", "clean", "wer", 0.5, n=2),)).to_json(tmp_path / "input.json")
    runs = {
        "no run": [good, str(tmp_path / "empty")],
        "broken": [good, str(tmp_path / "broken.json")],
        "conflict": [good, saved(tmp_path / "other", 0.75)],
        "no layer": [str(tmp_path / "input.json")],
    }.get(case, [good])
    if case == "output is a run":
        out = tmp_path / "good"
    if case == "output is a file":
        out = tmp_path / "broken.json"
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", *runs, "--output", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("hfprobe: error: ")
    words = {"no run": "empty", "broken": "broken.json", "conflict": "'good' and 'other'", "no layer": "input.json"}
    assert words.get(case, "--output") in error
    assert sorted(tmp_path.rglob("*")) == before


def test_torch_is_not_imported(tmp_path):
    run = saved(tmp_path / "a", 0.25)
    code = (
        "import sys\nfrom hfprobe.cli import main\n"
        f"assert main(['report', {run!r}, '--output', {str(tmp_path / 'out')!r}]) == 0\n"
        "assert not {'torch', 'transformers', 'espnet2'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)


def test_kept_sounds_alone_are_a_run(tmp_path, capsys):
    import numpy as np

    from hfprobe.reports import Clip, ConditionView, UtteranceView
    from hfprobe.reports.kept import keep_views

    sound = Clip(np.zeros(800), np.zeros((6, 4)))
    keep_views([UtteranceView("u", "Hello", conditions=(ConditionView("clean", sound),))], tmp_path / "heard")
    argv = ["report", str(tmp_path / "heard"), "--output", str(tmp_path / "out"), "--single-file"]
    assert main(argv) == 0
    page = tmp_path / "out" / "index.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"1 run is in {page}, with 1 utterance to listen to"
    assert sorted(path.name for path in page.parent.iterdir()) == ["config.yaml", "index.html"]
    assert '"title":"Hello"' in page.read_text(encoding="utf-8")
    assert main([*argv[:4], "--audio-format", "mp3"]) == 2
    (tmp_path / "heard" / "sounds" / "index.json").write_text("[]", encoding="utf-8")
    capsys.readouterr()
    assert main([*argv[:3], str(tmp_path / "new")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "index.json" in error and not (tmp_path / "new").exists()
