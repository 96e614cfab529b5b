"""Look at the data before hours are spent on it: sizes, speakers, transcripts, noise, and what CTC cannot align."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from hfprobe.asr.alignable import frames_of, needed_frames
from hfprobe.asr.manifest import Split, load_split, read_split, some, write_split
from hfprobe.asr.pieces import load_pieces
from hfprobe.asr.tokens import CharTokens, build_tokens, read_config
from hfprobe.data.noise import CATEGORIES, load_noise
from hfprobe.errors import DatasetError, HfprobeError

SPLITS = ("train", "dev", "test")


def check_speakers(splits: Iterable[Split]) -> None:
    """Refuse splits that share speakers: error rates and verification would look too good.

    Raises:
        DatasetError: Two splits share a speaker.
    """
    splits = list(splits)
    for index, one in enumerate(splits):
        for other in splits[index + 1 :]:
            shared = sorted(one.speakers & other.speakers)
            if shared:
                raise DatasetError(
                    f"{len(shared)} speakers are in both {one.name} and {other.name}: {some(shared)}; "
                    "use disjoint splits"
                )


def check_tokens(split: Split, tokens: CharTokens, where: str) -> None:
    """Refuse transcripts with a token that the recogniser does not have.

    Raises:
        DatasetError: There is one.
    """
    strange: dict[str, str] = {}
    for item in split.utterances:
        for piece in tokens.pieces(item.text):
            if piece not in tokens.ids:
                strange.setdefault(piece, item.id)
    if strange:
        piece, name = next(iter(strange.items()))
        raise DatasetError(
            f"{split.name}: {len(strange)} tokens of the transcripts are not in the token list of {where}: "
            f"{some(map(repr, strange))} (the first in {name}); add them to the list, or correct the transcripts"
        )


def alignment_line(split: Split, config: dict, tokens: CharTokens | None, name: str) -> str:
    """One line: how many utterances CTC cannot align.

    Args:
        split: Utterances.
        config: Training configuration.
        tokens: Tokens of the recogniser, or ``None`` for characters because its own are not made yet.
        name: Name of the recogniser.
    """
    frames, step = frames_of(config)
    units = "characters" if tokens is None or type(tokens) is CharTokens else "word pieces"
    split_text = tokens.pieces if tokens is not None else list
    bad = [item.id for item in split.utterances if needed_frames(split_text(item.text)) > frames(item.samples)]
    share = 100 * len(bad) / len(split.utterances)
    line = f"{split.name}, {name}: {len(bad)} of {len(split.utterances)} utterances ({share:.1f} %) have more {units} "
    line += f"(equal neighbours count twice) than {step:g}-ms frames"
    return line + (f" and teach CTC nothing: {some(bad)}" if bad else "")


def noise_lines(source: str) -> list[str]:
    """One line per part of the noise.

    Raises:
        DatasetError: A category has no files in a part.
    """
    lines = []
    for part in ("train", "test"):
        noise = load_noise(None if source == "local" else source, part)
        missing = [category for category in CATEGORIES if not noise.files.get(category)]
        if missing:
            raise DatasetError(
                f"noise {source!r} has no {' and no '.join(missing)} for {part}; expected folders "
                f"{', '.join(CATEGORIES)} as in MUSAN, with three files or more each: complete it, or unpack it again"
            )
        counts = ", ".join(f"{len(names)} {category}" for category, names in noise.files.items())
        lines.append(f"noise, {part}: {counts}")
    return lines


def check(args: argparse.Namespace) -> None:
    """Print what there is; see `main`."""
    if args.read:
        splits = [load_split(args.read / f"{name}.tsv") for name in SPLITS if (args.read / f"{name}.tsv").is_file()]
        if not splits:
            raise DatasetError(f"no list of utterances in {str(args.read)!r}; run the data check first")
        for split in splits:
            if getattr(args, split.name) not in (None, split.corpus):
                raise DatasetError(
                    f"the list of {split.name} in {str(args.read)!r} is that of {split.corpus!r}, not of "
                    f"{getattr(args, split.name)!r}; remove it, or use another folder"
                )
    else:
        given = [(name, getattr(args, name)) for name in SPLITS if getattr(args, name)]
        if not given:
            raise DatasetError("no corpus is given; use --train, --dev and --test, or --read")
        splits = []
        for name, corpus in given:
            splits.append(read_split(name, corpus, args.limit))
            last = splits[-1]
            print(
                f"{name}: {len(last.utterances)} utterances, {last.hours:.2f} h, {len(last.speakers)} speakers",
                flush=True,
            )
        check_speakers(splits)
    pieces = load_pieces(args.pieces) if args.pieces else None
    for path in args.recogniser:
        config = read_config(path)
        own = pieces if config.get("token_type") == "bpe" else build_tokens("char", config.get("token_list") or [])
        for split in splits:
            if own is not None:
                check_tokens(split, own, Path(path).name)
            print(alignment_line(split, config, own, Path(path).stem.removeprefix("train_")), flush=True)
    if args.noise and args.noise != "none":
        print("\n".join(noise_lines(args.noise)))
    if args.write and not args.read:
        for split in splits:
            write_split(split, args.write)


def main(words: list[str] | None = None) -> int:
    """Print one line per corpus, recogniser and noise part; fail with one line that says what to mend."""
    parser = argparse.ArgumentParser(prog="python -m hfprobe.asr.check_data", description=__doc__)
    for name in SPLITS:
        parser.add_argument(f"--{name}", metavar="D", help=f"corpus for {name}")
    parser.add_argument("--read", type=Path, metavar="DIR", help="take the lists that --write made, and no corpus")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write a list of utterances for each corpus")
    parser.add_argument("--limit", type=int, help="look at the first N utterances of each corpus only")
    parser.add_argument("--noise", help="noise folder, 'generated', 'local' or 'none'")
    parser.add_argument("--recogniser", nargs="+", default=[], metavar="CONF", help="training configurations (YAML)")
    parser.add_argument("--pieces", type=Path, metavar="DIR", help="word pieces from hfprobe.asr.pieces")
    args = parser.parse_args(words)
    try:
        check(args)
    except (HfprobeError, OSError) as error:
        print(f"hfprobe.asr.check_data: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
