"""A real browser, and sounds that are quick to make, for the tests of listening tests."""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent / "reports")]

from browser import browser  # noqa: E402, F401
