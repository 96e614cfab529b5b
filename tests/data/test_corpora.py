"""Corpora: every kind is read into the same rows, and bad names are refused with a message that helps."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from hfprobe.data import SpeechStream, decode_row, load_corpus
from hfprobe.data.corpora import row_samples
from hfprobe.data.locations import local_speechocean
from hfprobe.errors import AudioError, DatasetError


def tone(samples, rate=16000):
    return (0.2 * np.sin(np.arange(samples) * 2 * np.pi * 440 / rate)).astype(np.float32)


def encoded(samples, rate=16000, **options):
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, **options)
    return buffer.getvalue()


def test_parquet_with_flac_and_opus_bytes(tmp_path):
    sounds = [encoded(tone(16000), format="FLAC"), encoded(tone(12000), format="OGG", subtype="OPUS"), b"rubbish"]
    rows = [
        {
            "id": f"u{i}",
            "text": "Good day",
            "speaker": f"s{i}",
            "gender": "f",
            "audio": {"bytes": sound, "path": f"{i}.x"},
        }
        for i, sound in enumerate(sounds)
    ]
    for number, part in enumerate((rows[:2], rows[2:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / f"{number}.parquet")
    read = list(load_corpus(f"parquet:{tmp_path}/*.parquet"))
    assert [(row["id"], row["text"], row["speaker"]) for row in read] == [
        (f"u{i}", "GOOD DAY", f"s{i}") for i in range(3)
    ]
    assert [row_samples(row) for row in read] == [16000, 12000, 0]
    assert np.allclose(decode_row(read[0]), tone(16000), atol=1e-4)  # flac loses nothing but the 16th bit
    opus = decode_row(read[1])
    assert len(opus) == 12000 and np.corrcoef(opus, tone(12000))[0, 1] > 0.95
    with pytest.raises(AudioError, match="u2: .*not readable"):
        decode_row(read[2])
    stream = SpeechStream(f"parquet:{tmp_path}/*.parquet", batch_size=1)
    assert sorted(batch.ids[0] for batch in stream.one_epoch(0)) == ["u0", "u1"] and stream.failures == {
        "unreadable": 1
    }


@pytest.mark.skipif(not local_speechocean("test"), reason="speechocean762 is not in the data folder of this machine")
def test_the_real_corpus_has_words_and_speakers():
    rows = list(load_corpus("speechocean762:test").take(3))
    for row in rows:
        assert row["id"] and row["speaker"] and row["text"] == row["text"].upper() and row["gender"] in "mf"
        assert len(decode_row(row)) == row_samples(row) > 8000


def test_kaldi_and_audio_folders(tmp_path):
    for name, rate in (("anna/one", 8000), ("bert/two", 16000)):
        (tmp_path / name).parent.mkdir()
        sf.write(tmp_path / f"{name}.wav", np.stack([tone(rate, rate)] * 2, 1), rate)
    rows = list(load_corpus(f"audiofolder:{tmp_path}"))
    assert [(row["id"], row["speaker"]) for row in rows] == [("anna/one", "anna"), ("bert/two", "bert")]
    assert [row_samples(row) for row in rows] == [16000, 16000]
    assert all(
        np.abs(decode_row(row)[500:15500] - tone(16000)[500:15500]).max() < 2e-3 for row in rows
    )  # 8 kHz, stereo
    lists = tmp_path / "data"
    lists.mkdir()
    (lists / "wav.scp").write_text(f"u1 {tmp_path}/anna/one.wav\nu2 {tmp_path}/bert/two.wav \nu3 {tmp_path}/gone.wav\n")
    (lists / "text").write_text("u1 hello world\nu2 yes\n")
    (lists / "utt2spk").write_text("u1 anna\n")
    rows = list(load_corpus(f"kaldi:{lists}"))
    assert [(r["id"], r["text"], r["speaker"]) for r in rows] == [
        ("u1", "HELLO WORLD", "anna"),
        ("u2", "YES", ""),
        ("u3", "", ""),
    ]
    assert len(decode_row(rows[1])) == 16000
    with pytest.raises(AudioError, match="u3: .*gone.wav does not exist"):
        decode_row(rows[2])
    (lists / "segments").write_text("u1 r1 0 1\n")
    with pytest.raises(DatasetError, match="segments"):
        load_corpus(f"kaldi:{lists}")


def test_espeak_and_spoken():
    train, test = (list(load_corpus(f"espeak:{split}")) for split in ("train", "test"))
    for field in ("id", "speaker", "text"):
        assert not {row[field] for row in train} & {row[field] for row in test}
    assert len({row["speaker"] for row in train}) == 40 and len({row["speaker"] for row in test}) == 20
    row = next(iter(load_corpus("spoken:90-100:espeak:test")))
    assert row["id"] == "spoken-espeak-test-00-0" and row["text"] == test[0]["text"] and row["audio"] is None
    first, again, other = (decode_row(row, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not (len(first) == len(other) and np.array_equal(first, other))
    assert 0.5 < row_samples(row) / len(first) < 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nonsense", "unknown dataset 'nonsense'; expected one of: librispeech"),
        ("kaldi", "'kaldi' needs a value: kaldi:DIR"),
        ("kaldi:{}/missing", "does not exist"),
        ("kaldi:{}/empty", "no wav.scp"),
        ("kaldi:{}/pipe", "is a shell command"),
        ("kaldi:{}/gone", "which does not exist"),
        ("audiofolder:{}/empty", "no sound file below"),
        ("parquet:{}/none-*.parquet", "cannot be opened"),
        ("parquet:{}/broken.parquet", "cannot be opened"),
        ("parquet:{}/other.parquet", "no column 'audio' but x"),
        ("espeak:dev", "train and test, not 'dev'"),
        ("speechocean762:dev", "train and test, not 'dev'"),
        ("spoken:90-80:espeak", "first rate must be below"),
    ],
)
def test_bad_names_are_refused_in_one_line(tmp_path, spec, message):
    for name in ("empty", "pipe", "gone"):
        (tmp_path / name).mkdir()
    (tmp_path / "pipe" / "wav.scp").write_text("u1 sph2pipe -f wav a.sph |\n")
    (tmp_path / "gone" / "wav.scp").write_text("u1 nowhere/a.wav\n")
    (tmp_path / "broken.parquet").write_bytes(b"rubbish")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DatasetError, match=message) as caught:
        load_corpus(spec.format(tmp_path))
    assert "\n" not in str(caught.value)
