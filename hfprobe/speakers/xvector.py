"""Speaker models of transformers, `...ForXVector`: WavLM, wav2vec 2.0, UniSpeech-SAT, data2vec-audio.

Sources: Chen et al., "WavLM" (2022); Snyder et al., "X-vectors" (2018); the modelling code of transformers. The weights
are read as safetensors only, and every one of them must be there and fit (`from_pretrained` of transformers would fill
missing ones at random).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hfprobe.errors import EncoderError
from hfprobe.plain import read_json, reason, short
from hfprobe.speakers.base import SAMPLING_RATE
from hfprobe.speakers.fetch import model_folder
from hfprobe.speakers.whole import WholeClipEncoder

# Families whose model reads waveforms.
FAMILIES = ("data2vec-audio", "unispeech-sat", "wav2vec2", "wav2vec2-conformer", "wavlm")
SHORT_NAMES = {
    "unispeech-sat-sv": "microsoft/unispeech-sat-base-plus-sv",
    "wav2vec2-sv": "anton-l/wav2vec2-base-superb-sv",
    "wavlm-sv": "microsoft/wavlm-base-plus-sv",
}
_FILES = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class XVectorEncoder(WholeClipEncoder):
    """A transformers model with an x-vector head; clips of one length at a time, so that padding plays no part.

    Args:
        model: The library's model.
        normalise: Whether each clip is brought to zero mean and unit variance first.
        name: Name in results.
    """

    def __init__(self, model: Any, normalise: bool, name: str = "hf"):
        super().__init__(_min_samples(model.config))
        self.name = name
        self.dim = model.config.xvector_output_dim
        self.normalise = normalise
        self.model = model

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Embed clips `(B, S)` of one length: `(B, dim)`, not yet of length 1."""
        if self.normalise:
            mean = waveforms.mean(dim=1, keepdim=True)
            variance = waveforms.var(dim=1, keepdim=True, correction=0)
            waveforms = (waveforms - mean) / (variance + 1e-7).sqrt()  # as Wav2Vec2FeatureExtractor
        return self.model(waveforms).embeddings


def _min_samples(config: Any) -> int:
    """Samples for two frames at the head's end: one has no standard deviation."""
    frames = 2 + sum((k - 1) * d for k, d in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))
    if getattr(config, "add_adapter", False):
        for _ in range(config.num_adapter_layers):
            frames = (frames - 1) * config.adapter_stride + config.adapter_kernel_size
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        frames = (frames - 1) * stride + kernel
    return frames


def load_wavlm_sv(source: str | None = None) -> XVectorEncoder:
    """Load WavLM base plus for speaker verification, or the model that is given; see `load_xvector`."""
    return _load_short_name("wavlm-sv", source)


def load_wav2vec2_sv(source: str | None = None) -> XVectorEncoder:
    """Load wav2vec 2.0 base of SUPERB's verification task, or the model that is given; see `load_xvector`."""
    return _load_short_name("wav2vec2-sv", source)


def load_unispeech_sat_sv(source: str | None = None) -> XVectorEncoder:
    """Load UniSpeech-SAT base plus for verification, or the model that is given; see `load_xvector`."""
    return _load_short_name("unispeech-sat-sv", source)


def _load_short_name(name: str, source: str | None) -> XVectorEncoder:
    encoder = load_xvector(source or SHORT_NAMES[name])
    if source is None:
        encoder.name = name
    return encoder


def load_xvector(source: str | None = None) -> XVectorEncoder:
    """Load a `...ForXVector` model.

    Args:
        source: Folder with `config.json`, `model.safetensors` (or its shards with an index) and
            `preprocessor_config.json`; or a repository on the Hub, with `@revision` where wanted.

    Returns:
        The encoder in eval mode, in float32.

    Raises:
        EncoderError: If a file is missing, the family is unknown, or a weight is missing or of another shape.
    """
    if not source:
        raise EncoderError("hf needs a model: hf:FOLDER or hf:user/name, e.g. hf:microsoft/wavlm-base-plus-sv")
    folder = model_folder(source, _FILES)
    settings = _json(folder / "config.json")
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise EncoderError(
            f"expected a speaker model of {', '.join(FAMILIES)} in {source}, got model_type {short(kind)}"
        )
    weights = next((name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise EncoderError(
            f"expected model.safetensors in {source}, found none; name a revision that has it "
            "(hf:user/name@refs/pr/1), or download pytorch_model.bin and run python -m hfprobe.speakers.convert"
        )
    processor = _json(folder / "preprocessor_config.json", optional=True)
    if processor.get("sampling_rate", SAMPLING_RATE) != SAMPLING_RATE:
        rate = short(processor["sampling_rate"])
        raise EncoderError(f"expected a model for {SAMPLING_RATE} Hz in {source}, got {rate} Hz; give another one")
    model = _build(settings, folder, weights)
    # Where nothing is said, the feature extractor of these families normalises.
    name = source if not Path(source).expanduser().is_dir() else folder.resolve().name
    try:
        encoder = XVectorEncoder(model, bool(processor.get("do_normalize", True)), f"hf:{name}")
    except (TypeError, ValueError) as error:
        # The library builds models of lists of unequal length, with as many layers as it needs of each.
        raise EncoderError(
            f"expected kernels, strides and dilations of one length in {folder / 'config.json'}: {reason(error)}"
        ) from error
    return encoder.requires_grad_(False).eval()


def _build(settings: dict[str, Any], folder: Path, weights: str) -> nn.Module:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForAudioXVector

    from hfprobe.encoders.huggingface.checkpoint import Checkpoint, find_weight_files, load_encoder

    files = find_weight_files(folder, weights)
    # An index could name files elsewhere, or of another kind.
    if any(file.suffix != ".safetensors" or file.parent != folder or not file.is_file() for file in files):
        raise EncoderError(f"expected {folder / weights} to name safetensors files beside it; download the model again")
    checkpoint = Checkpoint(files)
    # A private copy of the random state: what is drawn is overwritten, and the caller's numbers stay.
    with torch.random.fork_rng(devices=[]):
        try:
            kept = {key: value for key, value in settings.items() if key not in ("model_type", "auto_map")}
            config = AutoConfig.for_model(settings["model_type"], **kept)
            model = AutoModelForAudioXVector.from_config(config, dtype=torch.float32)
        except (
            StrictDataclassError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError,
            TypeError, ValueError,
        ) as error:  # fmt: skip
            raise EncoderError(
                f"transformers cannot build the model of {folder / 'config.json'}: {reason(error)}"
            ) from error
    # The classifier over training speakers and its loss are not needed, and need not be in the file.
    model.classifier, model.objective = nn.Identity(), nn.Identity()
    load_encoder(model, checkpoint, ("",))
    return model


def _json(file: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not file.is_file():
        return {}
    content = read_json(file, "settings", EncoderError)
    if not isinstance(content, dict):
        raise EncoderError(f"expected a dictionary in {file}, got {type(content).__name__}; download it again")
    return content
