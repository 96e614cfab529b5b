"""Rebuild an encoder from an ESPnet experiment folder, strictly and without ESPnet's task.

ESPnet's own route imports ``espnet2.tasks.asr`` (8 s), needs the statistics file of the training machine
and loads with ``strict=False``, so that a checkpoint without one weight passes in silence. Here the parts
are built from ``config.yaml``, and every weight must be there.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from espnet2.asr.encoder.branchformer_encoder import BranchformerEncoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from torch import Tensor, nn

from hfprobe.encoders.espnet.adapter import EspnetEncoder
from hfprobe.encoders.espnet.archive import is_archive, unpack
from hfprobe.encoders.espnet.attentive import EspnetAttentionEncoder
from hfprobe.encoders.espnet.decoding import CTCText
from hfprobe.encoders.espnet.experiment import Experiment, open_experiment, read_weights
from hfprobe.encoders.espnet.frontends import LEARNED, PREENCODERS, frontend_class, frontend_options
from hfprobe.encoders.espnet.layers import AttentionEncoder
from hfprobe.encoders.espnet.normalize import PerUtteranceMVN, StoredMVN
from hfprobe.errors import EncoderError
from hfprobe.plain import line, short

if TYPE_CHECKING:
    from espnet2.asr.frontend.abs_frontend import AbsFrontend
    from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder

Part = TypeVar("Part", bound=nn.Module)
ENCODERS: dict[str, type[nn.Module]] = {
    "rnn": RNNEncoder,
    "vgg_rnn": VGGRNNEncoder,
    "transformer": TransformerEncoder,
    "conformer": ConformerEncoder,
    "branchformer": BranchformerEncoder,
    "e_branchformer": EBranchformerEncoder,
}
NORMALIZERS = ("global_mvn", "utterance_mvn")
# Parts of a recogniser that lie beside or after the encoder: their weights are not read.
_IGNORED = ("decoder.", "joint_network.", "specaug.", "criterion_att.", "criterion_transducer.")
# Until ESPnet 0.5.2 checkpoints held the table of the sinusoidal positions, which ESPnet drops on loading.
_TABLE = re.compile(r"encoder\.embed\.(\w+\.)+pe")


def load_espnet(
    path: str | Path,
    *,
    weights: str | None = None,
    random_init: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> EspnetEncoder:
    """Load the encoder of an ESPnet experiment.

    Args:
        path: Experiment folder, unpacked archive with ``meta.yaml``, packed ``.zip``, or a weight file inside
            an experiment folder.
        weights: Name of the weight file; chosen by `experiment.find_weights` where None.
        random_init: Leave encoder and CTC head at PyTorch's random initialisation (the floor), and so preencoder and
            the frontends ``wav2vec_cnn`` and ``huggingface``; others and normalisation are still the experiment's.
        seed: Of the random initialisation.
        name: Name of the encoder; that of the folder where None. ``-random<seed>`` is added to a random one.

    Returns:
        The encoder, in ``eval()`` mode, on the CPU, in float32.

    Raises:
        EncoderError: If a file is missing or damaged, the configuration is not supported, or a weight is
            missing, surplus or of another shape.
    """
    with contextlib.ExitStack() as stack:
        place = Path(path)
        if is_archive(place):
            # Unpacked for as long as it takes to read it.
            unpacked = stack.enter_context(unpack(place))
            experiment = replace(open_experiment(unpacked, weights), name=place.stem)
        else:
            experiment = open_experiment(place, weights)
        # The forked generator makes random weights repeatable and leaves the caller's own numbers alone.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _build(experiment, name or experiment.name)
        stored = read_weights(experiment.weights)
        state = {k: value for k, value in stored.items() if not k.startswith(_IGNORED) and not _TABLE.fullmatch(k)}
        _check_state(model, state, experiment.weights)
    if random_init:
        learned = ("encoder.", "ctc.", "preencoder.", *(("frontend.",) if isinstance(model.frontend, LEARNED) else ()))
        state.update({k: v for k, v in model.state_dict().items() if k.startswith(learned)})
        model.name = f"{model.name}-random{seed}"
    model.load_state_dict(state, strict=True)
    return model.eval()


def _build(experiment: Experiment, name: str) -> EspnetEncoder:
    """Make the parts that ``config.yaml`` describes, with random weights."""
    config = experiment.config
    _check_kinds(config, experiment)
    if config.get("postencoder") is not None:
        got = config["postencoder"]
        raise EncoderError(f"postencoder {short(got)} of {experiment.folder} is not supported: only none is")
    encoder_class = _choose("encoder", config.get("encoder", "rnn"), ENCODERS, experiment)
    frontend = _frontend(config.get("frontend", "default"), config.get("frontend_conf"), experiment)
    width = frontend.output_size()
    normalize = _normalizer(config.get("normalize"), config.get("normalize_conf") or {}, width, experiment)
    preencoder = _preencoder(config.get("preencoder"), config.get("preencoder_conf") or {}, experiment)
    width = width if preencoder is None else preencoder.output_size()
    encoder = _make(encoder_class, config.get("encoder_conf"), "encoder_conf", experiment, input_size=width)
    model_conf = config.get("model_conf") or {}
    ctc = text = None
    weight = model_conf.get("ctc_weight", 0.5)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise EncoderError(f"ctc_weight of {experiment.folder} must be a number, got {short(weight)}: correct it")
    # With weight 0 ESPnet builds no CTC head.
    if weight > 0:
        blank, space = str(model_conf.get("sym_blank", "<blank>")), str(model_conf.get("sym_space", "<space>"))
        text = CTCText(experiment.tokens, config.get("token_type") or "char", blank, space)
        ctc = nn.Linear(encoder.output_size(), len(text.tokens))
        if getattr(encoder, "interctc_use_conditioning", False):
            # ESPnet's model adds it to the encoder, because it is the model that knows the tokens.
            encoder.conditioning_layer = nn.Linear(len(text.tokens), encoder.output_size())
    kind = EspnetAttentionEncoder if isinstance(encoder, AttentionEncoder) else EspnetEncoder
    return kind(name, frontend, normalize, encoder, ctc, text, preencoder)


def _check_kinds(config: dict[str, Any], experiment: Experiment) -> None:
    """Refuse names that are no texts, and options that are no mapping."""
    for name in ("encoder", "frontend", "normalize", "preencoder", "token_type"):
        if not isinstance(config.get(name), str | None):
            found = short(config[name])
            raise EncoderError(f"{name} of {experiment.folder} must be a name, got {found}: correct config.yaml")
    for name in ("encoder_conf", "frontend_conf", "normalize_conf", "preencoder_conf", "model_conf"):
        conf = config.get(name)
        if conf is not None and not (isinstance(conf, dict) and all(isinstance(key, str) for key in conf)):
            found = short(conf)
            raise EncoderError(f"{name} of {experiment.folder} must be a mapping, got {found}: correct config.yaml")


def _frontend(kind: str | None, conf: dict[str, Any] | None, experiment: Experiment) -> AbsFrontend:
    """The frontend of the configuration, without the copy of its pretrained weights that ESPnet keeps."""
    make = frontend_class(kind, experiment.folder)
    frontend = _make(make, frontend_options(kind, conf, experiment.folder), "frontend_conf", experiment).cpu()
    if hasattr(frontend, "pretrained_params"):
        frontend.pretrained_params = None
    return frontend


def _preencoder(kind: str | None, conf: dict[str, Any], experiment: Experiment) -> AbsPreEncoder | None:
    """The preencoder of the configuration."""
    if kind is None:
        return None
    make = _choose("preencoder", kind, PREENCODERS, experiment)
    if kind == "linear" and not {"input_size", "output_size"} <= conf.keys():
        place = experiment.folder
        raise EncoderError(f"preencoder 'linear' of {place} is not supported without input_size and output_size")
    return _make(make, conf, "preencoder_conf", experiment)


def _choose(kind: str, value: str | None, choices: dict[str, type], experiment: Experiment) -> type:
    """The class behind a name of the configuration."""
    if value not in choices:
        known = ", ".join(sorted(choices))
        raise EncoderError(f"{kind} {short(value)} of {experiment.folder} is not supported: supported are {known}")
    return choices[value]


def _make(
    make: Callable[..., Part],
    conf: dict[str, Any] | None,
    key: str,
    experiment: Experiment,
    **extra: Any,
) -> Part:
    """Call a class of ESPnet with options from the configuration."""
    options = {**(conf or {}), **extra}
    if "use_flash_attn" in inspect.signature(make).parameters:
        # Its half-precision kernels would give other numbers wherever they happen to be installed.
        options["use_flash_attn"] = False
    cause: Exception
    try:
        with _quiet(), tensors_only():
            return make(**options)
    except KeyError as error:
        cause, reason = error, f"unknown value {error}"
    except (AssertionError, ZeroDivisionError) as error:
        # ESPnet checks most combinations of options by bare assertions: the line itself says what was expected.
        cause, reason = error, f"{type(error).__name__} at `{traceback.extract_tb(error.__traceback__)[-1].line}`"
    except Exception as error:
        # Any class at all: what ESPnet hands a value to raises its own, e.g. humanfriendly for a rate that is none.
        cause, reason = error, (str(error).splitlines() or [type(error).__name__])[0]
    # With the cause, so that --debug shows where a bug is, if it is one.
    raise EncoderError(f"{key} of {experiment.folder} does not fit {make.__name__}: {line(reason)}") from cause


@contextlib.contextmanager
def tensors_only() -> Iterator[None]:
    """Let ``torch.load`` read tensors alone, whatever a caller asks for.

    ESPnet and S3PRL read the file that a frontend's ``path_or_url`` names with ``weights_only=False``; in an archive or
    a repository of somebody else that file could run code.
    """
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ESPnet's constructors from warning about old options, and from setting up logging to do so."""
    before, level = list(logging.root.handlers), logging.root.manager.disable
    logging.disable(max(level, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(level)
        for handler in set(logging.root.handlers) - set(before):
            logging.root.removeHandler(handler)


def _normalizer(
    kind: str | None, conf: dict[str, Any], width: int, experiment: Experiment
) -> StoredMVN | PerUtteranceMVN | None:
    """The feature normaliser of the configuration."""
    if kind is None:
        return None
    if kind == "global_mvn":
        return StoredMVN(width, conf.get("norm_means", True), conf.get("norm_vars", True))
    if kind == "utterance_mvn":
        return _make(PerUtteranceMVN, conf, "normalize_conf", experiment)
    known = ", ".join((*NORMALIZERS, "none"))
    raise EncoderError(f"normalize {short(kind)} of {experiment.folder} is not supported: supported are {known}")


def _check_state(model: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Refuse weights that are not exactly those of the model."""
    expected = model.state_dict()
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & state.keys()
        if state[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
        for what, keys in (("missing", missing), ("surplus", surplus), ("of another shape", sorted(shapes)))
        if keys
    ]
    if problems:
        raise EncoderError(f"weights in {file} do not match the configuration: {'; '.join(problems)}")
