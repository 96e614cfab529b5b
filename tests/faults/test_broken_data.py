"""Clips corrupted in ten ways among good ones, and a loss that is no number."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from fault_outcome import leftovers, numbers, table
from small_sounds import RATE, utterance, write_corpus

# What becomes of each: left out for a reason, or taken as it is after a conversion.
REASONS = {
    "truncated": "cut off", "header": "unreadable", "nan": "nan", "silent": "silent", "zero": "empty",
    "one": "too short", "missing": "missing",
}  # fmt: skip
TAKEN = ("rate48", "stereo", "clipped")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A corpus with ten corrupted clips among 24 good ones, and the same with what is usable of them only."""
    root = tmp_path_factory.mktemp("corpora")
    bad, good = write_corpus(root / "bad", 8), write_corpus(root / "good", 8)
    sounds = {name: utterance(50 + k, k % 3, 0.6 + 0.03 * k) for k, name in enumerate([*REASONS, *TAKEN])}
    places = {name: bad / f"s{k % 3}" / f"x-{name}.wav" for k, name in enumerate(sounds)}
    for name, path in places.items():
        soundfile.write(path, sounds[name], RATE)
    flac = places["truncated"].with_suffix(".flac")
    soundfile.write(flac, sounds["truncated"], RATE)
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    places["truncated"].unlink()
    data = bytearray(places["header"].read_bytes())
    data[:4], data[20:24] = b"RIFX", b"\xff\xff\xff\xff"
    places["header"].write_bytes(data)
    soundfile.write(places["nan"], np.where(np.arange(RATE) == 99, np.nan, 0.1), RATE, subtype="FLOAT")
    soundfile.write(places["silent"], np.zeros(RATE), RATE)
    places["zero"].write_bytes(b"")
    soundfile.write(places["one"], [0.5], RATE)
    places["missing"].unlink()
    with open(bad / "metadata.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "speaker"])
        table.writerow([places["missing"].relative_to(bad).as_posix(), "s0"])
    import soxr

    soundfile.write(places["rate48"], soxr.resample(sounds["rate48"], RATE, 48000), 48000)
    soundfile.write(places["stereo"], np.stack([sounds["stereo"]] * 2, axis=1), RATE)
    soundfile.write(places["clipped"], np.clip(5 * sounds["clipped"], -1, 1), RATE)
    for name in TAKEN:
        shutil.copy(places[name], good / places[name].relative_to(bad))
    soundfile.write(good / places["stereo"].relative_to(bad), sounds["stereo"], RATE)
    return bad, good


def check_left_out(folder, last_words):
    told = json.loads((folder / "left_out.json").read_text())
    assert told["utterances"] == dict.fromkeys(REASONS.values(), 1)
    named = {reason: [name.split("/")[-1] for name in names] for reason, names in told["names"]["utterances"].items()}
    assert named == {reason: [f"x-{name}"] for name, reason in REASONS.items()}
    line = next(line for line in last_words.splitlines() if line.startswith("left out: 7 utterances ("))
    for name, reason in REASONS.items():
        assert f"1 {reason}" in line and f"x-{name}" in line
    assert not any(name in line for name in TAKEN)


def test_evaluate_names_and_counts_them_and_no_other_number_moves(hfprobe, evaluate_words, corpora, tmp_path):
    tables = []
    for corpus in corpora:
        out = tmp_path / corpus.name
        words = [f"audiofolder:{corpus}" if str(w).startswith("audiofolder:") else w for w in evaluate_words(out)]
        words[words.index("--per-speaker") + 1] = "20"
        run = hfprobe.run(*words, "--snr", "clean")
        tables.append(table(out))
        if corpus.name == "bad":
            check_left_out(out, run.out)
        assert leftovers(out) == []
    assert tables[0].keys() == tables[1].keys() and tables[0] == tables[1]
    assert tables[0]["-", "input", "clean", "stoi"]["n"] == 24 + len(TAKEN)


def test_train_names_and_counts_them(hfprobe, train_words, corpora, tmp_path):
    words = [
        f"audiofolder:{corpora[0]}" if str(w).startswith("audiofolder:") else w for w in train_words(tmp_path / "b")
    ]
    words[words.index("--steps") + 1] = "12"  # an epoch, the statistics included
    check_left_out(tmp_path / "b", hfprobe.run(*words).out)
    assert all(torch.isfinite(tensor).all() for tensor in numbers(tmp_path / "b").values())


def test_a_loss_that_is_no_number_stops_and_keeps_the_batch(hfprobe, train_words, tmp_path):
    from safetensors.torch import load_file

    out = tmp_path / "bank"
    run = hfprobe.run(*train_words(out, "--learning-rate", "1e30"), status=1)
    assert "expected a finite loss for layer 'blstm1'" in run.err and "--no-resume" in run.err
    (kept,) = (out / "diverged").glob("*.safetensors")
    assert str(kept) in run.err
    told, tensors = json.loads(kept.with_suffix(".json").read_text()), load_file(kept)
    assert tensors["waveforms"].shape == (3, int(tensors["lengths"].max())) and set(tensors) == {
        "waveforms",
        "clean",
        "lengths",
    }
    assert [u["samples"] for u in told["utterances"]] == tensors["lengths"].tolist()
    assert all(u["finite"] and u["id"] in run.err for u in told["utterances"])
    assert any(isinstance(loss, str) for loss in told["losses"].values())
    assert f"at step {told['step']}" in run.err
    assert leftovers(out) == [] and not (out / "bank.json").exists()
    # The weights of the last checkpoint are those before it happened.
    from hfprobe.probes import checkpoints

    for folder in checkpoints.available(out / "checkpoints"):
        assert all(torch.isfinite(value).all() for value in load_file(folder / "probes.safetensors").values())
    hfprobe.run(*train_words(out, "--no-resume"))
    assert (out / "bank.json").exists()
