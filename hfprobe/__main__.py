"""``python -m hfprobe`` is the ``hfprobe`` command (``accelerate launch -m hfprobe`` needs it)."""

import sys

from hfprobe.cli import main

if __name__ == "__main__":
    sys.exit(main())
