"""A real browser for the tests of pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from browser import browser  # noqa: E402, F401
