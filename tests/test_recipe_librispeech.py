"""The LibriSpeech recipe: every stage on a tiny corpus in LibriSpeech's folders, and what it says when one is missing.

With ``HFPROBE_SLOW=1`` both architectures, ThinResNet, SpecAugment and speed perturbation run, too (some minutes).
"""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from forked_python import forked_python
from librispeech_folder import SPLITS, make_librispeech, make_musan

from hfprobe.asr.alignable import frames_of
from hfprobe.asr.check_data import main as check_data
from hfprobe.asr.manifest import load_split
from hfprobe.data.locations import local_noise
from hfprobe.results import Results

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "librispeech" / "asr1"
sys.path.insert(0, str(RECIPE / "local"))
SLOW = os.environ.get("HFPROBE_SLOW") == "1"
ARCHS = "vgg_blstm blstm" if SLOW else "blstm"
THINRESNET = Path(os.environ.get("HFPROBE_SHARED") or ROOT.parent / "shared") / "golden" / "thin_resnet" / "weights.h5"
NAMES = [f"{arch.replace('_', '-')}-{kind}" for arch in ARCHS.split() for kind in ("baseline", "robust")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("librispeech")
    make_librispeech(folder)
    make_musan(folder)
    return folder


def recipe(place, *words, python=None):
    """Run the recipe; the environment has no corpus and no GPU."""
    environment = {
        **os.environ, "PYTHON": str(python or sys.executable), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "HFPROBE_DATA": "", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    given = ["--size", "tiny", "--data", str(place / "LibriSpeech"), "--noise", str(place / "musan"), "--ngpu", "0"]
    return subprocess.run(
        ["bash", str(RECIPE / "run.sh"), *given, "--exp", str(place / "exp"), "--archs", ARCHS, *words],
        env=environment, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    with forked_python(tmp_path_factory.mktemp("python")) as script:
        yield script


@pytest.fixture(scope="module")
def done(place, python):
    """All stages once."""
    more = []
    if SLOW:
        more = ["--specaug", "true", "--speeds", "0.9 1.0 1.1", "--history", "3"]
        more += ["--thinresnet", str(THINRESNET)] if THINRESNET.is_file() else []
    ran = recipe(place, *more, python=python)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout + ran.stderr, place / "exp"


def test_all_stages_run_and_say_how_long(done):
    text, exp = done
    assert [int(n) for n in re.findall(r"^Stage (\d): ", text, re.M)] == list(range(1, 10))
    times = (exp / "times.txt").read_text().splitlines()
    assert len(times) == 9 and all(re.fullmatch(r"Stage \d took \d+ s \(cores: \d+, GPUs: 0\)", line) for line in times)
    for name, split in (("train", "train-clean-100"), ("dev", "dev-clean"), ("test", "test-clean")):
        speakers, each = SPLITS[split]
        assert f"{name}: {speakers * each} utterances" in text
        assert len(load_split(exp / "data" / f"{name}.tsv").utterances) == speakers * each
    assert re.search(r"train, blstm: \d of 6 utterances \([\d.]+ %\) have more characters", text)
    assert re.search(r"train, blstm: \d of 6 utterances \([\d.]+ %\) have more word pieces", text)


def test_recognisers_are_the_papers_in_small(done):
    exp = done[1]
    for name in NAMES:
        config = yaml.safe_load((exp / "encoders" / name / "config.yaml").read_text())
        kind = name.rpartition("-")[2]
        assert config["encoder_conf"]["num_layers"] == 5 and config["encoder_conf"]["hidden_size"] == 8
        assert config["training"].get("hf_noise") == ("musan" if kind == "robust" else None)
        assert str(exp) not in (exp / "encoders" / name / "config.yaml").read_text()
        weights = torch.load(exp / "encoders" / name / "valid.loss.best.pth", weights_only=True)
        assert all(torch.isfinite(value).all() for value in weights.values())
        pieces = (exp / "pieces" / "tokens.txt").read_text().split()
        assert config["token_list"] == pieces if name.startswith("blstm") else len(config["token_list"]) == 31


def test_tables_figures_and_page(done):
    exp = done[1]
    table = (exp / "wer" / "table1.md").read_text()
    assert "dev-clean | paper | test-clean | paper" in table and "| 25.23 |" in table and "| 30.98 |" in table
    for name in NAMES:
        for each in ("dev-clean", "test-clean"):
            rows = Results.from_json(exp / "wer" / f"{name}.{each}.json").rows
            assert {(r.metric, r.condition) for r in rows} == {
                (metric, condition) for metric in ("wer", "cer") for condition in ("clean", "noise@10dB")
            }
    for arch in ARCHS.split():
        run = exp / "evaluation" / arch / "ge2e"
        rows = json.loads((run / "results.json").read_text())["rows"]
        encoders = {row["encoder"] for row in rows} - {"-"}  # the floor that knows only the mean is nobody's
        assert encoders == {
            *(n for n in NAMES if n.startswith(arch.replace("_", "-"))),
            f"random:{arch.replace('_', '-')}-robust",
        }
        layers = {row["layer"] for row in rows}
        assert {"input", "ceiling", "floor", "blstm1", "blstm5"} <= layers and ("cnn4" in layers) == (
            arch == "vgg_blstm"
        )
        for name in ("table2.md", "figure2.png", "figure2.pdf", "figure4.png", "differences.csv", "results.csv"):
            assert (run / name).stat().st_size > 100
        for verifier in ("ge2e", "thinresnet") if SLOW and THINRESNET.is_file() else ("ge2e",):
            assert "<html" in (exp / "report" / f"{arch}-{verifier}" / "index.html").read_text()[:500]
    assert "| clean | blstm-robust | blstm1 |" in (exp / "report" / "table2-ge2e.md").read_text()
    assert (exp / "report" / "table2-thinresnet.md").is_file() == (SLOW and THINRESNET.is_file())


def test_again_it_takes_up_what_is_there(done, place, python):
    exp = done[1]
    files = [exp / "encoders" / NAMES[0] / "config.yaml", exp / "banks" / NAMES[0] / "bank.json"]
    files += [exp / "evaluation" / ARCHS.split()[-1] / "ge2e" / "results.json"]
    before = [file.stat().st_mtime_ns for file in files]
    for stage in ("1", "5", "7", "8"):
        again = recipe(place, "--stage", stage, "--stop-stage", stage, python=python)
        assert again.returncode == 0 and "is there already; remove it to make it anew" in again.stdout, again.stderr
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.parametrize(
    ("stage", "missing", "first"),
    [
        (2, "data/train.tsv", 1), (3, "data/train.tsv", 1), (4, "feats_stats.npz", 3),
        (5, "valid.loss.ave.pth", 4), (6, "config.yaml", 5), (7, "config.yaml", 5), (8, "bank.json", 7),
        (9, "results.json", 8),
    ],
)  # fmt: skip
def test_a_stage_without_the_one_before_names_it(place, tmp_path, stage, missing, first):
    words = ["--stage", str(stage), "--stop-stage", str(stage), "--exp", str(tmp_path)]
    ran = recipe(place, *words)
    assert ran.returncode == 1 and len(ran.stderr.splitlines()) == 1
    assert re.search(rf"{missing} is missing: run stage {first} first \(--stage {first}\)", ran.stderr), ran.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "huge"], "--size huge is not known; choose full or tiny"),
        (["--archs", "lstm"], "no architecture lstm; choose from vgg_blstm, blstm"),
        (["--noise", ""], "no noise is given; use --noise with MUSAN's folder"),
    ],
)
def test_wrong_options_are_one_line(place, words, message):
    ran = recipe(place, *words)
    assert ran.returncode == 2 and len(ran.stderr.splitlines()) == 1 and message in ran.stderr


def check(place, capsys, **sets):
    """The data check of stage 1, in this process; status and what it said."""
    names = {"train": "clean/train.100", "dev": "clean/validation", "test": "clean/test"}
    words = [w for k, v in names.items() for w in (f"--{k}", sets.get(k, f"librispeech:{place}/LibriSpeech/{v}"))]
    words += ["--noise", sets.get("noise", str(place / "musan")), "--recogniser"]
    status = check_data(
        [*words, str(RECIPE / "conf" / "train_vgg_blstm.yaml"), str(RECIPE / "conf" / "train_blstm.yaml")]
    )
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def copied(place, tmp_path):
    for name in ("LibriSpeech", "musan"):
        shutil.copytree(place / name, tmp_path / name)
    return tmp_path


def test_what_is_wrong_with_a_folder_is_named(copied, capsys):
    assert check(copied, capsys)[0] == 0
    chapter = copied / "LibriSpeech" / "train-clean-100" / "101" / "7"
    (chapter / "101-7-0001.flac").rename(chapter / "away")
    status, _, said = check(copied, capsys)
    assert status == 1 and re.search("train: 1 of 6 .* no readable audio: 101-7-0001; restore", said)
    (chapter / "away").rename(chapter / "101-7-0001.flac")
    text = chapter / "101-7.trans.txt"
    kept = text.read_text()
    text.write_text(kept.replace("101-7-0000 ", "101-7-0000 CAFÉ "))
    status, _, said = check(copied, capsys)
    assert status == 1 and "'É' (the first in 101-7-0000); add them to the list" in said
    text.write_text(kept)
    shutil.rmtree(copied / "musan" / "music")
    status, _, said = check(copied, capsys)
    assert status == 1 and "has no music for train; expected folders noise, music, speech" in said
    shutil.rmtree(copied / "LibriSpeech" / "dev-clean")
    (copied / "LibriSpeech" / "dev-clean").mkdir()
    status, _, said = check(copied, capsys)
    assert status == 1 and "no utterance in" in said and "dev-clean" in said and len(said.splitlines()) == 1


def test_the_hubs_tables_give_the_same(place, tmp_path, capsys):
    """Parquet with the columns of openslr/librispeech_asr."""
    sets = {}
    for name, split in (("train", "train-clean-100"), ("dev", "dev-clean"), ("test", "test-clean")):
        rows = []
        for sound in sorted((place / "LibriSpeech" / split).rglob("*.flac")):
            lines = next(sound.parent.glob("*.trans.txt")).read_text().splitlines()
            speaker, chapter, _ = sound.stem.split("-")
            rows.append({
                "file": sound.name, "audio": {"bytes": sound.read_bytes(), "path": sound.name},
                "text": next(line.partition(" ")[2] for line in lines if line.startswith(sound.stem)),
                "speaker_id": int(speaker), "chapter_id": int(chapter), "id": sound.stem,
            })  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        sets[name] = f"parquet:{tmp_path}/{name}.parquet"
    folder, tables = check(place, capsys), check(place, capsys, **sets)
    assert folder == tables and folder[0] == 0


@pytest.mark.skipif(local_noise() is None, reason="the LibriSpeech clips are not in the data folder of this machine")
def test_real_librispeech_files_are_read(tmp_path):
    clips = sorted((local_noise() / "speech").rglob("*.flac"))
    for index, clip in enumerate(clips):
        chapter = tmp_path / "LibriSpeech" / "train-clean-100" / str(1000 + index) / "1"
        chapter.mkdir(parents=True)
        (chapter / f"{1000 + index}-1-0000.flac").symlink_to(clip)
        (chapter / f"{1000 + index}-1.trans.txt").write_text(f"{1000 + index}-1-0000 NOT WHAT IS SAID\n")
    words = ["--train", f"librispeech:{tmp_path}/LibriSpeech/clean/train.100", "--write", str(tmp_path)]
    assert check_data(words) == 0
    items = load_split(tmp_path / "train.tsv").utterances
    assert len(items) == len(clips) >= 60 and len({item.speaker for item in items}) == len(clips)
    assert all(16000 < item.samples < 16000 * 25 for item in items)


def test_paper_numbers_and_configurations():
    from paper import TABLE_1, TABLE_2

    assert len(TABLE_1) == 4 and len(TABLE_2) == 8 * 11
    assert (
        TABLE_2["noise@10dB", "blstm-baseline", "blstm2"] == 24.31
        and TABLE_2["clean", "vgg-blstm-robust", "cnn4"] == 7.18
    )
    for arch, step, frames in (("vgg_blstm", 40, 51), ("blstm", 80, 26)):
        config = yaml.safe_load((RECIPE / "conf" / f"train_{arch}.yaml").read_text())
        conf = config["encoder_conf"]
        assert (conf["num_layers"], conf["hidden_size"], conf["output_size"]) == (5, 320, 320)
        of, found = frames_of(config)
        assert found == step and of(32000) == frames
    assert np.mean(list(TABLE_2.values())) == pytest.approx(26.2, abs=1)


def test_runs_of_both_architectures_stand_beside_the_paper(done):
    from beside_paper import beside

    rows = Results.from_json(done[1] / "evaluation" / ARCHS.split()[-1] / "ge2e" / "results.json").rows
    other = [dataclasses.replace(row, encoder=row.encoder.replace("blstm", "vgg-blstm")) for row in rows]
    text = beside([*rows, *other])  # natural speech is in both
    for name in ("blstm-robust", "vgg-blstm-baseline"):
        assert f"| clean | {name} | blstm1 |" in text and f"| noise@10dB | {name} | blstm5 |" in text
    assert "Natural speech of test-clean: " in text and "not measured" not in text and "cnn3" not in text


def test_documented_numbers_are_the_papers():
    from paper import TABLE_1

    text = (RECIPE / "README.md").read_text()
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter="|")]
    for name, sets in TABLE_1.items():
        assert any(
            row[1:2] == [name] and str(sets["dev-clean"]) in row and str(sets["test-clean"]) in row for row in rows
        )
