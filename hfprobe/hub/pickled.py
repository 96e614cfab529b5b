"""PyTorch's own files (``.pth``, ``.pt``, ``.bin``, ``.ckpt``): tensors and plain values alone, or a clear error.

Such a file is a pickle, in a zip archive since PyTorch 1.6. ``weights_only=True`` unpickles nothing but tensors and
plain values; what it raises for a damaged file can be anything. Two things make a small file large in memory: members
that are compressed (PyTorch writes none), and a tensor whose strides show the same numbers again and again.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from hfprobe.errors import EncoderError, HfprobeError
from hfprobe.plain import check_file, reason, shown

MARGIN = 1_000_000  # bytes that the members of an archive may have beyond its own


def read_pickled(
    path: str | Path,
    what: str = "plain weights",
    error: type[HfprobeError] = EncoderError,
    advice: str = "save or download it again",
) -> Any:
    """The content of a file that ``torch.save`` wrote, on the CPU.

    Args:
        path: The file.
        what: What is expected there, for messages.
        error: What is raised.
        advice: What to do about a file that cannot be read.

    Raises:
        HfprobeError: It is missing, damaged, holds other objects than tensors and plain values, or would be larger in
            memory than on disk.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "weights.pth"
        >>> torch.save({"weight": torch.arange(3)}, file)
        >>> read_pickled(file)
        {'weight': tensor([0, 1, 2])}
    """
    import torch

    check_file(path, what, error)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                unpacked = sum(member.file_size for member in packed.infolist())
            if unpacked > Path(path).stat().st_size + MARGIN:
                raise ValueError(f"unpacked it would have {unpacked:,} bytes")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (Exception, SystemError) as problem:
        # The unpickler stumbles over a damaged file in any way: RuntimeError, EOFError, struct.error, RecursionError...
        raise error(f"expected {what} in {shown(path)}, could not read them: {reason(problem)}; {advice}") from problem
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise error(f"expected {what} in {shown(path)}, {str(name)[:80]} repeats its numbers; {advice}")
    return content
