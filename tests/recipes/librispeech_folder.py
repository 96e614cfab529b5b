"""A tiny corpus in LibriSpeech's folders, spoken by espeak-ng, and noise in MUSAN's folders."""

from pathlib import Path

import numpy as np
import soundfile as sf

from hfprobe.data.generated_noise import GENERATED, generate
from hfprobe.data.sentences import SENTENCES
from hfprobe.data.synthetic import draw_voices, speak

SPLITS = {"train-clean-100": (2, 3), "dev-clean": (2, 1), "test-clean": (2, 2)}  # speakers, utterances of each


def make_librispeech(root: Path) -> Path:
    """``LibriSpeech/<split>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`` with ``*.trans.txt``."""
    voices = iter(draw_voices(sum(speakers for speakers, _ in SPLITS.values()), seed=5))
    number = 100
    for split, (speakers, utterances) in SPLITS.items():
        for _ in range(speakers):
            voice, number = next(voices), number + 1
            chapter = root / "LibriSpeech" / split / str(number) / "7"
            chapter.mkdir(parents=True)
            lines = []
            for index in range(utterances):
                name = f"{number}-7-{index:04d}"
                text = " ".join(SENTENCES[(number + 3 * index) % len(SENTENCES)].split()[:4])
                sf.write(chapter / f"{name}.flac", speak(text, voice), 16000)
                lines.append(f"{name} {text.upper()}")
            (chapter / f"{number}-7.trans.txt").write_text("\n".join(lines) + "\n")
    return root / "LibriSpeech"


def make_musan(root: Path) -> Path:
    """``musan/<category>/<source>/<category>-<source>-NNNN.wav``, three files of each category."""
    for category, names in GENERATED.items():
        folder = root / "musan" / category / "made"
        folder.mkdir(parents=True)
        for index, name in enumerate(names[:3]):
            sound = generate(name, 0.0, 32000)
            sf.write(folder / f"{category}-made-{index:04d}.wav", 0.3 * sound / np.abs(sound).max(), 16000)
    return root / "musan"
