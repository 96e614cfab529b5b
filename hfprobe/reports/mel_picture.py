"""Mel-spectrograms as grey PNG files: small, seen by any browser, and read back within half a grey level."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hfprobe.plain import check_file, reason
from hfprobe.reports.model import ReportError

LOWEST, STEP = -25.0, 0.15  # log power of grey level 0, and from one level to the next: 0.65 dB


def mel_bytes(mel: np.ndarray) -> bytes:
    """A mel-spectrogram as a grey PNG, one pixel per value.

    Args:
        mel: Natural-log power ``(frames, n_mels)``; what is not within `LOWEST` and 255 steps above is cut off.

    Returns:
        The file; `read_mel` reads it.

    Example:
        >>> mel = np.linspace(-20, 5, 12, dtype=np.float32).reshape(4, 3)
        >>> bool(np.abs(read_mel(io.BytesIO(mel_bytes(mel))) - mel).max() <= STEP / 2 + 1e-5)
        True
    """
    from PIL import Image

    levels = np.clip(np.round((np.asarray(mel, dtype=np.float32) - LOWEST) / STEP), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels.T[::-1])).save(buffer, format="PNG")
    return buffer.getvalue()


def read_mel(file: Any) -> np.ndarray:
    """What `mel_bytes` wrote, within half a `STEP`.

    Raises:
        ReportError: It is no grey PNG.
    """
    from PIL import Image

    if isinstance(file, str | Path):
        check_file(file, "a kept mel-spectrogram", ReportError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # at most 90 million pixels
            with Image.open(file, formats=("PNG",)) as image:
                mode = image.mode
                levels = np.asarray(image) if mode == "L" else None
    except (OSError, ValueError, SyntaxError, LookupError, Warning, Image.DecompressionBombError) as error:
        why = reason(error)
        raise ReportError(f"a kept mel-spectrogram is not readable as PNG ({why}); make the run again") from error
    if levels is None:
        raise ReportError(f"a kept mel-spectrogram must be a grey PNG, got mode {mode}; make the run again")
    return levels[::-1].T.astype(np.float32) * STEP + LOWEST
