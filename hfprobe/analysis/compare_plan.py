"""How a comparison of layers fits into memory: passes over the data, groups of utterances, and which layers are wide.

- No layer is wider than `hfprobe.similarity.leading.WIDE`: moments are kept by groups, and a bootstrap over the groups
  gives the intervals. Fewer groups rather than more passes, but never fewer than intervals need.
- Some layer is wider, or not even one pair fits in that many groups: moments in one group give the values, and moments
  by groups along the leading directions of wide layers give the intervals (`hfprobe.similarity.leading`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfprobe.errors import MeasureError
from hfprobe.similarity import plan_passes
from hfprobe.similarity.finish import MEASURES as FROM_MOMENTS
from hfprobe.similarity.groups import MIN_GROUPS
from hfprobe.similarity.leading import DIRECTIONS, WIDE
from hfprobe.similarity.plan import Pair, moment_bytes
from hfprobe.similarity.sampled import SAMPLED

GIBIBYTE = 2**30


@dataclass(frozen=True)
class Plan:
    """What is accumulated.

    Attributes:
        passes: Pairs of each pass over the data; one empty pass where no measure needs moments.
        groups: Groups of the moments.
        narrow: Sets that stand by their leading directions in the moments for intervals; none where there are no such.
        spread_groups: Groups of those.
        moments: Measures from moments.
        sampled: Measures from a sample of frames.
        minibatch: Whether minibatch CKA is asked for.
    """

    passes: tuple[tuple[Pair, ...], ...]
    groups: int
    narrow: frozenset[str]
    spread_groups: int
    moments: tuple[str, ...]
    sampled: tuple[str, ...]
    minibatch: bool


def make_plan(dims: Mapping[str, int], pairs: Sequence[Pair], groups: int, settings: Any) -> Plan:
    """A plan that fits into memory.

    Args:
        dims: Width of each set.
        pairs: Pairs to compare.
        groups: Groups of utterances that there are.
        settings: A `hfprobe.analysis.compare.CompareSettings`.

    Raises:
        MeasureError: Not even one pair fits, or the sample of frames does not (``"memory"``).
    """
    moments = tuple(name for name in settings.measures if name in FROM_MOMENTS)
    sampled = tuple(name for name in settings.measures if name in SAMPLED)
    others = (moments, sampled, "minibatch_cka" in settings.measures)
    need = 8 * settings.sample * sum(dims.values())
    if sampled and need > settings.memory_limit:
        raise MeasureError(
            f"{settings.sample} frames of all layers need {need / 2**20:.1f} MiB, the limit is "
            f"{settings.memory_limit / 2**20:.1f} MiB; take a smaller sample, fewer layers, or raise the limit",
            "memory",
        )
    if not moments:
        return Plan(((),), groups, frozenset(), groups, *others)
    intervals = settings.replicates > 0 and groups >= MIN_GROUPS
    if max(dims.values()) <= WIDE or not intervals:
        count, passes = _by_groups(dims, pairs, groups if intervals else 1, settings.memory_limit)
        if passes:
            return Plan(passes, count, frozenset(), count, *others)
    narrow = frozenset(name for name, dim in dims.items() if dim > (WIDE if max(dims.values()) > WIDE else DIRECTIONS))
    if not intervals or not narrow:
        return Plan(tuple(plan_passes(dims, pairs, 1, settings.memory_limit)), 1, frozenset(), 1, *others)
    count, left = _spread(dims, pairs, narrow, groups, settings.memory_limit)
    return Plan(tuple(plan_passes(dims, pairs, 1, left)), 1, narrow, count, *others)


def _by_groups(dims, pairs, groups: int, limit: float) -> tuple[int, tuple[tuple[Pair, ...], ...]]:
    """Groups and passes; no passes where not even one pair fits in as many groups as intervals need."""
    enough = min(groups, MIN_GROUPS)
    for count in (groups, min(groups, 2 * MIN_GROUPS), enough):
        try:
            passes = plan_passes(dims, pairs, count, limit)
        except MeasureError:
            continue
        if len(passes) == 1 or count <= 2 * MIN_GROUPS:
            return count, tuple(passes)
    return 1, ()


def _spread(dims, pairs, narrow, groups: int, limit: float) -> tuple[int, float]:
    """Groups of the moments for intervals, and the memory that they leave: two thirds of it if that will do."""
    few = {name: min(dim, DIRECTIONS) if name in narrow else dim for name, dim in dims.items()}
    for count in (groups, min(groups, 2 * MIN_GROUPS), min(groups, MIN_GROUPS)):
        need = moment_bytes(few, pairs, count)
        if need <= limit / 3:
            break
    return count, max(limit - need, limit / 3)
