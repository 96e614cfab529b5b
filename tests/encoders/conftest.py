"""Fixtures shared by the tests of encoders."""

from __future__ import annotations

import pytest
from espnet_stock import VARIANTS, Stock, build_stock


@pytest.fixture(scope="session", params=VARIANTS)
def stock(request, tmp_path_factory) -> Stock:
    """Each kind of experiment in turn."""
    return build_stock(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def experiment(tmp_path) -> Stock:
    """A fresh experiment folder, to be tampered with."""
    return build_stock(tmp_path, "rnn-gru-forward")
