"""`python -m hfprobe.speakers.convert IN OUT.safetensors`: weights of speaker encoders into a safe, quick format.

`IN.h5` is ThinResNet's Keras file, checked as `load_thinresnet` checks it. `IN.bin` is a transformers model's old
PyTorch file, read as tensors only (no code in it is run): put the result beside its `config.json` as
`model.safetensors`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hfprobe.errors import EncoderError, HfprobeError
from hfprobe.files import whole_file


def convert(source: str | Path, target: str | Path) -> str:
    """Convert a file of weights.

    Args:
        source: A `.h5` of ThinResNet, or a `.bin` that holds a dictionary of tensors.
        target: Where to write; its suffix is `.safetensors`.

    Returns:
        One line that says what was written and how it is used.

    Raises:
        EncoderError: If a suffix is another, or the weights cannot be read or do not fit.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise EncoderError(f"expected a target that ends in .safetensors, got {target.name}; choose another name")
    if source.suffix not in (".h5", ".hdf5", ".bin"):
        raise EncoderError(f"expected weights as .h5 (thinresnet) or .bin (transformers), got {source.name}")
    if source.suffix == ".bin":
        return _convert_bin(source, target)
    from hfprobe.speakers.weights import load_thinresnet, save_thinresnet

    encoder = load_thinresnet(str(source))
    save_thinresnet(encoder, target)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    return f"{count:,} trainable parameters written; use it as thinresnet:{target}"


def _convert_bin(source: Path, target: Path) -> str:
    from safetensors.torch import save_file

    from hfprobe.encoders.huggingface.checkpoint import Checkpoint

    if not source.is_file():
        raise EncoderError(f"expected weights in {source}, found no file; give the path of pytorch_model.bin")
    content = Checkpoint([source])
    # Cloned: two names for one tensor are not allowed in the format.
    state = {key: value.clone().contiguous() for key, value in content.read(content.keys).items()}
    with whole_file(target) as place:
        save_file(state, place, metadata={"format": "pt"})
    return f"{len(state)} tensors written; with its config.json beside it, use it as hf:{target.parent}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Those of the command line when None.

    Returns:
        0, or 1 where the weights cannot be converted; argparse ends with 2 where arguments are wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m hfprobe.speakers.convert", description=__doc__.split("\n")[0])
    parser.add_argument("source", help="weights.h5 of ThinResNet, or pytorch_model.bin")
    parser.add_argument("target", help="file to write, .safetensors")
    args = parser.parse_args(arguments)
    try:
        print(convert(args.source, args.target))
    except (HfprobeError, OSError) as error:
        print(f"hfprobe: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
