"""LibriSpeech and MUSAN as the Hub has them, tiny: bytes of parquet files and of sound files."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
from datasets import Audio, ClassLabel, Features, Value

RATE = 16000
AUDIO = Audio(sampling_rate=RATE, decode=False)
LIBRISPEECH = Features({
    "file": Value("string"), "audio": AUDIO, "text": Value("string"), "speaker_id": Value("int64"),
    "chapter_id": Value("int64"), "id": Value("string"),
})  # fmt: skip
MUSAN = Features({
    "audio": AUDIO, "label": ClassLabel(names=["music", "speech", "noise"]), "source": Value("string"), "path": Value("string"),
})  # fmt: skip


def sound(number: int, seconds: float = 0.3, kind: str = "FLAC", rate: int = RATE) -> bytes:
    """A sound of its own for each number: noise under a slow tone."""
    rng = np.random.default_rng(number)
    time = np.arange(int(seconds * rate)) / rate
    wave = 0.2 * np.sin(2 * np.pi * (200 + 7 * number) * time) + 0.02 * rng.standard_normal(len(time))
    buffer = io.BytesIO()
    sf.write(buffer, wave, rate, format=kind)
    return buffer.getvalue()


def parquet(rows: list[dict], features: Features | None, row_group_size: int = 4) -> bytes:
    """A table as `datasets` writes it."""
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema if features else None)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=row_group_size)
    return buffer.getvalue()


def librispeech_rows(split: int, first: int, count: int) -> list[dict]:
    """Rows of a split, four utterances to a speaker."""
    rows = []
    for number in range(first, first + count):
        speaker, chapter = 100 * split + number // 4, 1000 * split
        name = f"{speaker}-{chapter}-{number:04d}"
        data = sound(1000 * split + number, 0.3 + 0.01 * (number % 7))
        rows.append({
            "file": f"{name}.flac", "audio": {"bytes": data, "path": f"{name}.flac"}, "text": f"WORDS OF {number}",
            "speaker_id": speaker, "chapter_id": chapter, "id": name,
        })  # fmt: skip
    return rows


def librispeech_files() -> dict[str, bytes | str]:
    """``openslr/librispeech_asr``: two tables of ten for training, of which one row is cut off, and one for testing."""
    train = [librispeech_rows(1, 0, 10), librispeech_rows(1, 10, 10)]
    train[0][3]["audio"]["bytes"] = train[0][3]["audio"]["bytes"][:1500]
    splits = {"train.100": train, "test": [librispeech_rows(2, 0, 4)]}
    files: dict[str, bytes | str] = {
        f"clean/{split}/{n:04d}.parquet": parquet(rows, LIBRISPEECH)
        for split, tables in splits.items()
        for n, rows in enumerate(tables)
    }
    lines = [f"  - split: {split}\n    path: clean/{split}/*.parquet" for split in splits]
    files["README.md"] = "---\nconfigs:\n- config_name: clean\n  data_files:\n" + "\n".join(lines) + "\n---\n"
    return files


def musan_rows(category: str, count: int) -> list[dict]:
    """Rows of a category, as long names as MUSAN's; the last one is no sound."""
    label = ["music", "speech", "noise"].index(category)
    rows = []
    for n in range(count):
        name = f"{category}/source/{category}-source-{n:04d}.wav"
        data = sound(5000 + 100 * label + n, 0.5 + 0.1 * n, "WAV") if n < count - 1 else b"RIFF and nothing"
        rows.append({"audio": {"bytes": data, "path": name.split("/")[-1]}, "label": label, "source": "source", "path": name})  # fmt: skip
    return rows


def musan_files() -> dict[str, bytes | str]:
    """``corypaik/musan``: a configuration for each category."""
    files: dict[str, bytes | str] = {
        f"{category}/train-00000.parquet": parquet(musan_rows(category, 8), MUSAN, 3)
        for category in ("music", "speech", "noise")
    }
    lines = [
        f"- config_name: {c}\n  data_files:\n  - split: train\n    path: {c}/*.parquet"
        for c in ("music", "speech", "noise")
    ]
    files["README.md"] = "---\nconfigs:\n" + "\n".join(lines) + "\n---\n"
    return files
