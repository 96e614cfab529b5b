"""A tiny random recogniser with its bank, and sound files that are fine or broken, for the tests of the command."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "encoders"))

RATE = 16000


@pytest.fixture(scope="session")
def spoken() -> np.ndarray:
    """Two seconds of espeak speech ``(samples,)``."""
    from hfprobe.data.synthetic import Voice, speak

    return speak("the quick brown fox jumps", Voice("m1"))


@pytest.fixture(scope="session")
def world(tmp_path_factory, spoken) -> SimpleNamespace:
    """``encoder`` and ``bank`` that fit, ``other`` that has the same shape and other weights, and ``wav``."""
    from espnet_stock import build_stock

    from hfprobe.cli import main

    root = tmp_path_factory.mktemp("world")
    for name, seed in (("enc", 0), ("other", 1)):
        (root / name).mkdir()
        build_stock(root / name, "rnn-delta", seed)
    soundfile.write(root / "a.wav", spoken, RATE)
    made = SimpleNamespace(encoder=str(root / "enc"), other=str(root / "other"), bank=str(root / "bank"))
    made.wav = str(root / "a.wav")
    train = ["train", "--encoder", made.encoder, "--dataset", "espeak:train", "--noise", "generated", "--steps", "3"]
    assert main([*train, "--batch-size", "2", "--hidden-dim", "8", "--output", made.bank, "--device", "cpu"]) == 0
    return made


@pytest.fixture
def sounds(tmp_path, spoken) -> dict[str, Path]:
    """Files that must be refused, by what is wrong with them."""
    paths = {name: tmp_path / f"{name}.wav" for name in ("missing", "empty", "cut", "silent", "nan", "short", "text")}
    paths["empty"].write_bytes(b"")
    soundfile.write(paths["cut"], spoken, RATE)
    paths["cut"].write_bytes(paths["cut"].read_bytes()[:9000])
    soundfile.write(paths["silent"], np.zeros(RATE), RATE)
    soundfile.write(paths["nan"], np.where(np.arange(RATE) == 7, np.nan, 0.1), RATE, subtype="FLOAT")
    soundfile.write(paths["short"], spoken[:160], RATE)
    paths["text"].write_text("this is no sound")
    return paths
