"""The families of transformers encoders that hfprobe knows; nothing of transformers is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hfprobe.errors import HfprobeError
from hfprobe.plain import read_json

CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class Family:
    """A kind of model in transformers.

    Args:
        title: Name for people.
        kind: Which adapter runs it.
        config: Configuration class in transformers.
        model: Class of the encoder alone (without decoder and heads); with its module in
            ``transformers.models`` where transformers does not list it.
        extractor: Class of the feature extractor.
        prefixes: What may stand before the encoder's weights in a checkpoint, in the order tried.
        head: Prefix of the CTC head's weights, ``""`` where the family has none.
        blocks: What a block is called in layer names.
        encoder_config: Key of the encoder's own configuration inside ``config.json``, or ``""``.
        layers: The layers, in words.
    """

    title: str
    kind: Literal["waveform", "speecht5", "whisper", "w2v-bert", "parakeet"]
    config: str
    model: str
    extractor: str
    prefixes: tuple[str, ...]
    layers: str
    head: str = ""
    blocks: str = "transformer"
    encoder_config: str = ""


_CONVOLUTIONAL = (
    "cnn1..cnnK after each convolution's norm (where it has one) and activation; embed, what the first block reads; "
    "transformer1..N after each block; final, after the last LayerNorm, in pre-norm models (do_stable_layer_norm); "
    "adapter1..A with add_adapter"
)
_PARAKEET_LAYERS = (
    "cnn1..cnnK after each subsampling stage's ReLU, (frames, channels * freq); embed, what the first block reads; "
    "conformer1..N after each block's norm_out"
)


def _waveform(title: str, stem: str, prefix: str, blocks: str = "transformer") -> Family:
    """A family in the manner of wav2vec2."""
    layers = _CONVOLUTIONAL.replace("transformer1", f"{blocks}1")
    extractor = "Wav2Vec2FeatureExtractor"
    return Family(
        title, "waveform", f"{stem}Config", f"{stem}Model", extractor, (f"{prefix}.", ""), layers, "lm_head.", blocks
    )


def _parakeet(title: str, config: str, head: str = "", key: str = "encoder_config") -> Family:
    """A family whose encoder is Parakeet's Fast Conformer."""
    return Family(
        title,
        "parakeet",
        config,
        "ParakeetEncoder",
        "ParakeetFeatureExtractor",
        ("encoder.", "model.encoder.", ""),
        _PARAKEET_LAYERS,
        head,
        "conformer",
        key,
    )


# By the ``model_type`` of config.json.
FAMILIES: dict[str, Family] = {
    "wav2vec2": _waveform("wav2vec 2.0, XLS-R, MMS", "Wav2Vec2", "wav2vec2"),
    "hubert": _waveform("HuBERT", "Hubert", "hubert"),
    "wavlm": _waveform("WavLM", "WavLM", "wavlm"),
    "data2vec-audio": _waveform("data2vec-audio", "Data2VecAudio", "data2vec_audio"),
    "unispeech": _waveform("UniSpeech", "UniSpeech", "unispeech"),
    "unispeech-sat": _waveform("UniSpeech-SAT", "UniSpeechSat", "unispeech_sat"),
    "wav2vec2-conformer": _waveform(
        "wav2vec 2.0 Conformer", "Wav2Vec2Conformer", "wav2vec2_conformer", blocks="conformer"
    ),
    "speecht5": Family(
        "SpeechT5 (speech encoder)",
        "speecht5",
        "SpeechT5Config",
        "speecht5.modeling_speecht5.SpeechT5EncoderWithSpeechPrenet",
        "SpeechT5FeatureExtractor",
        ("speecht5.encoder.", "encoder.", ""),
        "cnn1..cnnK after each convolution's norm (where it has one) and activation; embed, what the first block "
        "reads; transformer1..N after each block",
    ),
    "whisper": Family(
        "Whisper (encoder)",
        "whisper",
        "WhisperConfig",
        "whisper.modeling_whisper.WhisperEncoder",
        "WhisperFeatureExtractor",
        ("model.encoder.", "encoder.", ""),
        "cnn1, cnn2 after each convolution's GELU; embed, cnn2 plus positions; transformer1..N after each block; "
        "final, after the last LayerNorm",
    ),
    "wav2vec2-bert": Family(
        "w2v-BERT 2.0",
        "w2v-bert",
        "Wav2Vec2BertConfig",
        "Wav2Vec2BertModel",
        "SeamlessM4TFeatureExtractor",
        ("wav2vec2_bert.", ""),
        "embed, what the first block reads; conformer1..N after each block's final_layer_norm; final, after the "
        "feed-forward that follows the blocks, where there is one; adapter1..A with add_adapter",
        "lm_head.",
        "conformer",
    ),
    "parakeet_ctc": _parakeet("Parakeet CTC", "ParakeetCTCConfig", "ctc_head."),
    "parakeet_tdt": _parakeet("Parakeet TDT (encoder)", "ParakeetTDTConfig"),
    "parakeet_rnnt": _parakeet("Parakeet RNN-T (encoder)", "ParakeetRNNTConfig"),
    "parakeet_encoder": _parakeet("Parakeet encoder", "ParakeetEncoderConfig", key=""),
}

FAMILIES_TABLE: tuple[tuple[str, str, str], ...] = tuple(
    (model_type, family.title, family.layers) for model_type, family in FAMILIES.items()
)
"""Model type, title and layers in words of every family, for listings."""


def is_huggingface(path: str | Path) -> bool:
    """Say whether a folder, or a weight file inside one, is in the layout of transformers.

    Args:
        path: A local path.

    Returns:
        True where the folder has a ``config.json`` with a ``model_type``, of whatever family.

    Example:
        >>> is_huggingface("no/such/folder")
        False
    """
    path = Path(path)
    file = (path.parent if path.is_file() else path) / CONFIG_NAME
    try:
        content = read_json(file)
    except HfprobeError:
        return False
    return isinstance(content, dict) and "model_type" in content
