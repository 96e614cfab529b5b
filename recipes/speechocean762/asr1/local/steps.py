"""How many batches an epoch of stored states has: the one-cycle schedule has to know where it ends."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from hfprobe.asr.state_batches import StateIterFactory
from hfprobe.asr.states import load_states
from hfprobe.asr.tokens import CharTokens
from hfprobe.errors import HfprobeError

EPOCHS = 5  # lengths are drawn anew each epoch, so the number of batches moves by one or two


def main() -> None:
    """Print the largest number of batches among the first epochs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="the training's configuration")
    parser.add_argument("states", nargs="+", type=Path, help="folders of hfprobe.asr.states")
    args = parser.parse_args()
    config = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    try:
        stored = [load_states(folder) for folder in args.states]
        factory = StateIterFactory(
            stored, CharTokens(config["token_list"]), config["hf_frames"], held=config["hf_held"]
        )
    except HfprobeError as error:
        raise SystemExit(f"steps.py: error: {error}") from None
    print(max(factory.count(epoch) for epoch in range(1, EPOCHS + 1)))


if __name__ == "__main__":
    main()
