"""Modules beside the tests, and those of their neighbours that make valid files."""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [
    str(here),
    *(str(here.parent / name) for name in ("encoders", "probes", "listening", "reports", "speakers")),
]
