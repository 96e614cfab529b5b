"""Corpora in folders: LibriSpeech's own layout, sound files with a table, Kaldi, and columns by any name."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from hfprobe.analysis.test_set import load_test_set
from hfprobe.data import SpeechStream, decode_row, load_corpus
from hfprobe.data.locations import local_noise
from hfprobe.errors import AudioError, DatasetError


def tone(seconds=0.3, pitch=440):
    return (0.2 * np.sin(np.arange(int(seconds * 16000)) * 2 * np.pi * pitch / 16000)).astype(np.float32)


def chapter(root, split, speaker, number, utterances, texts=None):
    """Sound files of a chapter, and its transcripts."""
    folder = root / "LibriSpeech" / split / speaker / number
    folder.mkdir(parents=True)
    ids = [f"{speaker}-{number}-{n:04d}" for n in range(utterances)]
    for n, name in enumerate(ids):
        sf.write(folder / f"{name}.flac", tone(0.3 + 0.02 * n, 300 + 10 * n), 16000)
    lines = [f"{name} THESE ARE WORDS {n}" for n, name in enumerate(ids)]
    (folder / f"{speaker}-{number}.trans.txt").write_text("\n".join(lines if texts is None else texts) + "\n")
    return ids


@pytest.fixture
def corpus(tmp_path):
    ids = chapter(tmp_path, "dev-clean", "84", "121123", 3) + chapter(tmp_path, "dev-clean", "174", "50561", 2)
    chapter(tmp_path, "test-clean", "61", "70968", 1)
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").write_text(
        "; some remarks | with bars\n84   | F | dev-clean | 8.02 | Christie Nowak\n174  | M | dev-clean | 8.04 | Peter\n"
    )
    return tmp_path, ids


@pytest.mark.parametrize("spelling", ["LibriSpeech/dev-clean", "LibriSpeech/clean/validation", "clean/validation"])
def test_librispeech_in_its_own_folders(corpus, spelling):
    root, ids = corpus
    rows = list(load_corpus(f"librispeech:{root}/{spelling}"))
    assert sorted(row["id"] for row in rows) == sorted(ids)
    of = {row["id"]: row for row in rows}
    assert {(row["speaker"], row["gender"]) for row in rows} == {("84", "f"), ("174", "m")}
    assert of["84-121123-0002"]["text"] == "THESE ARE WORDS 2"
    assert np.abs(decode_row(of["84-121123-0002"]) - tone(0.3 + 0.02 * 2, 320)).max() < 1e-4


def test_librispeech_in_the_data_folder_is_found_by_its_split(corpus, monkeypatch):
    root, ids = corpus
    monkeypatch.setenv("HFPROBE_DATA", str(root))
    for name in ("librispeech:clean/validation", "librispeech:dev-clean", "librispeech:all/validation.clean"):
        assert sorted(row["id"] for row in load_corpus(name)) == sorted(ids)
    assert [row["id"] for row in load_corpus("librispeech")] == ["61-70968-0000"]  # clean/test


def test_sounds_and_transcripts_without_each_other_are_counted_and_named(corpus):
    root, ids = corpus
    folder = root / "LibriSpeech" / "dev-clean" / "84" / "121123"
    (folder / "84-121123-0001.flac").rename(folder / "84-121123-0009.flac")
    (folder / "._84-121123-0000.flac").write_bytes(b"what a Mac leaves behind")
    stream = SpeechStream(f"librispeech:{root}/LibriSpeech/dev-clean", batch_size=2)
    assert sorted(name for batch in stream.one_epoch(0) for name in batch.ids) == sorted(set(ids) - {"84-121123-0001"})
    assert stream.failures == {"missing": 1, "no transcript": 1}
    assert stream.failures.names == {"missing": ["84-121123-0001"], "no transcript": ["84-121123-0009"]}
    assert stream.failures.sentence().startswith("2 utterances (1 missing, 1 no transcript): 84-121123-000")
    chosen = load_test_set(f"librispeech:{root}/LibriSpeech/dev-clean")
    assert chosen.failures == stream.failures and chosen.failures.names == stream.failures.names


def test_what_librispeech_lacks_is_said(corpus):
    root, _ = corpus
    (root / "empty" / "12" / "34").mkdir(parents=True)
    for spec, words in (
        (f"{root}/empty", "no utterance in .*looked for <speaker>/<chapter>/ with .*trans.txt"),
        (f"{root}/LibriSpeech", "holds the splits dev-clean, test-clean; name one: librispeech:LibriSpeech/dev-clean"),
        (f"{root}/nothing", "no split .*clean/train.100"),
        (f"{root}/LibriSpeech/other/test", "no utterance in .*test-other"),
        (f"{root}/LibriSpeech/dev-clean text=words", "no column 'words'.*its columns: id, text, speaker, gender"),
    ):
        with pytest.raises(DatasetError, match=words) as caught:
            load_corpus(f"librispeech:{spec}")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not local_noise(), reason="the data folder with real LibriSpeech files is not on this machine")
def test_real_librispeech_files_by_every_folder_reader(tmp_path):
    source = local_noise() / "speech"
    files = sorted(source.rglob("*.flac"))
    rows = list(load_corpus(f"audiofolder:{source}"))
    assert len(rows) == len(files) == 63
    for path in files[:5]:  # in LibriSpeech's own layout
        speaker = path.stem[-4:]
        folder = tmp_path / "LibriSpeech" / "train-clean-100" / speaker / "1"
        folder.mkdir(parents=True)
        (folder / f"{speaker}-1-0000.flac").write_bytes(path.read_bytes())
        (folder / f"{speaker}-1.trans.txt").write_text(f"{speaker}-1-0000 REAL WORDS\n")
    stream = SpeechStream(f"librispeech:{tmp_path}", batch_size=2)
    assert sum(len(batch) for batch in stream.one_epoch(0)) == 5 and not stream.failures
    assert all(len(decode_row(row)) > 16000 for row in rows[:5])


def test_a_table_beside_sound_files_says_who_speaks(tmp_path):
    for name in ("a/1", "a/2", "b/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sf.write(tmp_path / f"{name}.wav", tone(), 16000)
    (tmp_path / "metadata.csv").write_text(
        "file_name,transcription,reader\na/1.wav,one,ann\na/2.wav,two,bob\nb/gone.wav,gone,ann\n"
    )
    rows = list(load_corpus(f"audiofolder:{tmp_path} speaker=reader"))
    found = [(row["id"], row["text"], row["speaker"]) for row in rows]
    assert found == [("a/1", "ONE", "ann"), ("a/2", "TWO", "bob"), ("b/3", "", ""), ("b/gone", "GONE", "ann")]
    with pytest.raises(AudioError, match="does not exist") as caught:
        decode_row(rows[3])
    assert caught.value.reason == "missing"
    assert [row["speaker"] for row in load_corpus(f"audiofolder:{tmp_path}")][:3] == ["a", "a", "b"]
    with pytest.raises(
        DatasetError, match="no column 'spk' .asked for as speaker.; its columns: id, speaker, transcription"
    ):
        load_corpus(f"audiofolder:{tmp_path} speaker=spk")
    (tmp_path / "metadata.csv").write_text("file_name,transcription\n../../secret.wav,one\n")
    with pytest.raises(DatasetError, match="outside the folder"):
        load_corpus(f"audiofolder:{tmp_path}")
    (tmp_path / "metadata.csv").write_text("name,transcription\na/1.wav,one\n")
    with pytest.raises(DatasetError, match="no column file_name"):
        load_corpus(f"audiofolder:{tmp_path}")


def test_kaldi_genders_and_columns(tmp_path):
    sf.write(tmp_path / "one.wav", tone(), 16000)
    (tmp_path / "wav.scp").write_text(f"u1 {tmp_path}/one.wav\n")
    (tmp_path / "utt2spk").write_text("u1 ann\n")
    (tmp_path / "spk2gender").write_text("ann f\n")
    (tmp_path / "text").write_text("u1 hello\n")
    row = next(iter(load_corpus(f"kaldi:{tmp_path}")))
    assert (row["speaker"], row["gender"], row["text"]) == ("ann", "f", "HELLO")
    assert next(iter(load_corpus(f"kaldi:{tmp_path} speaker=id")))["speaker"] == "u1"
    with pytest.raises(DatasetError, match="its columns: id, text, speaker, gender"):
        load_corpus(f"kaldi:{tmp_path} speaker=who")


def test_parquet_with_sounds_in_bytes_and_beside_it(tmp_path):
    sf.write(tmp_path / "a.wav", tone(), 16000)
    outside = tmp_path.parent / f"{tmp_path.name}-secret.wav"
    sf.write(outside, tone(), 16000)
    data = (tmp_path / "a.wav").read_bytes()
    pq.write_table(pa.table({"wav": [data, data], "said": ["one", "two"]}), tmp_path / "bytes.parquet")
    rows = list(load_corpus(f"parquet:{tmp_path}/bytes.parquet audio=wav text=said"))
    assert [row["text"] for row in rows] == ["ONE", "TWO"] and all(len(decode_row(row)) == 4800 for row in rows)
    paths = ["a.wav", str(outside), f"../{outside.name}", "gone.wav", None]
    pq.write_table(pa.table({"file": paths, "utt_id": list("abcde")}), tmp_path / "paths.parquet")
    stream = SpeechStream(f"parquet:{tmp_path}/paths.parquet audio=file", batch_size=1)
    assert [batch.ids for batch in stream.one_epoch(0)] == [["a"]]
    assert stream.failures == {"missing": 4}  # paths lead nowhere outside the table's folder
    odd = {
        "text": "a.wav",
        "number": 7,
        "struct": {"bytes": str(outside), "path": None},
        "deep": {"path": 3.5},
        "list": [0.1],
    }
    for name, value in odd.items():
        pq.write_table(pa.table({"audio": [value], "utt_id": ["u"]}), tmp_path / f"odd-{name}.parquet")
        rows = list(load_corpus(f"parquet:{tmp_path}/odd-{name}.parquet"))
        assert [row["audio"] for row in rows] == [str(tmp_path / "a.wav") if name == "text" else None], name
    outside.unlink()
    with pytest.raises(DatasetError, match="no column 'audio' but file, utt_id; say which column is the sound"):
        load_corpus(f"parquet:{tmp_path}/paths.parquet")
    with pytest.raises(DatasetError, match="no column 'wave' .asked for as audio.; its columns: wav, said"):
        load_corpus(f"parquet:{tmp_path}/bytes.parquet audio=wave")
    with pytest.raises(DatasetError, match="given as 'wav' and as 'said'"):
        load_corpus(f"parquet:{tmp_path}/bytes.parquet audio=wav audio=said")
    with pytest.raises(DatasetError, match="espeak has no column 'x'"):
        load_corpus("espeak text=x")
