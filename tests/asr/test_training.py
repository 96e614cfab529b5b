"""The whole way: ESPnet trains from a stream, resumes, and what is shipped gives the same hidden states."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hfprobe.asr.iterators import CharTokens, StreamIterFactory
from hfprobe.asr.ship import ship
from hfprobe.asr.stats import feature_stats
from hfprobe.asr.train import main
from hfprobe.data import SpeechStream, load_corpus
from hfprobe.data.corpora import row_samples
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.encoders.espnet.frontend import DeltaFrontend
from hfprobe.errors import EncoderError

ROOT = Path(__file__).resolve().parents[2]
TOKENS = ["<blank>", "<unk>", "<space>", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "<sos/eos>"]
CONFIG = {
    "token_type": "char",
    "token_list": TOKENS,
    "frontend": "delta",
    "frontend_conf": {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80},
    "normalize": "global_mvn",
    "encoder": "rnn",
    "encoder_conf": {
        "rnn_type": "lstm", "bidirectional": True, "use_projection": True, "num_layers": 2, "hidden_size": 12,
        "output_size": 12, "dropout": 0.1, "subsample": [2, 2],
    },
    "decoder": None,
    "model_conf": {"ctc_weight": 1.0, "report_cer": False, "report_wer": False},
    "ctc_conf": {"zero_infinity": True},
    "optim": "adamw",
    "optim_conf": {"lr": 0.001},
    "hf_train": ["espeak:train", "spoken:110-140:espeak:train@0.5"],
    "hf_valid": "espeak:test",
    "hf_valid_limit": 2,
    "hf_noise": "generated",
    "hf_batch": 2,
    "hf_speeds": [0.9, 1.1],
    "hf_history": 4,
    "hf_workers": 1,
    "specaug": "delta",
    "specaug_conf": {"apply_time_warp": False, "freq_mask_width_range": [0, 10], "time_mask_width_range": [0, 10]},
    "num_iters_per_epoch": 3,
    "best_model_criterion": [["valid", "loss", "min"]],
    "num_workers": 0,
    "use_tensorboard": False,
    "use_matplotlib": False,
}  # fmt: skip


def train(folder, *options):
    command = [sys.executable, "-m", "hfprobe.asr.train", "--config", str(folder / "train.yaml"), "--ngpu", "0"]
    command += ["--output_dir", str(folder / "exp"), "--normalize_conf", f"stats_file={folder}/stats.npz", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asr")
    stats = feature_stats(SpeechStream("espeak:test", batch_size=2, limit=4), 2)
    np.savez(folder / "stats.npz", **stats)
    (folder / "train.yaml").write_text(yaml.safe_dump(CONFIG))
    train(folder, "--max_epoch", "1")
    first = torch.load(folder / "exp" / "1epoch.pth", weights_only=True)
    log = train(folder, "--max_epoch", "2", "--resume", "true")
    return folder, first, log


def test_training_writes_and_resumes(trained):
    folder, first, log = trained
    config = yaml.safe_load((folder / "exp" / "config.yaml").read_text())
    assert config["hf_train"] == CONFIG["hf_train"] and config["unit_start"] is True
    assert "resumed" in log and "2epoch started" in log and "1epoch started" not in log
    second = torch.load(folder / "exp" / "latest.pth", weights_only=True)
    moved = {key: float((second[key] - value).abs().max()) for key, value in first.items() if value.is_floating_point()}
    assert all(torch.isfinite(value).all() for value in second.values())
    # Three steps of AdamW at a rate of 0.001 go on from the first epoch's weights: a new start would be far away.
    assert 0 < max(moved.values()) < 0.02


def test_history_is_kept_along_training_and_read_by_similarity(trained):
    from hfprobe.cli.similarity import checkpoint_label, checkpoints_of

    folder = trained[0] / "exp"
    # One epoch of three steps, then a second one: each training keeps its points, and its end.
    assert {path.name for path in folder.glob("*step.pth")} == {f"{n}step.pth" for n in (1, 2, 3, 6)}
    for step, epoch in ((3, 1), (6, 2)):
        one, other = (
            torch.load(folder / f"{name}.pth", weights_only=True) for name in (f"{step}step", f"{epoch}epoch")
        )
        assert one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())
    found, files = checkpoints_of([str(folder)], ["*step.pth"])
    assert found == folder and [checkpoint_label(file) for file in files] == ["1step", "2step", "3step", "6step"]
    encoder = AutoSpeechEncoder.from_pretrained(folder, weights=files[1].name)
    batch = next(iter(SpeechStream("espeak:test", batch_size=1)))
    assert torch.isfinite(encoder(batch.waveforms, batch.lengths).hidden_states[-1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hf_history", "1"], "--hf_history must be 0"),
        (["--hf_history", "5", "--num_iters_per_epoch", "none"], "give --num_iters_per_epoch"),
        (["--hf_speeds", "9"], "--hf_speeds must be between"),
        (["--hf_max_seconds", "0.1"], r"epoch 1 has no usable utterance \(left out: {'too long': "),
        (["--token_type", "bpe"], "token_type bpe needs a sentencepiece model"),
    ],
)
def test_what_a_user_can_repair_is_one_line(trained, tmp_path, options, message):
    folder = trained[0]
    given = [
        "--config",
        f"{folder}/train.yaml",
        "--ngpu",
        "0",
        "--output_dir",
        str(tmp_path / "exp"),
        "--max_epoch",
        "1",
    ]
    try:
        with pytest.raises(SystemExit, match=f"^hfprobe.asr.train: error: .*{message}") as caught:
            main([*given, "--normalize_conf", f"stats_file={folder}/stats.npz", *options])
    finally:
        torch.set_flush_denormal(False)
    assert "\n" not in str(caught.value.code)


@torch.no_grad()
def test_what_is_shipped_gives_the_same_states_and_names_no_folder(trained, tmp_path):
    folder = trained[0]
    full = yaml.safe_load((folder / "exp" / "config.yaml").read_text())
    full.update(hf_train=[f"kaldi:{folder}/corpus", "user/name:train@0.5"], hf_noise=str(folder / "musan"))
    (folder / "exp" / "config.yaml").write_text(yaml.safe_dump(full))
    shipped = ship(folder / "exp", tmp_path / "small")
    text = (shipped / "config.yaml").read_text()
    assert str(folder) not in text and str(ROOT) not in text and "/tmp" not in text
    assert yaml.safe_load(text)["training"]["hf_train"] == ["kaldi:corpus", "user/name:train@0.5"]
    assert yaml.safe_load(text)["training"]["hf_noise"] == "musan"
    # ESPnet's recurrent layers would drop out in eval() too.
    assert yaml.safe_load(text)["encoder_conf"]["dropout"] == 0 and yaml.safe_load(text)["training"]["dropout"] == 0.1
    original = AutoSpeechEncoder.from_pretrained(folder / "exp", weights="latest.pth")
    small = AutoSpeechEncoder.from_pretrained(shipped)
    batch = next(iter(SpeechStream("espeak:test", batch_size=2)))
    for one, other in zip(
        original(batch.waveforms, batch.lengths).hidden_states,
        small(batch.waveforms, batch.lengths).hidden_states,
        strict=True,
    ):
        assert (one - other).abs().max() / one.abs().max() < 5e-3
    ship(folder / "exp", shipped)  # replaces an earlier one
    assert not list(tmp_path.glob(".*"))


def test_ship_refuses_to_overwrite_anything_else(trained, tmp_path):
    exp = trained[0] / "exp"
    (tmp_path / "precious.txt").write_text("keep me")
    for output in (tmp_path, exp, trained[0]):
        with pytest.raises(EncoderError, match="not replaced"):
            ship(exp, output)
    assert (tmp_path / "precious.txt").exists() and (exp / "latest.pth").exists()
    with pytest.raises(EncoderError, match="missing"):
        ship(exp, tmp_path / "x", weights="none.pth")
    broken = torch.load(exp / "latest.pth", weights_only=True)
    name = next(key for key in broken if key.startswith("encoder."))
    for bad in (float("nan"), 1e6):
        torch.save({**broken, name: torch.full_like(broken[name], bad)}, exp / "bad.pth")
        with pytest.raises(EncoderError, match="NaN or numbers too large"):
            ship(exp, tmp_path / "y", weights="bad.pth")
    assert not (tmp_path / "y").exists()


def test_statistics_are_those_of_the_features():
    stream = SpeechStream("espeak:test", batch_size=2, limit=4, shuffle=False)
    stats = feature_stats(stream, 2)
    frontend = DeltaFrontend().eval()
    rows = []
    with torch.no_grad():
        for batch in SpeechStream("espeak:test", batch_size=1, limit=4, shuffle=False).one_epoch(0):
            rows.append(frontend(batch.waveforms, batch.lengths)[0][0].double())
    features = torch.cat(rows).numpy()
    assert int(stats["count"]) == len(features) and stats["sum"].shape == (240,)
    assert np.allclose(stats["sum"] / len(features), features.mean(0), atol=1e-4)
    assert np.allclose(stats["sum_square"] / len(features), (features**2).mean(0), rtol=1e-4)


def test_espnet_gets_sorted_batches_and_a_warning(caplog):
    middle = sorted(row_samples(row) for row in load_corpus("espeak:test").take(7))[3] / 16000
    stream = SpeechStream("espeak:test", batch_size=3, limit=7, max_seconds=middle)
    tokens = CharTokens(TOKENS)
    assert tokens("A B'é") == [TOKENS.index(t) for t in ("A", "<space>", "B", "'", "<unk>")]
    factory = StreamIterFactory(stream, tokens, batches_per_epoch=1)
    (ids, batch), *rest = list(factory.build_iter(1))
    assert rest == [] and len(ids) == len(batch["speech"])
    lengths = batch["speech_lengths"].tolist()
    assert lengths == sorted(lengths, reverse=True)
    assert [len(t) for t in batch["text"]] == [int(batch["text_lengths"].max())] * len(ids)
    again = next(iter(factory.build_iter(1)))
    assert again[0] == ids and torch.equal(again[1]["speech"], batch["speech"])
    assert stream.failures["too long"] == 3 and caplog.text.count("left out so far") == 1
