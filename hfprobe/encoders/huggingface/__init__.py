"""Encoders of Hugging Face transformers. Importing this folder loads no model code of transformers.

``families`` says what is known, ``loading`` builds an encoder from a folder, ``waveform``, ``whisper`` and
``filterbank`` hold the adapters for the three kinds of front end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfprobe.encoders.base import SpeechEncoder
from hfprobe.encoders.huggingface.families import FAMILIES_TABLE, is_huggingface

__all__ = ["FAMILIES_TABLE", "is_huggingface", "load_huggingface"]


def load_huggingface(
    path: str | Path,
    *,
    name: str | None = None,
    random_init: bool = False,
    seed: int = 0,
    **options: Any,
) -> SpeechEncoder:
    """Load an encoder from a folder in the layout of ``save_pretrained``; see `loading.load_huggingface`.

    Args:
        path: Folder with ``config.json`` and weights, or a weight file inside one.
        name: Name of the encoder; that of the folder where None.
        random_init: Same shape and input features, random weights.
        seed: Of the random weights.
        **options: ``weights`` (name of the weight file) and ``do_normalize``.

    Returns:
        The encoder, in ``eval()`` mode, on the CPU, in float32.

    Raises:
        EncoderError: If the family is unknown, the files do not fit, or an option does not exist.
    """
    # Imported here: the model code of transformers takes seconds.
    from hfprobe.encoders.huggingface import loading

    return loading.load_huggingface(path, name=name, random_init=random_init, seed=seed, **options)
