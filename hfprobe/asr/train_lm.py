"""``python -m hfprobe.asr.train_lm``: ESPnet's language models on the transcripts of a corpus (options: ``--help``)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hfprobe.asr.manifest import Utterance, read_split
from hfprobe.asr.state_batches import is_held
from hfprobe.asr.train import quiet_nltk
from hfprobe.errors import DatasetError, HfprobeError
from hfprobe.files import write_whole


def write_texts(utterances: Sequence[Utterance], folder: Path, held: float = 0.05) -> tuple[Path, Path]:
    """Write transcripts as ESPnet reads them, for training and for validation.

    Args:
        utterances: Of the training set.
        folder: For ``train.txt`` and ``valid.txt``: one line each, an id and the text.
        held: Share of the speakers whose sentences are for validation.

    Returns:
        Both paths.

    Raises:
        DatasetError: One of them would be empty.
    """
    parts: tuple[list[str], list[str]] = ([], [])
    for number, item in enumerate(utterances):
        # Ids are ours: one with a space in it would become a word of the sentence.
        parts[is_held(item.speaker, held)].append(f"{number:08d} {item.text}\n")
    if not all(parts):
        raise DatasetError(
            f"{len(parts[0])} sentences are left to train on and {len(parts[1])} to validate with a share of {held} of "
            "the speakers held out; give a larger corpus, or change --held"
        )
    train, valid = ("".join(part) for part in parts)
    return write_whole(folder / "train.txt", train), write_whole(folder / "valid.txt", valid)


def main(cmd: Sequence[str] | None = None) -> None:
    """``python -m hfprobe.asr.train_lm --corpus NAME --output_dir DIR --config FILE.yaml [ESPnet options]``."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--corpus", required=True, help="corpus whose transcripts are learnt")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--held", type=float, default=0.05, help="share of the speakers for validation")
    args, rest = parser.parse_known_args(cmd)
    quiet_nltk()
    from espnet2.tasks.lm import LMTask

    try:
        split = read_split("train", args.corpus)
        train, valid = write_texts(split.utterances, args.output_dir / "texts", args.held)
    except HfprobeError as error:
        raise SystemExit(f"hfprobe.asr.train_lm: error: {' '.join(str(error).split())}") from None
    LMTask.main(
        cmd=[
            "--output_dir", str(args.output_dir),
            "--train_data_path_and_name_and_type", f"{train},text,text",
            "--valid_data_path_and_name_and_type", f"{valid},text,text",
            # batch_type unsorted reads nothing but the ids
            "--train_shape_file", str(train), "--valid_shape_file", str(valid),
            *rest,
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
