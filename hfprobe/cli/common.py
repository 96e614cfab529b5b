"""What all commands share: common options, errors, and the resolved configuration on disk."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfprobe.errors import ConfigError, DatasetError, HfprobeError
from hfprobe.files import sole_writer, write_whole
from hfprobe.interrupts import terminable
from hfprobe.plain import short

if TYPE_CHECKING:
    from hfprobe.data.left_out import LeftOut

NOT_SETTINGS = ("config", "debug", "command", "command_line", "last_words")
NOISE_HELP = "folder in MUSAN's layout, hub:user/name such as hub:corypaik/musan, or 'generated'"
NOISE_DEFAULT = " (default: 'local', noise/ in the folder that HFPROBE_DATA names, else generated)"
DATASETS = ("dataset", "dev", "test_dataset")  # options that --columns is for


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that every command takes."""
    group = parser.add_argument_group("common options")
    group.add_argument("--config", metavar="FILE.yaml", help="read options from a YAML file; the command line wins")
    group.add_argument("--seed", type=seed, default=0, help="seed of everything drawn (default: %(default)s)")
    group.add_argument("--device", default="auto", help="auto, cpu or cuda[:N] (default: %(default)s)")
    group.add_argument("--debug", action="store_true", help="show a traceback when something fails")


def add_dataset_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """``--dataset`` and ``--columns``."""
    parser.add_argument(
        "--dataset", required=True, metavar="D",
        help="librispeech[:config/split] or librispeech:DIR, speechocean762[:split], kaldi:DIR, audiofolder:DIR, "
        f"parquet:GLOB, espeak, or a Hub id user/name[@revision][:[config/]split]; e.g. {example}",
    )  # fmt: skip
    add_columns_argument(parser)


def add_columns_argument(parser: argparse.ArgumentParser) -> None:
    """``--columns``, for the options in `DATASETS`."""
    parser.add_argument(
        "--columns", nargs="+", type=column, metavar="FIELD=COLUMN",
        help="which columns of the dataset are audio, id, text, speaker, gender and words where they have other names, "
        "e.g. audio=wav text=sentence speaker=spk",
    )  # fmt: skip


def column(text: str) -> str:
    """Type of ``--columns``."""
    from hfprobe.data.columns import parse_columns

    try:
        parse_columns([text])
    except DatasetError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _use_columns(args: argparse.Namespace) -> None:
    """Put ``--columns`` behind the names of the datasets, where `load_corpus` reads them."""
    if not getattr(args, "columns", None):
        return
    from hfprobe.data.columns import join_columns, parse_columns, split_columns

    given = parse_columns(args.columns)
    for option in DATASETS:
        value = getattr(args, option, None)
        if value is not None:
            name, own = split_columns(value)
            setattr(args, option, join_columns(name, {**given, **own}))
    args.columns = None  # said by the names now, and in the configuration that is written


def say_left_out(args: argparse.Namespace, left_out, unit: str = "utterance") -> None:
    """Have the command end with a line on what was left out, by reason and with names; none where it was nothing.

    Args:
        args: The options of the command.
        left_out: A `hfprobe.data.left_out.LeftOut`.
        unit: What is counted.
    """
    sentence = left_out.sentence(unit)
    if sentence:
        args.last_words = [*getattr(args, "last_words", []), f"left out: {sentence}"]


def say_noise_left_out(args: argparse.Namespace, *corpora) -> None:
    """`say_left_out` of noise corpora; None is none."""
    from hfprobe.data.left_out import by_reason

    refused = [corpus.refused for corpus in corpora if corpus is not None]
    say_left_out(args, by_reason({name: reason for part in refused for name, reason in part.items()}), "noise file")


def run_command(module: Any, args: argparse.Namespace, argv: list[str]) -> int:
    """Run ``module.run`` with one-line errors; returns the exit status."""
    args.command_line = "hfprobe " + " ".join(_tidy(word) for word in argv)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    try:
        _use_columns(args)
        with terminable():
            last_line = module.run(args)
        if processes()[0] == 0:
            print("\n".join([*getattr(args, "last_words", []), last_line]))
        return 0
    except (HfprobeError, OSError) as error:
        if args.debug:
            raise
        print(f"hfprobe: error: {' '.join(str(error).split())}{_advice(error, args)}", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError) as error:
        from hfprobe.data.halves import out_of_memory

        if args.debug or not out_of_memory(error):
            raise
        first = next(iter(str(error).splitlines()), "")[:200]
        print(
            f"hfprobe: error: out of memory: {first}; give fewer --layers, a smaller --max-seconds or --batch-size, or "
            "another --device",
            file=sys.stderr,
        )
        return 1


ADVICE = {
    errno.ENOSPC: "the disk is full: make room and give the same command again",
    errno.EDQUOT: "your quota of the disk is used up: make room and give the same command again",
    errno.EFBIG: "no file may be that large here (ulimit -f): raise the limit and give the same command again",
    errno.EACCES: "this user has no right to it: choose another path, or change its rights",
    errno.EROFS: "nothing can be written there: choose another --output",
}


def _advice(error: BaseException, args: argparse.Namespace) -> str:
    """Where an error of the system was and what to do about it, where that is not plain."""
    advice = ADVICE.get(getattr(error, "errno", None) or 0)
    output = getattr(args, "output", None)
    # The system does not say which file a write was for; nearly all that is written is under the output.
    where = f" (writing into {output})" if advice and output and not getattr(error, "filename", None) else ""
    return f"{where}; {advice}" if advice else ""


def processes() -> tuple[int, int]:
    """Number of this process, and how many ``torchrun`` or ``accelerate launch`` started."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    return int(os.environ.get("RANK", 0)) if world > 1 else 0, world


def shared_device(device: str) -> str:
    """The device of this process among several, which are set up to talk with one another; else as given."""
    if processes()[1] == 1:
        return device
    from hfprobe.probes.classifier_training import accelerator_for

    return str(accelerator_for(training_device(device)).device)


def writing(args: argparse.Namespace, folder: Path):
    """A block in which this run alone writes into its output folder (`hfprobe.files.sole_writer`).

    Of several processes the first one keeps the others' folder.
    """
    return sole_writer(folder, args.command_line) if processes()[0] == 0 else nullcontext(folder)


def left_out_json(**parts: LeftOut) -> str:
    """What was left out, counted and named, for a file beside the results."""
    counts = {name.replace("_", " "): dict(part) for name, part in parts.items()}
    names = {name.replace("_", " "): part.names for name, part in parts.items()}
    return json.dumps({**counts, "names": names}, indent=2) + "\n"


def _tidy(word: str) -> str:
    """A word of the command line without folders of this machine: results are published."""
    return Path(word).name if word.startswith(("/", "~")) else word


def device_of(args: argparse.Namespace) -> str:
    """``cpu`` or ``cuda[:N]``; ``auto`` takes a GPU where there is one."""
    import torch

    if args.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(args.device)
    except RuntimeError as error:
        raise ConfigError(f"--device {args.device!r} is not known; use auto, cpu or cuda[:N]") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {args.device} was asked for, but no CUDA device is there; use --device cpu")
    return str(device)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The resolved options as plain values, without folders of this machine."""
    plain = {}
    for name, value in sorted(vars(args).items()):
        if name in NOT_SETTINGS:
            continue
        plain[name] = [_tidy(str(v)) for v in value] if isinstance(value, list) else value
        if isinstance(value, (str, Path)):
            plain[name] = _tidy(str(value))
    return plain


def write_settings(args: argparse.Namespace, folder: Path) -> None:
    """Write the resolved configuration as ``config.yaml`` beside the results; ``--config`` reads it back."""
    import yaml

    values = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
    plain = {
        k: [str(x) for x in v] if isinstance(v, list) else str(v) if isinstance(v, Path) else v
        for k, v in values.items()
    }
    write_whole(folder / "config.yaml", yaml.safe_dump(plain))


def check_output(path: str) -> Path:
    """The output folder, not yet made: commands check all inputs first and leave nothing behind if one is bad.

    Raises:
        ConfigError: The path, or a part of it, is a file.
    """
    folder = Path(path)
    for part in (folder, *folder.parents):
        if part.exists():
            if not part.is_dir():
                raise ConfigError(f"--output {path!r}: {str(part)!r} is a file; give a folder")
            break
    return folder


def _positive(kind: type, text: str):
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {what} above 0, got {short(text)}")
    return value


def positive_int(text: str) -> int:
    """Type of options that count something."""
    return _positive(int, text)


def positive_float(text: str) -> float:
    """Type of options that measure something."""
    return _positive(float, text)


def share(text: str) -> float:
    """Type of options that are a part of a whole, 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {short(text)}")
    return value


def training_device(device: str) -> str:
    """What `ProbeTrainingConfig` calls a device of `device_of`: one GPU by number, or Accelerate's own choice."""
    return "auto" if device == "cuda" else device


def seed(text: str) -> int:
    """Type of ``--seed``."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {short(text)}")
    return int(text)
