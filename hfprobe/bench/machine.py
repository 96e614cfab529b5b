"""What a machine is and what it can do at most: matrix products and memory traffic, measured before anything else."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from hfprobe.bench.measure import clock_of, interleave


@dataclass(frozen=True)
class Machine:
    """A machine, and its measured limits.

    Args:
        model: Name of the processor or of the GPU.
        cores: Cores that this process may use.
        threads: Threads of torch.
        memory: Main memory (of the GPU if there is one) in bytes.
        load: Load average over the last minute, before the measurements.
        device: ``"cpu"`` or ``"cuda[:N]"``.
        clock: Clock that the limits were measured on (`hfprobe.bench.measure.clock_of`).
        matmul: float32 operations per second of the best matrix product; on the CPU clock of one core.
        bandwidth: Bytes per second, read and written, of the best large copy.
    """

    model: str
    cores: int
    threads: int
    memory: int
    load: float
    device: str
    clock: str
    matmul: float
    bandwidth: float

    def row(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def describe_machine(device: str = "cpu", matrix: int = 1024, copied: int = 2**27, repeats: int = 5) -> Machine:
    """Describe the machine and measure its limits.

    The limits are those of the best of all rounds: nothing can be faster than they are, except by chance.

    Args:
        device: ``"cpu"`` or ``"cuda[:N]"``.
        matrix: Rows and columns of the matrices.
        copied: Bytes of the tensor that is copied; several times the last cache.
        repeats: Rounds.

    Returns:
        The machine.

    Example:
        >>> machine = describe_machine(matrix=64, copied=2**16, repeats=2)
        >>> machine.matmul > 0 and machine.bandwidth > 0
        True
    """
    load, clock = os.getloadavg()[0], clock_of(device)
    a, b, product = (torch.rand(matrix, matrix, device=device) for _ in range(3))
    source = torch.rand(copied // 4, device=device)
    target = torch.empty_like(source)
    precision = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False  # hfprobe's own products are of full precision
    # A single product is too short for the CPU clock, which advances in steps on some systems.
    times = max(1, int(2e9 / (2 * matrix**3)))
    try:
        found = interleave(
            {
                "matmul": _repeat(lambda: torch.mm(a, b, out=product), times),
                "copy": _repeat(lambda: target.copy_(source), 4),
            },
            repeats,
            device,
        )
    finally:
        torch.backends.cuda.matmul.allow_tf32 = precision
    best = {name: max(min(timing.seconds(clock)), 1e-9) for name, timing in found.items()}
    return Machine(
        model=_model(device),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory=_memory(device),
        load=load,
        device=device,
        clock=clock,
        matmul=2 * matrix**3 * times / best["matmul"],
        bandwidth=2 * 4 * source.nbytes / best["copy"],
    )


def _repeat(function: Callable[[], object], times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            function()

    return run


def _model(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory(device: str) -> int:
    if device != "cpu":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
