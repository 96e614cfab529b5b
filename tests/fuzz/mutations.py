"""Ways to spoil a file: its bytes, its lines, or the values of the tree that it stands for."""

from __future__ import annotations

import copy
import json
import math
import os
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

# Little and always the same by default; more, and other examples each time, with HFPROBE_SLOW=1.
SLOW = os.environ.get("HFPROBE_SLOW") == "1"
FUZZ = settings(
    max_examples=400 if SLOW else 12,
    derandomize=not SLOW,
    deadline=None,
    database=None,
    phases=(Phase.generate,),  # a failing example is short enough as it is, and shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)

LONG, DEEP = "a" * 70_000, 300
NASTY_TEXTS = (
    "", " ", "..", "../../../etc/passwd", "/etc/passwd", "C:\\x", "a\x00b", "\x1b[2J\x1b]0;x\x07", "\u202e\u2066dne",
    "\ud7ff\ufeff", LONG, "nan", "-1", "true", "{{7*7}}", "<script>", "%s%n", "a\nb\r\nc", "é日本", "random:random:x",
)  # fmt: skip
NASTY_NUMBERS = (
    *(0, -1, 1, 2**31, 2**63, -(2**63), 10**18, 10**30, 100_000, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf),
)


def nest(levels: int = DEEP) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def nasty() -> st.SearchStrategy:
    """A value that nobody expects there."""
    plain = st.one_of(
        st.none(), st.booleans(), st.sampled_from(NASTY_NUMBERS), st.sampled_from(NASTY_TEXTS), st.text(max_size=8)
    )
    return st.one_of(
        plain, st.just([]), st.just({}), st.just(nest()), st.lists(plain, max_size=3),
        st.dictionaries(st.text(max_size=3), plain, max_size=2), st.just([[1, 2]] * 50),
    )  # fmt: skip


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all values, but at most three items of each list."""
    found = [path]
    items = tree.items() if isinstance(tree, dict) else list(enumerate(tree))[:3] if isinstance(tree, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


@st.composite
def trees(draw: Any, tree: Any) -> Any:
    """A copy with one to three values taken out, doubled, renamed or replaced."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(tree)))
        action = draw(st.sampled_from(("replace", "replace", "delete", "rename", "double", "add")))
        if not path:
            if action == "add" and isinstance(tree, dict):
                tree[draw(st.sampled_from(NASTY_TEXTS))] = draw(nasty())
            elif draw(st.integers(0, 9)) == 0:
                return draw(nasty())
            continue
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        key = path[-1]
        if action == "delete":
            del parent[key]
        elif action == "rename" and isinstance(parent, dict):
            parent[draw(st.sampled_from(NASTY_TEXTS))] = parent.pop(key)
        elif action == "double" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        else:
            parent[key] = draw(nasty())
    return tree


def as_json(tree: Any) -> bytes:
    """JSON, with the NaN and Infinity that Python's own reader takes."""
    return json.dumps(tree).encode()


def as_yaml(tree: Any) -> bytes:
    """YAML without aliases for what is there twice."""
    return yaml.dump(tree, Dumper=_Plain, allow_unicode=True).encode("utf-8", "surrogatepass")


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@st.composite
def spoiled_bytes(draw: Any, data: bytes) -> bytes:
    """Bytes flipped, cut off, taken out, doubled, put in or overwritten; mostly near the ends, where headers are."""
    spoiled = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        size = len(spoiled)
        last = max(size - 1, 0)
        place = draw(
            st.one_of(st.integers(0, min(64, last)), st.integers(max(0, last - 200), last), st.integers(0, last))
        )
        length = draw(st.sampled_from((1, 2, 4, 8, 100, size // 2 + 1)))
        action = draw(st.sampled_from(("flip", "flip", "cut", "delete", "double", "insert", "high", "zero")))
        if action == "flip" and size:
            spoiled[place] ^= 1 << draw(st.integers(0, 7))
        elif action == "cut":
            del spoiled[place:]
        elif action == "delete":
            del spoiled[place : place + length]
        elif action == "double":
            spoiled[place:place] = spoiled[place : place + length]
        elif action == "insert":
            spoiled[place:place] = draw(st.binary(min_size=1, max_size=8))
        else:
            end = min(place + length, size)
            spoiled[place:end] = (b"\xff" if action == "high" else b"\0") * (end - place)
    return bytes(spoiled)


@st.composite
def spoiled_lines(draw: Any, data: bytes) -> bytes:
    """Lines taken out, doubled, moved, emptied, with a field too many or a strange one, or other ends."""
    lines = data.decode("utf-8").split("\n")
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1)) if lines else 0
        action = draw(st.sampled_from(("delete", "double", "swap", "field", "field", "more", "less", "put", "ends")))
        text = draw(st.sampled_from((*NASTY_TEXTS, *map(str, NASTY_NUMBERS))))
        if not lines or action == "put":
            lines.insert(place, text)
        elif action == "delete":
            del lines[place]
        elif action == "double":
            lines.insert(place, lines[place])
        elif action == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
        elif action == "ends":
            lines = [line + "\r" for line in lines]
        else:
            marks = [mark for mark in ("\t", ",", "|", " ", "=") if mark in lines[place]] or [" "]
            mark = draw(st.sampled_from(marks))
            fields = lines[place].split(mark)
            field = draw(st.integers(0, len(fields) - 1))
            if action == "field":
                fields[field] = text
            elif action == "more":
                fields.insert(field, text)
            else:
                del fields[field]
            lines[place] = mark.join(fields)
    return "\n".join(lines).encode("utf-8", "surrogatepass")
