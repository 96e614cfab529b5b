"""Starts, in new processes: what is loaded, not how long it takes."""

from hfprobe.bench.start import HELP, _cpu_of, _torch_in_help, bench_start


def test_help_loads_no_torch_and_the_counter_would_see_it(monkeypatch):
    assert _torch_in_help() == 0
    monkeypatch.setattr("hfprobe.bench.start.HELP", HELP.replace("from hfprobe", "import torch; from hfprobe"))
    assert _torch_in_help() > 100


def test_rows_and_goals(machine, monkeypatch):
    monkeypatch.setattr("hfprobe.bench.start.IMPORTS", {
        "python -c pass": "pass", "hfprobe --help": HELP, "import hfprobe": "import hfprobe",
        "import torch": "import json",
    })  # fmt: skip
    section = bench_start(machine, repeats=1, listen=False)
    assert [row["name"] for row in section.rows][0] == "python -c pass" and len(section.rows) == 4
    assert all(row["wall_s"]["median"] > 0 for row in section.rows)
    assert [goal.limit for goal in section.goals] == [1.2, 0.5, 1.2, 0.5, 0.0]


def test_time_of_a_process_that_runs():
    import os

    assert _cpu_of(os.getpid()) > 0 and _cpu_of(2**22 + 1) == 0.0
