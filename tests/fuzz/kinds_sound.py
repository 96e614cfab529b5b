"""Sound files, folders and tables of them."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
from kinds import Kind

from hfprobe.audio import load_audio
from hfprobe.data import load_corpus
from hfprobe.data.corpora import decode_row, row_samples
from hfprobe.data.noise import load_noise
from hfprobe.errors import AudioError
from hfprobe.reports.kept import mel_bytes, read_mel

TONE = (0.3 * np.sin(np.arange(4000) * 0.1)).astype(np.float32)


def sound(name: str, **options):
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, TONE, 16000, **options)
        return folder / name

    return make


def noise(folder: Path) -> Path:
    return sound("noise/a/noise-a-0001.wav")(folder)


def read_noise(path: Path):
    corpus = load_noise(path.parents[2], "all")
    assert corpus.read(corpus.files["noise"][0], 0.5, 8000).shape == (8000,)


def rows_of(spec):
    """All rows of a corpus, decoded as a run does: broken sounds are counted, not fatal."""

    def read(path: Path):
        for row in islice(load_corpus(spec(path)), 20):
            assert isinstance(row["id"], str) and isinstance(row["text"], str) and isinstance(row["speaker"], str)
            assert row_samples(row) >= 0
            try:
                decode_row(row)
            except AudioError:
                pass

    return read


def kaldi(name: str):
    def make(folder: Path) -> Path:
        sound("u1.wav")(folder)
        (folder / "wav.scp").write_text(f"u1 {folder / 'u1.wav'}\nu2 {folder / 'u2.wav'}\n")
        (folder / "text").write_text("u1 HELLO THERE\nu2 YES\n")
        (folder / "utt2spk").write_text("u1 ann\nu2 bob\n")
        (folder / "spk2gender").write_text("ann f\nbob m\n")
        return folder / name

    return make


def librispeech(name: str):
    def make(folder: Path) -> Path:
        for number in "12":
            sound(f"LibriSpeech/test-clean/84/1/84-1-000{number}.flac")(folder)
        (folder / "LibriSpeech/test-clean/84/1/84-1.trans.txt").write_text("84-1-0001 HELLO\n84-1-0002 YES\n")
        (folder / "LibriSpeech/SPEAKERS.TXT").write_text("; comment\n84 | F | test-clean | 8 | Ann\n")
        return folder / "LibriSpeech" / name

    return make


def _above(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name == "LibriSpeech")


def audiofolder(name: str, content: str):
    def make(folder: Path) -> Path:
        sound("ann/a.wav")(folder)
        (folder / name).write_text(content)
        return folder / name

    return make


def parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wav = io.BytesIO()
    soundfile.write(wav, TONE, 16000, format="WAV")
    audio = [{"bytes": wav.getvalue(), "path": "a.wav"}, {"bytes": None, "path": "../../etc/passwd"}]
    columns = {"id": ["u1", "u2"], "audio": audio, "text": ["HELLO", None], "speaker": ["ann", "bob"]}
    pq.write_table(pa.table(columns), folder / "train.parquet")
    return folder / "train.parquet"


def strange_rows(path: Path):
    return rows_of(lambda found: f"parquet:{found}")(path)


def picture(folder: Path) -> Path:
    (folder / "mel.png").write_bytes(mel_bytes(np.linspace(-9, 2, 800, dtype=np.float32).reshape(20, 40)))
    return folder / "mel.png"


SOUND = ("audio/io.py",)
KINDS = [
    Kind("wav", SOUND, "binary", sound("a.wav"), load_audio),
    Kind("wav of floats", SOUND, "binary", sound("a.wav", subtype="FLOAT"), load_audio),
    Kind("flac", SOUND, "binary", sound("a.flac"), load_audio),
    Kind("ogg", SOUND, "binary", sound("a.ogg"), load_audio),
    Kind("mp3", SOUND, "binary", sound("a.mp3"), load_audio),
    Kind("noise", ("data/noise.py",), "binary", noise, read_noise),
    Kind("mel picture", ("reports/mel_picture.py",), "binary", picture, read_mel, ("mel", "PNG")),
    Kind("sound in a folder", ("data/folders.py", "data/corpora.py"), "binary", sound("ann/a.wav"),
         rows_of(lambda path: f"audiofolder:{path.parents[1]}"), ("audiofolder",), slow=True),
    Kind("metadata.csv", ("data/folders.py",), "lines",
         audiofolder("metadata.csv", "file_name,text,speaker\nann/a.wav,hello,ann\nann/b.wav,yes,ann\n"),
         rows_of(lambda path: f"audiofolder:{path.parent}"), slow=True),
    Kind("metadata.jsonl", ("data/folders.py",), "lines",
         audiofolder("metadata.jsonl", '{"file_name": "ann/a.wav", "text": "hello", "speaker": "ann"}\n'),
         rows_of(lambda path: f"audiofolder:{path.parent}"), slow=True),
    *(Kind(f"Kaldi's {name}", ("data/folders.py",), "lines", kaldi(name), rows_of(lambda path: f"kaldi:{path.parent}"),
           slow=True) for name in ("wav.scp", "text", "utt2spk", "spk2gender")),
    *(Kind(f"LibriSpeech's {name.rpartition('/')[2]}", ("data/librispeech.py",), "lines", librispeech(name),
           rows_of(lambda path: f"librispeech:{_above(path)}/test-clean"), ("test-clean",), slow=True)
      for name in ("test-clean/84/1/84-1.trans.txt", "SPEAKERS.TXT")),
    Kind("parquet", ("data/corpora.py",), "binary", parquet, strange_rows, slow=True),
]  # fmt: skip
