"""``hfprobe encoders``: what can be given to ``--encoder``, and the layers of one."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--encoder", help="show the layers of this encoder only")


def run(args: argparse.Namespace) -> str:
    """Print encoders and layers."""
    from hfprobe.encoders import AutoSpeechEncoder

    names = [args.encoder] if args.encoder else list(AutoSpeechEncoder.shipped())
    for name in names:
        encoder = AutoSpeechEncoder.from_pretrained(name)
        print(f"\n{name}\n  {'layer':8} {'width':>6} {'stride':>8} {'first centre':>13}  read")
        for spec in encoder.layers:
            stride, offset = 1000 * spec.stride / encoder.sampling_rate, 1000 * spec.offset / encoder.sampling_rate
            print(f"  {spec.name:8} {spec.dim:6d} {stride:5.0f} ms {offset:10.1f} ms  {spec.tap}")
    return "\nAny ESPnet experiment folder with an encoder of these kinds can be given by its path."
