"""From the best token of each frame to text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class CTCText:
    """Token list of an ESPnet recogniser and how its tokens join into text.

    Args:
        tokens: Token of each index, as in ``config.yaml``.
        token_type: ``"char"``, ``"bpe"``, ``"word"`` or ``"phn"``.
        blank: The CTC blank.
        space: Stands for a space among characters.
    """

    tokens: tuple[str, ...]
    token_type: str = "char"
    blank: str = "<blank>"
    space: str = "<space>"

    def decode(self, indices: Sequence[int]) -> str:
        """Merge repeats, drop blanks and sentence marks, join.

        Args:
            indices: Best token of each valid frame.

        Returns:
            The text.

        Example:
            >>> CTCText(("<blank>", "A", "B", "<space>", "<sos/eos>")).decode([0, 1, 1, 0, 1, 3, 2])
            'AA B'
        """
        return self.join([index for index, _ in groupby(indices)])

    def join(self, indices: Sequence[int]) -> str:
        """Join tokens as they are, repeats too; blanks and sentence marks are dropped.

        Args:
            indices: Tokens, as a search gives them.

        Returns:
            The text.

        Example:
            >>> CTCText(("<blank>", "A", "B", "<space>", "<sos/eos>")).join([1, 1, 3, 2, 4])
            'AA B'
        """
        named = (self.tokens[index] for index in indices)
        kept = [token for token in named if token not in (self.blank, "<sos/eos>")]
        if self.token_type == "char":
            return "".join(" " if token == self.space else token for token in kept).strip()
        if self.token_type == "bpe":
            # Sentencepiece marks the beginning of a word.
            return "".join(kept).replace("\u2581", " ").strip()
        return " ".join(kept)
