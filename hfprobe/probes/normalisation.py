"""Means and deviations of hidden frames and mel frames, by which a probe normalises.

Estimated from the first batches, pooled over processes, as counts, sums and sums of squares in float64.
"""

from __future__ import annotations

import torch

from hfprobe.probes.losses import PackedFrames
from hfprobe.probes.modeling import LayerProbe

# A unit that hardly ever fires must not be blown up when it does: deviations are raised to this part of their
# RMS.
INPUT_STD_FLOOR = 0.05
OUTPUT_STD_FLOOR = 0.01  # natural-log units


class Moments:
    """Running mean and deviation of the rows of matrices.

    Args:
        dim: Number of columns.
        device: Where the rows are.

    Example:
        >>> moments = Moments(1, "cpu")
        >>> moments.add(torch.tensor([[1.0], [3.0]]))
        >>> moments.mean().item(), moments.std().item()
        (2.0, 1.0)
    """

    def __init__(self, dim: int, device: torch.device | str):
        # Row 0: sums, row 1: sums of squares, row 2: counts; one tensor, so that processes add up in one
        # call.
        self.totals = torch.zeros(3, dim, dtype=torch.float64, device=device)

    def add(self, rows: torch.Tensor) -> None:
        """Add rows `(N, dim)`."""
        if not len(rows):
            return
        # Mean and variance of the batch first: a bare sum of squares in float32 would cancel.
        variance, mean = (value.double() for value in torch.var_mean(rows.float(), dim=0, correction=0))
        n_rows = float(len(rows))
        self.totals += torch.stack([n_rows * mean, n_rows * (variance + mean**2), torch.full_like(mean, n_rows)])

    def mean(self) -> torch.Tensor:
        """Mean `(dim,)`, float64."""
        return self.totals[0] / self.totals[2]

    def std(self) -> torch.Tensor:
        """Standard deviation `(dim,)`, float64, of the population."""
        return (self.totals[1] / self.totals[2] - self.mean() ** 2).clamp(min=0).sqrt()


class ProbeStatistics:
    """Statistics that one probe needs.

    Args:
        probe: The probe; its buffers are filled by `apply`.
    """

    def __init__(self, probe: LayerProbe):
        self.probe = probe
        self.inputs = Moments(probe.config.input_dim, probe.device)
        self.outputs = Moments(probe.config.n_mels, probe.device)

    def add(self, packed: PackedFrames) -> None:
        """Add the frames of a batch."""
        self.inputs.add(packed.frames)
        self.outputs.add(packed.target[packed.mask])

    def apply(self) -> None:
        """Fill the probe's buffers."""
        deviation = self.inputs.std()
        least = (INPUT_STD_FLOOR * deviation.square().mean().sqrt()).clamp(min=1e-6)
        with torch.no_grad():
            self.probe.input_mean.copy_(self.inputs.mean())
            self.probe.input_std.copy_(deviation.clamp(min=least))
            self.probe.output_mean.copy_(self.outputs.mean())
            self.probe.output_std.copy_(self.outputs.std().clamp(min=OUTPUT_STD_FLOOR))
