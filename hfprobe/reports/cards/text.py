"""Names, transcripts and command lines as parts of a card: Markdown shows them as they are and runs nothing of them."""

from __future__ import annotations

import re
import unicodedata

_FOLDERS = re.compile(r"(?<![\w./~])(?:~|\.{1,2})?/(?:[^\s/:]+/)*(?=[^\s/]*)")


def plain(text: object) -> str:
    """A text on one line, without control and direction characters and without a template's double braces.

    Example:
        >>> plain("two\\n lines\\u202e")
        'two lines'
    """
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in str(text))
    line = " ".join("".join(c for c in kept if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn")).split())
    return re.sub(r"\{(?=[{%])", "{ ", line)


def markdown(text: object) -> str:
    """A text that is not Markdown as Markdown: no emphasis, link, picture, HTML, cell or placeholder comes of it.

    Example:
        >>> markdown("a|b *c* <img src=x> [d](e)")
        'a\\\\|b \\\\*c\\\\* &lt;img src=x&gt; \\\\[d\\\\](e)'
    """
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#$!])", r"\\\1", safe)


def code(text: object) -> str:
    """A name in code style; one that would break out of it is escaped instead.

    Example:
        >>> code("blstm1"), code("a`b")
        ('`blstm1`', 'a\\\\`b')
    """
    line = plain(text)
    return f"`{line}`" if line and not re.search(r"[`|<>{}\\]", line) else markdown(line)


def command(text: object) -> str:
    """A command line without folders of the machine that ran it, for a block of code.

    Example:
        >>> command("hfprobe evaluate --dataset kaldi:/home/me/data --output ../runs/a")
        'hfprobe evaluate --dataset kaldi:data --output a'
    """
    return _FOLDERS.sub("", plain(text)).replace("```", "'''")


def count(number: int) -> str:
    """A number for reading.

    Example:
        >>> count(3160), count(1_640_000)
        ('3,160', '1.6 million')
    """
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"


def number(value: object) -> str:
    """A setting as a person would write it.

    Example:
        >>> number(1e-10), number(8000.0), number(None), number(["a", 2.5])
        ('1e-10', '8000', 'none', 'a, 2.5')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(number(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {number(item)}" for key, item in value.items())
    return str(value)


def listed(words: list[str] | tuple[str, ...]) -> str:
    """Words as a list in a sentence.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
