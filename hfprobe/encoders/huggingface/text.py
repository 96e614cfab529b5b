"""From the best token of each frame to text, with the tokenizer that lies beside a recogniser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hfprobe.errors import EncoderError
from hfprobe.plain import TEXT_LIMIT, check_file, reason

_TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "vocab.json")


class CTCTokens:
    """A recogniser's tokenizer, which merges repeats and drops blanks.

    Args:
        tokenizer: Tokenizer of transformers for CTC.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def decode(self, indices: Sequence[int]) -> str:
        """Make text of the best tokens.

        Args:
            indices: Best token of each valid frame.

        Returns:
            The text.
        """
        return self.tokenizer.decode(list(indices))


def find_tokens(folder: Path) -> CTCTokens | None:
    """Load the tokenizer of a folder; code in the folder is never run.

    Args:
        folder: Where to look.

    Returns:
        The tokenizer, or None where the folder has none.

    Raises:
        EncoderError: If there is one that cannot be read.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    for name in _TOKENIZER_FILES:
        if (folder / name).is_file():
            check_file(folder / name, "a part of a tokenizer", EncoderError, TEXT_LIMIT)
    from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

    described = (folder / "tokenizer_config.json").is_file() or (folder / "tokenizer.json").is_file()
    # A bare vocab.json, as old repositories have it, says nothing of the class.
    kind = AutoTokenizer if described else Wav2Vec2CTCTokenizer
    extra = {"trust_remote_code": False} if described else {}
    try:
        return CTCTokens(kind.from_pretrained(folder, local_files_only=True, **extra))
    except Exception as error:  # noqa: BLE001  a tokenizer's files are read by several libraries; Rust's panics too
        raise EncoderError(
            f"expected a tokenizer in {folder}, could not read it ({reason(error)}): repair its files or take them out"
        ) from error
