"""Ten ways for a row to be broken or odd: each is counted under its reason or read by the rule, and nothing else moves."""

import io
import json
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from hfprobe.audio import load_audio
from hfprobe.data import NoiseRecipe, SpeechStream, load_noise
from hfprobe.data.left_out import LeftOut
from hfprobe.errors import AudioError, DatasetError

RATE = 16000


def speech(number, seconds=0.4, rate=RATE):
    rng = np.random.default_rng(number)
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (150 + 9 * number) * time) + 0.01 * rng.standard_normal(len(time))).astype(
        np.float32
    )


def encoded(samples, kind="FLAC", rate=RATE, **options):
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=kind, **options)
    return buffer.getvalue()


def lying_header():
    """A FLAC file that announces 2**36 samples: a quarter of a terabyte as floats."""
    data = bytearray(encoded(speech(0)))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)


with_nan = speech(0)
with_nan[100] = np.nan
opus = encoded(speech(0, 1.5), "OGG", subtype="OPUS")
BROKEN = {
    "cut flac": (encoded(speech(0))[:3000], "cut off"),
    "cut wav": (encoded(speech(0), "WAV")[:3000], "cut off"),
    "cut opus": (opus[: int(0.9 * len(opus))], "cut off"),
    "wrong header": (b"fLaC" + bytes(500), "unreadable"),
    "no sound": (b"<html>404</html>", "unreadable"),
    "nan": (encoded(with_nan, "WAV", subtype="FLOAT"), "nan"),
    "silence": (encoded(np.zeros(8000)), "silent"),
    "zero length": (encoded(np.zeros(0), "WAV"), "empty"),
    "zero bytes": (b"", "empty"),
    "one sample": (encoded(np.full(1, 0.5), "WAV"), "too short"),
    "missing": (None, "missing"),
    "rate of 1 Hz": (encoded(speech(0)[:20], "WAV", 1), "unreadable"),
}
ODD = {
    "48 kHz": encoded(speech(41, rate=48000), rate=48000),
    "stereo": encoded(np.stack([speech(42), speech(43)], 1)),
    "clipped": encoded(np.clip(20 * speech(44), -1, 1)),
    "above full scale": encoded(4 * speech(45), "WAV", subtype="FLOAT"),
}


def write(path, sounds):
    rows = [{"id": name, "audio": {"bytes": data, "path": None}, "text": name} for name, data in sounds.items()]
    schema = pa.schema({
        "id": pa.string(), "audio": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "text": pa.string(),
    })  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return f"parquet:{path}"


def heard(spec, **options):
    stream = SpeechStream(
        spec, batch_size=3, noise=load_noise("generated"), recipe=NoiseRecipe(clean_share=0.3), **options
    )
    rows = {}
    for batch in stream.one_epoch(0):
        for name, length, wave, condition in zip(
            batch.ids, batch.lengths, batch.waveforms, batch.conditions, strict=True
        ):
            rows[name] = (wave[:length].numpy(), condition)
    return rows, stream


@pytest.fixture(scope="module")
def good():
    return {f"good-{n}": encoded(speech(n)) for n in range(12)}


def test_broken_rows_are_counted_by_reason_and_move_nothing(tmp_path, good):
    mixed = dict(zip([*good, *BROKEN], [*good.values(), *(data for data, _ in BROKEN.values())], strict=True))
    mixed = {name: mixed[name] for name in sorted(mixed, key=lambda name: zlib.crc32(name.encode()))}
    alone, _ = heard(write(tmp_path / "good.parquet", good))
    for options in ({}, {"workers": 2}, {"shuffle": False}):
        rows, stream = heard(write(tmp_path / "mixed.parquet", mixed), **options)
        assert rows.keys() == alone.keys()
        for name, (wave, condition) in rows.items():
            assert condition == alone[name][1] and np.array_equal(wave, alone[name][0])
        reasons = [reason for _, reason in BROKEN.values() if reason != "unreadable"]
        expected = {reason: reasons.count(reason) for reason in reasons}
        assert stream.failures == {**expected, "unreadable": sum(r == "unreadable" for _, r in BROKEN.values())}
        assert {name for names in stream.failures.names.values() for name in names} == set(BROKEN)
    assert stream.failures.sentence().startswith(
        f"{len(BROKEN)} utterances (3 cut off, 2 empty, 1 missing, 1 nan, 1 silent"
    )


@pytest.mark.parametrize("name", list(BROKEN))
def test_each_is_refused_with_its_reason(name):
    data, reason = BROKEN[name]
    if data is not None:
        with pytest.raises(AudioError) as caught:
            load_audio(data)
        assert caught.value.reason == reason and "\n" not in str(caught.value)


def test_a_header_that_lies_costs_no_memory():
    with pytest.raises(AudioError) as caught:
        load_audio(lying_header())
    assert caught.value.reason == "cut off"


def test_odd_sounds_are_read_by_the_rule(tmp_path):
    stream = SpeechStream(write(tmp_path / "odd.parquet", ODD), batch_size=1, shuffle=False)
    rows = {batch.ids[0]: batch.waveforms[0].numpy() for batch in stream.one_epoch(0)}
    assert not stream.failures and all(len(wave) == 6400 for wave in rows.values())
    # The tones of 48 kHz come back at 16 kHz; the noise above 8 kHz does not.
    pure = 0.3 * np.sin(2 * np.pi * (150 + 9 * 41) * np.arange(6400) / RATE)
    assert np.corrcoef(rows["48 kHz"][200:-200], pure[200:-200])[0, 1] > 0.998
    assert np.abs(rows["stereo"] - (speech(42) + speech(43)) / 2).max() < 1e-4  # channels are averaged
    assert np.abs(rows["clipped"] - np.clip(20 * speech(44), -1, 1)).max() < 1e-4  # clipping is the recording's own
    assert np.abs(rows["above full scale"] - 4 * speech(45)).max() < 1e-6  # kept, not scaled


def test_broken_noise_is_drawn_again_and_counted(tmp_path):
    for n in range(6):
        path = tmp_path / "noise" / "free" / f"noise-free-{n:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(speech(n, 1.0), "WAV") if n % 3 else b"rubbish")
    spec = write(tmp_path / "good.parquet", {f"good-{n}": encoded(speech(n)) for n in range(20)})

    def run(workers):
        noise, recipe = load_noise(tmp_path, "all"), NoiseRecipe(clean_share=0.0)
        stream = SpeechStream(spec, batch_size=4, noise=noise, recipe=recipe, workers=workers)
        batches = list(stream.one_epoch(0))
        return [batch.waveforms.numpy().tobytes() for batch in batches], stream

    first, stream = run(0)
    assert sum(map(len, first)) and not stream.failures
    assert stream.noise_failures == {"unreadable": 2}
    assert set(stream.noise_failures.names["unreadable"]) == {
        "noise/free/noise-free-0000.wav",
        "noise/free/noise-free-0003.wav",
    }
    assert run(2)[0] == first
    for path in (tmp_path / "noise" / "free").iterdir():
        path.write_bytes(b"rubbish")
    with pytest.raises(DatasetError, match="not readable as audio"):
        run(0)


def test_names_cannot_break_the_line_or_the_terminal():
    left_out = LeftOut()
    left_out.add("silent", "a\nb\x1b[31m" + "c" * 500)
    line = left_out.sentence()
    assert line.startswith("1 utterance (1 silent): a?b?[31mccc") and len(line) < 150


def test_left_out_rows_survive_a_checkpoint(tmp_path, good):
    sounds = {**good, "bad": b"rubbish"}
    spec = write(tmp_path / "mixed.parquet", sounds)
    stream = SpeechStream(spec, batch_size=4)
    list(zip(range(5), stream, strict=False))
    state = json.loads(json.dumps(stream.state_dict()))
    resumed = SpeechStream(spec, batch_size=4)
    resumed.load_state_dict(state)
    assert resumed.failures == stream.failures == {"unreadable": 1}
    resumed.load_state_dict({"epoch": 0, "position": 2})  # as older checkpoints have it
    assert next(iter(resumed)).ids == list(SpeechStream(spec, batch_size=4).one_epoch(0))[2].ids
