"""Which utterances CTC can align: a token needs a frame, and two equal neighbours need one more between them.

ESPnet's ``zero_infinity`` makes the others cost nothing, in silence: they take time and teach nothing.
Source: Graves et al., "Connectionist Temporal Classification", ICML 2006, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hfprobe.errors import ConfigError

FRONTENDS = ("delta", "default")


def needed_frames(tokens: Sequence) -> int:
    """Fewest frames from which CTC can read these tokens.

    Example:
        >>> needed_frames("HELLO")
        6
    """
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))


def frames_of(config: dict[str, Any]) -> tuple[Callable[[int], int], float]:
    """How many frames a recogniser has for its CTC, from its training configuration.

    Args:
        config: ``frontend``, ``frontend_conf``, ``encoder`` and ``encoder_conf`` as ESPnet's.

    Returns:
        Samples at 16 kHz to frames of the last layer, and the milliseconds from one such frame to the next.

    Raises:
        ConfigError: The frontend or the encoder is another than the recipes use.

    Example:
        >>> conf = {"num_layers": 3, "hidden_size": 4, "output_size": 4, "subsample": [1, 2, 2]}
        >>> frames, step = frames_of({"encoder": "rnn", "encoder_conf": conf})
        >>> frames(16000), step  # 101 frames of 10 ms, halved twice
        (26, 40.0)
    """
    from hfprobe.encoders.espnet.layers import layer_specs
    from hfprobe.encoders.espnet.loading import ENCODERS
    from hfprobe.encoders.espnet.subsampling import convolutions, frames_after

    frontend = config.get("frontend") or "delta"
    if frontend not in FRONTENDS:
        raise ConfigError(f"frontend {frontend!r} is not known here; choose from {', '.join(FRONTENDS)}")
    kind = config.get("encoder")
    if kind not in ENCODERS:
        raise ConfigError(f"encoder {kind!r} is not known; choose from {', '.join(ENCODERS)}")
    features = config.get("frontend_conf") or {}
    hop, width = features.get("hop_length", 160 if frontend == "delta" else 128), features.get("n_mels", 80)
    width *= 3 if frontend == "delta" else 1
    with torch.device("meta"):  # only its shape matters
        encoder = ENCODERS[kind](input_size=width, **(config.get("encoder_conf") or {}))
    stack = convolutions(getattr(encoder, "embed", None))
    stride = layer_specs(encoder, width, hop)[-1].stride

    def frames(samples: int) -> int:
        count = 1 + samples // hop
        if stack:
            return max(0, frames_after(stack, count))
        # Pooling and subsampling round up, and rounding up by 2 twice is rounding up by 4.
        return -(-count // (stride // hop))

    return frames, stride / 16
