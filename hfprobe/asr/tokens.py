"""Transcripts as token ids: characters, or word pieces by sentencepiece."""

from __future__ import annotations

from pathlib import Path

from hfprobe.errors import ConfigError
from hfprobe.plain import read_text, read_yaml, short

SPACE, UNKNOWN = "<space>", "<unk>"


class CharTokens:
    """Characters to token ids by an ESPnet token list (``<blank>`` first, ``<space>``, ``<unk>``, ``<sos/eos>``).

    Example:
        >>> CharTokens(["<blank>", "<unk>", "<space>", "A", "<sos/eos>"])("A A?")
        [3, 2, 3, 1]
    """

    def __init__(self, token_list: list[str]):
        self.ids = {token: index for index, token in enumerate(token_list)}
        self.unknown = self.ids[UNKNOWN]

    def pieces(self, text: str) -> list[str]:
        """The tokens of a transcript, also those that are not in the list."""
        return [SPACE if c == " " else c for c in text]

    def __call__(self, text: str) -> list[int]:
        return [self.ids.get(piece, self.unknown) for piece in self.pieces(text)]


class PieceTokens(CharTokens):
    """Word pieces to token ids.

    Args:
        token_list: ESPnet token list.
        model: File of a sentencepiece model (`hfprobe.asr.pieces` makes one).

    Raises:
        ConfigError: The file cannot be read.
    """

    def __init__(self, token_list: list[str], model: str | Path):
        import sentencepiece

        super().__init__(token_list)
        self.processor = sentencepiece.SentencePieceProcessor()
        try:
            self.processor.load(str(model))
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"bpemodel {str(model)!r} is no sentencepiece model; make it first") from error

    def pieces(self, text: str) -> list[str]:
        """The word pieces of a transcript, also those that are not in the list."""
        return self.processor.encode_as_pieces(text)


def build_tokens(token_type: str, token_list: list[str], model: str | Path | None = None) -> CharTokens:
    """Text to ids as a training configuration wants it.

    Args:
        token_type: ``"char"`` or ``"bpe"``.
        token_list: Tokens in order.
        model: Sentencepiece model, for ``"bpe"``.

    Raises:
        ConfigError: The type is another, the list lacks ``<unk>``, or there is no model.
    """
    if token_type not in ("char", "bpe"):
        raise ConfigError(f"token_type must be char or bpe, got {short(token_type)}")
    if UNKNOWN not in token_list:
        raise ConfigError(f"the token list has no {UNKNOWN}; take the list of the recipe, or add it")
    if token_type == "char":
        return CharTokens(token_list)
    if not model:
        raise ConfigError("token_type bpe needs a sentencepiece model; give --bpemodel")
    return PieceTokens(token_list, model)


def read_token_list(path: str | Path) -> list[str]:
    """A token list file: one token a line.

    Raises:
        ConfigError: The file is missing or empty.
    """
    path = Path(path)
    tokens = [line for line in read_text(path, "a token list").splitlines() if line] if path.is_file() else []
    if not tokens:
        raise ConfigError(f"token list {str(path)!r} is missing or empty; make it first")
    return tokens


def read_config(path: str | Path) -> dict:
    """A training configuration (YAML) as a dictionary.

    Raises:
        ConfigError: The file is missing or holds something else.
    """
    path = Path(path)
    values = read_yaml(path, "a training configuration") if path.is_file() else None
    if not isinstance(values, dict) or "encoder" not in values:
        raise ConfigError(f"expected a training configuration with an encoder in {str(path)!r}; check the path")
    return values
