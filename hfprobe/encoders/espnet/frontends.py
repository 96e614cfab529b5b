"""Stock frontends and preencoders of ESPnet that can be rebuilt: their classes, their options, what is refused.

Weights come from the checkpoint alone. Options that would make a constructor fetch something are replaced or refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import humanfriendly
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.frontend.cnn import CNNFrontend
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.asr.frontend.fused import FusedFrontends
from espnet2.asr.frontend.huggingface import HuggingFaceFrontend
from espnet2.asr.frontend.windowing import SlidingWindow
from espnet2.asr.preencoder.linear import LinearProjection
from espnet2.asr.preencoder.sinc import LightweightSincConvs
from torch import nn

from hfprobe.encoders.espnet.frontend import FRONTEND_NAME, DeltaFrontend
from hfprobe.errors import EncoderError
from hfprobe.plain import short, shown

SAMPLING_RATE = 16000
# Module and class behind each name, and the package that ESPnet leaves to the user to install.
FRONTENDS: dict[str, tuple[str, str, str | None]] = {
    "default": ("default", "DefaultFrontend", None),
    FRONTEND_NAME: ("", "DeltaFrontend", None),
    "espnet_ssl": ("espnet_ssl", "ESPnetSSLFrontend", None),
    "fused": ("fused", "FusedFrontends", None),
    "huggingface": ("huggingface", "HuggingFaceFrontend", "transformers"),
    "s3prl": ("s3prl", "S3prlFrontend", "s3prl"),
    "sliding_window": ("windowing", "SlidingWindow", None),
    "wav2vec_cnn": ("cnn", "CNNFrontend", None),
    "whisper": ("whisper", "WhisperFrontend", "whisper"),
}
PREENCODERS: dict[str, type[nn.Module]] = {"linear": LinearProjection, "sinc": LightweightSincConvs}
# Frontends whose weights are learned together with the encoder or on the way to it, and can be drawn at random.
LEARNED = (CNNFrontend, HuggingFaceFrontend)
# Upstreams of S3PRL that have no weights; the others fetch them unless they are given.
_WITHOUT_WEIGHTS = {"fbank", "mfcc", "mel", "linear", "spectrogram", "fbank_no_cmvn", "log_mel", "baseline_local"}
_INSTALL = {"whisper": "openai-whisper"}


def frontend_class(kind: str | None, folder: Path) -> type[AbsFrontend]:
    """The class behind a name of ``config.yaml``.

    Args:
        kind: Name of the frontend.
        folder: Experiment, for the messages.

    Returns:
        A class of ESPnet, or `DeltaFrontend`.

    Raises:
        EncoderError: If there is none, or a package that it needs is not installed.
    """
    known = ", ".join(sorted(FRONTENDS))
    if kind not in FRONTENDS:
        raise EncoderError(f"frontend {short(kind)} of {folder} is not supported: supported are {known}")
    module, name, package = FRONTENDS[kind]
    if kind == FRONTEND_NAME:
        return DeltaFrontend
    try:
        with _nothing_fetched():
            if package is not None:
                importlib.import_module(package)
            return getattr(importlib.import_module(f"espnet2.asr.frontend.{module}"), name)
    except ImportError as error:
        missing = error.name or package or str(error)
        raise EncoderError(
            f"frontend {short(kind)} of {folder} needs the package {missing}, which cannot be imported here: "
            f"pip install {_INSTALL.get(missing, missing)}; others supported are {known}"
        ) from error


@contextlib.contextmanager
def _nothing_fetched() -> Iterator[None]:
    """Keep ESPnet's tasks from fetching dictionaries for their text frontends when they are imported."""
    try:
        import nltk
    except ImportError:
        yield
        return
    fetch, nltk.download = nltk.download, lambda *_, **__: False
    try:
        yield
    finally:
        nltk.download = fetch


def frontend_options(kind: str | None, conf: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
    """Options of a frontend, such that building it fetches nothing but the configuration of a named Hub model.

    Args:
        kind: Name of the frontend.
        conf: ``frontend_conf`` of the experiment.
        folder: Where relative paths are looked up first.

    Returns:
        Options for the constructor.

    Raises:
        EncoderError: If the frontend would fetch weights, or is for another sampling rate.
    """
    options = dict(conf or {})
    rate = options.get("fs") or SAMPLING_RATE
    try:
        rate = humanfriendly.parse_size(rate) if isinstance(rate, str) else rate
    except humanfriendly.InvalidSize:
        pass  # said below
    if rate != SAMPLING_RATE:
        raise EncoderError(f"expected an encoder for {SAMPLING_RATE} Hz, got {short(rate)} Hz: it is not supported")
    if kind == "huggingface":
        # The checkpoint holds the weights: only the configuration is read.
        options["load_pretrained"] = False
        model = str(options.get("model"))
        place = _local(model, folder)
        options["model"] = str(place or model)
        if place is None:
            warnings.warn(f"reading the configuration of {model} from the Hugging Face Hub or its cache", stacklevel=2)
    elif kind == "s3prl":
        options["frontend_conf"] = _s3prl_options(options.get("frontend_conf"), folder)
    elif kind == "fused":
        parts = [dict(part) for part in options.get("frontends") or []]
        for part in parts:
            if part.get("frontend_type") == "s3prl":
                frontend_class("s3prl", folder)
                part["frontend_conf"] = _s3prl_options(part.get("frontend_conf"), folder)
        options["frontends"] = parts
    elif kind == "espnet_ssl":
        inner = dict(options.get("frontend_conf") or {})
        place = _local(str(inner.get("path_or_url")), folder)
        if place is None or place.suffix not in (".pt", ".pth"):
            got = short(inner.get("path_or_url"))
            raise EncoderError(
                f"expected a local .pth file with its config.yaml as path_or_url of frontend 'espnet_ssl', got {got}:"
                " nothing is downloaded"
            )
        options["frontend_conf"] = {**inner, "path_or_url": str(place)}
    elif kind == "whisper":
        _check_whisper(options)
    return options


def _local(path: str, folder: Path) -> Path | None:
    return next((place for place in (folder / path, Path(path)) if os.path.exists(place)), None)


def _s3prl_options(conf: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
    """Options of an upstream whose weights lie here."""
    inner = dict(conf or {})
    place = _local(str(inner["path_or_url"]), folder) if inner.get("path_or_url") else None
    if place is not None:
        inner["path_or_url"] = str(place)
    elif inner.get("upstream") not in _WITHOUT_WEIGHTS:
        raise EncoderError(
            f"expected a local file as path_or_url of the s3prl upstream {short(inner.get('upstream'))}, got "
            f"{short(inner.get('path_or_url'))}: nothing is downloaded"
        )
    return inner


def _check_whisper(options: Mapping[str, Any]) -> None:
    """Refuse a Whisper whose file would be downloaded."""
    import whisper

    size = options.get("whisper_model", "small")
    address = getattr(whisper, "_MODELS", {}).get(size)
    # The package's own default folder.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisper"
    place = Path(options.get("download_dir") or cache) / (address or f"{size}.pt").rsplit("/", 1)[-1]
    # A file with another checksum than the one in the address would be fetched again.
    if not os.path.isfile(place) or (address and _checksum(place) != address.split("/")[-2]):
        raise EncoderError(
            f"expected the weights of Whisper {short(size)}, whole, at {shown(place)}: nothing is downloaded"
        )


def _checksum(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_frontend(frontend: nn.Module) -> None:
    """Refuse frontends whose features would not be reproduced.

    Raises:
        EncoderError: If it is of another kind or has an option that is not supported.
    """
    if isinstance(frontend, SlidingWindow) and frontend.channels != 1:
        raise EncoderError(f"expected a sliding window over 1 channel, got {frontend.channels}: it is not supported")
    if isinstance(frontend, FusedFrontends):
        for part in frontend.frontends:
            check_frontend(part)
    if not isinstance(frontend, DefaultFrontend):
        if not isinstance(frontend, AbsFrontend):
            raise EncoderError(f"expected a frontend of ESPnet, got {type(frontend).__name__}")
        return
    if frontend.stft is None:
        raise EncoderError(f"expected a frontend with an STFT, got {type(frontend).__name__} with apply_stft: false")
    enhancement = frontend.frontend
    if enhancement is not None and (enhancement.wpe is not None or enhancement.beamformer is not None):
        raise EncoderError("expected a frontend without WPE or beamformer, got one: it is not supported")
    if not frontend.stft.center:
        raise EncoderError("expected a centred STFT, got center: false: it is not supported")
    rate = frontend.logmel.mel_options["sr"]
    if rate != SAMPLING_RATE:
        raise EncoderError(f"expected an encoder for {SAMPLING_RATE} Hz, got {short(rate)} Hz: it is not supported")


def check_preencoder(preencoder: nn.Module, frontend: AbsFrontend) -> None:
    """Refuse a preencoder that does not fit its frontend.

    Raises:
        EncoderError: If it reads other features, or gives more than one value per filter.
    """
    width = frontend.output_size()
    if isinstance(preencoder, LinearProjection) and preencoder.linear_out.in_features != width:
        raise EncoderError(f"expected input_size {width} in preencoder_conf, got {preencoder.linear_out.in_features}")
    if isinstance(preencoder, LightweightSincConvs):
        if not isinstance(frontend, SlidingWindow) or preencoder.in_channels != 1:
            raise EncoderError("expected frontend 'sliding_window' of 1 channel below preencoder 'sinc', got another")
        if _sinc_width(preencoder, width) != 1:
            raise EncoderError(f"expected win_length 400 below preencoder 'sinc', got {width}: its filters do not fit")


def _sinc_width(preencoder: LightweightSincConvs, width: int) -> int:
    """Values per filter that come out for a window; below 1 where the filters are longer than it."""
    for module in preencoder.blocks.modules():
        size = getattr(module, "kernel_size", None)
        if size is not None:
            size, stride = (v[0] if isinstance(v, tuple) else v for v in (size, module.stride))
            width = (width - size) // stride + 1
    return width
