"""Files against references: who belongs to whom, planted degradations, planted voices, broken files."""

import re

import numpy as np
import pytest
import soundfile
import torch

from hfprobe.analysis import score as module
from hfprobe.analysis.score import native_rate, score_files
from hfprobe.analysis.score_files import match_files, natural, sound_files
from hfprobe.analysis.score_speakers import speakers_of
from hfprobe.errors import ConfigError, DatasetError
from hfprobe.metrics import Trials, all_trials, eer, pesq, stoi

RATE = 16000


def touch(root, *names):
    for name in names:
        path = root / (name if "." in name.rpartition("/")[2] else f"{name}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def found(pairs):
    """System name to {reference name: degraded file name}."""
    return {s.name: {pairs.names[i]: path.name for i, path in s.files.items()} for s in pairs.systems}


def test_names_match_in_one_folder_and_what_is_left_over_is_listed(tmp_path):
    touch(tmp_path / "ref", "a.flac", "b", "c", ".hidden/d", "notes.txt")
    touch(tmp_path / "deg", "b.mp3", "a", "zz")
    pairs = match_files(tmp_path / "ref", tmp_path / "deg")
    assert found(pairs) == {"clean/deg": {"a": "a.wav", "b": "b.mp3"}}
    assert pairs.lonely_references == ["c"] and pairs.lonely_degraded == ["zz.wav"]
    assert match_files(tmp_path / "ref", tmp_path / "deg", condition="music@5dB").systems[0].condition == "music@5dB"


def test_folders_are_layers_and_conditions_in_natural_order(tmp_path):
    touch(tmp_path / "ref", "a", "b")
    layers = [f"{condition}/layer{n}/{name}" for condition in ("noise 10dB", "clean") for n in (10, 2) for name in "ab"]
    touch(tmp_path / "deg", *layers, "ceiling/a")
    pairs = match_files(tmp_path / "ref", tmp_path / "deg")
    names = ["clean/ceiling", "clean/layer2", "clean/layer10", "noise-10dB/layer2", "noise-10dB/layer10"]
    assert [s.name for s in pairs.systems] == names
    assert found(pairs)["clean/ceiling"] == {"a": "a.wav"}


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("layer", ["", "robust/cnn1/"])
def test_a_librispeech_tree(tmp_path, flat, layer):
    names = ["84/121123/84-121123-0000", "84/121123/84-121123-0001", "174/50561/174-50561-0000"]
    touch(tmp_path / "ref", *(f"{name}.flac" for name in names))
    degraded = [layer + (name.rpartition("/")[2] if flat else name) for name in names]
    pairs = match_files(tmp_path / "ref", touch(tmp_path / "deg", *degraded))
    assert pairs.names == sorted(names) and not pairs.lonely_degraded
    assert [s.name for s in pairs.systems] == (["robust/cnn1"] if layer else ["clean/deg"])
    assert speakers_of(pairs.names) == ["174", "84", "84"]


def test_a_pattern_finds_name_layer_and_condition(tmp_path):
    touch(tmp_path / "ref", "1-2-3", "4-5-6")
    touch(
        tmp_path / "deg",
        *(f"{c}-layer-{n}-{x}" for c in ("clean", "musan") for n in (4, 10) for x in ("1-2-3", "4-5-6")),
    )
    pattern = r"^(?P<condition>\w+)-layer-(?P<layer>\d+)-(?P<name>.+)$"
    pairs = match_files(tmp_path / "ref", tmp_path / "deg", pattern)
    assert [s.name for s in pairs.systems] == ["clean/4", "clean/10", "musan/4", "musan/10"]
    assert all(len(s.files) == 2 for s in pairs.systems)
    only = match_files(tmp_path / "ref", tmp_path / "deg", r"^musan-layer-4-(?P<name>.+)$")
    assert found(only) == {"clean/deg": {"1-2-3": "musan-layer-4-1-2-3.wav", "4-5-6": "musan-layer-4-4-5-6.wav"}}
    assert len(only.lonely_degraded) == 6


def test_a_pattern_for_the_name_leaves_the_system_to_the_folders(tmp_path):
    touch(tmp_path / "ref", "x", "y")
    touch(tmp_path / "deg", "noise/l1/x_gen", "noise/l1/y_gen", "noise/l2/x_gen")
    pairs = match_files(tmp_path / "ref", tmp_path / "deg", r"(?P<name>[^/]+)_gen$")
    assert {name: len(files) for name, files in found(pairs).items()} == {"noise/l1": 2, "noise/l2": 1}


@pytest.mark.parametrize(
    ("names", "systems"),
    [
        (["layer-{n}-{u}"], ["clean/layer-4", "clean/layer-10"]),
        (["{u}_l{n}"], ["clean/l4", "clean/l10"]),
        (["cnn/x+{u}(1)"], ["clean/cnn"]),
        (["l{n}/{u}.gen"], ["clean/l4", "clean/l10"]),
    ],
)
def test_nothing_matches_and_the_error_says_what_would_help(tmp_path, names, systems):
    touch(tmp_path / "ref", "u1", "u2")
    touch(tmp_path / "deg", *(f"{name.format(n=n, u=u)}.wav" for name in names for n in (4, 10) for u in ("u1", "u2")))
    with pytest.raises(ConfigError, match="against 'u1'") as error:
        match_files(tmp_path / "ref", tmp_path / "deg")
    advice = re.search(r"--match-pattern '(.*)'$", str(error.value))[1]
    pairs = match_files(tmp_path / "ref", tmp_path / "deg", advice)
    assert [system.name for system in pairs.systems] == systems and not pairs.lonely_degraded
    assert all(len(system.files) == 2 for system in pairs.systems)
    with pytest.raises(ConfigError, match="--match-pattern REGEX"):
        match_files(tmp_path / "ref", touch(tmp_path / "other", "foo"))


@pytest.mark.parametrize(
    "pattern,word", [("(", "regular expression"), ("(.*)", "name"), ("(?P<name>.)(?P<x>.)", "name")]
)
def test_wrong_match_patterns(tmp_path, pattern, word):
    touch(tmp_path, "a")
    with pytest.raises(ConfigError, match=word):
        match_files(tmp_path, tmp_path, pattern)


def test_two_files_of_one_clip_are_refused(tmp_path):
    touch(tmp_path / "ref", "u1")
    touch(tmp_path / "deg", "a-u1", "b-u1")
    with pytest.raises(ConfigError, match="'a-u1.wav' and 'b-u1.wav' are both 'u1'"):
        match_files(tmp_path / "ref", tmp_path / "deg", "(?P<name>u1)")
    with pytest.raises(DatasetError, match="u1.flac and u1.wav"):
        match_files(touch(tmp_path / "ref", "u1.flac"), tmp_path / "deg")


def test_one_folder_in_the_other_counts_once(tmp_path):
    touch(tmp_path / "all", "ref/a", "l1/a", "l2/a")
    assert list(found(match_files(tmp_path / "all" / "ref", tmp_path / "all"))) == ["clean/l1", "clean/l2"]
    touch(tmp_path / "top", "a", "made/a")
    pairs = match_files(tmp_path / "top", tmp_path / "top" / "made")
    assert pairs.names == ["a"] and not pairs.lonely_references


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DatasetError, match="not a folder"):
        sound_files(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no sound file"):
        sound_files(tmp_path)
    assert sorted(["l10x", "l9", "a", "l9b"], key=natural) == ["a", "l9", "l9b", "l10x"]


def test_speakers_by_pattern_table_or_librispeechs_names(tmp_path):
    names = ["p1/x_anna_1", "p2/x_bob_1"]
    assert speakers_of(names) is None
    assert speakers_of(names, r"x_([a-z]+)_") == speakers_of(names, r"(x)_(?P<speaker>[a-z]+)_") == ["anna", "bob"]
    assert speakers_of(names, r"^(p\d)/") == ["p1", "p2"]
    table = tmp_path / "utt2spk"
    table.write_text("x_anna_1 A\np2/x_bob_1 B\n\n")
    assert speakers_of(names, utt2spk=table) == ["A", "B"]
    for pattern, table_text, word in (
        ("(", None, "regular"), ("x", None, "one group"), ("(x)(_)", None, "one group"), ("_(anna)_", None, "1 of 2 .*bob"),
        (None, "x_anna_1 A\n", "no line for 1 of 2"), (None, "a b c\n", "line 1"), ("(x)", "a b\n", "one of them"),
    ):  # fmt: skip
        table.write_text(table_text or "")
        with pytest.raises(ConfigError, match=word):
            speakers_of(names, pattern, table if table_text else None)
    with pytest.raises(ConfigError, match="not a file"):
        speakers_of(names, utt2spk=tmp_path / "none")


# --- measuring -------------------------------------------------------------------------------------------------------


def voice(pitch, seconds=1.2, seed=0):
    """Harmonics that come and go; ``pitch`` in Hz is who speaks."""
    time = np.arange(int(seconds * RATE)) / RATE
    carrier = sum(np.sin(2 * np.pi * pitch * k * time + seed) / k for k in range(1, 20))
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return 0.05 * carrier * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time + seed)) + 0.001 * noise


def noisy(signal, snr):
    noise = np.random.default_rng(9).standard_normal(len(signal))
    return signal + noise * np.sqrt(np.mean(signal**2) / np.mean(noise**2)) * 10 ** (-snr / 20)


PITCHES = {"a": 110, "b": 190}


class PitchVerifier:
    """Who speaks by the loudest harmonic: one direction for each voice."""

    name, dim = "pitch", 2

    def __init__(self):
        self.last_failures = {}

    def embed(self, waveforms, lengths):
        self.last_failures = {}
        rows = torch.full((len(waveforms), 2), torch.nan)
        for index, (wave, length) in enumerate(zip(waveforms, lengths, strict=True)):
            spectrum = np.abs(np.fft.rfft(wave[:length].numpy(), 4 * RATE))
            levels = [spectrum[4 * pitch - 8 : 4 * pitch + 8].max() for pitch in PITCHES.values()]
            if max(levels) < 20:
                self.last_failures[index] = "no voice"
            else:
                rows[index] = torch.eye(2)[int(np.argmax(levels))]
        return rows


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """References of two voices; the same, noisy, swapped, and broken ones."""
    root = tmp_path_factory.mktemp("score")
    clips = {f"{who}-1-{k}": voice(PITCHES[who], 1.2 + 0.1 * k, k) for who in "ab" for k in (0, 1)}

    def write(folder, sounds, suffix="flac", rate=RATE):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, sound in sounds.items():
            soundfile.write(root / folder / f"{name}.{suffix}", sound, rate)

    write("ref", clips)
    write("deg/same", clips)
    for snr in (20, 5, -10):
        write(f"deg/noise@{snr}dB/l1", {name: 0.5 * noisy(clip, snr) for name, clip in clips.items()}, "wav")
    other = {"a-1-0": "a-1-0", "a-1-1": "b-1-1", "b-1-0": "a-1-0", "b-1-1": "b-1-1"}
    write("deg/swapped", {name: clips[source] for name, source in other.items()})
    write("short/cut", {name: clip[: -400 * (i + 1)] for i, (name, clip) in enumerate(clips.items())})
    write("bad/l1", clips, "wav")
    data = (root / "bad/l1/a-1-0.wav").read_bytes()
    (root / "bad/l1/a-1-0.wav").write_bytes(data[:9000])
    (root / "bad/l1/a-1-1.wav").write_text("no sound")
    write("bad/l1", {"b-1-0": np.zeros(RATE)}, "wav")
    return root


def run(world, folder, quality=("stoi",), trials=None, **options):
    pairs = match_files(world / "ref", world / folder)
    speakers = speakers_of(pairs.names, "^([^-]+)-")
    report = score_files(
        pairs, quality, speakers, PitchVerifier(), trials or all_trials(speakers), n_jobs=1, name="n", **options
    )
    return report, {(row.layer, row.condition, row.metric): row for row in report.rows}


def test_planted_degradations(world):
    report, rows = run(world, "deg", ("stoi", "pesq", "si_sdr", "log_mel"))
    assert rows["same", "clean", "stoi"].value == pytest.approx(1, abs=1e-9)
    assert rows["same", "clean", "pesq"].value == pytest.approx(4.64, abs=0.005)
    assert rows["same", "clean", "log_mel"].value == 0 and rows["same", "clean", "si_sdr"].value == 100
    for metric in ("stoi", "pesq", "si_sdr"):
        values = [rows["l1", f"noise@{snr}dB", metric].value for snr in (20, 5, -10)]
        assert values == sorted(values, reverse=True) and values[0] > values[-1]
    assert rows["l1", "noise@5dB", "si_sdr"].value == pytest.approx(5, abs=0.3)
    assert not report.failures and {row.n for row in report.rows if row.metric == "stoi"} == {4}
    # every clip's value is the measure's own, and their mean is the row
    clips = [clip for clip in report.clips if clip.system.name == "noise@5dB/l1"]
    clean, deg = (soundfile.read(world / f)[0] for f in ("ref/b-1-1.flac", "deg/noise@5dB/l1/b-1-1.wav"))
    clip = next(clip for clip in clips if clip.name == "b-1-1")
    assert clip.values["stoi"] == pytest.approx(stoi(clean, deg), abs=1e-6) and clip.speaker == "b"
    assert clip.values["pesq"] == pytest.approx(pesq(clean, deg), abs=1e-3) and clip.seconds == len(clean) / RATE
    assert np.mean([c.values["stoi"] for c in clips]) == pytest.approx(rows["l1", "noise@5dB", "stoi"].value)


def test_planted_voices(world):
    report, rows = run(world, "deg")
    assert rows["input", "clean", "eer"].value == rows["same", "clean", "eer"].value == 0
    # same speaker: 0, 0; different: 1, 1, 0, 0. The ROC crosses a third of the way from (1/2, 1) to (1, 0).
    assert rows["swapped", "clean", "eer"].value == pytest.approx(2 / 3) == eer([0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0])
    assert rows["swapped", "clean", "eer"].n == 6 and rows["input", "clean", "eer"].encoder == "-"
    cosines = {clip.name: clip.cosine for clip in report.clips if clip.system.layer == "swapped"}
    assert cosines == {"a-1-0": 1, "a-1-1": 0, "b-1-0": 0, "b-1-1": 1}


def test_all_systems_see_the_same_trials(world):
    seen = []

    class Watched(Trials):
        def scores(self, left_embeddings, right_embeddings=None):
            seen.append((self.left.tolist(), self.right.tolist()))
            return super().scores(left_embeddings, right_embeddings)

    drawn = all_trials(["a", "a", "b", "b"])
    run(world, "deg", trials=Watched(*(getattr(drawn, field) for field in vars(drawn))))
    assert len(seen) == 6 and all(pair == seen[0] for pair in seen)


def test_chunks_do_not_show(world, monkeypatch):
    whole = run(world, "deg", ("stoi", "si_sdr"))[0]
    monkeypatch.setattr(module, "CHUNK", 3)
    parts = run(world, "deg", ("stoi", "si_sdr"))[0]
    assert whole.rows == parts.rows and [c.values for c in whole.clips] == [c.values for c in parts.clips]


def test_shorter_files_cut_their_reference_and_it_is_said(world):
    report, rows = run(world, "short", ("stoi", "si_sdr"))
    assert rows["cut", "clean", "stoi"].value == pytest.approx(1) and rows["cut", "clean", "si_sdr"].value == 100
    assert report.notes == {"cut to the shorter of a pair": 4} and report.longest_cut == pytest.approx(0.1)


def test_broken_files_are_failures_with_a_reason(world):
    report, rows = run(world, "bad", ("stoi", "log_mel"))
    reasons = {"cut off": 1, "unreadable": 1, "silent": 1}
    assert report.failures == {"clean/l1": {"stoi": reasons, "log_mel": reasons, "verifier": reasons}}
    row = rows["l1", "clean", "stoi"]
    assert (row.n, row.n_failed, row.ci_low) == (1, 3, None) and row.value == pytest.approx(1)
    eer_row = rows["l1", "clean", "eer"]
    assert eer_row.value is None and eer_row.n == 0 and eer_row.n_failed == 6
    assert rows["input", "clean", "eer"].value == 0


def test_a_broken_reference_fails_in_every_system(world, tmp_path):
    for name, sound in {"a-1-0": voice(110), "a-1-1": voice(110, seed=1), "b-1-0": voice(190)}.items():
        for folder in ("ref", "deg/l1", "deg/l2"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / folder / f"{name}.wav", sound, RATE)
    soundfile.write(tmp_path / "ref" / "a-1-1.wav", np.zeros(RATE), RATE)
    report, rows = run(tmp_path, "deg")
    assert report.failures == {
        "input": {"verifier": {"reference silent": 1}},
        "clean/l1": {"stoi": {"reference silent": 1}},
        "clean/l2": {"stoi": {"reference silent": 1}},
    }
    assert rows["l2", "clean", "stoi"].n_failed == 1 and rows["l2", "clean", "eer"].value == 0


def test_other_rates_are_resampled_and_counted(world, tmp_path):
    for folder, rate in (("ref", 44100), ("deg", 8000)):
        (tmp_path / folder).mkdir()
        time = np.arange(int(1.2 * rate)) / rate
        tone = 0.1 * np.sin(2 * np.pi * 440 * time) * (1 + np.sin(2 * np.pi * 4 * time))
        soundfile.write(tmp_path / folder / "a.wav", np.stack([tone, tone], 1), rate)
    pairs = match_files(tmp_path / "ref", tmp_path / "deg")
    report = score_files(pairs, ("si_sdr",), n_jobs=1)
    assert report.rows[0].value > 30 and report.rows[0].ci_low is None
    assert report.notes == {
        "mixed 2 channels to 1": 2, "resampled from 44100 Hz to 16000 Hz": 1, "resampled from 8000 Hz to 16000 Hz": 1
    }  # fmt: skip
    assert native_rate(pairs.references[0]) == 16000 and native_rate(tmp_path / "deg" / "a.wav") == 8000


def test_without_speakers_the_interval_is_over_clips(world):
    pairs = match_files(world / "ref", world / "deg")
    rows = {row.condition: row for row in score_files(pairs, ("stoi",), n_jobs=1).rows if row.layer == "l1"}
    assert all(row.ci_low < row.value < row.ci_high for row in rows.values())
    speakers = speakers_of(pairs.names, "^([^-]+)-")
    grouped = [row for row in score_files(pairs, ("stoi",), speakers, n_jobs=1).rows if row.layer == "l1"]
    assert all(row.value == rows[row.condition].value for row in grouped)
    assert any(row.ci_low != rows[row.condition].ci_low for row in grouped)
