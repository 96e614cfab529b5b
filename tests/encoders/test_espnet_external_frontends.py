"""ESPnet's frontends that need another package or a file: stand-ins take the same path, nothing is downloaded."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet_frontend_models import (
    BLOCKS,
    CNN,
    PARTS,
    build,
    save,
)
from espnet_stock import TOKENS, peak_error, speechlike

from hfprobe.encoders.espnet.loading import load_espnet
from hfprobe.errors import EncoderError
from hfprobe.testing import check_encoder


class Upstream(torch.nn.Module):
    """In the place of a model of S3PRL, ESPnet or Whisper: convolutions, and frames as that package counts them."""

    def __init__(self, *_, **__):
        super().__init__()
        self.body = torch.nn.ModuleList([torch.nn.Conv1d(1, 12, 400, 320), torch.nn.Conv1d(12, 12, 1)])
        self.upstream = torch.nn.Identity()
        self.losses, self.util_attributes, self.util_modules = torch.nn.Identity(), set(), {}
        self.encoder = types.SimpleNamespace(output_size=lambda: 12, encoders=[0, 1])

    @staticmethod
    def available_names():
        return ["fbank", "wavlm_large"]

    def states(self, waveforms):
        first = self.body[0](waveforms[:, None]).tanh()
        return [first.transpose(1, 2), self.body[1](first).transpose(1, 2)]

    def forward(self, waveforms, lengths):
        """As S3PRL: one frame per begun hop, the last ones repeated."""
        frames = -(-waveforms.shape[1] // 320)
        states = [torch.cat([x, *[x[:, -1:]] * (frames - x.shape[1])], dim=1) for x in self.states(waveforms)]
        return states, [-(-lengths // 320)] * 2

    def inference_encode(self, waveforms, lengths, use_mask, use_final_output):
        assert not use_mask
        states = self.states(waveforms)
        return states[-1], states, (lengths - 400) // 320 + 1


class Featurizer(torch.nn.Module):
    downsample_rate, output_size = 320, 12

    def __init__(self, upstream, layer_selections=None):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(2))

    def forward(self, states, lengths):
        if len(states) == 1:
            return states[0], lengths[0]
        return sum(weight * state for weight, state in zip(self.weights.softmax(0), states, strict=True)), lengths[0]


def whisper_model(*_, **__):
    encoder = torch.nn.Module()
    encoder.conv1, encoder.conv2 = torch.nn.Conv1d(80, 12, 3, padding=1), torch.nn.Conv1d(12, 12, 3, 2, 1)
    encoder.register_buffer("positional_embedding", torch.randn(1500, 12))
    encoder.blocks = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(12, 12), torch.nn.Tanh())])
    encoder.ln_post = torch.nn.LayerNorm(12)
    model = torch.nn.Module()
    model.encoder = encoder
    return model


@pytest.fixture
def packages(monkeypatch):
    """Packages that are not installed here, as far as ESPnet's frontends use them."""
    modules = {name: types.ModuleType(name) for name in ("s3prl", "s3prl.nn", "whisper", "whisper.audio")}
    modules["s3prl"].nn, modules["whisper"].audio = modules["s3prl.nn"], modules["whisper.audio"]
    modules["s3prl.nn"].S3PRLUpstream, modules["s3prl.nn"].Featurizer = Upstream, Featurizer
    audio = modules["whisper.audio"]
    audio.HOP_LENGTH, audio.N_FFT = 160, 400
    filters = torch.rand(80, 201, generator=torch.Generator().manual_seed(0))
    audio.mel_filters = lambda device, count: filters.to(device)
    whisper = modules["whisper"]
    whisper.pad_or_trim, whisper.available_models, whisper.load_model = None, lambda: ["tiny"], whisper_model
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def external(kind: str, folder: Path, patch: pytest.MonkeyPatch) -> dict:
    """Options of a frontend that needs another package or a file."""
    if kind == "espnet_ssl":
        with pytest.MonkeyPatch.context() as quiet:
            quiet.setattr("nltk.download", lambda *_, **__: False)
            from espnet2.tasks.ssl import SSLTask
        patch.setattr(SSLTask, "build_model_from_file", lambda *_, **__: (Upstream(), None))
        (folder / "ssl.pth").touch()
        return {"frontend_conf": {"path_or_url": str(folder / "ssl.pth")}, "multilayer_feature": True}
    if kind == "whisper":
        (folder / "tiny.pt").touch()
        return {"whisper_model": "tiny", "download_dir": str(folder)}
    upstream = {"upstream": "fbank", "tile_factor": 1}
    if kind == "s3prl":
        return {"frontend_conf": upstream, "multilayer_feature": True}
    part = {"frontend_type": "s3prl", "frontend_conf": upstream, "multilayer_feature": True}
    return {"frontends": [PARTS[0], part], "proj_dim": 10}


@pytest.mark.parametrize(
    ("kind", "axis"),
    [("s3prl", (320, 1)), ("espnet_ssl", (320, 400)), ("whisper", (320, 160)), ("fused", (160, None))],
)
def test_frontends_of_other_packages_take_the_same_path(kind, axis, tmp_path, packages, monkeypatch):
    from hfprobe.encoders.espnet.frontends import frontend_class

    torch.manual_seed(3)
    conf = external(kind, tmp_path, monkeypatch)
    frontend = frontend_class(kind, tmp_path)(**conf)
    encoder = TransformerEncoder(frontend.output_size(), **BLOCKS)
    parts = {"frontend": frontend, "encoder": encoder, "ctc.ctc_lo": torch.nn.Linear(16, len(TOKENS))}
    config = {
        **{"token_list": TOKENS, "token_type": "char", "normalize": None, "frontend": kind, "frontend_conf": conf},
        **{"encoder": "transformer", "encoder_conf": BLOCKS, "model_conf": {"ctc_weight": 1.0}},
    }
    stock = save(tmp_path, config, {name: part.cpu().eval() for name, part in parts.items()})
    loaded = load_espnet(tmp_path)
    assert loaded.axis.stride == axis[0] and axis[1] in (None, loaded.axis.rules[0][1].first)
    assert not loaded.train().frontend.training
    loaded.eval()
    for waveform in speechlike(12345, 7001, loaded.min_samples):
        assert peak_error(loaded(waveform[None]).last_hidden_state[0].detach(), stock.run(waveform)["last"]) < 1e-5
    # S3PRL's own frames lie half a window after the start of their hops.
    assert abs(loaded.axis.offset - {"s3prl": 200, "espnet_ssl": 200, "whisper": 0, "fused": 100}[kind]) < 45
    report = check_encoder(loaded, lengths=(8000, 800, 5123), longest=1.0, raise_on_failure=False)
    assert not report.failures, report


@pytest.mark.parametrize(
    ("kind", "conf", "message"),
    [
        (
            "s3prl",
            {"frontend_conf": {"upstream": "wavlm_large"}},
            "s3prl upstream 'wavlm_large'.*nothing is downloaded",
        ),
        ("whisper", {"whisper_model": "tiny", "download_dir": "nowhere"}, "Whisper 'tiny'.*nothing is downloaded"),
        ("espnet_ssl", {"frontend_conf": {"path_or_url": "some/hub"}}, "local .pth file.*nothing is downloaded"),
        ("sliding_window", {"fs": "8k"}, "16000 Hz, got 8000 Hz"),
        ("sliding_window", {"channels": 2}, "1 channel, got 2"),
        ("wav2vec_cnn", {**CNN, "norm_mode": "layer_norm", "conv_mode": "depth_sep"}, "does not fit CNNFrontend"),
        ("fused", {"frontends": [{**PARTS[0], "center": False}]}, "center: false"),
    ],
)
def test_what_would_be_fetched_or_cannot_be_run_is_refused(kind, conf, message, tmp_path, packages):
    build(tmp_path, "fused-rnn")
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "frontend": kind, "frontend_conf": conf}))
    with pytest.raises(EncoderError, match=message) as caught:
        load_espnet(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "package"), [("s3prl", "s3prl"), ("whisper", "openai-whisper")])
def test_a_missing_package_is_named(kind, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    build(tmp_path, "fused-rnn")
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "frontend": kind}))
    with pytest.raises(EncoderError, match=f"needs the package {kind}, .* pip install {package};"):
        load_espnet(tmp_path)
