"""The recipe of pretrained encoders: every stage, on tiny transformers models with random weights and an ESPnet one.

With ``HFPROBE_SLOW=1`` on four kinds of them.
"""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from forked_python import forked_python
from hf_models import build_stock

from hfprobe.data import load_corpus
from hfprobe.data.corpora import row_samples
from hfprobe.results import ResultRow, Results

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "librispeech" / "pretrained1"
sys.path.insert(0, str(RECIPE / "local"))
import by_depth  # noqa: E402

SLOW = os.environ.get("HFPROBE_SLOW") == "1"
VARIANTS = ("wav2vec2-base", "hubert-base", "wavlm-base", "whisper") if SLOW else ("wav2vec2-base",)
FILES = ("layers", "banks", "evaluation/results.json", "similarity/results.json", "knows/phone/results.json")


def recipe(place, encoders, *words, python=None):
    environment = {
        **os.environ, "PYTHON": str(python or sys.executable), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "HFPROBE_DATA": "", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    given = ["--size", "tiny", "--train-set", "espeak:train", "--test-set", "espeak:test", "--noise", "generated"]
    return subprocess.run(
        ["bash", str(RECIPE / "run.sh"), *given, "--device", "cpu", "--exp", str(place / "exp"), "--encoders",
         " ".join(map(str, encoders)), *words],
        env=environment, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    with forked_python(tmp_path_factory.mktemp("python")) as script:
        yield script


@pytest.fixture(scope="module")
def done(tmp_path_factory, python):
    place = tmp_path_factory.mktemp("pretrained")
    # Every espeak-ng utterance has three phones of a third each: enough to go through the stage.
    ctm = [
        f"{row['id']} 1 {third * row_samples(row) / 48000:.3f} {row_samples(row) / 48000:.3f} {phone}"
        for row in load_corpus("espeak:train")
        for third, phone in enumerate(("AH", "S", "T"))
    ]
    (place / "phones.ctm").write_text("\n".join(ctm) + "\n")
    encoders = [str(build_stock(place / name, name).folder) for name in VARIANTS] + ["blstm-robust"]
    ran = recipe(place, encoders, "--alignments", str(place / "phones.ctm"), python=python)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout, place, encoders


def test_every_stage_runs_and_measures_all_encoders_on_the_same(done):
    text, place, encoders = done
    exp = place / "exp"
    assert [int(n) for n in re.findall(r"^Stage (\d): ", text, re.M)] == [1, 2, 3, 4, 5, 6]
    assert all((exp / name).exists() for name in FILES)
    evaluation = Results.from_json(exp / "evaluation" / "results.json")
    measured = [row for row in evaluation if row.metric == "eer" and row.condition == "noise@10dB"]
    names = {row.encoder for row in measured} - {"-"}
    # The same trials for all; a sound of random weights may hold nothing to verify, which counts as failed.
    assert len(names) == len(encoders) and len({row.n + row.n_failed for row in measured}) == 1
    pairs = {row.encoder for row in Results.from_json(exp / "similarity" / "results.json")}
    assert {f"{name}~blstm-robust" for name in VARIANTS} <= pairs, pairs
    assert (exp / "report" / "index.html").stat().st_size > 10_000


def test_table_by_depth_goes_from_the_first_layer_to_the_last(done):
    folder = done[1] / "exp" / "depth"
    assert (folder / "clean.png").is_file() and (folder / "noise-10dB.png").is_file()
    rows = list(csv.DictReader((folder / "by_depth.csv").read_text().splitlines()))
    assert {row["run"] for row in rows} == {"evaluation", "phone", "speaker"}
    depths = [float(r["depth"]) for r in rows if (r["run"], r["metric"], r["condition"]) == ("evaluation", "eer", "clean")
              and r["encoder"] == "blstm-robust"]  # fmt: skip
    assert depths == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_second_run_takes_up_what_is_there(done, python):
    text, place, encoders = done
    given = ["--alignments", str(place / "phones.ctm"), "--stop-stage", "5"]
    again = recipe(place, encoders, *given, python=python)
    assert again.returncode == 0 and again.stdout.count("is there already") == 2 * len(encoders) + 4


def test_a_missing_stage_and_wrong_options_are_named(tmp_path):
    ran = recipe(tmp_path, ["blstm-robust"], "--stage", "3")
    assert ran.returncode == 1 and "run stage 2 first (--stage 2)" in ran.stderr
    ran = recipe(tmp_path, ["blstm-robust"], "--size", "huge")
    assert ran.returncode == 2 and "choose full, small or tiny" in ran.stderr
    ran = recipe(tmp_path, [], "--stage", "3")
    assert ran.returncode == 2 and "name at least one" in ran.stderr


def test_depth_of_one_layer_and_without_references():
    rows = [ResultRow("one", "cnn1", "clean", "eer", 0.1, n=4), ResultRow("one", "ceiling", "clean", "eer", 0.1, n=4)]
    assert by_depth.by_depth(rows) == [(0.0, rows[0])]
    assert by_depth.draw({"other": Results(rows)}, "clean", ["one"]) is None
