"""Markdown as a terminal shows it best: the tables of ``results.md`` with their columns under one another."""

from __future__ import annotations

import re
import unicodedata

_CELLS = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\([_*`\[\]])")


def plain(markdown: str) -> str:
    r"""Pad the columns of each table, and take away the escapes that only a browser needs.

    Args:
        markdown: Text with pipe tables; what is no table stays as it is, but for escapes.

    Returns:
        The same text, still with pipes and rules, so that what is copied from a terminal stays a table.

    Examples:
        >>> print(plain("| layer | STOI |\n| :--- | ---: |\n| my\\_cnn1 | 0.9 |"))
        | layer   | STOI |
        | :------ | ---: |
        | my_cnn1 |  0.9 |
    """
    out: list[str] = []
    table: list[str] = []
    for line in [*_ESCAPED.sub(r"\1", markdown).replace("&lt;", "<").replace("&gt;", ">").split("\n"), ""]:
        if line.startswith("|") and line.endswith("|"):
            table.append(line)
            continue
        out += _aligned(table)
        table = []
        out.append(line)
    return "\n".join(out[:-1])


def _aligned(rows: list[str]) -> list[str]:
    """Lines of a table whose second row is its rule; as they are where they make none."""
    table = [[cell.strip() for cell in _CELLS.split(row)[1:-1]] for row in rows]
    if len(table) < 2 or len({len(row) for row in table}) > 1:
        return rows
    rule = table[1]
    widths = [max(3, *(_width(row[i]) for row in table if row is not rule)) for i in range(len(rule))]
    lines = []
    for row in table:
        cells = []
        for cell, mark, width in zip(row, rule, widths, strict=True):
            space = " " * (width - _width(cell))
            if row is rule:
                left, right = (":" if mark.startswith(":") else "-"), (":" if mark.endswith(":") else "-")
                cells.append(left + "-" * (width - 2) + right)
            else:
                cells.append(space + cell if mark.endswith(":") else cell + space)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _width(text: str) -> int:
    """Places that a text takes on a terminal: wide characters two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
