"""Weights of ThinResNet: loading, and a safe file of one's own."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hfprobe.errors import EncoderError
from hfprobe.files import whole_file
from hfprobe.hub.safety import read_header
from hfprobe.plain import line, reason
from hfprobe.speakers.keras_weights import TRAINABLE, read_keras
from hfprobe.speakers.thinresnet import ThinResNet

HOW_TO_GET = (
    "give the original's weights: thinresnet:weights.h5 (github.com/WeidiXie/VGG-Speaker-Recognition, CC BY 4.0) "
    "or thinresnet:weights.safetensors"
)
METADATA = {
    "format": "pt",
    "model": "ThinResNet-34 + GhostVLAD (8 clusters, 2 ghosts, 512)",
    "source": "https://github.com/WeidiXie/VGG-Speaker-Recognition",
}


def load_thinresnet(weights: str | None = None) -> ThinResNet:
    """Load ThinResNet-34 + GhostVLAD.

    Args:
        weights: The original's `weights.h5`, or what `save_thinresnet` wrote (`.safetensors`).

    Returns:
        The encoder in eval mode.

    Raises:
        EncoderError: If no file is given, or it is missing, broken, or holds other weights.
    """
    if not weights:
        raise EncoderError(f"thinresnet comes without weights; {HOW_TO_GET}")
    path = Path(weights).expanduser()
    if not path.is_file():
        raise EncoderError(f"expected weights of thinresnet in {path}, found no file; {HOW_TO_GET}")
    readers = {".h5": read_keras, ".hdf5": read_keras, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise EncoderError(f"expected weights as {' or '.join(readers)}, got {path.name}; {HOW_TO_GET}")
    state = readers[path.suffix](path)
    encoder = ThinResNet()
    found = sum(state[name].numel() for name, _ in encoder.named_parameters())
    if found != TRAINABLE:
        raise EncoderError(f"expected {TRAINABLE} trainable numbers in {path}, got {found}; {HOW_TO_GET}")
    # The counts of batches, which nothing reads, are not in the files.
    encoder.load_state_dict(state, strict=False)
    return encoder.requires_grad_(False).eval()


def save_thinresnet(encoder: ThinResNet, path: str | Path) -> Path:
    """Write the weights as safetensors, whole or not at all.

    Args:
        encoder: What to write.
        path: Where; folders are made.

    Returns:
        The path.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in _wanted(encoder).items()}
    with whole_file(path) as place:
        save_file(state, place, metadata=METADATA)
    return Path(path)


def _wanted(encoder: ThinResNet) -> dict[str, torch.Tensor]:
    return {key: value for key, value in encoder.state_dict().items() if not key.endswith("num_batches_tracked")}


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    wanted = {key: list(value.shape) for key, value in _wanted(ThinResNet()).items()}
    read_header(Path(path), EncoderError)
    try:
        with safe_open(path, framework="pt") as file:
            found = {key: file.get_slice(key).get_shape() for key in file.keys()}
            differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
            if differing:
                more = ", ..." if len(differing) > 5 else ""
                raise EncoderError(
                    f"expected the weights of ThinResNet in {path}, these differ or are missing: "
                    f"{line(', '.join(differing[:5]))}{more}; {HOW_TO_GET}"
                )
            return {key: file.get_tensor(key).float() for key in wanted}
    except (SafetensorError, OSError, RuntimeError, LookupError) as error:
        raise EncoderError(f"expected safetensors in {path}, got: {reason(error)}; download the file again") from error
