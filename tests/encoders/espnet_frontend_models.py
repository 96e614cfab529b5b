"""Small experiments with every stock frontend of ESPnet, and their stock forward, for the tests beside this file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from espnet2.asr.frontend.cnn import CNNFrontend
from espnet2.asr.frontend.fused import FusedFrontends
from espnet2.asr.frontend.huggingface import HuggingFaceFrontend
from espnet2.asr.frontend.windowing import SlidingWindow
from espnet2.asr.preencoder.linear import LinearProjection
from espnet2.asr.preencoder.sinc import LightweightSincConvs
from espnet_stock import TOKENS

from hfprobe.encoders.capture import Tap, capture

FRONTENDS = {
    "sliding_window": SlidingWindow,
    "wav2vec_cnn": CNNFrontend,
    "fused": FusedFrontends,
    "huggingface": HuggingFaceFrontend,
}
PREENCODERS = {"sinc": LightweightSincConvs, "linear": LinearProjection}
ENCODERS = {
    "rnn": RNNEncoder,
    "vgg_rnn": VGGRNNEncoder,
    "transformer": TransformerEncoder,
    "conformer": ConformerEncoder,
}
SHAPES = [[12, 10, 5], [12, 3, 2], [12, 3, 2], [12, 3, 2], [12, 3, 2], [12, 2, 2], [16, 2, 2]]
RNN = {"num_layers": 2, "hidden_size": 8, "output_size": 9, "subsample": [1, 2], "dropout": 0.1}
BLOCKS = {"output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2, "input_layer": "linear"}
CNN = {"conv_mode": "standard", "bias": True, "shapes": SHAPES, "normalize_output": True}
WAV2VEC = {
    "model_type": "wav2vec2",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [12] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
# The feature encoder of w2v-BERT reads filterbanks: its frames are found by trial.
W2VBERT = {
    "model_type": "wav2vec2-bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "feature_projection_input_dim": 160,
}
PARTS = [{"frontend_type": "default", "n_mels": 20, "hop_length": 160, "win_length": 400}]
PARTS += [{"frontend_type": "default", "n_mels": 30, "hop_length": 160, "n_fft": 1024}]
UNEQUAL = [PARTS[0], {**PARTS[1], "hop_length": 320}]

# name: frontend, its options, preencoder, its options, encoder, its options
VARIANTS = {
    "window-sinc-transformer": ("sliding_window", {}, "sinc", {"out_channels": 128}, "transformer", BLOCKS),
    "window-sinc-rnn": ("sliding_window", {"hop_length": 200}, "sinc", {"out_channels": 128}, "rnn", RNN),
    "window-linear-conformer": (
        "sliding_window",
        {},
        "linear",
        {"input_size": 400, "output_size": 12},
        "conformer",
        BLOCKS,
    ),
    "cnn-group-rnn": ("wav2vec_cnn", {**CNN, "norm_mode": "group_norm", "normalize_audio": True}, None, {}, "rnn", RNN),
    "cnn-layer-transformer": ("wav2vec_cnn", {**CNN, "norm_mode": "layer_norm"}, None, {}, "transformer", BLOCKS),
    "cnn-linear-vgg": (
        "wav2vec_cnn",
        {**CNN, "norm_mode": "layer_norm", "layer_norm_cls": "dim1", "conv_mode": "standard"},
        "linear",
        {"input_size": 16, "output_size": 12},
        "vgg_rnn",
        {"num_layers": 2, "hidden_size": 8, "output_size": 9, "in_channel": 1, "dropout": 0.1},
    ),
    "fused-rnn": ("fused", {"frontends": PARTS, "proj_dim": 10}, None, {}, "rnn", RNN),
    "fused-unequal-transformer": ("fused", {"frontends": UNEQUAL, "proj_dim": 10}, None, {}, "transformer", BLOCKS),
    "huggingface-rnn": ("huggingface", WAV2VEC, None, {}, "rnn", RNN),
    "huggingface-linear-conformer": (
        "huggingface",
        {**WAV2VEC, "model_type": "hubert", "feat_extract_norm": "layer", "do_stable_layer_norm": True},
        "linear",
        {"input_size": 16, "output_size": 12},
        "conformer",
        {**BLOCKS, "input_layer": "conv2d2"},
    ),
    "huggingface-filterbank-transformer": ("huggingface", W2VBERT, None, {}, "transformer", BLOCKS),
}


@dataclass
class Stock:
    """ESPnet's own modules, run on one utterance without padding."""

    folder: Path
    frontend: torch.nn.Module
    preencoder: torch.nn.Module | None
    encoder: torch.nn.Module
    ctc_lo: torch.nn.Linear

    @torch.no_grad()
    def run(self, waveform: torch.Tensor) -> dict[str, torch.Tensor]:
        """``(frames, dim)`` outputs by layer name: all blocks, or the last layer of a recurrent encoder."""
        features, lengths = self.frontend(waveform[None].clone(), torch.tensor([len(waveform)]))
        if isinstance(self.frontend, HuggingFaceFrontend):
            # Where the processor returns samples ESPnet passes on what is no number of frames.
            lengths = lengths if lengths.shape == (1,) else torch.tensor([features.shape[1]])
            features = features[:, : int(lengths[0])]
        if self.preencoder is not None:
            if isinstance(self.preencoder, LinearProjection):
                # ESPnet's encoders cannot read the axis of channels that a sliding window leaves.
                features = features.flatten(2)
            features, lengths = self.preencoder(features, lengths)
        if not hasattr(self.encoder, "encoders"):
            return {"last": self.encoder(features, lengths)[0][0]}
        taps = {f"block{i}": Tap(f"encoders.{i}", "output", 0) for i in range(len(self.encoder.encoders) - 1)}
        with capture(self.encoder, taps) as seen:
            output = self.encoder(features, lengths)[0][0]
        states = {name: value[0] if isinstance(value, tuple) else value for name, value in seen.items()}
        return {**{name: value[0] for name, value in states.items()}, "last": output}


def processor(config: dict) -> dict:
    if config["model_type"] == "wav2vec2-bert":
        return {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "num_mel_bins": 80, "feature_size": 80}
    masks = config.get("feat_extract_norm") == "layer"
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": True,
        "return_attention_mask": False,
    } | ({"padding_value": 0.0, "feature_size": 1, "sampling_rate": 16000} if masks else {})


def build(folder: Path, variant: str) -> Stock:
    kind, conf, pre_kind, pre_conf, encoder_kind, encoder_conf = VARIANTS[variant]
    torch.manual_seed(0)
    if kind == "huggingface":
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(conf))
        (folder / "model" / "preprocessor_config.json").write_text(json.dumps(processor(conf)))
        conf = {"model": "model"}
        frontend = HuggingFaceFrontend(str(folder / "model"), load_pretrained=False)
    else:
        frontend = FRONTENDS[kind](**conf)
    preencoder = PREENCODERS[pre_kind](**pre_conf) if pre_kind else None
    width = (preencoder or frontend).output_size()
    encoder = ENCODERS[encoder_kind](input_size=width, **encoder_conf)
    ctc_lo = torch.nn.Linear(encoder.output_size(), len(TOKENS))
    parts = {"frontend": frontend, "preencoder": preencoder, "encoder": encoder, "ctc.ctc_lo": ctc_lo}
    parts = {name: part.cpu().eval() for name, part in parts.items() if part is not None}
    for part in parts.values():
        for name, parameter in part.named_parameters():
            if isinstance(part, RNNEncoder) and parameter.dim() > 1:
                # Default weights let a signal fade within a few frames, at random.
                parameter.data.mul_(1.7)
            # So that no norm or bias is the identity.
            if parameter.dim() < 2 or "norm" in name:
                parameter.data += 0.2 * torch.randn(parameter.shape)
        for module in part.modules():
            if getattr(module, "running_mean", None) is not None:
                module.running_mean += 0.3 * torch.randn(module.running_mean.shape)
                module.running_var *= 0.5 + torch.rand(module.running_var.shape)
    if hasattr(encoder, "enc"):
        # ESPnet's own eval() leaves this dropout on.
        encoder.enc[-1].dropout = 0.0
    config = {
        **{"token_list": TOKENS, "token_type": "char", "normalize": None, "postencoder": None},
        **{"frontend": kind, "frontend_conf": conf, "preencoder": pre_kind, "preencoder_conf": pre_conf},
        **{"encoder": encoder_kind, "encoder_conf": encoder_conf, "decoder": None, "model_conf": {"ctc_weight": 1.0}},
    }
    return save(folder, config, parts)


def save(folder: Path, config: dict, parts: dict[str, torch.nn.Module]) -> Stock:
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    torch.save(state, folder / "valid.loss.best.pth")
    return Stock(folder, parts["frontend"], parts.get("preencoder"), parts["encoder"], parts["ctc.ctc_lo"])
