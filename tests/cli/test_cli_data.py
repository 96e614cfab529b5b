"""``--columns``, ``--workers``, and the line on what was left out, as the commands have them."""

import io
import json
import shutil
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import yaml

from hfprobe.cli import main
from hfprobe.data import SpeechStream


@pytest.fixture(scope="module")
def calls(tmp_path_factory, spoken):
    """A table with columns of its own: 2 speakers of 3 utterances each, one cut off and one silent."""
    root = tmp_path_factory.mktemp("calls")
    rows = []
    for n in range(8):
        buffer = io.BytesIO()
        sf.write(buffer, spoken[: 12000 + 800 * n] * (0.0 if n == 7 else 1.0), 16000, format="FLAC")
        data = buffer.getvalue()
        rows.append(
            {"wav": data[:2000] if n == 6 else data, "sentence": "go home", "spk": f"s{n % 2}", "name": f"call-{n}"}
        )
    pq.write_table(pa.Table.from_pylist(rows), root / "calls.parquet")
    columns = ["--columns", "audio=wav", "text=sentence", "speaker=spk", "id=name"]
    return SimpleNamespace(root=root, dataset=f"parquet:{root}/*.parquet", columns=columns)


@pytest.fixture(scope="module")
def banks(world, calls):
    """The same training with and without workers."""
    folders = []
    for workers in ("0", "2"):
        folders.append(calls.root / f"bank{workers}")
        train = [
            "train",
            "--encoder",
            world.encoder,
            "--dataset",
            calls.dataset,
            *calls.columns,
            "--noise",
            "generated",
        ]
        train += [
            "--steps",
            "4",
            "--checkpoint-steps",
            "2",
            "--batch-size",
            "2",
            "--hidden-dim",
            "8",
            "--device",
            "cpu",
            "--workers",
            workers,
        ]
        assert main([*train, "--output", str(folders[-1])]) == 0
    return folders


def weights(folder):
    paths = sorted(path for path in folder.rglob("*.safetensors") if "checkpoints" not in path.parts)
    return [path.read_bytes() for path in paths]


def test_workers_change_nothing(banks):
    assert weights(banks[0]) and weights(banks[0]) == weights(banks[1])


def test_an_interrupted_training_goes_on_with_the_same_batches(banks, calls, monkeypatch):
    folder = calls.root / "interrupted"
    (folder / "checkpoints").mkdir(parents=True)
    step = next((banks[1] / "checkpoints").glob("step-*2"))
    shutil.copytree(step, folder / "checkpoints" / step.name)
    load, loaded = SpeechStream.load_state_dict, []
    monkeypatch.setattr(SpeechStream, "load_state_dict", lambda self, state: (loaded.append(state), load(self, state)))
    args = ["train", "--config", str(banks[1] / "config.yaml"), "--workers", "1", "--output", str(folder)]
    assert main(args) == 0
    assert [state["position"] > 0 or state["epoch"] > 0 for state in loaded] == [True]  # it did not begin anew
    assert weights(folder) == weights(banks[1])


def test_the_dataset_is_written_with_its_columns(banks, calls):
    written = yaml.safe_load((banks[0] / "config.yaml").read_text())
    assert written["columns"] is None
    assert written["dataset"] == f"{calls.dataset} audio=wav text=sentence speaker=spk id=name"


def test_training_ends_by_what_was_left_out(world, calls, banks, capsys):
    args = ["train", "--config", str(banks[0] / "config.yaml"), "--no-resume", "--output", str(calls.root / "again")]
    assert main(args) == 0
    *_, left_out, last = capsys.readouterr().out.strip().splitlines()
    assert left_out.startswith("left out: 2 utterances (1 cut off, 1 silent): call-") and "again" in last
    counts = json.loads((calls.root / "again" / "left_out.json").read_text())
    names = counts.pop("names")
    assert counts == {"utterances": {"cut off": 1, "silent": 1}, "noise files": {}}
    assert names["noise files"] == {} and sorted(map(len, names["utterances"].values())) == [1, 1]


def test_measuring_ends_by_what_was_left_out(world, calls, tmp_path, capsys):
    similarity = ["similarity", "--encoder", world.encoder, "--dataset", calls.dataset, *calls.columns]
    assert main([*similarity, "--measures", "linear_cka", "--replicates", "0", "--output", str(tmp_path / "out")]) == 0
    *_, left_out, last = capsys.readouterr().out.strip().splitlines()
    assert left_out == "left out: 2 utterances (1 cut off, 1 silent): call-6, call-7" and str(tmp_path) in last
    config = json.loads((tmp_path / "out" / "results.json").read_text())["config"]
    assert config["left_out"] == {"cut off": 1, "silent": 1} and "last_words" not in config


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--columns", "sound=wav"], 2, "FIELD of audio, id, text, speaker, gender, words, not 'sound=wav'"),
        (["--columns", "audio"], 2, "not 'audio'"),
        (
            ["--columns", "audio=wave"],
            1,
            "no column 'wave' (asked for as audio); its columns: wav, sentence, spk, name",
        ),
        ([], 1, "say which column is the sound with audio=COLUMN"),
        (["--workers", "-1"], 2, "a number of threads from 0 to 64"),
    ],
)
def test_wrong_columns_are_said_in_one_line(world, calls, tmp_path, capsys, words, status, message):
    train = ["train", "--encoder", world.encoder, "--dataset", calls.dataset, "--output", str(tmp_path / "bank")]
    assert main([*train, *words]) == status
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "bank").exists()
