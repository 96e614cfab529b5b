"""Mean and variance of the features over a stream, in the file that ESPnet's ``global_mvn`` reads."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from hfprobe.data import NoiseRecipe, SpeechStream, load_noise, weighted_corpora
from hfprobe.encoders.espnet.frontend import DeltaFrontend, valid_frames
from hfprobe.errors import HfprobeError
from hfprobe.files import whole_file


class FeatureStats(TypedDict):
    """What ``global_mvn`` reads: a count, and the sums ``(dim,)`` of values and squares, in float64."""

    count: np.ndarray
    sum: np.ndarray
    sum_square: np.ndarray


def feature_stats(stream: SpeechStream, batches: int) -> FeatureStats:
    """Count, sum and sum of squares of the delta frontend's features over the first batches of a stream.

    Returns:
        ``{"count": (), "sum": (240,), "sum_square": (240,)}`` in float64.
    """
    frontend = DeltaFrontend().eval()
    total = torch.zeros(2, frontend.output_size(), dtype=torch.float64)
    count = 0
    with torch.no_grad():
        for batch in islice(stream, batches):
            features, frames = frontend(batch.waveforms, batch.lengths)
            valid = features[valid_frames(frames, features.shape[1])].double()
            total += torch.stack([valid.sum(0), valid.square().sum(0)])
            count += len(valid)
    return {"count": np.array(count), "sum": total[0].numpy(), "sum_square": total[1].numpy()}


def main() -> None:
    """``python -m hfprobe.asr.stats --corpus NAME [NAME@WEIGHT ...] --output feats_stats.npz``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--noise", default=None, help="noise folder, 'generated', 'local' or none")
    parser.add_argument("--batches", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    try:
        noise = None
        if args.noise not in (None, "none"):
            noise = load_noise(None if args.noise == "local" else args.noise)
        stream = SpeechStream(weighted_corpora(args.corpus), 16, noise, NoiseRecipe(clean_share=0.5), seed=args.seed)
        stats = feature_stats(stream, args.batches)
    except HfprobeError as error:
        raise SystemExit(f"hfprobe.asr.stats: error: {' '.join(str(error).split())}") from None
    with whole_file(args.output) as place:
        np.savez(place, **stats)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
