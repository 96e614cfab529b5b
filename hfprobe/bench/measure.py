"""Contenders that take turns on one machine, on two clocks.

Wall time is what a user waits; CPU time (user and system, of this process and of the children it has waited for) is
what the work takes, also on a machine that others use. A ratio is taken round by round and then its median, so that
both sides of it met the same load.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from statistics import median

from hfprobe.errors import ConfigError
from hfprobe.memory import keep_freed_memory, return_freed_memory

CLOCKS = ("cpu", "wall")


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender, one value per round.

    Args:
        wall: Wall seconds.
        cpu: CPU seconds.

    Example:
        >>> Timing(wall=(2.0, 4.0, 3.0), cpu=(1.0, 1.0, 1.0)).median("wall")
        3.0
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    def seconds(self, clock: str) -> tuple[float, ...]:
        """Seconds of every round on ``"cpu"`` or ``"wall"``."""
        if clock not in CLOCKS:
            raise ConfigError(f"expected a clock of {', '.join(CLOCKS)}, got {clock!r}")
        return self.cpu if clock == "cpu" else self.wall

    def median(self, clock: str) -> float:
        """Median over the rounds."""
        return median(self.seconds(clock))

    def row(self) -> dict:
        """Median and extremes on both clocks, for tables."""
        return {
            f"{clock}_s": {"median": median(values), "low": min(values), "high": max(values)}
            for clock, values in ((clock, self.seconds(clock)) for clock in CLOCKS)
        }


@dataclass(frozen=True)
class Ratio:
    """How many times longer one contender takes than another: median and extremes over the rounds.

    Args:
        median: Median.
        low: Smallest.
        high: Largest.
    """

    median: float
    low: float
    high: float

    def row(self) -> dict:
        """The three numbers, for tables."""
        return {"median": self.median, "low": self.low, "high": self.high}


def ratio(slower: Timing, faster: Timing, clock: str) -> Ratio:
    """Time of ``slower`` over that of ``faster``, round by round.

    Args:
        slower: Numerator.
        faster: Denominator, of as many rounds.
        clock: ``"cpu"`` or ``"wall"``.

    Returns:
        The ratio.

    Example:
        >>> ratio(Timing((4.0, 9.0), (4.0, 9.0)), Timing((2.0, 3.0), (2.0, 3.0)), "cpu")
        Ratio(median=2.5, low=2.0, high=3.0)
    """
    pairs = zip(slower.seconds(clock), faster.seconds(clock), strict=True)
    values = [above / max(below, 1e-9) for above, below in pairs]
    return Ratio(median(values), min(values), max(values))


def cpu_seconds() -> float:
    """CPU seconds, user and system, of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def clock_of(device: str) -> str:
    """The clock that counts: CPU time on a CPU, which others may use too; wall time on a GPU."""
    return "cpu" if device == "cpu" else "wall"


def synchronise(device: str) -> None:
    """Wait until a GPU has done what it was given."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    device: str = "cpu",
    warm_up: int = 1,
    others: Collection[str] = (),
) -> dict[str, Timing]:
    """Time contenders in turns: each once a round, every second round in the reverse order.

    hfprobe's own run as its commands do, with `keep_freed_memory`; those of other libraries with the allocator as it is
    in a process that nobody has told anything.

    Args:
        contenders: What to call, by name.
        repeats: Rounds that count.
        device: ``"cpu"``, or ``"cuda[:N]"``, which is waited for before and after each call.
        warm_up: Calls of each before the first round, for caches and plans.
        others: Names of the contenders that are not hfprobe's.

    Returns:
        The times of each.

    Raises:
        ConfigError: Fewer than one round is asked for.

    Example:
        >>> times = interleave({"a": lambda: None, "b": lambda: None}, repeats=3)
        >>> list(times), len(times["a"].wall)
        (['a', 'b'], 3)
    """
    if repeats < 1:
        raise ConfigError(f"expected at least 1 repeat, got {repeats}")
    kept = keep_freed_memory()
    for run in contenders.values():
        for _ in range(warm_up):
            run()
    walls: dict[str, list[float]] = {name: [] for name in contenders}
    cpus: dict[str, list[float]] = {name: [] for name in contenders}
    theirs = False
    for turn in range(repeats):
        for name in list(contenders) if turn % 2 == 0 else reversed(list(contenders)):
            if kept and theirs != (name in others):
                theirs = not theirs
                (return_freed_memory if theirs else keep_freed_memory)()
                contenders[name]()  # not counted: it meets the memory that the other way has left
            synchronise(device)
            wall, cpu = time.perf_counter(), cpu_seconds()
            contenders[name]()
            synchronise(device)
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(cpu_seconds() - cpu)
    keep_freed_memory()
    return {name: Timing(tuple(walls[name]), tuple(cpus[name])) for name in contenders}
