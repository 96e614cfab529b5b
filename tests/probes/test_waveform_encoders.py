"""Probes on an encoder whose first layers are finer than a mel frame."""

import pytest
import torch
from hf_models import build_stock

from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.errors import ConfigError
from hfprobe.probes import ProbeBank, ProbeTrainingConfig, train_bank


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wav2vec2")
    build_stock(folder, "wav2vec2-base")
    return AutoSpeechEncoder.from_pretrained(folder)


def config(steps=3):
    return ProbeTrainingConfig(hidden_dim=8, max_steps=steps, frames_per_batch=40, statistics_batches=1, device="cpu")


def test_layers_finer_than_a_mel_frame_are_left_out_and_named(encoder, toy, tmp_path, caplog):
    bank = train_bank(encoder, toy.Stream(), tmp_path, config(), progress=False)
    fitting = [spec.name for spec in encoder.layers if spec.stride % 160 == 0]
    assert list(bank) == fitting and "transformer3" in fitting and "cnn1" not in fitting and "cnn7" in fitting
    assert "cnn1 (5)" in caplog.text
    loaded = ProbeBank.from_pretrained(tmp_path)
    waveform = 0.1 * torch.randn(12000, generator=torch.Generator().manual_seed(0))
    sounds = loaded.reconstruct(encoder, waveform, layers=["transformer3", "floor"], n_iter=2)
    assert list(sounds) == ["transformer3", "floor"] and all(sound.shape == (12000,) for sound in sounds.values())


def test_such_a_layer_asked_for_by_name_is_an_error(encoder, toy, tmp_path):
    with pytest.raises(ConfigError, match="whole multiple of the mel hop of 160 samples, got 5"):
        train_bank(encoder, toy.Stream(), tmp_path, config(), layers=["cnn1"], progress=False)
