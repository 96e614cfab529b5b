"""SpeechBrain's speaker models, ECAPA-TDNN and x-vectors, without running what their settings name.

Sources: Desplanques et al., "ECAPA-TDNN" (2020, arXiv 2005.07143); Snyder et al., "X-vectors" (2018); SpeechBrain's
`EncoderClassifier.encode_batch`, whose embeddings these are (no normalisation of embeddings, as in its
`verify_batch`). SpeechBrain's classes are built here from settings read as data, and filled from
`embedding_model.ckpt`, read as tensors only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hfprobe.encoders.speechbrain import forget_lazy_modules
from hfprobe.errors import EncoderError
from hfprobe.hub.pickled import read_pickled
from hfprobe.plain import line, short
from hfprobe.speakers.base import SAMPLING_RATE
from hfprobe.speakers.fetch import model_folder
from hfprobe.speakers.speechbrain_settings import HYPERPARAMS, arguments, read_settings
from hfprobe.speakers.whole import WholeClipEncoder

CHECKPOINT = "embedding_model.ckpt"
SOURCES = {"ecapa": "speechbrain/spkrec-ecapa-voxceleb", "xvector": "speechbrain/spkrec-xvect-voxceleb"}
CLASSES = {
    "ecapa": "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
    "xvector": "speechbrain.lobes.models.Xvector.Xvector",
}
# As published with the default sources, for a folder that holds no hyperparams.yaml.
PUBLISHED: dict[str, dict[str, Any]] = {
    "ecapa": {
        "input_size": 80,
        "channels": [1024, 1024, 1024, 1024, 3072],
        "kernel_sizes": [5, 3, 3, 3, 1],
        "dilations": [1, 2, 3, 4, 1],
        "groups": [1, 1, 1, 1, 1],
        "attention_channels": 128,
        "lin_neurons": 192,
    },
    "xvector": {
        "in_channels": 24,
        "activation": "torch.nn.LeakyReLU",
        "tdnn_blocks": 5,
        "tdnn_channels": [512, 512, 512, 512, 1500],
        "tdnn_kernel_sizes": [5, 3, 3, 1, 1],
        "tdnn_dilations": [1, 2, 3, 1, 1],
        "lin_neurons": 512,
    },
}
ACTIVATIONS = {"torch.nn.ReLU": nn.ReLU, "torch.nn.LeakyReLU": nn.LeakyReLU}
_BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class SpeechBrainEncoder(WholeClipEncoder):
    """Filterbank, mean normalisation over the clip, network.

    Clips of different lengths are embedded apart: SpeechBrain masks padding when it pools, but its convolutions mirror
    a clip at its end, which in a padded batch they cannot.

    Args:
        features: SpeechBrain's `Fbank`.
        normaliser: SpeechBrain's `InputNormalization`, by sentence.
        model: SpeechBrain's network, from features `(B, T, bands)` to `(B, 1, dim)`.
        dim: Width of an embedding.
        name: Name in results.
    """

    def __init__(self, features: Any, normaliser: nn.Module, model: nn.Module, dim: int, name: str):
        super().__init__(_min_frames(model) * round(features.compute_STFT.hop_length))
        self.name = name
        self.dim = dim
        self.features = features
        self.normaliser = normaliser
        self.model = model

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Embed clips `(B, S)` of one length: `(B, dim)`, not yet of length 1."""
        whole = torch.ones(len(waveforms), device=waveforms.device)
        return self.model(self.normaliser(self.features(waveforms), whole), whole).squeeze(1)


def _min_frames(model: nn.Module) -> int:
    """Convolutions mirror a clip at its ends: it must be longer than what is mirrored, and have a spread."""
    pads = [m.dilation[0] * (m.kernel_size[0] - 1) // 2 for m in model.modules() if isinstance(m, nn.Conv1d)]
    return max(2, max(pads, default=0) + 1)


def load_ecapa(source: str | None = None) -> SpeechBrainEncoder:
    """Load ECAPA-TDNN; see `load_speechbrain_speaker`."""
    return load_speechbrain_speaker("ecapa", source)


def load_xvector_tdnn(source: str | None = None) -> SpeechBrainEncoder:
    """Load the x-vector TDNN; see `load_speechbrain_speaker`."""
    return load_speechbrain_speaker("xvector", source)


def load_speechbrain_speaker(kind: str, source: str | None = None) -> SpeechBrainEncoder:
    """Load a speaker model of SpeechBrain.

    Args:
        kind: `ecapa` or `xvector`.
        source: Folder with `embedding_model.ckpt` and `hyperparams.yaml` (the published settings are taken where that
            is missing), or a repository on the Hub, with `@revision` where wanted; `SOURCES` where None.

    Returns:
        The encoder in eval mode.

    Raises:
        EncoderError: If a file is missing, settings are more than plain values, or the weights do not fit them.
    """
    folder = model_folder(source or SOURCES[kind], (HYPERPARAMS, CHECKPOINT))
    file = folder / CHECKPOINT
    if not file.is_file():
        raise EncoderError(f"expected weights of {kind} in {file}, found no file; give SpeechBrain's model folder")
    settings = read_settings(folder)
    fbank = arguments(settings, "compute_features", "speechbrain.lobes.features.Fbank")
    rate = settings.get("sample_rate", fbank.get("sample_rate", SAMPLING_RATE))
    if rate != SAMPLING_RATE:
        raise EncoderError(f"expected a model for {SAMPLING_RATE} Hz in {folder}, got {rate} Hz: it is not supported")
    normaliser = arguments(settings, "mean_var_norm", "speechbrain.processing.features.InputNormalization")
    normaliser = {"norm_type": "sentence", "std_norm": False} | normaliser
    if normaliser["norm_type"] != "sentence":
        # The statistics of other kinds lie in a file of their own.
        raise EncoderError(
            f"expected mean_var_norm with norm_type sentence in {folder / HYPERPARAMS}, got {normaliser['norm_type']}: "
            "it is not supported"
        )
    network = arguments(settings, "embedding_model", CLASSES[kind]) or dict(PUBLISHED[kind])
    bands = network.get("input_size" if kind == "ecapa" else "in_channels")
    features, own_normaliser, model, dim = _build(kind, {"n_mels": bands} | fbank, normaliser, network, folder)
    _fill(model, file)
    name = kind if source is None else f"{kind}:{folder.resolve().name if Path(source).is_dir() else source}"
    return SpeechBrainEncoder(features, own_normaliser, model, dim, name).requires_grad_(False).eval()


def _build(kind: str, fbank: dict, normaliser: dict, network: dict, folder: Path) -> tuple:
    """SpeechBrain's modules, and the width of an embedding."""
    network = {key: value for key, value in network.items() if key != "device"}
    if "activation" in network:
        if not isinstance(network["activation"], str) or network["activation"] not in ACTIVATIONS:
            raise EncoderError(
                f"expected an activation of {', '.join(ACTIVATIONS)}, got {short(network['activation'])}"
            )
        network["activation"] = ACTIVATIONS[network["activation"]]
    try:
        from speechbrain.lobes.features import Fbank
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
        from speechbrain.lobes.models.Xvector import Xvector
        from speechbrain.nnet.pooling import StatisticsPooling
        from speechbrain.processing.features import InputNormalization

        # A private copy of the random state: what is drawn is overwritten, and the caller's numbers stay.
        with torch.random.fork_rng(devices=[]):
            model = {"ecapa": ECAPA_TDNN, "xvector": Xvector}[kind](**network)
            features, normalise = Fbank(**fbank), InputNormalization(**normaliser)
    except _BUILD_ERRORS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EncoderError(f"SpeechBrain cannot build {kind} from {folder / HYPERPARAMS}: {reason}") from error
    finally:
        forget_lazy_modules()
    for module in model.modules():
        if isinstance(module, StatisticsPooling):
            # It adds noise of at most 9e-5 to every mean, even in eval(): embeddings would differ from call to call.
            module._get_gauss_noise = _no_noise
    return features, normalise, model, network.get("lin_neurons", {"ecapa": 192, "xvector": 512}[kind])


def _no_noise(shape: torch.Size, device: Any = "cpu") -> torch.Tensor:
    return torch.zeros(shape, device=device)


def _fill(model: nn.Module, file: Path) -> None:
    """Load a state dictionary, strictly and as tensors only."""
    state = read_pickled(file, advice="download the file again")
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    found = {key: getattr(value, "shape", None) for key, value in (state if isinstance(state, dict) else {}).items()}
    if found != wanted:
        differing = sorted(str(key) for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        more = ", ..." if len(differing) > 5 else ""
        raise EncoderError(
            f"expected the weights that {HYPERPARAMS} describes in {file}, these differ or are missing: "
            f"{line(', '.join(differing[:5]))}{more}; use the files of one model"
        )
    model.load_state_dict(state)
