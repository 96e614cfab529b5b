"""Noise: the SNR asked for is the SNR achieved, train and test share nothing, folders in MUSAN's layout are read."""

import numpy as np
import pytest
import soundfile as sf

from hfprobe.analysis.conditions import apply_condition, parse_conditions
from hfprobe.data import NoiseDraw, NoiseRecipe, load_noise
from hfprobe.errors import DatasetError


def speech_like(samples=24000, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(samples) * (1 + np.sin(np.arange(samples) / 900))).astype(np.float32)


def snr(speech, mixture):
    noise = mixture.astype(np.float64) - speech
    return 10 * np.log10(np.mean(speech.astype(np.float64) ** 2) / np.mean(noise**2))


@pytest.fixture
def folder(tmp_path):
    """A noise folder in MUSAN's layout: 8 kHz stereo, one file of each category shorter than any speech."""
    time = np.arange(4000) / 8000
    for category, source, pitch in (
        ("noise", "free", 300),
        ("noise", "free", 500),
        ("music", "jazz", 700),
        ("speech", "x", 900),
    ):
        path = tmp_path / category / source
        path.mkdir(parents=True, exist_ok=True)
        left = 0.2 * np.sin(2 * np.pi * pitch * time)
        sf.write(path / f"{category}-{source}-{pitch:04d}.wav", np.stack([left, 0.5 * left], 1), 8000, subtype="FLOAT")
    (tmp_path / "noise" / "LICENSE").write_text("not a sound")
    return tmp_path


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 7.3, 20.0])
@pytest.mark.parametrize("category", ["noise", "music", "speech"])
def test_achieved_snr_is_the_asked_one(category, snr_db):
    corpus, speech = load_noise("generated", "test"), speech_like()
    original = speech.copy()
    draw = NoiseRecipe().draw_at(corpus, np.random.default_rng(5), snr_db, category)
    mixture = corpus.apply(speech, draw)
    assert abs(snr(speech, mixture) - snr_db) < 0.01 and np.array_equal(speech, original)
    assert mixture.dtype == np.float32 and len(mixture) == len(speech)
    assert (len(draw.parts) >= 3) == (category == "speech")


def test_short_stereo_noise_at_another_rate_is_resampled_and_looped(folder):
    corpus = load_noise(folder, "all")
    assert {category: len(names) for category, names in corpus.files.items()} == {"noise": 2, "music": 1, "speech": 1}
    name = "noise/free/noise-free-0300.wav"
    piece = corpus.read(name, 0.0, 40000)  # five times the 0.5 s of the file
    assert np.allclose(piece[:8000], piece[16000:24000], atol=1e-6)
    time = np.arange(1000, 7000) / 16000
    assert np.allclose(piece[1000:7000], 0.15 * np.sin(2 * np.pi * 300 * time), atol=2e-3)  # mean of both channels
    for start in (0.0, 0.37, 0.99):
        mixture = corpus.apply(speech_like(40000), NoiseDraw("noise", ((name, start),), 3.0))
        assert abs(snr(speech_like(40000), mixture) - 3.0) < 0.01


def test_babble_voices_have_equal_power(folder):
    corpus = load_noise(folder, "all")
    names = ("noise/free/noise-free-0300.wav", "music/jazz/music-jazz-0700.wav")
    for name in names:
        assert np.mean(corpus.noise(NoiseDraw("noise", ((name, 0.2),), 0.0), 8000) ** 2) == pytest.approx(1, rel=1e-4)
    both = corpus.noise(NoiseDraw("speech", tuple((name, 0.0) for name in names), 0.0), 8000)
    alone = [corpus.noise(NoiseDraw("speech", ((name, 0.0),), 0.0), 8000) for name in names]
    assert np.allclose(both, alone[0] + alone[1], atol=1e-5)


@pytest.mark.parametrize("source", ["generated", "folder"])
def test_train_and_test_are_disjoint_and_complete(source, folder):
    if source == "folder":
        sf.write(folder / "noise" / "free" / "noise-free-0900.FLAC", speech_like(8000), 16000, format="FLAC")
        source = folder
    parts = {part: load_noise(source, part).files for part in ("train", "test", "all")}
    for category, names in parts["all"].items():
        train, test = set(parts["train"][category]), set(parts["test"][category])
        assert not train & test and train | test == set(names)
    assert all(parts["test"].values()) if source == "generated" else len(parts["test"]["noise"]) == 1


def test_draws_stay_in_the_ranges_of_the_recipe():
    corpus, rng = load_noise("generated", "train"), np.random.default_rng(0)
    draws = [NoiseRecipe(clean_share=0.25).draw(corpus, rng) for _ in range(2000)]
    noisy = [draw for draw in draws if draw is not None]
    assert 0.21 < 1 - len(noisy) / len(draws) < 0.29
    for category, low, high in (("noise", 0, 15), ("music", 5, 15), ("speech", 13, 20)):
        snrs = [draw.snr_db for draw in noisy if draw.category == category]
        assert low <= min(snrs) < low + 0.2 and high - 0.2 < max(snrs) <= high
        assert 0.28 < len(snrs) / len(noisy) < 0.39
    voices = [len(draw.parts) for draw in noisy if draw.category == "speech"]
    assert set(voices) == {3, 4, 5, 6, 7}
    assert all(len({name for name, _ in draw.parts}) == len(draw.parts) for draw in noisy)
    assert all(name.startswith(draw.category) and 0 <= start < 1 for draw in noisy for name, start in draw.parts)


def test_bad_input_is_one_line_that_says_what_to_do(tmp_path, folder):
    with pytest.raises(DatasetError, match="does not exist"):
        load_noise(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="train, test or all, not 'dev'"):
        load_noise("generated", "dev")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="MUSAN's layout"):
        load_noise(tmp_path / "empty")
    corpus = load_noise(folder, "all")
    with pytest.raises(DatasetError, match="'rain' has no files; choose from: any, noise, music, speech"):
        NoiseRecipe().draw_at(corpus, np.random.default_rng(0), 0, "rain")
    sf.write(folder / "noise" / "free" / "noise-free-9999.wav", np.zeros(8000), 16000)
    with pytest.raises(DatasetError, match="noise-free-9999.wav' is silent"):
        load_noise(folder, "all").apply(
            speech_like(), NoiseDraw("noise", (("noise/free/noise-free-9999.wav", 0.5),), 0.0)
        )


def test_a_pause_in_a_recording_falls_back_to_its_beginning(folder):
    tone = 0.1 * np.sin(np.arange(16000) / 5)
    sf.write(folder / "noise" / "free" / "noise-free-0001.wav", np.concatenate([tone, np.zeros(160000)]), 16000)
    corpus, name = load_noise(folder, "all"), "noise/free/noise-free-0001.wav"
    mixture = corpus.apply(speech_like(8000), NoiseDraw("noise", ((name, 0.5),), 5.0))
    # The only sound lies in the middle.
    sf.write(
        folder / "noise" / "free" / "noise-free-0002.wav",
        np.concatenate([np.zeros(80000), tone, np.zeros(80000)]),
        16000,
    )
    load_noise(folder, "all").apply(
        speech_like(24000), NoiseDraw("noise", (("noise/free/noise-free-0002.wav", 0.0),), 5.0)
    )
    (folder / "noise" / "free" / "noise-free-0003.wav").write_bytes(b"not a sound")
    with pytest.raises(DatasetError, match="not readable as audio"):
        load_noise(folder, "all").read("noise/free/noise-free-0003.wav", 0.0, 100)
    assert abs(snr(speech_like(8000), mixture) - 5.0) < 0.01


def test_noise_that_cannot_be_used_is_drawn_again_for_test_conditions_too(folder):
    for n in range(5):
        (folder / "noise" / "free" / f"noise-free-{n:04d}.wav").write_bytes(b"rubbish")
    corpus, clean = load_noise(folder, "all"), speech_like(8000)
    levels = parse_conditions(["10", "0"], "noise")
    for number in range(12):
        mixtures = [apply_condition(clean, f"u{number}", condition, corpus, 3) for condition in levels]
        assert [snr(clean, mixture) for mixture in mixtures] == pytest.approx([10, 0], abs=0.01)
        added = [(mixture - clean) / np.abs(mixture - clean).max() for mixture in mixtures]
        assert np.abs(added[0] - added[1]).max() < 1e-3  # one noise at all levels
    broken = {f"noise/free/noise-free-{n:04d}.wav" for n in range(5)}
    assert corpus.refused and set(corpus.refused) <= broken and set(corpus.refused.values()) == {"unreadable"}
    assert corpus.left_out.sentence("noise file").startswith(f"{len(corpus.refused)} noise file")
