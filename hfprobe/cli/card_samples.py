"""Sounds for a card: a recording as each layer gives it back, as small FLAC files beside the card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def make_samples(
    paths: Sequence[str], encoder: Any, bank: Any, prefix: str, max_seconds: float, iterations: int, seed: int,
    device: str,
) -> tuple[list, dict[str, bytes]]:  # fmt: skip
    """Rebuild recordings from every layer.

    Args:
        paths: Sound files.
        encoder: The encoder.
        bank: Its bank.
        prefix: Folder of the sounds, relative to the card.
        max_seconds: Only the first seconds of each are used.
        iterations: Of Griffin-Lim.
        seed: Of the phases.
        device: Where to run.

    Returns:
        `hfprobe.reports.cards.Sample` for each sound, and the files by their path relative to the card: nothing is
        written before all are made.

    Raises:
        AudioError: A file cannot be used.
        BankError: The bank is another encoder's.
    """
    from hfprobe.analysis.hear import hear
    from hfprobe.audio import load_audio
    from hfprobe.progress import progress_bar
    from hfprobe.reports.cards import Sample
    from hfprobe.reports.encode import encode_audio
    from hfprobe.vocoders import GriffinLim

    recordings = [load_audio(path) for path in paths]
    samples, files = [], {}
    for index, (path, recording) in enumerate(progress_bar(list(zip(paths, recordings, strict=True)), "rebuilding")):
        clean = recording.waveform[: int(max_seconds * recording.sampling_rate)]
        heard = hear(clean, clean, [(encoder, bank)], None, seed=seed, device=device, vocoder=GriffinLim(iterations))
        for one in heard:
            place = f"{prefix}/{index:02d}-{_slug(Path(path).stem)}/{_slug(one.layer)}.flac"
            files[place] = encode_audio(one.waveform, recording.sampling_rate).data
            samples.append(Sample(Path(path).name, one.layer, place, one.text, one.stoi))
    return samples, files


def _slug(text: str) -> str:
    """A name as part of a file name on any system."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:60] or "sound"
