"""``hfprobe untangle`` on a tiny recogniser: what it writes, and what it refuses before it writes anything."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from hfprobe.cli import main

RATE = 16000
QUICK = ["--device", "cpu", "--classes", "5", "--points", "4", "--vectors", "30", "--restarts", "1"]
TEXTS = ("A B C D", "B C D E", "C D E A", "D E A B", "E A B C")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An encoder, a folder of five speakers' noise bursts, and when the words are spoken in them."""
    from espnet_stock import build_stock

    root = tmp_path_factory.mktemp("untangle")
    (root / "tiny").mkdir()
    build_stock(root / "tiny", "rnn-delta", 0)
    rng, lines = np.random.default_rng(0), []
    for speaker in range(5):
        (root / "speech" / f"s{speaker}").mkdir(parents=True)
        for take, text in enumerate(TEXTS):
            sound = 0.1 * rng.standard_normal(RATE) * np.repeat(rng.uniform(0.1, 1, 50), RATE // 50)
            soundfile.write(root / "speech" / f"s{speaker}" / f"{take}.wav", sound, RATE)
            lines += [f"s{speaker}/{take} 1 {0.2 * i:.1f} 0.2 {word}" for i, word in enumerate(text.split())]
    (root / "words.ctm").write_text("\n".join(lines))
    return SimpleNamespace(
        encoder=str(root / "tiny"), speech=f"audiofolder:{root / 'speech'}", times=str(root / "words.ctm")
    )


def test_by_word_with_given_times(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    argv = [
        "untangle",
        "--encoder",
        tiny.encoder,
        "--dataset",
        tiny.speech,
        "--by",
        "word",
        "--alignments",
        tiny.times,
        *QUICK,
        "--layers",
        "blstm1",
        "blstm5",
    ]
    argv += ["--snr", "clean", "5", "--noise", "generated"]
    assert main([*argv, "--output", str(out)]) == 0
    assert "classes.csv are in" in capsys.readouterr().out.splitlines()[-1]
    content = json.loads((out / "results.json").read_text())
    rows, config = content["rows"], content["config"]
    assert {(r["encoder"], r["layer"]) for r in rows} == {("-", "input"), ("tiny", "blstm1"), ("tiny", "blstm5")}
    assert {r["condition"] for r in rows} == {"clean", "noise@5dB"}
    measured = {"capacity", "radius", "dimension", "center_correlation", "separability", "class_variance"}
    assert {r["metric"] for r in rows} == measured | {f"{name}_shuffled" for name in measured}
    assert config["points_used"] == 20 and len(config["class_names"]) == 5 and config["random_capacity"] == 0.5
    assert all(r["n"] + r["n_failed"] == 20 for r in rows)
    with open(out / "classes.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 3 * 5
    names = {path.name for path in out.iterdir()}
    assert {"capacity.png", "capacity.pdf", "untangling.png", "untangling.pdf", "results.csv", "results.md"} <= names
    # The configuration that was written reads back, and the same seed gives the same.
    again = tmp_path / "again"
    assert main(["untangle", "--config", str(out / "config.yaml"), "--output", str(again)]) == 0
    assert (again / "results.csv").read_text() == (out / "results.csv").read_text()


def test_by_speaker_of_utterance_means(tiny, tmp_path):
    out = tmp_path / "out"
    argv = [
        "untangle",
        "--encoder",
        tiny.encoder,
        "--dataset",
        tiny.speech,
        "--by",
        "speaker",
        "--pool",
        "mean",
        "--no-shuffled",
        *QUICK,
    ]
    assert main([*argv, "--layers", "blstm2", "--output", str(out)]) == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert {row["layer"] for row in rows} == {"input", "blstm2"} and len(rows) == 12


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        (["--by", "letter"], 2, "invalid choice"),
        (["--layers", "blstm9"], 1, "choose from blstm1"),
        (["--classes", "1"], 1, "two classes or more"),
        (["--points", "999"], 1, "use fewer points"),
        (["--snr", "loud"], 1, "neither 'clean' nor"),
        (["--margin", "-1"], 1, "margin of 0 or more"),
        (["--memory", "0.00001"], 1, "the limit is"),
        (["--dataset", "nothing"], 1, "unknown dataset"),
        (["--by", "word", "--alignments", "nowhere"], 1, "no alignment in"),
        (["--by", "phone"], 1, "names no phone; give alignments"),
    ],
)
def test_wrong_values_leave_nothing_behind(tiny, tmp_path, capsys, options, status, word):
    out = tmp_path / "out"
    capsys.readouterr()
    argv = [
        "untangle",
        "--encoder",
        tiny.encoder,
        "--dataset",
        tiny.speech,
        "--by",
        "speaker",
        *QUICK,
        "--output",
        str(out),
        *options,
    ]
    assert main(argv) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and word in lines[0]
    assert not out.exists()
