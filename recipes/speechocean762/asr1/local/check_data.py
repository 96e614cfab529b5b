"""Look at the data before hours are spent on it: sizes, noise files, and what CTC cannot align."""

from __future__ import annotations

import argparse

from hfprobe.data.corpora import load_corpus, row_samples
from hfprobe.data.noise import load_noise


def main() -> None:
    """Print one line per corpus and noise part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--noise", required=True)
    args = parser.parse_args()
    speakers = {}
    for part in ("train", "test"):
        count = seconds = too_long = 0
        speakers[part] = set()
        for row in load_corpus(getattr(args, part)):
            samples = row_samples(row)
            count, seconds = count + 1, seconds + samples / 16000
            speakers[part].add(row["speaker"])
            # The deepest BLSTM frame is 80 ms; CTC needs a frame per character and one between equal neighbours.
            frames, text = -(-(1 + samples // 160) // 8), row["text"]
            too_long += len(text) + sum(a == b for a, b in zip(text, text[1:], strict=False)) > frames
        print(
            f"{part}: {count} utterances, {seconds / 3600:.2f} h, {len(speakers[part])} speakers; "
            f"{too_long} have more characters than 80-ms frames and give CTC no gradient there"
        )
    shared = speakers["train"] & speakers["test"]
    if shared:
        raise SystemExit(f"speakers in both train and test: {', '.join(sorted(shared)[:5])}")
    for part in ("train", "test"):
        noise = load_noise(None if args.noise == "local" else args.noise, part)
        print(f"noise, {part}: " + ", ".join(f"{len(names)} {category}" for category, names in noise.files.items()))


if __name__ == "__main__":
    main()
