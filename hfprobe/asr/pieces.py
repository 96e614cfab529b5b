"""Word pieces for CTC where frames are too far apart for characters.

A unigram model of sentencepiece, in the files that ESPnet reads (``bpe.model`` and ``tokens.txt``).
Source: Kudo, "Subword regularization", ACL 2018.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable
from pathlib import Path

from hfprobe.asr.manifest import load_split
from hfprobe.asr.tokens import PieceTokens, read_token_list
from hfprobe.errors import ConfigError, HfprobeError
from hfprobe.files import write_whole

MODEL, TOKENS = "bpe.model", "tokens.txt"
SPECIAL = ("<unk>", "<s>", "</s>")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"  # each is a piece of its own, so that new words can be spelled


def make_pieces(texts: Iterable[str], count: int, folder: str | Path) -> list[str]:
    """Learn word pieces and write them.

    Args:
        texts: Transcripts of the training set.
        count: Pieces at most; a small text gives fewer.
        folder: Where ``bpe.model`` and ``tokens.txt`` go.

    Returns:
        The token list, ``<blank>`` and ``<unk>`` first, ``<sos/eos>`` last.

    Raises:
        ConfigError: There are fewer pieces wanted than characters in the text, or there is no text.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, model_type="unigram", vocab_size=count,
            character_coverage=1.0, required_chars=LETTERS, hard_vocab_limit=False, num_threads=1, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:160]
        raise ConfigError(
            f"{count} word pieces cannot be made from these transcripts ({reason}); ask for more"
        ) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    tokens = ["<blank>", "<unk>", *(piece for piece in pieces if piece not in SPECIAL), "<sos/eos>"]
    write_whole(Path(folder) / MODEL, model.getvalue())
    write_whole(Path(folder) / TOKENS, "\n".join(tokens) + "\n")
    return tokens


def load_pieces(folder: str | Path) -> PieceTokens:
    """Read the word pieces of a folder.

    Raises:
        ConfigError: They are not there.
    """
    return PieceTokens(read_token_list(Path(folder) / TOKENS), Path(folder) / MODEL)


def main(words: list[str] | None = None) -> int:
    """``python -m hfprobe.asr.pieces --text exp/data/train.tsv --count 300 --output exp/pieces``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--text", type=Path, required=True, help="list of utterances from hfprobe.asr.check_data")
    parser.add_argument("--count", type=int, default=300, help="word pieces at most (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(words)
    try:
        split = load_split(args.text)
        tokens = make_pieces((item.text for item in split.utterances), args.count, args.output)
    except (HfprobeError, OSError) as error:
        print(f"hfprobe.asr.pieces: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    text = [item.text for item in split.utterances]
    processor = load_pieces(args.output)
    total = sum(len(processor(line)) for line in text)
    print(
        f"{len(tokens)} tokens, {sum(map(len, text)) / total:.2f} characters each on the training text: {args.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
