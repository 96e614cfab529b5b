"""Which Gram matrices a comparison needs, how much memory they take, and how to cut it into passes that fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hfprobe.errors import MeasureError

Pair = tuple[str, str]


def ordered_pairs(dims: Mapping[str, int], pairs: Iterable[Pair] | None) -> tuple[Pair, ...]:
    """Pairs without repetition, each in the order of the sets; all of them where None.

    Raises:
        MeasureError: A pair names an unknown set, or there is none.

    Example:
        >>> ordered_pairs({"a": 1, "b": 1}, [("b", "a"), ("a", "b")])
        (('a', 'b'),)
    """
    names = list(dims)
    if pairs is None:
        return tuple((a, b) for i, a in enumerate(names) for b in names[i:])
    found: dict[Pair, None] = {}
    for a, b in pairs:
        for name in (a, b):
            if name not in dims:
                raise MeasureError(f"unknown set {name!r} in a pair; sets: {', '.join(names)}", "option")
        found[(a, b) if names.index(a) <= names.index(b) else (b, a)] = None
    if not found:
        raise MeasureError("expected at least one pair", "option")
    return tuple(found)


def partners(dims: Mapping[str, int], pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Whose Gram matrices stand in the rows of each set: itself, then later sets that it is paired with."""
    wanted = {name: {name} for name in dims}
    for a, b in pairs:
        wanted[a].add(b)
    return {name: [other for other in dims if other in wanted[name]] for name in dims}


def moment_bytes(dims: Mapping[str, int], pairs: Iterable[Pair], groups: int = 1) -> int:
    """Bytes that the moments of these pairs take."""
    found = partners(dims, pairs)
    cells = sum((dims[a] + 1) * sum(dims[b] + 1 for b in others) for a, others in found.items())
    return 8 * groups * (cells + sum(dim + 1 for dim in dims.values()))


def plan_passes(
    dims: Mapping[str, int], pairs: Iterable[Pair] | None, groups: int = 1, memory_limit: float | None = None
) -> list[tuple[Pair, ...]]:
    """Cut the pairs into passes over the data whose moments fit into memory each.

    Args:
        dims: Width of each set.
        pairs: Pairs to compare; all where None.
        groups: Groups of utterances.
        memory_limit: Bytes; one pass where None.

    Returns:
        The pairs of each pass; a pass needs only the sets in them.

    Raises:
        MeasureError: A single pair does not fit (``"memory"``).

    Example:
        >>> plan_passes({"a": 99, "b": 99, "c": 99}, [("a", "b"), ("b", "c")], memory_limit=300_000)
        [(('a', 'b'),), (('b', 'c'),)]
    """
    passes: list[list[Pair]] = []
    for pair in ordered_pairs(dims, pairs):
        if memory_limit is not None:
            if passes and _bytes_of(dims, [*passes[-1], pair], groups) <= memory_limit:
                passes[-1].append(pair)
                continue
            need = _bytes_of(dims, [pair], groups)
            if need > memory_limit:
                raise MeasureError(
                    f"the pair {pair[0]}, {pair[1]} needs {need / 2**20:.1f} MiB of moments in {groups} groups, "
                    f"the limit is {memory_limit / 2**20:.1f} MiB; use fewer groups or raise the limit",
                    "memory",
                )
        if not passes or memory_limit is not None:
            passes.append([])
        passes[-1].append(pair)
    return [tuple(part) for part in passes]


def _bytes_of(dims: Mapping[str, int], pairs: Sequence[Pair], groups: int) -> int:
    names = {name for pair in pairs for name in pair}
    return moment_bytes({name: dim for name, dim in dims.items() if name in names}, pairs, groups)
