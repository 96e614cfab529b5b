"""A machine whose limits are not measured anew for each test."""

from __future__ import annotations

import pytest

from hfprobe.bench.machine import Machine, describe_machine


@pytest.fixture(scope="session")
def machine() -> Machine:
    """This machine, measured in a moment."""
    return describe_machine("cpu", matrix=256, copied=2**22, repeats=2)
