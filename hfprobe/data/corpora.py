"""Speech corpora by name, as streams of rows in one shape.

A row is a dictionary with ``id``, ``text`` (upper case, empty where unknown), ``speaker``, ``gender``, and the sound:
``audio`` (bytes of a sound file) or ``voice`` (how espeak-ng is to speak ``text``). Rows are cheap; :func:`decode_row`
makes the waveform when it is needed. Rows may have ``words`` (:func:`row_words`), and a ``problem`` for which they are
left out.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf

from hfprobe.audio.io import load_audio
from hfprobe.data.columns import FIELDS, check_columns, join_columns, normal_row, split_columns
from hfprobe.data.folders import (
    REMOTE,
    SUFFIXES,
    audiofolder,
    from_files,
    from_generator,
    is_sound,
    kaldi,
    remote_bytes,
    sound_items,
)
from hfprobe.data.librispeech import FOLDER, librispeech_folder, local_folder, read_genders, split_name
from hfprobe.data.locations import data_folder, local_speechocean
from hfprobe.data.sentences import SENTENCES
from hfprobe.data.synthetic import Voice, draw_voice, draw_voices, record, speak
from hfprobe.errors import AudioError, DatasetError, HfprobeError
from hfprobe.network import call, passes, short

if TYPE_CHECKING:
    from datasets import IterableDataset

__all__ = ["KINDS", "SUFFIXES", "decode_row", "load_corpus", "row_samples", "row_words"]

LIBRISPEECH = "openslr/librispeech_asr"
SPEECHOCEAN = "mispeech/speechocean762"
_GLOB = re.compile(r"[*?\[]")


def row_words(row: dict) -> list[tuple[str, tuple[str, ...]]]:
    """Words of a row with their phones as the corpus has them; empty where it has none.

    Example:
        >>> row_words({"words": '[["THE", ["DH", "AH0"]]]'})
        [('THE', ('DH', 'AH0'))]
    """
    return [(text, tuple(phones)) for text, phones in json.loads(row.get("words") or "[]")]


def _open(builder: str, columns: dict[str, str], source: str, root: str | None = None, **options):
    """A streaming dataset whose audio stays bytes: decoding through `datasets` would need torchcodec and FFmpeg."""
    from datasets import Audio, load_dataset

    from hfprobe.data.rows import as_rows

    remote = builder != "parquet" or "://" in source
    dataset = call(lambda: load_dataset(builder, streaming=True, **options), f"opening {source}")
    if dataset.info.builder_name == "audiofolder":
        return _remote_folder(builder, columns, source, **options)
    known = list(dataset.features or next(iter(dataset), {}))
    check_columns(columns, known, source)
    audio = columns.get("audio", "audio")
    if audio not in known:
        raise DatasetError(
            f"{source} has no column 'audio' but {', '.join(known)}; say which column is the sound with audio=COLUMN "
            "(--columns), or choose a speech dataset"
        )
    features = dataset.features or {}
    if isinstance(features.get(audio), Audio):
        dataset = dataset.cast_column(audio, Audio(decode=False))
    names = {name: list(kind.names) for name, kind in features.items() if hasattr(kind, "names")}
    options = {"columns": columns, "names": names, "root": root}
    return as_rows(dataset, source, remote).map(normal_row, fn_kwargs=options, remove_columns=known)


def _remote_folder(repository: str, columns: dict[str, str], source: str, revision=None, name=None, split="test"):
    """Sound files of a Hub repository without tables; `datasets` would decode them with torchcodec."""
    from datasets import load_dataset_builder

    builder = call(lambda: load_dataset_builder(repository, name, revision=revision), f"opening {source}")
    if split not in builder.config.data_files:
        raise DatasetError(f"{source} has no split {split!r}; its splits: {', '.join(builder.config.data_files)}")
    urls = [str(url) for url in builder.config.data_files[split]]
    root = builder.base_path if builder.base_path.startswith(REMOTE) else urls[0].rsplit("/", 1)[0]
    paths = [PurePosixPath(url.removeprefix(f"{root}/")) for url in urls]
    tables = [path for path in paths if path.name.startswith("metadata.")]
    items = sound_items(filter(is_sound, paths), tables, lambda p: remote_bytes(f"{root}/{p}"), columns, source)
    for item in items:
        item["path"] = f"{root}/{item['path']}"
    return from_files(items, source, remote=True)


def _parquet(glob: str, columns: dict[str, str], revision: str | None):
    parts = PurePosixPath(glob).parts
    fixed = next((i for i, part in enumerate(parts) if _GLOB.search(part)), len(parts) - 1)
    root = str(Path(*parts[:fixed]))  # sounds beside the tables may be named by path
    return _open("parquet", columns, f"parquet:{glob}", root, data_files={"train": glob}, split="train")


def _hub(repository: str, which: str, columns: dict[str, str], revision: str | None):
    from huggingface_hub import HfApi

    config, _, split = which.rpartition("/")
    source = f"{repository}{f'@{revision}' if revision else ''}"
    # One question first: `datasets` asks for many files, each several times with pauses, before it gives up.
    call(lambda: HfApi().dataset_info(repository, revision=revision, timeout=10), f"opening {source}")
    return _open(repository, columns, source, name=config or None, split=split or "test", revision=revision)


def _voice_rows(items: list[tuple[str, str, dict, str]]) -> Iterator[dict]:
    for name, text, voice, speaker in items:
        yield {"id": name, "text": text, "speaker": speaker, "gender": "", "voice": voice}


def _espeak(split: str, columns: dict[str, str], revision: str | None):
    """Synthetic speech: other sentences, speakers and seeds for train and test.

    ``train`` has 40 speakers and the first 40 sentences, ``test`` 20 other speakers and the last 20 sentences.
    """
    if split not in ("train", "test"):
        raise DatasetError(f"espeak has the splits train and test, not {split!r}")
    check_columns(columns, (), "espeak")
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
    return from_generator(_voice_rows, items, "espeak")


def _voice_column(voice: Voice, rates: tuple[int, int] | None = None) -> dict:
    """A voice as a row has it: always the same keys, because `datasets` fills up what differs when it mixes corpora."""
    return {**vars(voice), "rates": list(rates or (voice.rate, voice.rate))}


def _to_spoken(row: dict, rates: tuple[int, int]) -> dict:
    kept = {name: row[name] for name in ("text", "gender")}
    voice = _voice_column(Voice("", "", 0, 0, 0), rates)
    return {**kept, "id": f"spoken-{row['id']}", "speaker": "espeak", "voice": voice, "audio": None}


def _spoken(spec: str, columns: dict[str, str], revision: str | None):
    """The sentences of another corpus spoken by espeak-ng, with a new voice and microphone in every epoch."""
    match = re.fullmatch(r"(\d+)-(\d+):(.+)", spec)
    low, high, base = match.groups() if match else (80, 125, spec)
    if not 0 < int(low) < int(high):
        raise DatasetError(f"spoken:{spec}: the first rate must be below the second, e.g. spoken:80-125:{base}")
    return load_corpus(join_columns(base, columns)).map(_to_spoken, fn_kwargs={"rates": (int(low), int(high))})


def _speechocean(split: str, columns: dict[str, str], revision: str | None):
    if split not in ("train", "test"):
        raise DatasetError(f"speechocean762 has the splits train and test, not {split!r}")
    local = local_speechocean(split)
    if local and not revision:
        return _open("parquet", columns, "speechocean762", data_files={split: local}, split=split)
    return _hub(SPEECHOCEAN, split, columns, revision)


def _librispeech(which: str, columns: dict[str, str], revision: str | None):
    folder = local_folder(which) if not revision else None
    if folder is not None:
        return librispeech_folder(folder, columns)
    rows = _hub(LIBRISPEECH, split_name(which), columns, revision)
    data = data_folder()
    genders = read_genders(data / FOLDER) if data is not None else {}  # the Hub's copy has none
    return rows.map(_with_gender, fn_kwargs={"genders": genders}) if genders else rows


def _with_gender(row: dict, genders: dict[str, str]) -> dict:
    return {**row, "gender": row["gender"] or genders.get(row["speaker"], "")}


KINDS: dict[str, tuple[Callable, str, str]] = {
    "librispeech": (
        _librispeech, "clean/test",
        "librispeech[:config/split], e.g. librispeech:clean/train.100, or librispeech:DIR, e.g. LibriSpeech/dev-clean",
    ),
    "speechocean762": (_speechocean, "test", "speechocean762[:split]"),
    "kaldi": (lambda folder, columns, _: kaldi(folder, columns), "", "kaldi:DIR"),
    "audiofolder": (lambda folder, columns, _: audiofolder(folder, columns), "", "audiofolder:DIR"),
    "parquet": (_parquet, "", "parquet:GLOB"),
    "espeak": (_espeak, "test", "espeak[:split]"),
    "spoken": (_spoken, "", "spoken:[80-125:]CORPUS (its sentences spoken by espeak-ng at 80 to 125 words a minute)"),
}  # fmt: skip
ON_THE_HUB = ("librispeech", "speechocean762")


def _offline(name: str) -> str:
    """What to do without a network, for corpora that are also read from the data folder."""
    own = {"speechocean762": "speechocean762/*.parquet", "librispeech": "LibriSpeech"}.get(name)
    if own is None:
        return ""
    return f", or put {own} into a folder and set HFPROBE_DATA to it; espeak needs neither"


def load_corpus(spec: str) -> IterableDataset:
    """Open a corpus as a stream.

    Args:
        spec: ``librispeech[:config/split]`` (from the data folder where it is there, else from the Hub),
            ``librispeech:DIR`` (the original folders), ``speechocean762[:split]``, ``kaldi:DIR``, ``audiofolder:DIR``,
            ``parquet:GLOB``, ``espeak[:split]``, or a Hub id ``user/name[:[config/]split]``. Where it comes from the
            Hub, ``@REVISION`` behind the name pins a branch, tag or commit: ``librispeech@main:clean/test``. Columns
            with other names are given behind it: ``user/name:train audio=wav text=sentence speaker=spk``.

    Returns:
        A ``datasets.IterableDataset`` of rows as described at the top of this module. Where the network fails it asks
        again, and goes on at the row where it was.

    Raises:
        DatasetError: The name is unknown, the folder is missing or empty, a column is not there, or the Hub cannot be
            reached.

    Example:
        >>> row = next(iter(load_corpus("espeak:test")))
        >>> row["id"], decode_row(row).dtype
        ('espeak-test-00-0', dtype('float32'))
    """
    bare, columns = split_columns(spec)
    head, _, rest = bare.partition(":")
    name, _, revision = head.partition("@")
    try:
        if name in KINDS:
            load, default, usage = KINDS[name]
            if not rest and not default:
                raise DatasetError(f"{name!r} needs a value: {usage}")
            if revision and name not in ON_THE_HUB:
                raise DatasetError(f"{head!r}: only datasets of the Hub have revisions; leave out @{revision}")
            return load(rest or default, columns, revision or None)
        if name.count("/") == 1 and not name.startswith((".", "/")):
            return _hub(name, rest, columns, revision or None)
    except HfprobeError:
        raise
    except Exception as error:
        # OSError and ValueError: no such repository, split or file, broken parquet. RuntimeError: a dataset that is a
        # script, which `datasets` does not run. ImportError: a format that needs more packages.
        if not (isinstance(error, (OSError, ValueError, RuntimeError, ImportError)) or passes(error)):
            raise
        raise DatasetError(
            f"dataset {spec!r} cannot be opened: {short(error)}; check the name and the network{_offline(name)}"
        ) from error
    known = "; ".join(usage for _, _, usage in KINDS.values())
    raise DatasetError(
        f"unknown dataset {spec!r}; expected one of: {known}; or a Hub id user/name[@revision][:[config/]split]; each "
        f"may be followed by FIELD=COLUMN with FIELD of {', '.join(FIELDS)}"
    )


def decode_row(row: dict, rng: np.random.Generator | None = None) -> np.ndarray:
    """The waveform of a row.

    Args:
        row: A row of :func:`load_corpus`.
        rng: Draws the voice of a ``spoken:`` row; always the same voice without it.

    Returns:
        float32 ``(samples,)`` at 16 kHz.

    Raises:
        AudioError: The sound is empty, truncated, silent, NaN or too short.
        DatasetError: The text of an espeak row has nothing to say, or espeak-ng is missing.

    Example:
        >>> row = next(iter(load_corpus("espeak:test")))
        >>> waveform = decode_row(row)
        >>> waveform.dtype, waveform.ndim, len(waveform) > 16000
        (dtype('float32'), 1, True)
    """
    if row.get("problem"):
        raise AudioError(f"{row['id']}: {row['problem']}", row["problem"])
    voice = row.get("voice")
    if voice and not voice["variant"]:  # only the range of rates is given: the voice is drawn now
        rng = rng or np.random.default_rng(0)
        return record(speak(row["text"], draw_voice(rng, tuple(voice["rates"]))), rng)
    if voice:
        return speak(row["text"], Voice(**{name: value for name, value in voice.items() if name != "rates"}))
    if row["audio"] is None:
        raise AudioError(f"{row['id']}: the row has no sound", "missing")
    try:
        return load_audio(row["audio"]).waveform
    except AudioError as error:
        raise AudioError(f"{row['id']}: {error}", error.reason) from error


def row_samples(row: dict) -> int:
    """Length of a row in samples at 16 kHz without decoding it (espeak rows: an estimate from the text)."""
    if row.get("voice"):
        rate = sum(row["voice"]["rates"]) / 2
        return int(16000 * 0.085 * len(row["text"]) * 120 / rate)
    audio = row["audio"]
    if isinstance(audio, str) and not os.path.isfile(audio):
        return 0
    try:
        info = sf.info(audio if isinstance(audio, str) else io.BytesIO(audio))
    except (sf.LibsndfileError, TypeError):
        return 0  # broken: counted when it is decoded
    return int(info.frames * 16000 / info.samplerate)
