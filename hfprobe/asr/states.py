"""Hidden states of a whole corpus on disk, from which the layers above can be trained without running those below.

The convolutions of a VGG-BLSTM cost most of a training step on a CPU. Once they are good enough, the BLSTMs above them
can be trained many times faster on what the convolutions said of every utterance, stored once. A folder holds
``states.f16``, the frames of all utterances one after the other, and ``index.json``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfprobe.asr.augment import check_speeds, perturb_speed
from hfprobe.asr.half import CHOICES, wants_bfloat16
from hfprobe.data import NoiseRecipe, SpeechStream, load_noise
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.encoders.base import SpeechEncoder
from hfprobe.errors import DatasetError, HfprobeError
from hfprobe.files import whole_file, write_whole
from hfprobe.memory import keep_freed_memory
from hfprobe.plain import check_file, read_json, reason, short, shown
from hfprobe.progress import progress_bar

STATES, INDEX = "states.f16", "index.json"


@dataclass(frozen=True)
class StoredUtterance:
    """Where the states of an utterance lie: ``frames`` rows from row ``start`` on."""

    id: str
    speaker: str
    text: str
    start: int
    frames: int


@dataclass(frozen=True)
class StoredStates:
    """States of one layer for all utterances of a corpus.

    Attributes:
        encoder: Name of the encoder.
        fingerprint: Its fingerprint.
        layer: Name of the layer.
        width: Size of a state.
        origin: What went in: ``corpus``, ``noise``, ``speed``, ``epoch``.
        utterances: In the order in which they lie.
        values: float16 ``(frames, width)``, mapped from the file.
    """

    encoder: str
    fingerprint: str
    layer: str
    width: int
    origin: dict
    utterances: tuple[StoredUtterance, ...]
    values: np.ndarray

    def states(self, utterance: StoredUtterance) -> torch.Tensor:
        """The states of an utterance as float32 ``(frames, width)``."""
        rows = self.values[utterance.start : utterance.start + utterance.frames]
        return torch.from_numpy(np.array(rows)).float()


def write_states(
    encoder: SpeechEncoder,
    layer: str,
    stream: SpeechStream,
    folder: str | Path,
    origin: dict,
    speed: float = 1.0,
    epoch: int = 0,
    bfloat16: bool = False,
) -> StoredStates:
    """Run a corpus through an encoder once and store what a layer says.

    Args:
        encoder: In ``eval()`` mode.
        layer: Which layer.
        stream: Unshuffled; what it draws as noise depends on ``epoch``.
        folder: Where to write; the index comes last, so a folder with one is whole.
        origin: What the index is to say of the input.
        speed: Play every utterance at this speed.
        epoch: Number of the pass.
        bfloat16: Multiply in bfloat16, see `hfprobe.asr.half`; its 8 bits are fewer than those of what is stored.

    Returns:
        The stored states.

    Raises:
        DatasetError: The stream has no usable utterance.
        EncoderError: The layer does not exist.
    """
    width, folder, found, start = encoder.layer(layer).dim, Path(folder), [], 0
    with whole_file(folder / STATES) as place, torch.no_grad():
        with place.open("wb") as out:
            for batch in progress_bar(stream.one_epoch(epoch), f"{layer} of {encoder.name}", unit="batch"):
                if speed != 1:
                    batch = perturb_speed(batch, [speed], stream.seed, epoch)
                with torch.autocast(batch.waveforms.device.type, torch.bfloat16, enabled=bfloat16):
                    output = encoder(batch.waveforms, batch.lengths, layers=[layer])
                states, lengths = output.hidden_states[0], output.hidden_lengths[0].tolist()
                for row, frames in enumerate(lengths):
                    out.write(states[row, :frames].half().contiguous().numpy().tobytes())
                    found.append(StoredUtterance(batch.ids[row], batch.speakers[row], batch.texts[row], start, frames))
                    start += frames
        if not found:
            raise DatasetError(f"no usable utterance (left out: {dict(stream.failures)}); check the corpus")
    head: dict[str, Any] = {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "layer": layer}
    head |= {"width": width, "origin": {**origin, "speed": speed, "epoch": epoch, "bfloat16": bfloat16}}
    write_whole(folder / INDEX, json.dumps({**head, "utterances": [asdict(item) for item in found]}))
    return load_states(folder)


def load_states(folder: str | Path) -> StoredStates:
    """Open what `write_states` wrote; the frames stay on disk until they are asked for.

    Raises:
        DatasetError: A file is missing, cut short or something else.
    """
    folder = Path(folder)
    try:
        for name in (INDEX, STATES):
            if not (folder / name).exists():
                raise DatasetError(f"{shown(folder)} has no {name}; store the states with hfprobe.asr.states")
            check_file(folder / name, "stored states", DatasetError)
        index = read_json(folder / INDEX, "the index of stored states", DatasetError)
        utterances = tuple(StoredUtterance(**item) for item in index.pop("utterances"))
        frames, width = 0, index["width"]
        for item in utterances:
            if type(item.frames) is not int or item.frames < 0 or item.start != frames:
                raise ValueError(f"utterance {short(item.id)} does not follow the one before")
            frames += item.frames
        if type(width) is not int or width < 1:
            raise ValueError(f"width must be a whole number from 1, got {short(width)}")
        values = np.memmap(folder / STATES, dtype=np.float16, mode="r").reshape(-1, width)
        stored = StoredStates(**index, utterances=utterances, values=values)
    except DatasetError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OSError, OverflowError) as error:
        raise DatasetError(f"{str(folder)!r} holds no stored states ({reason(error)}); store them again") from None
    if len(values) != frames:
        raise DatasetError(f"{str(folder)!r} has {len(values)} frames, its index {frames}; store the states again")
    return stored


def main() -> None:
    """``python -m hfprobe.asr.states --encoder NAME --layer cnn4 --corpus NAME --output DIR``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--layer", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--noise", default=None, help="noise folder, 'generated', 'local' or none")
    parser.add_argument("--clean_share", type=float, default=0.3, help="share of utterances without noise")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument(
        "--bfloat16", choices=CHOICES, default="false", help="multiply in bfloat16; auto: if the CPU can"
    )
    parser.add_argument("--epoch", type=int, default=0, help="other numbers draw other noise")
    parser.add_argument("--batch", type=int, default=8, help="utterances per batch")
    parser.add_argument("--max_seconds", type=float, default=20.0, help="longer utterances are left out")
    parser.add_argument("--limit", type=int, default=None, help="only the first utterances")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    keep_freed_memory()
    try:
        check_speeds([args.speed])
        noise = None
        if args.noise not in (None, "none"):
            noise = load_noise(None if args.noise == "local" else args.noise, part="train")
        stream = SpeechStream(
            args.corpus, args.batch, noise, NoiseRecipe(clean_share=args.clean_share), seed=args.seed, shuffle=False,
            pool=4096, max_seconds=args.max_seconds, limit=args.limit,
        )  # fmt: skip
        encoder = AutoSpeechEncoder.from_pretrained(args.encoder).eval()
        origin = {"corpus": Path(args.corpus).name, "noise": noise is not None}
        half = wants_bfloat16(args.bfloat16)
        stored = write_states(encoder, args.layer, stream, args.output, origin, args.speed, args.epoch, half)
    except HfprobeError as error:
        raise SystemExit(f"hfprobe.asr.states: error: {' '.join(str(error).split())}") from None
    left_out = f"; left out: {dict(stream.failures)}" if stream.failures.total() else ""
    print(f"wrote {args.output}: {len(stored.utterances)} utterances, {len(stored.values)} frames{left_out}")


if __name__ == "__main__":
    main()
