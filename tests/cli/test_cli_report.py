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
