"""Docstrings for the pages: Sphinx roles become plain code, and an ``Example`` becomes a block of code."""

from __future__ import annotations

import re

from griffe import Extension, Object

ROLE = re.compile(r":(?:mod|class|func|meth|attr|data):(`[^`]+`)")
EXAMPLE = re.compile(r"^( *)Example:$", re.M)  # griffe knows the plural


class PlainRoles(Extension):
    """Rewrites the docstring of every object that griffe has read."""

    def on_object(self, *, obj: Object, **kwargs) -> None:
        """Called by griffe for each object of the package."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(r"\1Examples:", ROLE.sub(r"\1", obj.docstring.value))
