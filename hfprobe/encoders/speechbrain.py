"""SpeechBrain's speech recognisers (CRDNN, Transformer, Conformer, Branchformer) as encoders.

A SpeechBrain model is described by ``hyperparams.yaml``, and that file may name any Python class or function to be
called: reading it runs code. So it is read only with ``trust_remote_code=True``. It is loaded by SpeechBrain itself,
from files only, and read with hooks; padding is kept out by encoding utterances of equal length together.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfprobe.encoders.base import SpeechEncoder
from hfprobe.encoders.capture import Tap, capture
from hfprobe.encoders.frames import first_tensor
from hfprobe.encoders.module import encoder_from_module
from hfprobe.errors import EncoderError

if TYPE_CHECKING:
    from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR

HYPERPARAMS = "hyperparams.yaml"
SAMPLING_RATE = 16000
_LOADING_ERRORS = (
    OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError, AssertionError, IndexError,
)  # fmt: skip


def is_speechbrain(path: str | Path) -> bool:
    """Say whether a folder, or a file inside one, is a SpeechBrain model.

    Args:
        path: A local path.

    Returns:
        True where there is a ``hyperparams.yaml``.

    Example:
        >>> is_speechbrain("no/such/folder")
        False
    """
    path = Path(path)
    return ((path.parent if path.is_file() else path) / HYPERPARAMS).is_file()


def load_speechbrain(
    path: str | Path,
    *,
    name: str | None = None,
    random_init: bool = False,
    seed: int = 0,
    trust_remote_code: bool = False,
    **options: Any,
) -> SpeechEncoder:
    """Load the encoder of a SpeechBrain recogniser.

    Layers of a CRDNN: ``cnn1`` ... after the pooling of each block, ``rnn`` the output of the last recurrent layer,
    ``dnn1`` ... after the activation of each block. Of a Transformer, Conformer or Branchformer: ``cnn1`` ... the
    blocks of the convolutional front end, ``layer1`` ... each layer's output (what the next layer reads), ``norm``
    the last layer after the encoder's final normalisation. Layer drop is off, also in ``train()``, and input and
    batch normalisation keep their statistics.

    Args:
        path: Folder with ``hyperparams.yaml`` and the checkpoints that it names.
        name: Name of the encoder; that of the folder where None. ``-random<seed>`` is added to a random one.
        random_init: Same shape and input normalisation, SpeechBrain's random weights.
        seed: Of the random weights.
        trust_remote_code: Must be True: ``hyperparams.yaml`` is code from whoever made the folder.
        **options: None are known; any raises.

    Returns:
        The encoder, in ``eval()`` mode, on the CPU. It does not transcribe.

    Raises:
        EncoderError: If the code is not trusted, a file is missing, or the model is of another kind.
    """
    if options:
        known = "trust_remote_code"
        raise EncoderError(f"unknown option {', '.join(options)} for a SpeechBrain encoder: choose from {known}")
    folder = Path(path).parent if Path(path).is_file() else Path(path)
    if not is_speechbrain(folder):
        raise EncoderError(f"expected {HYPERPARAMS} in {folder}, found none: give a SpeechBrain model folder")
    if trust_remote_code is not True:
        raise EncoderError(
            f"{HYPERPARAMS} in {folder} can run any Python code when it is read: look through it, and if you trust "
            "whoever made it, pass trust_remote_code=True"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = _load(folder)
            if random_init:
                _randomise(network, folder, seed)
        finally:
            forget_lazy_modules()
    name = (name or folder.resolve().name) + (f"-random{seed}" if random_init else "")
    module: Any  # only some classes of SpeechBrain have a LayerDrop, a plain number
    for module in network.modules():
        if hasattr(module, "layerdrop_prob"):
            module.layerdrop_prob = 0.0
    network.requires_grad_().eval()
    places, strides, offsets = _places(network), {}, {}
    if not places:
        raise EncoderError(
            f"expected a CRDNN or a Transformer-like encoder in {folder}, found neither: use from_module"
        )
    axis = _time_axes(network, places)
    for place in places:
        strides[place.name], offsets[place.name] = axis[place.name]
    taps = {place.name: Tap(place.path, "output", place.index) for place in places}
    layout = {key: "btfc" if value.dim() == 4 else "btd" for key, value in _read(network, taps, 16000).items()}
    encoder = encoder_from_module(network, taps, strides, offsets, layout=layout, name=name)
    texts = {place.name: place.text for place in places}
    encoder.layers = tuple(replace(spec, tap=texts[spec.name]) for spec in encoder.layers)
    return encoder


def forget_lazy_modules() -> None:
    """Take SpeechBrain's placeholders for optional packages (k2 and others) out of ``sys.modules``.

    They raise when anything looks at them, and what walks through all modules (``inspect``, debuggers, hypothesis)
    would fail for the rest of the process. The real modules stay, and can be imported as before.
    """
    for name, module in list(sys.modules.items()):
        if type(module).__module__ == "speechbrain.utils.importutils":
            del sys.modules[name]


class _Network(nn.Module):
    """From waveforms to the encoder's output, as SpeechBrain's own ``encode_batch`` goes."""

    def __init__(self, encoder: nn.Module, transformer: TransformerASR | None):
        super().__init__()
        self.encoder = encoder
        self.transformer = transformer

    def forward(self, waveforms: Tensor) -> Tensor:
        whole = torch.ones(len(waveforms), device=waveforms.device)
        output = self.encoder(waveforms, whole)
        return output if self.transformer is None else self.transformer.encode(output, whole)

    def train(self, mode: bool = True) -> _Network:
        from speechbrain.processing.features import InputNormalization

        super().train(mode)
        for module in self.modules():
            # In training they would learn new statistics, from utterances that are encoded apart.
            if isinstance(module, InputNormalization | nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def _load(folder: Path) -> _Network:
    """Load through SpeechBrain, from local files only."""
    from speechbrain.inference.interfaces import Pretrained
    from speechbrain.utils.fetching import FetchConfig, LocalStrategy
    from yaml import YAMLError

    class Interface(Pretrained):
        """Only the encoder is needed: no tokenizer, no decoder."""

        MODULES_NEEDED = ["encoder"]
        HPARAMS_NEEDED: list[str] = []

    try:
        loaded = Interface.from_hparams(
            source=str(folder.resolve()),
            overrides=_overrides(folder),
            local_strategy=LocalStrategy.NO_LINK,
            fetch_config=FetchConfig(allow_network=False),
            freeze_params=False,
        )
    except (*_LOADING_ERRORS, YAMLError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EncoderError(f"SpeechBrain cannot load {folder}: {type(error).__name__}: {reason}") from error
    rate = getattr(loaded.hparams, "sample_rate", SAMPLING_RATE)
    if rate != SAMPLING_RATE:
        raise EncoderError(f"expected a model for {SAMPLING_RATE} Hz in {folder}, got {rate} Hz: it is not supported")
    return _network_of(loaded.mods, vars(loaded.hparams))


def _network_of(modules: Any, hparams: dict[str, Any]) -> _Network:
    separate = hparams.get("transformer_beam_search", False) and "transformer" in modules
    return _Network(modules["encoder"], modules["transformer"] if separate else None)


def _overrides(folder: Path) -> dict[str, str]:
    """Published models name their own repository as the source; the folder has the same files."""
    text = (folder / HYPERPARAMS).read_text(encoding="utf-8", errors="replace")
    return {"pretrained_path": str(folder.resolve())} if re.search(r"^pretrained_path:", text, re.M) else {}


def _randomise(network: _Network, folder: Path, seed: int) -> None:
    """Give the parameters the values that they have before the checkpoints are read."""
    from hyperpyyaml import load_hyperpyyaml

    torch.manual_seed(seed)
    with open(folder / HYPERPARAMS, encoding="utf-8") as file:
        fresh = load_hyperpyyaml(file, _overrides(folder))
    random = dict(_network_of(fresh["modules"], fresh).named_parameters())
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            parameter.copy_(random[key])


@dataclass(frozen=True)
class _Place:
    """A layer: its name, where it is read, and in words."""

    name: str
    path: str
    index: int | None
    text: str


def _places(network: nn.Module) -> list[_Place]:
    """The layers of the first known encoder inside a network."""
    from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
    from speechbrain.lobes.models.CRDNN import CRDNN
    from speechbrain.lobes.models.transformer.Transformer import TransformerInterface

    found: list[_Place] = []
    for path, module in network.named_modules():
        if isinstance(module, CRDNN):
            return list(_crdnn_places(path, module))
        if isinstance(module, ConvolutionFrontEnd) and not found:
            blocks = [child for child, _ in module.named_children()]
            found = [_Place(f"cnn{i}", f"{path}.{b}", None, f"output of {path}.{b}") for i, b in enumerate(blocks, 1)]
        if isinstance(module, TransformerInterface):
            inner = f"{path}.encoder"
            for i in range(len(module.encoder.layers)):
                where = f"{inner}.layers.{i}"
                found.append(_Place(f"layer{i + 1}", where, 0, f"output of {where}, before {inner}.norm"))
            return [*found, _Place("norm", f"{inner}.norm", None, f"output of {inner}.norm after the last layer")]
    return []


def _crdnn_places(path: str, module: nn.Module) -> Iterator[_Place]:
    for kind, part in (("cnn", "CNN"), ("rnn", "RNN"), ("dnn", "DNN")):
        inner = getattr(module, part, None)
        where = f"{path}.{part}"
        if inner is None:
            continue
        if kind == "rnn":
            if len(list(inner.parameters())) == 0:
                raise EncoderError(f"{where} with projections (use_rnnp) is not supported: use from_module")
            yield _Place("rnn", where, 0, f"output of the last layer of {where}")
            continue
        last = "pooling" if kind == "cnn" else "activation"
        for i, (block, _) in enumerate(inner.named_children(), 1):
            yield _Place(f"{kind}{i}", f"{where}.{block}", None, f"output of {where}.{block}, after its {last}")


def _read(network: nn.Module, taps: dict[str, Tap], samples: int) -> dict[str, Tensor]:
    """What a second of noise gives at some places."""
    noise = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), capture(network, taps) as seen:
        network(noise)
    missing = [f"{key} at {tap.path}" for key, tap in taps.items() if key not in seen]
    if missing:
        raise EncoderError(f"layer(s) {', '.join(missing)} never ran in the SpeechBrain model: use from_module")
    return {key: first_tensor(value, key) for key, value in seen.items()}


def _time_axes(network: nn.Module, places: list[_Place]) -> dict[str, tuple[int, int]]:
    """Stride and offset of each layer in samples: the frontend's hop times what the convolutions do to the frames."""
    from speechbrain.processing.features import STFT

    stft = next((module for module in network.modules() if isinstance(module, STFT)), None)
    if stft is None:
        raise EncoderError("expected a SpeechBrain model on spectral features, found no STFT: use from_module")
    start = 0 if stft.center else stft.win_length // 2
    # The convolutions begin at what the first block reads; beyond them no layer moves in time.
    modules = dict(network.named_modules())
    blocks = [place for place in places if place.name.startswith("cnn")]
    axes: dict[str, tuple[float, float]] = {}
    current = (1.0, 0.0)
    if blocks:
        frames = _read(network, {"in": Tap(blocks[0].path, "input", 0)}, 16000)["in"]
        x = torch.randn(1, 240, *frames.shape[2:], generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = x
        parent = modules[blocks[0].path.rsplit(".", 2)[0]]
        with torch.enable_grad():
            for place in blocks:
                value = modules[place.path](value)
                axes[place.name] = current = _axis(x, value)
            if hasattr(parent, "time_pooling"):
                current = _axis(x, parent.time_pooling(value))
    elif any(hasattr(module, "time_pooling") for module in network.modules()):
        raise EncoderError("expected convolutions before time pooling, found none: use from_module")
    hop = stft.hop_length
    chosen = {place.name: axes.get(place.name, current) for place in places}
    return {key: (round(stride * hop), max(0, round(start + offset * hop))) for key, (stride, offset) in chosen.items()}


def _axis(frames: Tensor, output: Tensor) -> tuple[float, float]:
    """Stride, and centre of the first output, in input frames; seen from the gradients of some middle outputs."""
    stride = round(frames.shape[1] / output.shape[1])
    middle, first, last = output.shape[1] // 2, [], []
    for index in range(middle, middle + 4):
        [gradient] = torch.autograd.grad(output[0, index].square().sum(), frames, retain_graph=True)
        touched = gradient[0].flatten(1).any(dim=1).nonzero().flatten()
        first.append(int(touched[0]) - index * stride)
        last.append(int(touched[-1]) - index * stride)
    return float(stride), (min(first) + max(last)) / 2
