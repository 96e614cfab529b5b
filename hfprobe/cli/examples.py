"""One command to begin with, below the options in every ``--help``. None needs a corpus."""

from __future__ import annotations

import argparse

EXAMPLES: dict[str, str] = {
    "": "hfprobe demo --output demo",
    "demo": "hfprobe demo --output demo",
    "listen": "hfprobe listen my.wav --encoder vgg-blstm-robust --output page",
    "train": "hfprobe train --encoder exp/asr_train --dataset espeak:train --noise generated --steps 30 --output bank",
    "evaluate": "hfprobe evaluate --encoder exp/asr_train --probes bank --dataset espeak:test --noise generated "
    "--output results",
    "score": "hfprobe score --reference originals/ --degraded rebuilt/ --output scores",
    "similarity": "hfprobe similarity --encoder blstm-robust --dataset espeak:test --speakers 6 --per-speaker 2 "
    "--output similarity",
    # Not phones: espeak tells none.
    "classify": "hfprobe classify --encoder blstm-robust --dataset espeak:train --target noise --noise generated "
    "--limit 60 --output noise",
    "invariance": "hfprobe invariance --encoder blstm-robust --dataset espeak:test --noise generated "
    "--output invariance",
    "untangle": "hfprobe untangle --encoder blstm-robust --dataset espeak:test --by speaker --points 20 "
    "--output untangled",
    "listening-test make": "hfprobe listening-test make --encoder blstm-robust --dataset espeak:test --output test",
    "listening-test score": "hfprobe listening-test score answers-*.json --key test/key.json --output heard",
    "report": "hfprobe report results similarity --output report",
    "card": "hfprobe card bank --results results --license cc-by-4.0 --repo-id USER/NAME --output bank",
    "push": "hfprobe push bank --repo-id USER/NAME --dry-run",
    "encoders": "hfprobe encoders blstm-robust",
    "bench": "hfprobe bench start vocoder --quick",
}

_HEAD = "example:"


def epilog(command: str) -> str | None:
    """What stands below the options of a command, or of an action as in ``listening-test make``."""
    return f"{_HEAD}\n  {EXAMPLES[command]}" if command in EXAMPLES else None


class HelpFormatter(argparse.HelpFormatter):
    """Leaves an example on its line, so that it can be copied; everything else is wrapped as usual."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_HEAD) else super()._fill_text(text, width, indent)
