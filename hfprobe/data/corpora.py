"""Speech corpora by name, as streams of rows in one shape.

A row is a dictionary with ``id``, ``text`` (upper case, empty where unknown), ``speaker``, ``gender``, and the sound:
``audio`` (bytes of a sound file) or ``voice`` (how espeak-ng is to speak ``text``). Rows are cheap; :func:`decode_row`
makes the waveform when it is needed. Rows may have ``words`` (:func:`row_words`). ``datasets`` is imported here and
nowhere else.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

from hfprobe.audio.io import load_audio
from hfprobe.data.locations import local_speechocean
from hfprobe.data.sentences import SENTENCES
from hfprobe.data.synthetic import Voice, draw_voice, draw_voices, record, speak
from hfprobe.errors import AudioError, DatasetError, HfprobeError

SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
LIBRISPEECH = "openslr/librispeech_asr"
SPEECHOCEAN = "mispeech/speechocean762"


def _first(row: dict, *names: str) -> str:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), "")


def _normal_row(row: dict) -> dict:
    """Bring a row of any corpus with an ``audio`` column into hfprobe's shape (column names differ by corpus)."""
    audio = row["audio"] or {}
    # Without any name the sound itself names the row: noise is drawn by name, and must differ between rows.
    name = _first(row, "id", "utt_id", "path") or _first(audio, "path")
    return {
        "id": name or f"{zlib.crc32(audio.get('bytes') or b''):08x}",
        "text": _first(row, "text", "transcription", "sentence").upper(),
        "speaker": _first(row, "speaker", "speaker_id", "client_id"),
        "gender": _first(row, "gender", "sex"),
        "words": _words_column(row.get("words")),
        "audio": audio.get("bytes"),
    }


def _words_column(words) -> str:
    """Words and their phones as JSON: one string, because `datasets` casts nested columns when it mixes corpora."""
    if not isinstance(words, list) or not all(isinstance(word, dict) for word in words):
        return ""
    pairs = [(str(word.get("text") or "").upper(), list(map(str, word.get("phones") or ()))) for word in words]
    return json.dumps(pairs)


def row_words(row: dict) -> list[tuple[str, tuple[str, ...]]]:
    """Words of a row with their phones as the corpus has them; empty where it has none.

    Example:
        >>> row_words({"words": '[["THE", ["DH", "AH0"]]]'})
        [('THE', ('DH', 'AH0'))]
    """
    return [(text, tuple(phones)) for text, phones in json.loads(row.get("words") or "[]")]


def _stream(builder: str, **options):
    """A streaming dataset whose audio stays bytes: decoding through `datasets` would need torchcodec and FFmpeg."""
    from datasets import Audio, load_dataset

    dataset = load_dataset(builder, streaming=True, **options)
    if "audio" not in (dataset.features or {"audio": None}):
        raise DatasetError(
            f"{builder!r} has no column 'audio' but {', '.join(dataset.features)}; choose a speech dataset"
        )
    dataset = dataset.cast_column("audio", Audio(decode=False))
    return dataset.map(_normal_row, remove_columns=list(dataset.features or []))


def _from_generator(rows: Callable[..., Iterator[dict]], items: list):
    """An iterable dataset over ``items``; the list becomes shards, so that workers and ranks can share it."""
    from datasets import IterableDataset

    return IterableDataset.from_generator(rows, gen_kwargs={"items": items})


def _file_rows(items: list[tuple[str, str, str, str]]) -> Iterator[dict]:
    for name, path, text, speaker in items:
        try:
            audio: bytes | str = Path(path).read_bytes()
        except OSError:
            audio = path  # decoding it says that the file is missing, and the row is counted as unreadable
        yield {"id": name, "text": text, "speaker": speaker, "gender": "", "audio": audio}


def _voice_rows(items: list[tuple[str, str, dict, str]]) -> Iterator[dict]:
    for name, text, voice, speaker in items:
        yield {"id": name, "text": text, "speaker": speaker, "gender": "", "voice": voice}


def _existing(folder: str) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise DatasetError(f"folder {folder!r} does not exist; check the part after the colon")
    return path


def _audiofolder(folder: str):
    """All sound files below a folder; the parent folder's name is the speaker."""
    root = _existing(folder)
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise DatasetError(f"no sound file below {folder!r} (looked for {', '.join(SUFFIXES)})")
    items = [(p.relative_to(root).with_suffix("").as_posix(), str(p), "", p.parent.name) for p in paths]
    return _from_generator(_file_rows, items)


def _table(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return dict((line.split(maxsplit=1) + [""])[:2] for line in lines if line.strip())


def _kaldi(folder: str):
    """A Kaldi data folder: ``wav.scp`` with plain paths, and ``text`` and ``utt2spk`` where they are."""
    root = _existing(folder)
    scp, text, speaker = (_table(root / name) for name in ("wav.scp", "text", "utt2spk"))
    if not scp:
        raise DatasetError(f"no wav.scp (or an empty one) in {folder!r}; a Kaldi data folder has one")
    pipes = [utterance for utterance, path in scp.items() if path.rstrip().endswith("|")]
    if pipes:
        raise DatasetError(
            f"wav.scp entry {pipes[0]!r} is a shell command; hfprobe does not run it: write the files first"
        )
    if (root / "segments").is_file():
        raise DatasetError(
            f"{folder!r} has a segments file, which hfprobe does not apply; write one file per utterance first"
        )
    first, path = next(iter(scp.items()))
    if not Path(path.strip()).is_file():
        raise DatasetError(
            f"wav.scp entry {first!r} names {path.strip()!r}, which does not exist; paths start at the current folder"
        )
    scp = {utterance: path.strip() for utterance, path in scp.items()}
    return _from_generator(_file_rows, [(u, p, text.get(u, "").upper(), speaker.get(u, "")) for u, p in scp.items()])


def _espeak(split: str):
    """Synthetic speech: other sentences, speakers and seeds for train and test.

    ``train`` has 40 speakers and the first 40 sentences, ``test`` 20 other speakers and the last 20 sentences.
    """
    if split not in ("train", "test"):
        raise DatasetError(f"espeak has the splits train and test, not {split!r}")
    voices = draw_voices(60, seed=762)
    voices, sentences = (voices[:40], SENTENCES[:40]) if split == "train" else (voices[40:], SENTENCES[40:])
    rng = np.random.default_rng(len(voices))
    items = []
    for take in range(10 if split == "train" else 8):
        for index, voice in enumerate(voices):
            text = sentences[(index + 7 * take) % len(sentences)]
            spoken = vars(
                Voice(voice.variant, voice.accent, int(rng.integers(105, 145)), voice.pitch, voice.pitch_range)
            )
            items.append((f"espeak-{split}-{index:02d}-{take}", text, _voice_column(Voice(**spoken)), voice.speaker))
    return _from_generator(_voice_rows, items)


def _voice_column(voice: Voice, rates: tuple[int, int] | None = None) -> dict:
    """A voice as a row has it: always the same keys, because `datasets` fills up what differs when it mixes corpora."""
    return {**vars(voice), "rates": list(rates or (voice.rate, voice.rate))}


def _to_spoken(row: dict, rates: tuple[int, int]) -> dict:
    kept = {name: row[name] for name in ("text", "gender")}
    voice = _voice_column(Voice("", "", 0, 0, 0), rates)
    return {**kept, "id": f"spoken-{row['id']}", "speaker": "espeak", "voice": voice, "audio": None}


def _spoken(spec: str):
    """The sentences of another corpus spoken by espeak-ng, with a new voice and microphone in every epoch."""
    match = re.fullmatch(r"(\d+)-(\d+):(.+)", spec)
    low, high, base = match.groups() if match else (80, 125, spec)
    if not 0 < int(low) < int(high):
        raise DatasetError(f"spoken:{spec}: the first rate must be below the second, e.g. spoken:80-125:{base}")
    return load_corpus(base).map(_to_spoken, fn_kwargs={"rates": (int(low), int(high))})


def _speechocean(split: str):
    if split not in ("train", "test"):
        raise DatasetError(f"speechocean762 has the splits train and test, not {split!r}")
    local = local_speechocean(split)
    if local:
        return _stream("parquet", data_files={split: local}, split=split)
    return _stream(SPEECHOCEAN, split=split)


def _librispeech(which: str):
    config, _, split = which.partition("/")
    return _stream(LIBRISPEECH, name=config or "clean", split=split or "test")


KINDS: dict[str, tuple[Callable, str, str]] = {
    "librispeech": (_librispeech, "clean/test", "librispeech[:config/split], e.g. librispeech:clean/train.100"),
    "speechocean762": (_speechocean, "test", "speechocean762[:split]"),
    "kaldi": (_kaldi, "", "kaldi:DIR"),
    "audiofolder": (_audiofolder, "", "audiofolder:DIR"),
    "parquet": (lambda glob: _stream("parquet", data_files={"train": glob}, split="train"), "", "parquet:GLOB"),
    "espeak": (_espeak, "test", "espeak[:split]"),
    "spoken": (_spoken, "", "spoken:[80-125:]CORPUS (its sentences spoken by espeak-ng at 80 to 125 words a minute)"),
}


def load_corpus(spec: str):
    """Open a corpus as a stream.

    Args:
        spec: ``librispeech[:config/split]``, ``speechocean762[:split]``, ``kaldi:DIR``, ``audiofolder:DIR``,
            ``parquet:GLOB``, ``espeak[:split]``, or a Hub id ``user/name[:split]`` with an ``audio`` column.

    Returns:
        A ``datasets.IterableDataset`` of rows as described at the top of this module.

    Raises:
        DatasetError: The name is unknown, the folder is missing or empty, or the Hub cannot be reached.

    Example:
        >>> row = next(iter(load_corpus("espeak:test")))
        >>> row["id"], decode_row(row).dtype
        ('espeak-test-00-0', dtype('float32'))
    """
    from huggingface_hub.errors import HfHubHTTPError

    name, _, rest = spec.partition(":")
    try:
        if name in KINDS:
            load, default, usage = KINDS[name]
            if not rest and not default:
                raise DatasetError(f"{name!r} needs a value: {usage}")
            return load(rest or default)
        if name.count("/") == 1 and not name.startswith((".", "/")):
            return _stream(name, split=rest or "test")
    except HfprobeError:
        raise
    except (OSError, ValueError, HfHubHTTPError) as error:  # ValueError: no such split, no such file, broken parquet
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DatasetError(f"dataset {spec!r} cannot be opened: {reason}; check the name and the network") from error
    known = "; ".join(usage for _, _, usage in KINDS.values())
    raise DatasetError(f"unknown dataset {spec!r}; expected one of: {known}; or a Hub id user/name[:split]")


def decode_row(row: dict, rng: np.random.Generator | None = None) -> np.ndarray:
    """The waveform of a row: float32 ``(samples,)`` at 16 kHz.

    Args:
        row: A row of :func:`load_corpus`.
        rng: Draws the voice of a ``spoken:`` row; always the same voice without it.

    Raises:
        AudioError: The sound is empty, truncated, silent, NaN or too short.
        DatasetError: The text of an espeak row has nothing to say, or espeak-ng is missing.
    """
    voice = row.get("voice")
    if voice and not voice["variant"]:  # only the range of rates is given: the voice is drawn now
        rng = rng or np.random.default_rng(0)
        return record(speak(row["text"], draw_voice(rng, tuple(voice["rates"]))), rng)
    if voice:
        return speak(row["text"], Voice(**{name: value for name, value in voice.items() if name != "rates"}))
    try:
        return load_audio(row["audio"]).waveform
    except AudioError as error:
        raise AudioError(f"{row['id']}: {error}") from error


def row_samples(row: dict) -> int:
    """Length of a row in samples at 16 kHz without decoding it (espeak rows: an estimate from the text)."""
    if row.get("voice"):
        rate = sum(row["voice"]["rates"]) / 2
        return int(16000 * 0.085 * len(row["text"]) * 120 / rate)
    try:
        info = sf.info(io.BytesIO(row["audio"]))
    except (sf.LibsndfileError, TypeError):
        return 0  # broken: counted when it is decoded
    return int(info.frames * 16000 / info.samplerate)
