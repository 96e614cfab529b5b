"""Find out, by trial runs, how many frames a network gives for how many samples.

Any chain of windows, strides and poolings without a fixed length gives ``1 + (samples - first) // stride`` frames for
some ``first``: flooring and ceiling once per step add up to one flooring. So one number per layer is sought.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hfprobe.encoders.base import Count
from hfprobe.errors import EncoderError

Frames = Callable[[int], Mapping[str, int]]
# What a network raises that gets too little; what is wrong otherwise has shown up in the first trial.
NetworkFailure = (RuntimeError, ValueError, IndexError, AssertionError)


@dataclass(frozen=True)
class FrameRule:
    """``1 + (samples - first) // stride`` frames.

    Args:
        stride: Samples from one frame to the next.
        first: Samples that the first frame needs; may be zero or negative.

    Example:
        >>> FrameRule(160, 400)(16000)
        98
    """

    stride: int
    first: int

    def __call__(self, samples: Count) -> Count:
        return 1 + (samples - self.first) // self.stride


def measure_rules(frames: Frames, strides: Mapping[str, int], start: int) -> dict[str, FrameRule]:
    """Find each layer's rule.

    Args:
        frames: Runs the network on so many samples, and gives the frames of each layer.
        strides: Stride of each layer.
        start: Samples of the first run.

    Returns:
        The rules, by layer.

    Raises:
        EncoderError: If a layer does not follow any rule with this stride.
    """
    known: dict[int, Mapping[str, int]] = {}

    def run(samples: int) -> Mapping[str, int]:
        if samples not in known:
            known[samples] = frames(samples)
        return known[samples]

    rules = {}
    for layer, stride in strides.items():
        base = run(start)[layer]
        for strides_more in (1, 7):
            got = run(start + strides_more * stride)[layer] - base
            if got != strides_more:
                raise EncoderError(
                    f"layer {layer}: stride {stride} does not fit: {strides_more * stride} samples more give {got} "
                    f"frames more instead of {strides_more}; give another stride, or lengths= if the number of frames "
                    "follows another rule"
                )
        # The smallest number of extra samples that gives one more frame lies in 1..stride.
        low, high = 1, stride
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if run(start + middle)[layer] > base else (middle + 1, high)
        rules[layer] = FrameRule(stride, start + low - base * stride)
    return rules


def shortest_input(frames: Frames, rules: Mapping[str, Callable[[int], int]], start: int) -> int:
    """Find the shortest input from which every layer gives at least the one frame that its rule says.

    Args:
        frames: Runs the network on so many samples, and gives the frames of each layer.
        rules: Frames of each layer for a number of samples.
        start: Samples that are known to work.

    Returns:
        Samples.
    """

    def works(samples: int) -> bool:
        if min(rule(samples) for rule in rules.values()) < 1:
            return False
        try:
            got = frames(samples)
        except NetworkFailure:
            return False
        return all(got[layer] >= rule(samples) for layer, rule in rules.items())

    low, high = 1, start
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle + 1, high)
    return low
