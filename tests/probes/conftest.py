"""Fixtures shared by the tests of probes."""

from types import SimpleNamespace

import pytest
from probe_fakes import Spec, ToyEncoder, ToyStream


@pytest.fixture
def toy():
    """The classes of ``probe_fakes``."""
    return SimpleNamespace(Encoder=ToyEncoder, Stream=ToyStream, Spec=Spec)
