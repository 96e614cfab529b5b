"""From mel to sound: hfprobe's vocoder against librosa's Griffin-Lim of 32 iterations, side by side in one run.

Not a test: nothing passes or fails. Every contender gets the same mel-spectrograms of the same LibriSpeech clips, on one
thread, one after another in turns; the median CPU time of the turns counts, mel inversion included. The first table line
is librosa's: its own non-negative inversion takes many minutes, so it gets ours, and its time is that of its phases
and ours of the inversion. Quality is STOI and wideband PESQ against the clip.

    python tests/benchmarks/bench_vocoder.py                        # needs librosa and the clips
    python tests/benchmarks/bench_vocoder.py --clips 4 --turns 1    # small
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from hfprobe.audio import MelConfig, invert_mel, mel_spectrogram, vocode
from hfprobe.metrics import pesq, stoi

CONFIG = MelConfig()


def librosa_32(mel: torch.Tensor, length: int) -> np.ndarray:
    """librosa's fast Griffin-Lim with its defaults, from random phases."""
    import librosa

    return librosa.griffinlim(
        invert_mel(mel, CONFIG).numpy().T, n_iter=32, hop_length=CONFIG.hop_length, win_length=CONFIG.win_length,
        n_fft=CONFIG.n_fft, length=length, random_state=0,
    )  # fmt: skip


def ours(n_iter: int, algorithm: str):
    """hfprobe's vocoder with so many iterations."""
    return lambda mel, length: vocode(mel, CONFIG, n_iter=n_iter, lengths=length, algorithm=algorithm).numpy()


CONTENDERS = {
    "librosa 32": librosa_32,
    "fgla 32": ours(32, "fgla"),
    "raar 12": ours(12, "raar"),
    "raar 16": ours(16, "raar"),
    "raar 32": ours(32, "raar"),
    "raar 64": ours(64, "raar"),
}


def main() -> None:
    """Print a Markdown table and, on the last line, the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="longest part of a clip")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = os.environ.get("HFPROBE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
    files = sorted(Path(data).glob("noise/speech/**/*.flac"))
    if not files:
        raise SystemExit("no clips: set HFPROBE_DATA to a folder that holds noise/speech/**/*.flac")
    chosen = files[:: max(1, len(files) // options.clips)][: options.clips]
    clips = [soundfile.read(path, dtype="float32")[0][: int(16000 * options.seconds)] for path in chosen]
    mels = [mel_spectrogram(torch.from_numpy(clip), CONFIG) for clip in clips]
    for vocoder in CONTENDERS.values():  # first calls build caches
        vocoder(mels[0], len(clips[0]))
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    sounds: dict[str, list[np.ndarray]] = {}
    for _ in range(options.turns):
        for name, vocoder in CONTENDERS.items():
            start = time.process_time()
            sounds[name] = [vocoder(mel, len(clip)) for mel, clip in zip(mels, clips, strict=True)]
            times[name].append(time.process_time() - start)
    seconds = sum(len(clip) for clip in clips) / 16000
    base = float(np.median(times["librosa 32"]))
    print(f"{len(clips)} clips, {seconds:.0f} s of speech, {options.turns} turns\n")
    print("| vocoder | STOI | PESQ wb | CPU s | times faster than librosa |\n| :--- | ---: | ---: | ---: | ---: |")
    found = {}
    for name in CONTENDERS:
        pairs = list(zip(clips, sounds[name], strict=True))
        row = {
            "stoi": float(np.mean([stoi(*pair) for pair in pairs])),
            "pesq": float(np.mean([pesq(*pair) for pair in pairs])),
            "cpu_s": float(np.median(times[name])),
        }
        row["faster"] = base / row["cpu_s"]
        found[name] = {key: round(value, 4) for key, value in row.items()}
        print(f"| {name} | {row['stoi']:.4f} | {row['pesq']:.3f} | {row['cpu_s']:.2f} | {row['faster']:.2f} |")
    print("\n" + json.dumps({"clips": len(clips), "seconds": round(seconds, 1), "results": found}))


if __name__ == "__main__":
    main()
