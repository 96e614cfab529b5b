"""Put layers that were trained on stored states back on top of the encoder that the states came from."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml

from hfprobe.encoders.auto import shipped_folder
from hfprobe.errors import EncoderError, HfprobeError
from hfprobe.files import whole_file, write_whole
from hfprobe.hub.pickled import read_pickled
from hfprobe.plain import read_yaml

# In ESPnet's vgg_rnn the VGG block is encoder.enc.0 and the recurrent block encoder.enc.1; in an rnn it is enc.0.
LOWER, UPPER, ALONE = "encoder.enc.0.", "encoder.enc.1.", "encoder.enc.0."
SETTINGS = (
    "seed max_epoch optim optim_conf scheduler scheduler_conf grad_clip hf_frames hf_held hf_warp hf_shift "
    "hf_bfloat16".split()
)


def join(lower: str | Path, upper: Path, output: Path, weights: str = "latest.pth") -> Path:
    """Write a training folder of the whole recogniser.

    Args:
        lower: Shipped encoder, or folder of an ESPnet ``vgg_rnn``, whose last convolution the states came from.
        upper: Training folder of an ESPnet ``rnn`` on these states.
        output: Folder to write; `hfprobe.asr.ship` and ``--init_param`` take it.
        weights: Weight file in ``upper``.

    Returns:
        ``output``.

    Raises:
        EncoderError: A file is missing, or the recurrent layers do not fit.
    """
    shipped = shipped_folder() / str(lower)
    folder = shipped if shipped.is_dir() else Path(lower)
    below, below_config = _read(folder, _weights_of(folder))
    above, above_config = _read(upper, weights)
    joined = {name: value for name, value in below.items() if not name.startswith((UPPER, "ctc."))}
    joined |= {
        name.replace(ALONE, UPPER, 1): value for name, value in above.items() if name.startswith((ALONE, "ctc."))
    }
    # Half precision is for what is given away.
    joined = {name: value.float() if value.is_floating_point() else value for name, value in joined.items()}
    if {k: v.shape for k, v in joined.items()} != {k: v.shape for k, v in below.items()}:
        shapes = [{name: value.shape for name, value in part.items()}.items() for part in (joined, below)]
        odd = sorted({name for name, _ in shapes[0] ^ shapes[1]})
        raise EncoderError(
            f"the layers of {upper.name} do not fit {folder.name}: {', '.join(odd[:3])}; train them with the "
            "encoder_conf of that encoder"
        )
    config = {**below_config}
    # How both parts were trained: the lower part's own record first, then this stage's.
    earlier = config.pop("training", None)
    config |= {key: above_config[key] for key in SETTINGS if key in above_config}
    # ESPnet's own RNNP drops out in eval() too, so the rate of training is noted and not set.
    upper_settings = {
        "dropout": above_config["encoder_conf"].get("dropout", 0.0),
        "specaug_conf": above_config.get("specaug_conf"),
        "hf_states": [Path(folder).name for folder in above_config.get("hf_states", [])],
    }
    config["hf_lower"] = {"encoder": folder.name, "training": earlier, "above": upper_settings}
    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / "latest.pth") as place:
        torch.save(joined, place)
    write_whole(output / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    return output


def _weights_of(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("*.pth"))
    return "latest.pth" if "latest.pth" in found else (found or ["latest.pth"])[0]


def _read(folder: Path, weights: str) -> tuple[dict, dict]:
    for needed in (folder / "config.yaml", folder / weights):
        if not needed.is_file():
            raise EncoderError(f"{needed.name} is missing in {str(folder)!r}; train first")
    config = read_yaml(folder / "config.yaml", "a training configuration")
    return read_pickled(folder / weights), config


def main() -> None:
    """``python -m hfprobe.asr.join LOWER UPPER OUTPUT [--weights valid.cer_ctc.ave_5best.pth]``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("lower")
    parser.add_argument("upper", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights", default="latest.pth")
    args = parser.parse_args()
    try:
        join(args.lower, args.upper, args.output, args.weights)
    except HfprobeError as error:
        raise SystemExit(f"hfprobe.asr.join: error: {error}") from None
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
