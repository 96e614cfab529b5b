"""Small random ESPnet experiments on disk, beside the stock ESPnet modules that they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.layers.global_mvn import GlobalMVN
from espnet2.layers.utterance_mvn import UtteranceMVN
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from hfprobe.encoders.capture import Tap, capture
from hfprobe.encoders.espnet.frontend import DeltaFrontend

TOKENS = ["<blank>", "<unk>", "<space>", "A", "B", "C", "D", "<sos/eos>"]
STFT = {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160}
RNN = {"rnn_type": "lstm", "bidirectional": True, "use_projection": True, "output_size": 11, "dropout": 0.2}

# name: encoder, its options, frontend, mel bands, normaliser
VARIANTS = {
    "vgg-delta": (
        "vgg_rnn",
        {**RNN, "num_layers": 3, "hidden_size": 12, "in_channel": 3},
        "delta",
        10,
        "global_mvn",
    ),
    "vgg-default": ("vgg_rnn", {**RNN, "num_layers": 2, "hidden_size": 9, "in_channel": 1}, "default", 13, None),
    "vgg-plain": (
        "vgg_rnn",
        {**RNN, "use_projection": False, "num_layers": 2, "hidden_size": 9, "in_channel": 3},
        "delta",
        9,
        "global_mvn",
    ),
    "rnn-delta": (
        "rnn",
        {**RNN, "num_layers": 5, "hidden_size": 16, "subsample": [1, 2, 2, 2, 1]},
        "delta",
        80,
        "global_mvn",
    ),
    "rnn-default": (
        "rnn",
        {**RNN, "num_layers": 3, "hidden_size": 10, "subsample": [2, 1, 2]},
        "default",
        40,
        "utterance_mvn",
    ),
    "rnn-plain": (
        "rnn",
        {**RNN, "use_projection": False, "num_layers": 3, "hidden_size": 8, "subsample": [2, 2]},
        "delta",
        20,
        None,
    ),
    "rnn-gru-forward": (
        "rnn",
        {**RNN, "rnn_type": "gru", "bidirectional": False, "num_layers": 2, "hidden_size": 8, "subsample": [1, 2]},
        "default",
        20,
        "global_mvn",
    ),
}


@dataclass
class Stock:
    """ESPnet's own modules, run on one utterance without padding."""

    folder: Path
    config: dict
    frontend: torch.nn.Module
    normalize: torch.nn.Module | None
    encoder: torch.nn.Module
    ctc_lo: torch.nn.Linear

    def state_dict(self) -> dict[str, torch.Tensor]:
        parts = {"frontend": self.frontend, "normalize": self.normalize, "encoder": self.encoder}
        parts["ctc.ctc_lo"] = self.ctc_lo
        return {
            f"{prefix}.{key}": value.clone()
            for prefix, part in parts.items()
            if part is not None
            for key, value in part.state_dict().items()
        }

    @torch.no_grad()
    def run(self, waveform: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Hidden states ``(frames, dim)`` of all layers of one ``(samples,)`` waveform, and the logits."""
        features, lengths = self.frontend(waveform[None].clone(), torch.tensor([len(waveform)]))
        if self.normalize is not None:
            features, lengths = self.normalize(features, lengths)
        taps = self._taps()
        with capture(self.encoder, taps) as seen:
            output, _, _ = self.encoder(features, lengths)
        states = [_frames(seen[name]) for name in taps]
        if hasattr(self.encoder.enc[-1], "nbrnn"):
            x = states.pop()
            states += [_frames(rnn(x[None])[0]) for rnn in self._fused_layers()]
        return [*states, output[0]], self.ctc_lo(output)[0]

    def _taps(self) -> dict[str, Tap]:
        taps = {}
        if isinstance(self.encoder, VGGRNNEncoder):
            taps["cnn1"] = Tap("enc.0.conv1_2", "input", 0)
            taps["cnn2"] = Tap("enc.0.conv2_1", "input", 0)
            taps["cnn3"] = Tap("enc.0.conv2_2", "input", 0)
            taps["cnn4"] = Tap("enc.0", "output", 0)
        stack, place = self.encoder.enc[-1], f"enc.{len(self.encoder.enc) - 1}"
        if hasattr(stack, "nbrnn"):
            taps["rnn input"] = Tap(f"{place}.nbrnn", "input", 0)
            return taps
        kind = "birnn" if stack.bidir else "rnn"
        for layer in range(1, stack.elayers):
            taps[f"rnn{layer}"] = Tap(f"{place}.{kind}{layer}", "input", 0)
        return taps

    def _fused_layers(self) -> list[torch.nn.Module]:
        """The first k layers of a fused network as a network of their own, for every k but the last."""
        whole = self.encoder.enc[-1].nbrnn
        shorter = []
        for count in range(1, whole.num_layers):
            part = type(whole)(
                whole.input_size, whole.hidden_size, count, batch_first=True, bidirectional=whole.bidirectional
            )
            part.load_state_dict({key: whole.state_dict()[key] for key in part.state_dict()})
            shorter.append(part)
        return shorter


def _frames(value) -> torch.Tensor:
    if isinstance(value, PackedSequence):
        value = pad_packed_sequence(value, batch_first=True)[0]
    if value.dim() == 4:
        value = value.transpose(1, 2).flatten(2)
    return value[0]


def build_stock(folder: Path, variant: str, seed: int = 0) -> Stock:
    """Make the experiment folder of a variant, with the stock modules of the same weights."""
    kind, conf, frontend_kind, bands, normalize_kind = VARIANTS[variant]
    torch.manual_seed(seed)
    frontend_conf = {**STFT, "n_mels": bands}
    frontend = (DeltaFrontend if frontend_kind == "delta" else DefaultFrontend)(**frontend_conf)
    width = frontend.output_size()
    normalize = None
    if normalize_kind == "global_mvn":
        rng = np.random.default_rng(seed)
        mean, std = rng.normal(-8.0, 1.0, width), rng.uniform(0.5, 3.0, width)
        np.savez(folder / "stats.npz", count=100, sum=100 * mean, sum_square=100 * (std**2 + mean**2))
        normalize = GlobalMVN(folder / "stats.npz").float()
        (folder / "stats.npz").unlink()
    elif normalize_kind == "utterance_mvn":
        normalize = UtteranceMVN(norm_means=True, norm_vars=True)
    encoder = (VGGRNNEncoder if kind == "vgg_rnn" else RNNEncoder)(input_size=width, **conf)
    for parameter in encoder.parameters():
        # Default weights let a signal fade within a few layers; livelier ones make errors visible.
        if parameter.dim() > 1:
            parameter.data.mul_(1.7)
    encoder.eval()
    # ESPnet's own eval() leaves this dropout on.
    encoder.enc[-1].dropout = 0.0
    config = {
        "token_list": TOKENS,
        "token_type": "char",
        "frontend": frontend_kind,
        "frontend_conf": frontend_conf,
        "normalize": normalize_kind,
        "normalize_conf": {
            "global_mvn": {"stats_file": "elsewhere/stats.npz"},
            "utterance_mvn": {"norm_means": True, "norm_vars": True},
        }.get(normalize_kind, {}),
        "preencoder": None,
        "postencoder": None,
        "encoder": kind,
        "encoder_conf": conf,
        "decoder": None,
        "model_conf": {"ctc_weight": 1.0},
        "ctc_conf": {"dropout_rate": 0.0},
    }
    ctc_lo = torch.nn.Linear(conf["output_size"], len(TOKENS))
    stock = Stock(folder, config, frontend.eval(), normalize, encoder, ctc_lo)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(stock.state_dict(), folder / "valid.loss.best.pth")
    return stock


def speechlike(*samples: int, seed: int = 0) -> list[torch.Tensor]:
    """Noise with a slow envelope, one waveform per length, never silent."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for count in samples:
        envelope = 0.2 + torch.sin(torch.arange(count) / 1500.0).abs()
        result.append(0.1 * envelope * torch.randn(count, generator=generator))
    return result


def pad(waveforms: list[torch.Tensor], value: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded batch and its lengths."""
    batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=value)
    return batch, torch.tensor([len(waveform) for waveform in waveforms])


def peak_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference, relative to the peak of the reference."""
    assert value.shape == reference.shape
    return float((value - reference).abs().max() / reference.abs().max())
