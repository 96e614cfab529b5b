"""Vocoders behind one interface, on tiny models: mel features of the originals, lengths, batches, refusals."""

import json
import pickle

import numpy as np
import pytest
import torch

from hfprobe.audio import MelConfig, mel_spectrogram, vocode
from hfprobe.errors import ConfigError, EncoderError
from hfprobe.vocoders import GriffinLim, load_vocoder
from hfprobe.vocoders.neural import SpeechBrainHifiGan, SpeechT5Vocoder

LENGTHS = [8000, 5000, 300]


@pytest.fixture(scope="module")
def clips():
    torch.manual_seed(0)
    batch = 0.1 * torch.randn(3, 8000)
    for row, length in enumerate(LENGTHS):
        batch[row, length:] = 0
    return batch


@pytest.fixture(scope="module")
def mels(clips):
    return mel_spectrogram(clips, MelConfig(), lengths=torch.tensor(LENGTHS))


@pytest.fixture(scope="module")
def speecht5(tmp_path_factory):
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    folder = tmp_path_factory.mktemp("hifigan")
    torch.manual_seed(1)
    small = SpeechT5HifiGanConfig(upsample_initial_channel=32, initializer_range=0.2)
    network = SpeechT5HifiGan(small)
    network.mean.normal_()
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def speechbrain(tmp_path_factory):
    from speechbrain.lobes.models.HifiGAN import HifiganGenerator

    from hfprobe.vocoders.neural import GENERATOR

    folder = tmp_path_factory.mktemp("sb")
    torch.manual_seed(2)
    network = HifiganGenerator(**{**GENERATOR, "upsample_initial_channel": 32})
    torch.save(network.state_dict(), folder / "generator.ckpt")
    text = "upsample_initial_channel: 32\ngenerator: !new:os.system {command: touch pwned}\n"
    (folder / "hyperparams.yaml").write_text(text)
    return folder, network


def test_griffin_lim_is_vocode(mels):
    assert torch.equal(
        GriffinLim(4)(mels, MelConfig(), torch.tensor(LENGTHS), seed=3), vocode(mels, n_iter=4, lengths=LENGTHS, seed=3)
    )


def test_speecht5_hears_the_features_of_its_own_extractor(speecht5, mels):
    from transformers import SpeechT5FeatureExtractor

    vocoder = SpeechT5Vocoder(str(speecht5), n_iter=4)
    sound = vocoder(mels, MelConfig(), torch.tensor(LENGTHS))
    rough = vocode(mels, n_iter=4, lengths=LENGTHS)[1, : LENGTHS[1]].numpy()
    features = SpeechT5FeatureExtractor()(audio_target=rough, sampling_rate=16000)["input_values"][0]
    with torch.inference_mode():
        expected = vocoder.network(torch.as_tensor(np.asarray(features, dtype=np.float32)))[: LENGTHS[1]]
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(sound[1, : LENGTHS[1]], expected, rtol=0, atol=1e-3 * float(expected.abs().max()))
    assert sound.shape == (3, 8000) and not sound[1, 5000:].any() and not sound[2, 300:].any() and sound[2].any()


def test_speechbrain_is_its_own_generator_and_runs_no_code(speechbrain, mels, tmp_path, monkeypatch):
    from speechbrain.lobes.models.FastSpeech2 import mel_spectrogram as speechbrain_mel

    monkeypatch.chdir(tmp_path)
    folder, network = speechbrain
    vocoder = load_vocoder(f"speechbrain-hifigan:{folder}", n_iter=4)
    assert isinstance(vocoder, SpeechBrainHifiGan) and not list(tmp_path.iterdir())
    sound = vocoder(mels[:1], MelConfig(), torch.tensor([8000]))[0]
    rough = vocode(mels[:1], n_iter=4, lengths=[8000])[0]
    features, _ = speechbrain_mel(
        16000, 256, 1024, 1024, 80, 0.0, 8000.0, 1, False, True, "slaney", "slaney", True, rough
    )
    expected = network.inference(features[None])[0, 0, 5 * 256 :][:8000]
    torch.testing.assert_close(sound, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["hifigan", "speechbrain-hifigan"])
def test_batch_equals_single(kind, speecht5, speechbrain, mels):
    vocoder = load_vocoder(f"{kind}:{speecht5 if kind == 'hifigan' else speechbrain[0]}", n_iter=2)
    batch = vocoder(mels, MelConfig(), torch.tensor(LENGTHS))
    for row, length in enumerate(LENGTHS):
        frames = MelConfig().frames(length)
        alone = vocoder(mels[row : row + 1, :frames], MelConfig(), torch.tensor([length]))
        torch.testing.assert_close(alone[0], batch[row, :length], rtol=0, atol=1e-4)


def test_refusals(speecht5, tmp_path, mels):
    with pytest.raises(ConfigError, match="griffin-lim, hifigan"):
        load_vocoder("wavenet")
    with pytest.raises(EncoderError, match="neither is there"):
        load_vocoder(f"hifigan:{tmp_path / 'none'}")
    with pytest.raises(EncoderError, match=r"generator\.ckpt"):
        load_vocoder(f"speechbrain-hifigan:{tmp_path}")
    (tmp_path / "generator.ckpt").write_bytes(pickle.dumps({"a": print}))
    with pytest.raises(EncoderError, match="generator's tensors"):
        load_vocoder(f"speechbrain-hifigan:{tmp_path}")
    (tmp_path / "hyperparams.yaml").write_text("in_channels: many\n")
    with pytest.raises(EncoderError, match="in_channels"):
        load_vocoder(f"speechbrain-hifigan:{tmp_path}")
    for name, value in (
        ("upsample_factors", "[8, 8, 2, two]"), ("upsample_kernel_sizes", "[]"), ("cond_channels", "-1"),
        ("resblock_dilation_sizes", "[[1, 3], 5]"), ("upsample_initial_channel", "1000000000"),
    ):  # fmt: skip
        (tmp_path / "hyperparams.yaml").write_text(f"{name}: {value}\n")
        with pytest.raises(EncoderError, match=f"expected {name} like"):
            load_vocoder(f"speechbrain-hifigan:{tmp_path}")
    (tmp_path / "hyperparams.yaml").write_text("resblock_kernel_sizes: [0, 0, 0]\n")
    with pytest.raises(EncoderError, match="generator's tensors"):
        load_vocoder(f"speechbrain-hifigan:{tmp_path}")
    with pytest.raises(EncoderError, match="8000 Hz"):
        load_vocoder(f"hifigan:{speecht5}")(mels, MelConfig(sampling_rate=8000, f_max=4000.0), torch.tensor(LENGTHS))
    other = tmp_path / "other"
    other.mkdir()
    for file in speecht5.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**settings, "sampling_rate": 22050}))
    with pytest.raises(EncoderError, match="22050"):
        load_vocoder(f"hifigan:{other}")
    (other / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(EncoderError, match="safetensors"):
        load_vocoder(f"hifigan:{other}")
