"""The same encoders as their own libraries run them: ESPnet's and transformers' forward, from waveforms on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hfprobe.bench.plain import stock_espnet
from hfprobe.encoders import AutoSpeechEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Gives the last layer of each waveform, (frames, dim); the list is encoded as one padded batch.
Forward = Callable[[Sequence[Tensor]], list[Tensor]]

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 32, "blocks": 2, "heads": 2, "channels": 24},
    "medium": {"width": 256, "blocks": 4, "heads": 4, "channels": 192},
}
FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")


def espnet_forward(encoder: Any) -> Forward:
    """ESPnet's own forward of an `EspnetEncoder`: it wants the longest first."""
    stock = stock_espnet(encoder)

    @torch.no_grad()
    def run(waveforms: Sequence[Tensor]) -> list[Tensor]:
        lengths = torch.tensor([len(one) for one in waveforms], device=waveforms[0].device)
        order = lengths.argsort(descending=True, stable=True)
        batch = torch.nn.utils.rnn.pad_sequence([waveforms[i] for i in order.tolist()], batch_first=True)
        output = stock(batch, lengths[order])[order.argsort()]
        frames = encoder.hidden_lengths_for(lengths)[-1].tolist()
        return [row[:count] for row, count in zip(output, frames, strict=True)]

    return run


def build_transformers(family: str, size: str, folder: Path, seed: int = 0) -> tuple[Any, Forward]:
    """A model of transformers from a configuration, with random weights, as hfprobe's encoder and as it is.

    Args:
        family: One of `FAMILIES`.
        size: One of `SIZES`.
        folder: Where it is saved for hfprobe to load.
        seed: Of the weights.

    Returns:
        The encoder, and the library's own forward (with its own feature extractor).
    """
    import transformers

    names = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM", "whisper": "Whisper"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = getattr(transformers, f"{names[family]}Config")(**_options(family, **SIZES[size]))
        model = getattr(transformers, f"{names[family]}Model")(config).eval()
    if family == "whisper":
        extractor = transformers.WhisperFeatureExtractor()
    else:
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=family == "wav2vec2", return_attention_mask=True)
    with _no_bars():
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
    encoder = AutoSpeechEncoder.from_pretrained(folder)
    encoder.name = f"{family}-{size}"
    return encoder, _transformers_forward(encoder, model, extractor)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers' progress bars, which ask for no terminal, out of what is printed."""
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()


def _options(family: str, width: int, blocks: int, heads: int, channels: int) -> dict:
    """Options of a configuration; group norm for HuBERT, layer norm (whose padding can be masked) for the others."""
    if family == "whisper":
        size = {"d_model": width, "encoder_layers": blocks, "encoder_ffn_dim": 4 * width}
        unused = {"decoder_layers": 1, "decoder_attention_heads": 1, "decoder_ffn_dim": 8, "vocab_size": 40}
        tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        return {**size, **unused, **tokens, "encoder_attention_heads": heads}
    options = {
        "hidden_size": width, "num_hidden_layers": blocks, "num_attention_heads": heads, "intermediate_size": 4 * width,
        "conv_dim": (channels,) * 7, "num_conv_pos_embedding_groups": 8, "vocab_size": 12,
    }  # fmt: skip
    if family != "hubert":
        options |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    return options


def _transformers_forward(encoder: Any, model: PreTrainedModel, extractor: Any) -> Forward:
    body = getattr(model, "encoder", model) if model.config.model_type == "whisper" else model

    @torch.no_grad()
    def run(waveforms: Sequence[Tensor]) -> list[Tensor]:
        device = waveforms[0].device
        body.to(device)
        arrays = [one.cpu().numpy() for one in waveforms]
        padding = "max_length" if model.config.model_type == "whisper" else True
        inputs = extractor(arrays, sampling_rate=16000, return_tensors="pt", padding=padding)
        values = inputs["input_features" if "input_features" in inputs else "input_values"].to(device)
        # The library advises no mask where group norm spans the padding.
        masked = getattr(model.config, "feat_extract_norm", None) == "layer"
        options = {"attention_mask": inputs["attention_mask"].to(device)} if masked else {}
        with warnings.catch_warnings():
            # WavLM's own call into torch, right but old-fashioned.
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
            output = body(values, output_hidden_states=True, **options)
        frames = encoder.hidden_lengths_for(torch.tensor([len(one) for one in waveforms]))[-1].tolist()
        return [row[:count] for row, count in zip(output.last_hidden_state, frames, strict=True)]

    return run
