"""Small ESPnet experiments with attention encoders, trained for a few steps, beside ESPnet's own modules.

The reference is ESPnet's own forward on one utterance, read with hooks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from espnet2.asr.ctc import CTC
from espnet2.asr.encoder.branchformer_encoder import BranchformerEncoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.layers.global_mvn import GlobalMVN
from espnet2.layers.utterance_mvn import UtteranceMVN
from espnet_attention_variants import ATTENTION_VARIANTS
from espnet_stock import STFT, TOKENS, speechlike

from hfprobe.encoders.capture import Tap, capture
from hfprobe.encoders.espnet.frontend import DeltaFrontend

CLASSES = {
    "transformer": TransformerEncoder,
    "conformer": ConformerEncoder,
    "branchformer": BranchformerEncoder,
    "e_branchformer": EBranchformerEncoder,
}


@dataclass
class AttentionStock:
    """ESPnet's own modules, run on one utterance without padding."""

    folder: Path
    config: dict
    frontend: torch.nn.Module
    normalize: torch.nn.Module | None
    encoder: torch.nn.Module
    ctc: CTC

    def state_dict(self) -> dict[str, torch.Tensor]:
        parts = {"frontend": self.frontend, "normalize": self.normalize, "encoder": self.encoder, "ctc": self.ctc}
        return {
            f"{prefix}.{key}": value.clone()
            for prefix, part in parts.items()
            if part is not None
            for key, value in part.state_dict().items()
        }

    def forward(self, encoder: torch.nn.Module, waveforms: torch.Tensor, lengths: torch.Tensor):
        """ESPnet's output and its lengths for a batch, as ``ESPnetASRModel.encode`` gives them."""
        features, frames = self.frontend(waveforms.clone(), lengths)
        if self.normalize is not None:
            features, frames = self.normalize(features, frames)
        extra = {"ctc": self.ctc} if getattr(encoder, "interctc_use_conditioning", False) else {}
        output, frames, _ = encoder(features, frames, **extra)
        return (output[0] if isinstance(output, tuple) else output), frames

    @torch.no_grad()
    def run(self, waveform: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Hidden states ``(frames, dim)`` of all layers of one ``(samples,)`` waveform, and the logits."""
        # A fresh copy: ESPnet's position tables remember the longest input that they have seen.
        encoder = copy.deepcopy(self.encoder)
        taps = {}
        if hasattr(encoder.embed, "conv"):
            for index in range(0, len(encoder.embed.conv), 2):
                taps[f"cnn{index}"] = Tap(f"embed.conv.{index + 1}")
        for index in range(len(encoder.encoders) - 1):
            taps[f"block{index}"] = Tap(f"encoders.{index}", "output", 0)
        with capture(encoder, taps) as seen:
            output, lengths = self.forward(encoder, waveform[None], torch.tensor([len(waveform)]))
        assert lengths.tolist() == [output.shape[1]]
        states = [_map(seen[name]) if name.startswith("cnn") else _block(seen[name]) for name in taps]
        return [*states, output[0]], self.ctc.ctc_lo(output)[0]


def _map(value: torch.Tensor) -> torch.Tensor:
    """Frames of a map ``(1, channels, frames[, freq])``."""
    return value[0].movedim(1, 0).flatten(1)


def _block(value) -> torch.Tensor:
    """Frames of a block's output, which comes with its positions where they are relative."""
    return (value[0] if isinstance(value, tuple) else value)[0]


def _train(stock: AttentionStock, steps: int) -> None:
    """A few steps of CTC, after every parameter has been shaken so that no norm or bias is the identity."""
    generator = torch.Generator().manual_seed(1)
    parameters = [*stock.encoder.parameters(), *stock.ctc.parameters()]
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.2 * noise if parameter.dim() < 2 else 0.5 * parameter.data.std() * noise
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    waveforms = torch.stack(speechlike(9600, 9600, seed=3))
    encoder = stock.encoder.train()
    for name in ("stochastic_depth_rate", "layer_drop_rate", "attn_branch_drop_rate"):
        for module in encoder.modules():
            if hasattr(module, name):
                # With a rate of 0.9 hardly a weight would move.
                module._kept = {**getattr(module, "_kept", {}), name: getattr(module, name)}
                setattr(module, name, 0.0)
    for _ in range(steps):
        output, frames = stock.forward(encoder, waveforms, torch.tensor([9600, 9600]))
        targets = torch.tensor([[3, 4], [5, 6]])
        scores = stock.ctc.ctc_lo(output).log_softmax(-1).transpose(0, 1)
        loss = torch.nn.functional.ctc_loss(scores, targets, frames, torch.tensor([2, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for module in encoder.modules():
        for name, value in module.__dict__.pop("_kept", {}).items():
            setattr(module, name, value)
        if isinstance(getattr(module, "attn", None), torch.Tensor):
            # The attention map of the last pass, with its graph, cannot be copied.
            module.attn = None
        if hasattr(module, "running_mean"):
            # Few steps move the running statistics little.
            module.running_mean += 0.3 * torch.randn(module.running_mean.shape, generator=generator)
            module.running_var *= 0.5 + torch.rand(module.running_var.shape, generator=generator)
    encoder.eval()


def build_attention(folder: Path, variant: str, seed: int = 0, steps: int = 3) -> AttentionStock:
    """Make the experiment folder of a variant, with the stock modules of the same weights."""
    kind, conf, frontend_kind, bands, normalize_kind = ATTENTION_VARIANTS[variant]
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
        normalize = UtteranceMVN(norm_means=True, norm_vars=False)
    encoder = CLASSES[kind](input_size=width, **conf)
    ctc = CTC(len(TOKENS), conf["output_size"])
    if getattr(encoder, "interctc_use_conditioning", False):
        encoder.conditioning_layer = torch.nn.Linear(len(TOKENS), conf["output_size"])
    config = {
        "token_list": TOKENS,
        "token_type": "char",
        "frontend": frontend_kind,
        "frontend_conf": frontend_conf,
        "normalize": normalize_kind,
        "normalize_conf": {
            "global_mvn": {"stats_file": "elsewhere/stats.npz"},
            "utterance_mvn": {"norm_means": True, "norm_vars": False},
        }.get(normalize_kind, {}),
        "preencoder": None,
        "postencoder": None,
        "encoder": kind,
        "encoder_conf": conf,
        "decoder": None,
        "model_conf": {"ctc_weight": 0.3, "interctc_weight": 0.5},
        "ctc_conf": {"dropout_rate": 0.0},
    }
    stock = AttentionStock(folder, config, frontend.eval(), normalize, encoder, ctc)
    _train(stock, steps)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(stock.state_dict(), folder / "valid.acc.ave_10best.pth")
    return stock
