"""Modules beside the tests, and those of their neighbours that make valid files."""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [
    str(here),
    *(str(here.parent / name) for name in ("encoders", "probes", "listening", "reports", "speakers")),
]

# SpeechBrain leaves modules in sys.modules that are imported when somebody looks at them, and then fail for want of
# packages that are not there. Hypothesis looks at the file of every module: here they have none.
import speechbrain  # noqa: E402, F401

for module in list(sys.modules.values()):
    if type(module).__name__ in ("LazyModule", "DeprecatedModuleRedirect"):
        vars(module).setdefault("__file__", None)
