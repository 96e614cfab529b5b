"""Tiny random transformers models on disk, beside the stock models that they came from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

CONV = {"conv_dim": (16, 18, 20, 20, 20, 20, 22), "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
BLOCKS = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
BASE = {**CONV, **BLOCKS, "vocab_size": 12, "layerdrop": 0.3}
LARGE = {**BASE, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
BERT = {**BLOCKS, "vocab_size": 12, "conv_depthwise_kernel_size": 7, "layerdrop": 0.3}
WHISPER = {
    "d_model": 24,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "encoder_layerdrop": 0.3,
}
SPEECHT5 = {
    **CONV,
    "hidden_size": 24,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "vocab_size": 40,
    "encoder_layerdrop": 0.3,
}
PARAKEET = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "subsampling_conv_channels": 6,
    "layerdrop": 0.3,
}

# name: architecture, options of its configuration, feature extractor, its options
VARIANTS: dict[str, tuple[str, dict, str, dict]] = {
    "wav2vec2-base": ("Wav2Vec2Model", BASE, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "wav2vec2-large-ctc": ("Wav2Vec2ForCTC", LARGE, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "wav2vec2-adapter": (
        "Wav2Vec2ForCTC",
        {**LARGE, "add_adapter": True, "num_adapter_layers": 2, "output_hidden_size": 20},
        "Wav2Vec2FeatureExtractor",
        {"do_normalize": True},
    ),
    "hubert-base": ("HubertModel", BASE, "Wav2Vec2FeatureExtractor", {"do_normalize": False}),
    "hubert-large-ctc": (
        "HubertForCTC",
        {**LARGE, "feat_proj_layer_norm": False, "conv_pos_batch_norm": True},
        "Wav2Vec2FeatureExtractor",
        {"do_normalize": True},
    ),
    "wavlm-base": ("WavLMModel", BASE, "Wav2Vec2FeatureExtractor", {"do_normalize": False}),
    "wavlm-large": ("WavLMModel", LARGE, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "data2vec-ctc": (
        "Data2VecAudioForCTC",
        {**BASE, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7},
        "Wav2Vec2FeatureExtractor",
        {"do_normalize": True},
    ),
    "unispeech": ("UniSpeechModel", LARGE, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "unispeech-sat": ("UniSpeechSatModel", BASE, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "conformer": ("Wav2Vec2ConformerModel", BASE, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "speecht5": ("SpeechT5ForSpeechToText", SPEECHT5, "SpeechT5FeatureExtractor", {"do_normalize": False}),
    "w2v-bert": ("Wav2Vec2BertModel", BERT, "SeamlessM4TFeatureExtractor", {"padding_value": 1.0}),
    "w2v-bert-ctc": (
        "Wav2Vec2BertForCTC",
        {**BERT, "add_adapter": True, "output_hidden_size": 24, "use_intermediate_ffn_before_adapter": True},
        "SeamlessM4TFeatureExtractor",
        {"padding_value": 1.0},
    ),
    "whisper": ("WhisperForConditionalGeneration", WHISPER, "WhisperFeatureExtractor", {}),
    "parakeet-ctc": (
        "ParakeetForCTC",
        {"encoder_config": PARAKEET, "vocab_size": 12, "pad_token_id": 11},
        "ParakeetFeatureExtractor",
        {},
    ),
}


@dataclass
class Stock:
    """A stock model and its feature extractor, run on one utterance without padding."""

    variant: str
    folder: Path
    model: torch.nn.Module
    extractor: object
    body: torch.nn.Module = field(init=False)

    def __post_init__(self):
        model = self.model
        if isinstance(model, transformers.WhisperForConditionalGeneration):
            self.body = model.model.encoder
        elif isinstance(model, transformers.WhisperModel):
            self.body = model.encoder
        elif isinstance(model, transformers.SpeechT5ForSpeechToText):
            self.body = model.speecht5.encoder
        elif isinstance(model, transformers.ParakeetForCTC):
            self.body = model.encoder
        else:
            self.body = getattr(model, model.base_model_prefix, model)

    @torch.no_grad()
    def run(self, waveform: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """States ``(frames, dim)`` by layer name of one ``(samples,)`` waveform, and logits; from the library alone."""
        inputs = self.extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt")
        seen: dict[str, torch.Tensor] = {}
        handles = []

        def watch(name: str, module: torch.nn.Module, gelu: bool = False) -> None:
            def hook(module, arguments, output):
                value = output[0] if isinstance(output, tuple) else output
                value = torch.nn.functional.gelu(value) if gelu else value
                if value.dim() == 4:
                    value = value.permute(0, 2, 1, 3).flatten(2)
                elif (
                    name.startswith("cnn")
                    or name.startswith("adapter")
                    and self.model.config.model_type != "wav2vec2-bert"
                ):
                    value = value.transpose(1, 2)
                seen[name] = value[0].clone()

            handles.append(module.register_forward_hook(hook))

        body, kind = self.body, self.model.config.model_type
        adapter = getattr(body, "adapter", None)
        if adapter is not None:
            for i, layer in enumerate(adapter.layers, start=1):
                watch(f"adapter{i}", layer)
        blocks = "transformer"
        if kind == "whisper":
            watch("cnn1", body.conv1, gelu=True)
            watch("cnn2", body.conv2, gelu=True)
            stack = body
        elif kind == "parakeet_ctc":
            relus = [layer for layer in body.subsampling.layers if isinstance(layer, torch.nn.ReLU)]
            for i, layer in enumerate(relus, start=1):
                watch(f"cnn{i}", layer)
            stack, blocks = body, "conformer"
        elif kind == "wav2vec2-bert":
            stack, blocks = body.encoder, "conformer"
        else:
            front = body.prenet.feature_encoder if kind == "speecht5" else body.feature_extractor
            for i, layer in enumerate(front.conv_layers, start=1):
                watch(f"cnn{i}", layer)
            stack = body.wrapped_encoder if kind == "speecht5" else body.encoder
            if kind == "wav2vec2-conformer":
                blocks = "conformer"
        for i, layer in enumerate(stack.layers, start=1):
            watch(f"{blocks}{i}", layer)
        try:
            if kind == "whisper":
                output = body(inputs["input_features"], output_hidden_states=True)
            elif kind == "speecht5":
                output = body(inputs["input_values"], output_hidden_states=True)
            else:
                output = self.model(**inputs, output_hidden_states=True)
        finally:
            for handle in handles:
                handle.remove()
        hidden = [value[0] for value in output.hidden_states]
        seen["embed"] = hidden[0]
        # The library's own list is a second witness for the hooks.
        count = len(stack.layers)
        for i in range(1, count):
            assert torch.equal(seen[f"{blocks}{i}"], hidden[i])
        if kind != "whisper":
            assert torch.equal(seen[f"{blocks}{count}"], hidden[count])
        logits = output.logits[0] if "logits" in output else None
        x, ffn = seen[f"{blocks}{count}"], getattr(body, "intermediate_ffn", None)
        if ffn is not None:
            seen["final"] = x + 0.5 * ffn(x)
        elif adapter is None and "last_hidden_state" in output:
            seen["final"] = output.last_hidden_state[0]
        elif hasattr(getattr(body, "encoder", None), "layer_norm"):
            seen["final"] = body.encoder.layer_norm(x)
        return seen, logits


def build_stock(folder: Path, variant: str, seed: int = 0) -> Stock:
    """Save a variant with its feature extractor, every norm and bias away from its initial value."""
    architecture, options, extractor_name, extractor_options = VARIANTS[variant]
    torch.manual_seed(seed)
    cls = getattr(transformers, architecture)
    config = cls.config_class(**json.loads(json.dumps(options)))
    model = cls(config).eval()
    enliven(model)
    model.save_pretrained(folder)
    extractor = getattr(transformers, extractor_name)(**extractor_options)
    extractor.save_pretrained(folder)
    return Stock(variant, folder, model, extractor)


@torch.no_grad()
def enliven(model: torch.nn.Module) -> None:
    """Livelier weights: norms that are no identity, biases that are not zero, batch norms with statistics."""
    for name, parameter in model.named_parameters():
        if "embed_positions" in name:
            continue
        if parameter.dim() == 1 and name.endswith("weight"):
            parameter.uniform_(0.6, 1.6)
        elif parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn_like(parameter))
        elif "conv_layers" not in name and "original0" not in name:
            parameter.mul_(3.0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 2.0)


def write_vocabulary(folder: Path) -> None:
    """A character tokenizer for CTC beside a model."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFG"])}
    (folder / "raw.json").write_text(json.dumps(vocabulary))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "raw.json"))
    tokenizer.save_pretrained(folder)


def speechlike(*samples: int, seed: int = 0) -> list[torch.Tensor]:
    """Noise with a slow envelope and an offset, one waveform per length, never silent."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for count in samples:
        envelope = 0.2 + torch.sin(torch.arange(count) / 1500.0).abs()
        result.append(0.02 + 0.1 * envelope * torch.randn(count, generator=generator))
    return result


def pad(waveforms: list[torch.Tensor], value: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded batch and its lengths."""
    batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=value)
    return batch, torch.tensor([len(waveform) for waveform in waveforms])


def peak_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference, relative to the peak of the reference."""
    assert value.shape == reference.shape, (value.shape, reference.shape)
    return float((value - reference).abs().max() / reference.abs().max())
