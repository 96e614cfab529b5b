"""Build an encoder from a folder in the layout of ``save_pretrained``, strictly.

``from_pretrained`` of transformers fills missing weights at random with no more than a printed report. Here
every weight of the encoder must be there and fit.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from hfprobe.encoders.huggingface.adapter import HuggingFaceEncoder
from hfprobe.encoders.huggingface.checkpoint import Checkpoint, find_weight_files, load_encoder, load_head
from hfprobe.encoders.huggingface.families import CONFIG_NAME, FAMILIES, Family
from hfprobe.encoders.huggingface.filterbank import ParakeetEncoder, Wav2Vec2BertEncoder
from hfprobe.encoders.huggingface.text import find_tokens
from hfprobe.encoders.huggingface.waveform import SpeechT5Encoder, WaveformEncoder
from hfprobe.encoders.huggingface.whisper import WhisperEncoder
from hfprobe.errors import EncoderError
from hfprobe.hub.safety import refuse_code
from hfprobe.plain import read_json, short

SAMPLING_RATE = 16000
# Where the feature extractor is described, in the order in which transformers looks.
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
# What makes a model change from call to call in train(), or record what nobody reads.
_SILENCED: dict[str, Any] = {
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "apply_spec_augment": False,
    "output_hidden_states": False,
    "output_attentions": False,
}
_BUILD_ERRORS = (
    StrictDataclassError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load_huggingface(
    path: str | Path,
    *,
    name: str | None = None,
    random_init: bool = False,
    seed: int = 0,
    weights: str | None = None,
    do_normalize: bool | None = None,
    **options: Any,
) -> HuggingFaceEncoder:
    """Load the encoder of a transformers model, with its CTC head and tokenizer where it has them.

    Args:
        path: Folder with ``config.json``, weights (safetensors, or a PyTorch file that holds only
            tensors; in shards too) and, where the defaults of the family's feature extractor do not fit,
            ``preprocessor_config.json`` or ``processor_config.json``; or a weight file inside a folder.
        name: Name of the encoder; that of the folder where None. ``-random<seed>`` is added to a random one.
        random_init: Leave encoder and head as the library initialises them (the floor); no weights are read.
        seed: Of the random initialisation.
        weights: Name of the weight file, or index of shards, in the folder.
        do_normalize: Whether waveforms are brought to zero mean and unit variance; as the feature extractor's
            configuration says where None. Only for models that read waveforms.
        **options: None are known; any raises.

    Returns:
        The encoder, in ``eval()`` mode, on the CPU, in float32.

    Raises:
        EncoderError: If the family is unknown, a file is missing or damaged, the installed transformers
            cannot build the model, or a weight of the encoder is missing, surplus or of another shape.
    """
    if options:
        raise EncoderError(
            f"unknown option {', '.join(sorted(options))} for a transformers encoder: choose from weights, do_normalize"
        )
    path = Path(path)
    if path.is_file():
        path, weights = path.parent, weights or (path.name if path.name != CONFIG_NAME else None)
    settings = _read_json(path / CONFIG_NAME)
    family = _family(settings, path)
    extractor = _extractor(family, path)
    # Found before the model is built: it is the likeliest thing to be missing.
    checkpoint = None if random_init else Checkpoint(find_weight_files(path, weights))
    # The forked generator makes random weights repeatable and leaves the caller's own numbers alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, head = _build(family, settings, path, checkpoint)
    if checkpoint is not None:
        load_encoder(model, checkpoint, family.prefixes)
        if head is not None:
            load_head(head, checkpoint, family.head)
    name = name or path.resolve().name
    if random_init:
        name = f"{name}-random{seed}"
    return _adapt(family, name, model, extractor, do_normalize, head, path).eval()


def _family(settings: dict[str, Any], path: Path) -> Family:
    """The family that ``model_type`` names."""
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise EncoderError(f"model_type {short(kind)} of {path} is not a supported encoder: supported are {known}")
    return FAMILIES[kind]


def _class(name: str) -> type[Any]:
    """A class of transformers, by its name or by its module in ``transformers.models``."""
    module, _, short = name.rpartition(".")
    try:
        place = import_module(f"transformers.models.{module}") if module else transformers
        return getattr(place, short)
    except (ImportError, AttributeError) as error:
        raise EncoderError(f"transformers {transformers.__version__} has no {short}: install a newer one") from error


def _build(
    family: Family, settings: dict[str, Any], path: Path, checkpoint: Checkpoint | None
) -> tuple[nn.Module, nn.Linear | None]:
    """The encoder and the CTC head that ``config.json`` describes, with random weights."""
    try:
        config = _class(family.config).from_dict(dict(settings))
        inner = getattr(config, family.encoder_config) if family.encoder_config else config
        for key, value in _SILENCED.items():
            if hasattr(inner, key):
                setattr(inner, key, value)
        model = _class(family.model)(inner).float()
        head = None
        if _has_head(family, settings, checkpoint):
            width = inner.output_hidden_size if getattr(inner, "add_adapter", False) else inner.hidden_size
            head = nn.Linear(width, config.vocab_size)
    except EncoderError:
        raise
    except _BUILD_ERRORS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EncoderError(
            f"transformers {transformers.__version__} cannot build {family.title} from {path / CONFIG_NAME} "
            f"({reason}): repair the configuration"
        ) from error
    if hasattr(model, "masked_spec_embed"):
        # Only SpecAugment reads it.
        del model.masked_spec_embed
    return model, head


def _has_head(family: Family, settings: dict[str, Any], checkpoint: Checkpoint | None) -> bool:
    """Whether the folder holds a CTC recogniser."""
    if not family.head:
        return False
    architectures = settings.get("architectures")
    if architectures:
        return any(str(item).endswith("ForCTC") for item in architectures)
    return checkpoint is not None and f"{family.head}weight" in checkpoint.keys


def _extractor(family: Family, path: Path) -> Any:
    """The feature extractor that the folder describes, or the family's default where it describes none."""
    settings: dict[str, Any] = {}
    for file in (path / name for name in _PROCESSOR_FILES):
        content = _read_json(file) if file.is_file() else {}
        if file.name == _PROCESSOR_FILES[0]:
            content = content.get("feature_extractor") or {}
        if content:
            settings = content
            break
    kind = _class(family.extractor)
    known = {key: value for key, value in settings.items() if not key.endswith(("_type", "_class", "auto_map"))}
    try:
        extractor = kind(**known)
    except _BUILD_ERRORS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EncoderError(f"expected settings for {kind.__name__} in {path}, could not use them: {reason}") from error
    if extractor.sampling_rate != SAMPLING_RATE:
        raise EncoderError(
            f"expected an encoder for {SAMPLING_RATE} Hz, got {short(extractor.sampling_rate)} Hz in {path}: "
            "it is not supported"
        )
    return extractor


def _adapt(
    family: Family,
    name: str,
    model: nn.Module,
    extractor: Any,
    do_normalize: bool | None,
    head: nn.Linear | None,
    path: Path,
) -> HuggingFaceEncoder:
    """The adapter for a model."""
    text = find_tokens(path) if head is not None else None
    if family.kind in ("waveform", "speecht5"):
        normalise = bool(extractor.do_normalize) if do_normalize is None else do_normalize
        on_waveform = SpeechT5Encoder if family.kind == "speecht5" else WaveformEncoder
        return on_waveform(name, model, normalise, family.blocks, head, text)
    if do_normalize is not None:
        raise EncoderError(f"do_normalize is for models that read waveforms, not for {family.title}: leave it out")
    if family.kind == "whisper":
        return WhisperEncoder(name, model, extractor)
    on_features = Wav2Vec2BertEncoder if family.kind == "w2v-bert" else ParakeetEncoder
    return on_features(name, model, extractor, head, text)


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds a dictionary."""
    content = read_json(file, error=EncoderError)
    if not isinstance(content, dict):
        raise EncoderError(f"expected a dictionary in {file}, got {type(content).__name__}: download it again")
    # Only classes of transformers are built here: a file that asks for others would silently get something else.
    refuse_code(content, file, EncoderError)
    return content
