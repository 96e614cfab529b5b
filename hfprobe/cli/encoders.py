"""``hfprobe encoders``: what can be given to ``--encoder``, and the layers of one."""

from __future__ import annotations

import argparse
import math
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hfprobe.encoders import LayerSpec, SpeechEncoder
    from hfprobe.encoders.reach import Reach

WIDTH = 100
_HEADER = ("layer", "width", "stride", "offset", "params", "field", "read")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "name", nargs="?", metavar="E", help="show the layers of this encoder: a name, folder or Hub id"
    )
    parser.add_argument("--encoder", metavar="E", help="the same")


def run(args: argparse.Namespace) -> str:
    """Print encoders and layers."""
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.errors import ConfigError

    if args.name and args.encoder and args.name != args.encoder:
        raise ConfigError(f"two encoders are given, {args.name!r} and {args.encoder!r}; give one")
    name = args.name or args.encoder
    if name is None:
        return _list_all()
    encoder = AutoSpeechEncoder.from_pretrained(name)
    print("\n".join(layer_table(encoder)))
    return f"\n{len(encoder.layers)} layers; use their names with --layers"


def _list_all() -> str:
    """Families, and the shipped encoders with their layers."""
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.encoders.auto import FAMILIES

    print("Families")
    families = {key: (family.layout, family.kinds()) for key, family in FAMILIES.items()}
    families["module"] = ("any torch.nn.Module, in Python: AutoSpeechEncoder.from_module(module, layers, stride)", ())
    for key, (layout, kinds) in families.items():
        text = f"{layout}: {', '.join(kinds)}" if kinds else layout
        print(textwrap.fill(text, WIDTH, initial_indent=f"  {key:12} ", subsequent_indent=" " * 15))
    print("\nShipped")
    for name in AutoSpeechEncoder.shipped():
        layers = " ".join(spec.name for spec in AutoSpeechEncoder.from_pretrained(name).layers)
        print(textwrap.fill(layers, WIDTH, initial_indent=f"  {name:20} ", subsequent_indent=" " * 23))
    return "\nshow one with `hfprobe encoders E`, where E is a shipped name, a folder or a Hub id user/name"


def layer_table(encoder: SpeechEncoder) -> list[str]:
    """Table of an encoder's layers, at most `WIDTH` columns wide.

    Args:
        encoder: The encoder.

    Returns:
        Lines.
    """
    from hfprobe.encoders.reach import measure_reach

    rate = encoder.sampling_rate
    rows: list[tuple[str, ...]] = [_HEADER, ("", "", "ms", "ms", "", "ms", "")]
    rows += [_row(spec, reach, rate) for spec, reach in zip(encoder.layers, measure_reach(encoder), strict=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    taps = WIDTH - sum(widths) - 2 * len(widths)
    lines = [encoder.name, ""]
    for row in rows:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)]
        start = "  ".join([row[0].ljust(widths[0]), *numbers, ""])
        first, *rest = textwrap.wrap(row[-1], taps) or [""]
        lines += [(start + first).rstrip(), *(" " * len(start) + more for more in rest)]
    exact = "encoded so that it changes nothing, at the cost of speed" if encoder.padding_sensitive else "masked out"
    lines += [
        "",
        "params: parameters that feed the layer. field: how much of the input a frame sees",
        "('all', or 'past': everything before it).",
        f"Shortest input {1000 * encoder.min_samples / rate:.1f} ms. Padding: {exact}.",
    ]
    return [piece for line in lines for piece in (textwrap.wrap(line, WIDTH) if len(line) > WIDTH else [line])]


def _row(spec: LayerSpec, reach: Reach, rate: int) -> tuple[str, ...]:
    """Cells of one layer."""
    if math.isnan(reach.samples):
        field = "?"
    elif math.isinf(reach.before) and math.isinf(reach.after):
        field = "all"
    elif math.isinf(reach.before):
        field = "past"
    elif math.isinf(reach.after):
        field = "future"
    else:
        field = _milliseconds(reach.samples, rate)
    stride, offset = _milliseconds(spec.stride, rate), _milliseconds(spec.offset, rate)
    return spec.name, f"{spec.dim}", stride, offset, _count(reach.parameters), field, spec.tap


def _milliseconds(samples: float, rate: int) -> str:
    """Milliseconds, without digits that say nothing."""
    value = 1000 * samples / rate
    return f"{value:.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"


def _count(parameters: int) -> str:
    """A number of parameters in three digits."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if parameters >= size:
            value = parameters / size
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}{unit}"
    return str(parameters)
