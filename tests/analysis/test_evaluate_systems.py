"""Words, floors, references and paired differences of one evaluation, with planted answers."""

import csv
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hfprobe.analysis.conditions import parse_conditions
from hfprobe.analysis.differences import differences_csv, paired_differences
from hfprobe.analysis.evaluate import measure_systems
from hfprobe.analysis.pairs import trained_name
from hfprobe.analysis.test_set import load_test_set
from hfprobe.audio import MelConfig, mel_spectrogram
from hfprobe.data import load_noise
from hfprobe.errors import ConfigError, EncoderError
from hfprobe.metrics import eer


class Encoder(torch.nn.Module):
    def __init__(self, name="toy"):
        super().__init__()
        self.name, self.layers = name, (SimpleNamespace(name="shallow"), SimpleNamespace(name="deep"))


class Reader(Encoder):
    """Knows each utterance by its length; reads natural speech right, and loses the first word of any other sound."""

    def __init__(self, name, test):
        super().__init__(name)
        self.known = {len(w): (w, text) for w, text in zip(test.waveforms, test.texts, strict=True)}

    def transcribe(self, waveforms, lengths):
        texts = []
        for sound, size in zip(waveforms.numpy(), lengths.tolist(), strict=True):
            natural, text = self.known.get(size, (np.zeros(size), ""))
            texts.append(text if np.allclose(sound[:size], natural) else " ".join(text.split()[1:]))
        return texts


class Shouting(Reader):
    """The same in other letters, with full stops."""

    def transcribe(self, waveforms, lengths):
        return [text.swapcase() + "." for text in super().transcribe(waveforms, lengths)]


class Bank(dict):
    """`shallow` gives the true mel, `deep` a smeared one (all of it with random weights), the floor the mean."""

    mel_config = MelConfig()
    capacity = "highway"

    def __init__(self, width=31):
        super().__init__(shallow=None, deep=None, floor=None)
        self.width = width

    def check(self, encoder):
        pass

    def to(self, device):
        return self

    def mels(self, encoder, waveforms, lengths, layers):
        mel = mel_spectrogram(waveforms, self.mel_config, lengths=lengths)
        half = self.width // 2
        smeared = torch.nn.functional.avg_pool1d(mel.transpose(1, 2), self.width, 1, half).transpose(1, 2)
        made = {"shallow": mel, "deep": smeared, "floor": mel.mean((0, 1)).expand_as(mel)}
        return {name: made[name] for name in layers}


class Verifier:
    """The mean log-mel spectrum: tells espeak's voices apart, in no time."""

    name = "mean spectrum"

    def embed(self, waveforms, lengths):
        mel = mel_spectrogram(waveforms, lengths=lengths)
        rows = [m[: 1 + int(n) // 160].mean(0) for m, n in zip(mel, lengths, strict=True)]
        return torch.stack([row - row.mean() for row in rows])


@pytest.fixture(scope="module")
def test_set():
    return load_test_set("espeak:test", speakers=3, per_speaker=2, max_seconds=4.0)


def run(test_set, pairs, **options):
    conditions = parse_conditions(options.pop("snr", ["clean", "5"]))
    noise = load_noise("generated", "test")
    return measure_systems(pairs, test_set, conditions, Verifier(), noise, n_iter=2, seed=1, **options)


@pytest.fixture(scope="module")
def measured(test_set):
    pairs = [(Reader("toy", test_set), Bank()), (Encoder("mute"), Bank(15)), (Encoder("random:toy"), Bank(61))]
    options = {"words": True, "recognisers": [Shouting("second", test_set)], "against": ("clean", "input")}
    return run(test_set, pairs, **options)


@pytest.fixture(scope="module")
def rows(measured):
    return {(row.encoder, row.layer, row.condition, row.metric): row for row in measured.rows()}


def test_a_probe_that_gives_the_true_mel_is_the_ceiling(rows):
    for (encoder, layer, condition, metric), row in rows.items():
        if (encoder, layer) == ("toy", "shallow"):
            ceiling = rows["toy" if metric in ("wer", "cer") else "-", "ceiling", condition, metric]
            assert row.value == pytest.approx(ceiling.value, abs=1e-6) and row.n == ceiling.n


def test_words_of_every_sound(rows, test_set):
    words = sum(len(text.split()) for text in test_set.texts)
    lost = pytest.approx(len(test_set) / words)
    read = {key[:3] for key in rows if key[3] == "wer"}
    systems = ["input", "ceiling", "shallow", "deep"]
    expected = {(name, layer, c) for name in ("toy", "toy > second") for layer in (*systems, "floor")
                for c in ("clean", "noise@5dB")}  # fmt: skip
    expected |= {("mute > second", layer, c) for layer in (*systems, "floor") for c in ("clean", "noise@5dB")}
    # A random twin has no mean-mel floor of its own, and is read by the recogniser that was trained.
    expected |= {(name, layer, c) for name in ("random:toy", "random:toy > second") for layer in systems
                 for c in ("clean", "noise@5dB")}  # fmt: skip
    assert read == expected
    for encoder, layer, condition in read:
        row = rows[encoder, layer, condition, "wer"]
        assert row.value == (0 if (layer, condition) == ("input", "clean") else lost)
        assert (row.n, row.n_failed) == (len(test_set), 0) and row.ci_low <= row.value <= row.ci_high


def test_against_the_input_is_there_under_noise_only_and_says_so(rows):
    keys = {key for key in rows if key[3] == "stoi_input"}
    assert {key[2] for key in keys} == {"noise@5dB"} and {key[1] for key in keys} == {
        "ceiling", "shallow", "deep", "floor",
    }  # fmt: skip
    # The vocoder rebuilds what went in, noise and all.
    assert rows["-", "ceiling", "noise@5dB", "stoi_input"].value > rows["-", "ceiling", "noise@5dB", "stoi"].value
    assert all(key in rows for key in ((e, layer, c, "stoi") for e, layer, c, _ in keys))


def test_the_random_twin_is_an_encoder_of_its_own_name(rows):
    assert rows["random:toy", "deep", "clean", "stoi"].value < rows["toy", "deep", "clean", "stoi"].value
    assert ("random:toy", "floor", "clean", "stoi") not in rows and ("toy", "floor", "clean", "stoi") in rows
    assert trained_name("random:toy", ["mute"]) is None


def test_a_twin_alone_is_read_by_its_trained_encoder_where_that_one_is_given(test_set):
    trained, second = Reader("toy", test_set), Shouting("second", test_set)
    pairs = [(Encoder("random:toy"), Bank(61))]
    found = run(test_set, pairs, snr=["clean"], words=True, recognisers=[trained, second]).rows()
    names = {row.encoder for row in found if row.metric == "wer"}
    assert names == {"random:toy", "random:toy > second"}
    assert {row.layer for row in found if row.metric == "wer"} == {"input", "ceiling", "shallow", "deep", "floor"}


def test_costs_have_intervals(rows):
    assert all(row.ci_low is not None for key, row in rows.items() if key[3] == "mindcf")


def test_differences_are_those_of_the_rows_and_paired(measured, rows):
    found = paired_differences(measured)
    by = {(d.condition, d.metric, d.encoder, d.layer, d.other_encoder, d.other_layer): d for d in found}
    assert len(by) == len(found)
    compared = {key[2:] for key in by}
    assert compared == {
        ("toy", "deep", "toy", "shallow"), ("mute", "deep", "mute", "shallow"),
        *((name, layer, "-", "ceiling") for name in ("toy", "mute") for layer in ("shallow", "deep")),
        *(("toy", layer, other, layer) for other in ("mute", "random:toy") for layer in ("shallow", "deep")),
    }  # fmt: skip
    for d in found:
        first, second = (
            rows[encoder, layer, d.condition, d.metric].value
            for encoder, layer in ((d.encoder, d.layer), (d.other_encoder, d.other_layer))
        )
        assert d.difference == pytest.approx(first - second) and d.n_dropped == 0
        assert d.value == pytest.approx(first) and d.other_value == pytest.approx(second)
    # The same sound: no difference, and none is claimed; a smeared one loses, beyond doubt.
    same = by["clean", "stoi", "toy", "shallow", "-", "ceiling"]
    assert same.difference == pytest.approx(0, abs=1e-6)
    lost = by["clean", "stoi", "toy", "deep", "toy", "shallow"]
    assert lost.ci_high < 0 and lost.n == len(measured.test)
    table = list(csv.DictReader(io.StringIO(differences_csv(found))))
    assert len(table) == len(found) and float(table[0]["difference"]) == found[0].difference


def test_all_trials_and_the_other_convention(test_set, measured):
    pairs = [(Encoder(), Bank())]
    every = run(test_set, pairs, trials="all", convention="speechbrain", snr=["clean"], layers=["deep"])
    row = next(r for r in every.rows() if (r.layer, r.metric) == ("deep", "eer"))
    assert row.n == 15 and row.value == eer(every.scores(("clean", "toy", "deep")), every.trials.labels, "speechbrain")
    # Sounds are the same whatever else is asked for.
    assert np.allclose(
        every.values(("clean", "toy", "deep"), "stoi"), measured.values(("clean", "toy", "deep"), "stoi")
    )


def test_what_cannot_be_done_is_refused_before_anything_is_computed(test_set):
    pairs = [(Encoder("mute"), Bank())]
    with pytest.raises(EncoderError, match="none of mute can transcribe"):
        run(test_set, pairs, words=True)
    with pytest.raises(EncoderError, match="recogniser 'mute'"):
        run(test_set, pairs, recognisers=[Encoder("mute")])
    with pytest.raises(ConfigError, match="two recognisers"):
        run(test_set, pairs, recognisers=[Shouting("a", test_set), Shouting("a", test_set)])
    for wrong in ({"trials": "some"}, {"convention": "none"}, {"against": ()}, {"against": ("noise",)}):
        with pytest.raises(ConfigError, match=f"expected {next(iter(wrong))} of"):
            run(test_set, pairs, **wrong)


def test_no_transcripts_is_no_error(test_set):
    silent = replace(test_set, texts=[""] * len(test_set))
    measured = run(silent, [(Reader("toy", test_set), Bank())], words=True, snr=["clean"], layers=["shallow"])
    assert {(r.value, r.n, r.n_failed) for r in measured.rows() if r.metric == "wer"} == {(None, 0, len(test_set))}
