"""What a stand-in for ``python`` leaves behind, so that the next stage of a recipe finds it."""

from __future__ import annotations

from pathlib import Path

MADE = {
    "hfprobe.asr.stats": ("",),
    "hfprobe.asr.train": ("latest.pth", "config.yaml", "valid.loss.ave.pth"),
    "hfprobe.asr.train_lm": ("valid.loss.best.pth", "config.yaml"),
    "hfprobe.asr.ship": ("config.yaml",),
    "hfprobe.asr.states": ("states.f16", "index.json"),
    "hfprobe.asr.join": ("latest.pth", "config.yaml"),
}


def pretend(words: list[str]) -> None:
    """Run ``-c CODE``; for ``-m MODULE`` write the files that the module would."""
    if words[0] == "-c":
        exec(words[1], {"__name__": "__main__"})
    if words[0] == "local/steps.py":
        print(7)
    if words[0] != "-m" or words[1] not in MADE:
        return
    named = [words[i + 1] for i, word in enumerate(words) if word in ("--output", "--output_dir")]
    target = Path(named[0] if named else words[-1])  # ship TRAINING OUTPUT, join LOWER UPPER OUTPUT
    for name in MADE[words[1]]:
        file = target / name if name else target
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("pretended")
