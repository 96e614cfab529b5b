"""Unpacked LSTMs against ESPnet's packed ones: one training step, forward and backward, side by side in one run.

Not a test: nothing passes or fails. All get the same weights and the same padded batch, on one thread, in turns; the
median CPU time of the turns counts, and the largest difference of outputs and gradients is printed beside it. The third
contender multiplies in bfloat16, which pays where the CPU has AMX or AVX-512 BF16.

    python tests/benchmarks/bench_lstm.py                            # the paper's sizes, 8 x 4 s
    python tests/benchmarks/bench_lstm.py --hidden 128 --turns 3     # the shipped encoders' size
"""

from __future__ import annotations

import argparse
import copy
import json
import time

import numpy as np
import torch
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from torch import Tensor, nn

from hfprobe.asr.half import train_in_bfloat16
from hfprobe.asr.unpacked import channels_last, unpack_lstms


def encoders(hidden: int) -> dict[str, nn.Module]:
    """The paper's two encoders with ``hidden`` units, as stock ESPnet makes them."""
    shared = {
        "rnn_type": "lstm", "bidirectional": True, "use_projection": True, "num_layers": 5, "hidden_size": hidden,
        "output_size": hidden, "dropout": 0.0,
    }  # fmt: skip
    return {
        f"BLSTM5-{hidden}": RNNEncoder(240, subsample=[1, 2, 2, 2, 1], **shared),
        f"VGG + BLSTM5-{hidden}": VGGRNNEncoder(240, in_channel=3, **shared),
    }


def step(encoder: nn.Module, features: Tensor, lengths: Tensor) -> tuple[float, Tensor, list[Tensor]]:
    """CPU seconds of forward and backward, the outputs, and the gradients of all parameters."""
    encoder.zero_grad(set_to_none=True)
    begun = time.process_time()
    output, _, _ = encoder(features.clone(), lengths)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return time.process_time() - begun, output.detach(), [p.grad for p in encoder.parameters()]


def main() -> None:
    """Print a Markdown table and, on the last line, the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8, help="utterances of different lengths")
    parser.add_argument("--seconds", type=float, default=4.0, help="of the longest")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # as in training
    frames = 1 + int(options.seconds * 100)
    features = torch.randn(options.batch, frames, 240)
    lengths = torch.linspace(frames, frames / 2, options.batch).long()
    found = {}
    print(f"{options.batch} utterances of {options.seconds / 2:g} to {options.seconds:g} s, {options.turns} turns\n")
    print(f"AMX: {'yes' if torch.cpu.get_capabilities().get('amx_bf16') else 'no'}\n")
    print("| encoder | s | times faster than packed | outputs differ by | gradients by, relative |")
    print("| :--- | ---: | ---: | ---: | ---: |")
    for name, stock in encoders(options.hidden).items():
        unpacked = copy.deepcopy(stock)
        unpack_lstms(unpacked)
        channels_last(unpacked)
        half = copy.deepcopy(unpacked)
        train_in_bfloat16(half)
        contenders = {"packed": stock, "unpacked": unpacked, "unpacked, bfloat16": half}
        steps: dict[str, list] = {label: [] for label in contenders}
        for _ in range(options.turns + 1):
            for label, encoder in contenders.items():
                steps[label].append(step(encoder, features, lengths))
        _, output, gradients = steps["packed"][-1]
        scales = [float(one.abs().max().clamp_min(1e-6)) for one in gradients]
        # The first turn makes caches and plans.
        seconds = {label: float(np.median([took for took, _, _ in turns[1:]])) for label, turns in steps.items()}
        for label, turns in steps.items():
            _, other, others = turns[-1]
            apart = float((output - other).abs().max())
            pairs = zip(gradients, others, scales, strict=True)
            relative = max(float((one - two).abs().max()) / scale for one, two, scale in pairs)
            faster = seconds["packed"] / seconds[label]
            found[f"{name}, {label}"] = {
                "seconds": round(seconds[label], 4), "faster": round(faster, 3), "output": apart, "gradient": relative,
            }  # fmt: skip
            print(f"| {name}, {label} | {seconds[label]:.3f} | {faster:.2f} | {apart:.1e} | {relative:.1e} |")
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
