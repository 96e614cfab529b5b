"""Corpora and noise streamed over real HTTP: by repository id, through faults, resumed, and shared."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hub_corpora import AUDIO, MUSAN, librispeech_files, librispeech_rows, musan_files, musan_rows, parquet, sound

LIBRISPEECH, NOISE = "openslr/librispeech_asr", "corypaik/musan"
READ = """
from hfprobe.data import load_corpus
result = [row["id"] for row in load_corpus(spec)]
"""


@pytest.fixture(scope="module", autouse=True)
def corpora(running_hub):
    running_hub.put_repo("dataset", LIBRISPEECH, librispeech_files())
    running_hub.put_repo("dataset", NOISE, musan_files())


def names(split, first, count):
    return [row["id"] for row in librispeech_rows(split, first, count)]


def test_librispeech_is_streamed_by_its_name(hub, worker):
    rows = worker.run("""
        from hfprobe.data import load_corpus, decode_row
        rows = list(load_corpus("librispeech:clean/test"))
        result = [[r["id"], r["text"], r["speaker"], r["gender"], len(decode_row(r)), float(decode_row(r)[100])] for r in rows]
    """)
    assert [row[:4] for row in rows] == [
        [r["id"], r["text"], str(r["speaker_id"]), ""] for r in librispeech_rows(2, 0, 4)
    ]
    assert [row[4] for row in rows] == [int((0.3 + 0.01 * n) * 16000) for n in range(4)]
    assert len(hub.asked("GET .*train.100/.*parquet")) <= 1  # at most the schema of the first table


def test_a_revision_can_be_pinned(hub, worker):
    before = hub.repos["datasets", LIBRISPEECH].refs["main"]
    files = librispeech_files()
    files["clean/test/0000.parquet"] = parquet(librispeech_rows(2, 0, 2), None)
    hub.put_repo("dataset", LIBRISPEECH, files, revision="short")
    assert worker.run(READ, spec="librispeech@short:test-clean") == names(2, 0, 2)
    assert worker.run(READ, spec=f"{LIBRISPEECH}@{before}:clean/test") == names(2, 0, 4)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("librispeech:clean/dev", "no split 'clean/dev'.*clean/validation"),
        ("librispeech:other/test", "cannot be opened.* put LibriSpeech into a folder and set HFPROBE_DATA"),
        ("user/nothing", "cannot be opened"),
        (
            "librispeech:clean/test audio=wav",
            "no column 'wav' .asked for as audio.; its columns: file, audio, text, speaker_id",
        ),
        (f"{NOISE}:music/dev", "cannot be opened"),
        ("espeak@main", "only datasets of the Hub have revisions"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(worker, spec, words):
    kind, message = worker.run("from hfprobe.data import load_corpus\nresult = refused(load_corpus, spec)", spec=spec)
    assert kind == "DatasetError" and "\n" not in message
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(message)


def test_columns_of_any_dataset(hub, worker):
    rows = [
        {
            "wav": {"bytes": sound(n), "path": None},
            "sentence": f"say {n}",
            "spk": n % 2,
            "sex": "Female",
            "name": f"n{n}",
        }
        for n in range(3)
    ]
    features = type(MUSAN)({
        "wav": AUDIO, "sentence": MUSAN["path"], "spk": type(MUSAN["label"])(names=["ann", "bob"]), "sex": MUSAN["path"], "name": MUSAN["path"],
    })  # fmt: skip
    hub.put_repo("dataset", "user/calls", {"data/train-00000.parquet": parquet(rows, features)})
    found = worker.run("""
        from hfprobe.data import load_corpus
        spec = "user/calls:train audio=wav speaker=spk id=name"
        result = [[r[k] for k in ("id", "text", "speaker", "gender")] for r in load_corpus(spec)]
    """)
    assert found == [["n0", "SAY 0", "ann", "f"], ["n1", "SAY 1", "bob", "f"], ["n2", "SAY 2", "ann", "f"]]


def test_sound_files_of_a_repository_need_no_ffmpeg(hub, worker):
    files = {f"train/{name}.flac": sound(n) for n, name in enumerate(("a/x", "a/y", "b/z"))}
    files["train/metadata.csv"] = "file_name,transcription\n" + "".join(
        f"{n}.flac,it is {n[-1]}\n" for n in ("a/x", "a/y", "b/z")
    )
    hub.put_repo("dataset", "user/files", files)
    rows = worker.run("""
        from hfprobe.data import load_corpus, decode_row
        rows = list(load_corpus("user/files:train"))
        result = [[r["id"].split("train/")[-1], r["text"], r["speaker"], len(decode_row(r))] for r in rows]
    """)
    assert rows == [["a/x", "IT IS X", "a", 4800], ["a/y", "IT IS Y", "a", 4800], ["b/z", "IT IS Z", "b", 4800]]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 503, "times": 9}),  # more often than the libraries ask by themselves
        ("status", {"status": 429, "times": 1}),
        ("drop", {"times": 8}),
        ("cut", {"after": 900, "times": 8}),
        ("truncate", {"after": 900, "times": 1}),
    ],
)
def test_a_stream_that_breaks_off_goes_on_at_the_same_row(hub, worker, kind, options):
    hub.plant("GET .*resolve.*train.100/0001.parquet", kind, **options)
    waits = worker.run("waits.clear()" + READ + "\nresult = [result, waits]", spec="librispeech:clean/train.100")
    assert waits[0] == names(1, 0, 20) and waits[1]
    assert not hub.faults  # all of them happened


def test_an_outage_that_does_not_end_is_an_error_of_one_line(hub, worker):
    hub.plant("GET .*resolve.*train.100/0001.parquet", "status", status=503, times=10**6)
    result = worker.run("""
        from hfprobe.data import load_corpus
        read = []
        result = refused(lambda: [read.append(row["id"]) for row in load_corpus("librispeech:clean/train.100")]) + [read]
    """)
    assert (
        result[0] == "DatasetError"
        and "cannot be read on after 10 rows" in result[1]
        and "check the network" in result[1]
    )
    assert "\n" not in result[1] and result[2] == names(1, 0, 10)


def test_an_answer_that_will_not_change_is_not_asked_for_again(hub, worker):
    hub.plant("GET .*resolve.*train.100/0001.parquet", "status", status=403, times=10**6)
    result = worker.run("""
        from hfprobe.data import load_corpus
        waits.clear()
        result = refused(lambda: list(load_corpus("librispeech:clean/train.100"))) + [waits]
    """)
    assert result[0] == "DatasetError" and "cannot be read on after 10 rows" in result[1] and result[2] == []


def test_genders_come_from_the_data_folder(hub, worker, tmp_path):
    (tmp_path / "LibriSpeech").mkdir()
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").write_text("200 | F | test-clean | 8 | A Reader\n")
    genders = worker.run("""
        import os
        from hfprobe.data import load_corpus
        os.environ["HFPROBE_DATA"], before = data, os.environ.get("HFPROBE_DATA")
        result = [row["gender"] for row in load_corpus("librispeech:clean/test")]
        os.environ.pop("HFPROBE_DATA")
        os.environ.update({"HFPROBE_DATA": before} if before is not None else {})
    """, data=tmp_path)  # fmt: skip
    assert genders == ["f"] * 4


def test_a_server_that_is_busy_at_first_is_asked_again(hub, worker):
    hub.plant(f"GET /api/datasets/{LIBRISPEECH}", "status", status=503, times=2)
    assert worker.run(READ, spec="librispeech:clean/test") == names(2, 0, 4)


STREAM = """
import hashlib
from itertools import islice
from hfprobe.data import NoiseRecipe, SpeechStream, load_noise

def make(**options):
    noise = load_noise("hub:corypaik/musan", "train")
    recipe = NoiseRecipe(clean_share=0.2, voices=(2, 3))
    return SpeechStream("librispeech:clean/train.100", **{"batch_size": 3, "pool": 5, "seed": 4, "noise": noise, "recipe": recipe, **options})

def digest(batch):
    return [batch.ids, batch.conditions, hashlib.sha1(batch.waveforms.numpy().tobytes()).hexdigest()]
"""


def test_resume_is_exact_at_every_position_with_noise_and_workers(hub, worker):
    result = worker.run(
        STREAM
        + """
stream, whole, states = make(), [], []
states.append(stream.state_dict())
for batch in islice(stream, 10):
    whole.append(digest(batch))
    states.append(json.loads(json.dumps(stream.state_dict())))
wrong = []
for cut in range(10):
    resumed = make(workers=cut % 3)
    resumed.load_state_dict(states[cut])
    got = [digest(batch) for batch in islice(resumed, 3)]
    wrong += [cut] if got[: 10 - cut] != whole[cut : cut + 3] else []
result = [wrong, whole, dict(stream.failures), stream.failures.sentence(), states[-1]["epoch"]]
"""
    )
    wrong, whole, failures, sentence, epoch = result
    assert wrong == [] and epoch == 1 and len({row[2] for row in whole}) == 10
    broken = names(1, 0, 20)[3]
    assert failures == {"cut off": 1} and sentence == f"1 utterance (1 cut off): {broken}"
    assert len({condition for row in whole for condition in row[1]}) > 4


def test_resuming_reads_no_table_that_is_over(hub, worker):
    state, expected = worker.run(
        STREAM
        + """
stream = make(noise=None, shuffle=False, pool=4)
batches = iter(stream)
seen = [digest(next(batches)) for _ in range(8)]  # of three and one by turns: the pool from row 16 is begun
result = [stream.state_dict(), digest(next(batches))]
"""
    )
    hub.clear()
    again = worker.run(STREAM + """
stream = make(noise=None, shuffle=False, pool=4)
stream.load_state_dict(state)
result = digest(next(iter(stream)))
""", state=state)  # fmt: skip
    assert again == expected
    assert hub.asked("GET .*resolve.*0001.parquet")
    assert len(hub.asked("GET .*resolve.*0000.parquet")) <= 1  # its schema when it is opened; none of its sound


def test_two_ranks_of_two_workers_share_everything(hub, worker):
    shares = worker.run(
        STREAM
        + """
from torch.utils.data import DataLoader
result = {}
alone = [list(batch.ids) for batch in make(noise=None).one_epoch(1)]
for workers in (0, 2):
    streams = [make(noise=None, rank=rank, world=2, workers=workers) for rank in (0, 1)]
    result[f"threads {workers}"] = [[list(batch.ids) for batch in stream.one_epoch(1)] for stream in streams]
streams = [make(noise=None, rank=rank, world=2, share="auto") for rank in (0, 1)]
assert [stream.shards for stream in streams] == [1, 1]  # each reads one of the two tables
result["shards"] = [[list(batch.ids) for batch in stream.one_epoch(1)] for stream in streams]
loaders = [
    DataLoader(make(noise=None, rank=rank, world=2, epochs=1), batch_size=None, num_workers=2, multiprocessing_context="fork")
    for rank in (0, 1)
]
result["processes 2"] = [[list(batch.ids) for batch in loader] for loader in loaders]
result["alone"] = alone
"""
    )
    expected = sorted(set(names(1, 0, 20)) - {names(1, 0, 20)[3]})
    for kind in ("threads 0", "threads 2", "shards", "processes 2"):
        ids = [name for share in shares[kind] for batch in share for name in batch]
        assert sorted(ids) == expected, kind
        assert all(share for share in shares[kind])
    assert shares["threads 0"] == shares["threads 2"]
    assert [shares["threads 2"][i % 2][i // 2] for i in range(len(shares["alone"]))] == shares["alone"]


def test_musan_has_the_same_parts_as_in_a_folder(hub, worker, tmp_path):
    for category in ("music", "speech", "noise"):
        for row in musan_rows(category, 8):
            path = tmp_path / row["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row["audio"]["bytes"])
    found = worker.run("""
        import numpy as np
        from hfprobe.data import load_noise
        result = {}
        for part in ("train", "test", "all"):
            hub, folder = load_noise("hub:corypaik/musan", part), load_noise(folder_path, part)
            same = all(np.array_equal(hub.read(n, 0.4, 9000), folder.read(n, 0.4, 9000)) for names in hub.files.values() for n in names)
            result[part] = [hub.files, folder.files, same, hub.left_out.sentence("file")]
    """, folder_path=tmp_path)  # fmt: skip
    for part, (on_hub, in_folder, same, left_out) in found.items():
        broken = {f"{c}/source/{c}-source-0007.wav" for c in ("music", "speech", "noise")}
        assert {c: sorted(set(n) - broken) for c, n in in_folder.items()} == {
            c: sorted(n) for c, n in on_hub.items()
        }, part
        assert same
        assert ("3 files (3 unreadable)" in left_out) == (part != "test")
    assert not set(found["train"][0]["noise"]) & set(found["test"][0]["noise"])


def test_noise_is_fetched_once_and_not_more_than_wanted(hub, worker):
    result = worker.run("""
        from hfprobe.data.hub_noise import load_hub_noise
        first = load_hub_noise("corypaik/musan@main:noise", "train", files=2)
        result = [first.files, len(list(first.root.glob("*.sound")))]
    """)
    assert len(result[0]["noise"]) == 2 and result[0]["music"] == []
    hub.clear()
    again = worker.run("""
        from hfprobe.data.hub_noise import load_hub_noise
        result = load_hub_noise("corypaik/musan@main:noise", "train", files=2).files
    """)
    assert again == result[0] and not hub.asked("resolve")


def test_noise_in_sound_files_is_fetched_when_it_is_read(hub, worker):
    files = {
        f"musan/{c}/free/{c}-free-{n:04d}.wav": sound(7000 + n, kind="WAV")
        for c in ("noise", "music")
        for n in range(4)
    }
    hub.put_repo("dataset", "user/noises", files)
    hub.clear()
    hub.plant("GET .*resolve.*noise-free-0000.wav", "status", status=503, times=2)
    result = worker.run("""
        from hfprobe.data import load_noise
        noise = load_noise("hub:user/noises", "train")
        result = [noise.files, len(noise.read("noise/free/noise-free-0000.wav", 0.0, 6000))]
    """)
    assert result[0]["noise"] == [f"noise/free/noise-free-{n:04d}.wav" for n in (0, 1, 3)] and result[1] == 6000
    assert {r.path.rsplit("/", 1)[-1] for r in hub.asked("GET .*resolve.*wav")} == {"noise-free-0000.wav"}


def test_noise_that_is_none_is_refused(hub, worker):
    hub.put_repo("dataset", "user/birds", {"train/owl/a.wav": sound(1, kind="WAV")})
    kind, message = worker.run("""
        from hfprobe.data import load_noise
        result = refused(load_noise, "hub:user/birds", "train")
    """)
    assert (
        kind == "DatasetError" and "expected files or rows of noise, music, speech" in message and "default" in message
    )
    kind, message = worker.run(
        'from hfprobe.data import load_noise\nresult = refused(load_noise, "user/birds", "train")'
    )
    assert kind == "DatasetError" and "hub:user/birds" in message


def test_leaving_streams_half_read_ends_in_silence(hub, tmp_path):
    code = """
from hfprobe.data import SpeechStream, load_corpus
spec = "librispeech:clean/train.100"
for row in load_corpus(spec):
    break
kept = [iter(load_corpus(spec)), *(iter(SpeechStream(spec, 2, pool=4, workers=workers)) for workers in (0, 2))]
for rows in kept:
    next(rows)
"""
    variables = {**os.environ, **hub.environment(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=variables)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_the_sounds_here_differ():
    assert len({sound(n) for n in range(30)}) == 30 and np.frombuffer(sound(1, kind="WAV")[:4], "S4")[0] == b"RIFF"


def test_a_model_of_a_busy_server_is_asked_for_again(hub, worker):
    hub.put_repo("model", "user/voice", {"config.json": "{}"})
    hub.plant("(GET|HEAD) .*user/voice", "status", status=503, times=2)
    result = worker.run("""
        from pathlib import Path
        from hfprobe.speakers.fetch import model_folder
        waits.clear()
        result = [Path(model_folder("user/voice", ["config.json"]), "config.json").read_text(), waits]
    """)
    assert result[0] == "{}" and result[1] and not hub.faults
