"""Layers above trained on stored states: what is stored, how it is varied, and the way back into one recogniser."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hfprobe.asr import join as join_module
from hfprobe.asr import ship as ship_module
from hfprobe.asr import states as states_module
from hfprobe.asr.join import join
from hfprobe.asr.ship import ship
from hfprobe.asr.state_batches import StateIterFactory, is_held, shift_bands, stretch
from hfprobe.asr.states import load_states, write_states
from hfprobe.asr.tokens import CharTokens
from hfprobe.asr.train import main as train
from hfprobe.data import SpeechStream
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.errors import ConfigError, DatasetError, EncoderError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "recipes/speechocean762/asr1/conf/train_upper.yaml"


@pytest.fixture(scope="module")
def encoder():
    return AutoSpeechEncoder.from_pretrained("vgg-blstm-baseline").eval()


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    """cnn4 of ten utterances."""
    place = tmp_path_factory.mktemp("states") / "clean"
    stream = SpeechStream("espeak:train", batch_size=4, shuffle=False, limit=10)
    write_states(encoder, "cnn4", stream, place, {"corpus": "espeak:train"})
    return place


def test_stored_states_are_those_of_the_encoder_alone(encoder, folder):
    stored = load_states(folder)
    assert (stored.layer, stored.width, stored.fingerprint) == ("cnn4", 2560, encoder.fingerprint)
    assert len(stored.utterances) == 10 and sorted(p.name for p in folder.iterdir()) == ["index.json", "states.f16"]
    batch = next(iter(SpeechStream("espeak:train", batch_size=1, shuffle=False, limit=1)))
    utterance = next(item for item in stored.utterances if item.id == batch.ids[0])
    with torch.no_grad():
        alone = encoder(batch.waveforms, layers=["cnn4"]).hidden_states[0][0]
    assert utterance.text == batch.texts[0] and utterance.frames == len(alone)
    torch.testing.assert_close(stored.states(utterance), alone, rtol=2e-3, atol=2e-3)  # float16


def test_bfloat16_states_are_near_and_their_features_are_exact(encoder, folder, tmp_path):
    stream = SpeechStream("espeak:train", batch_size=4, shuffle=False, limit=10)
    half, exact = write_states(encoder, "cnn4", stream, tmp_path / "half", {}, bfloat16=True), load_states(folder)
    assert half.origin["bfloat16"] is True and exact.origin["bfloat16"] is False
    assert [item.frames for item in half.utterances] == [item.frames for item in exact.utterances]
    one, other = (torch.from_numpy(np.array(stored.values)).float() for stored in (half, exact))
    assert not torch.equal(one, other) and torch.cosine_similarity(one, other, 1).min() > 0.99
    batch = next(iter(stream))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features, _ = encoder.features(batch.waveforms, batch.lengths)
    assert torch.equal(features, encoder.features(batch.waveforms, batch.lengths)[0])


def test_damaged_folders_are_refused(folder, tmp_path):
    with pytest.raises(DatasetError, match="index.json"):
        load_states(tmp_path)
    (tmp_path / "index.json").write_text((folder / "index.json").read_text())
    with pytest.raises(DatasetError, match="no states.f16"):
        load_states(tmp_path)
    (tmp_path / "states.f16").write_bytes((folder / "states.f16").read_bytes()[: -2 * 2560])
    with pytest.raises(DatasetError, match="frames, its index"):
        load_states(tmp_path)
    (tmp_path / "index.json").write_text("[1, 2]")
    with pytest.raises(DatasetError, match="no stored states"):
        load_states(tmp_path)


def test_a_stretched_line_is_a_line_and_a_shifted_bump_moves():
    line = torch.linspace(0, 1, 30)[:, None].expand(30, 4)
    torch.testing.assert_close(stretch(line, 47), torch.linspace(0, 1, 47)[:, None].expand(47, 4))
    assert torch.equal(stretch(line, 30), line) and stretch(line[:1], 3).shape == (3, 4)
    bump = torch.zeros(2, 40)
    bump[:, 25] = 1.0  # band 5 of the second map of 20 bands
    assert shift_bands(bump, 2, 2).argmax(1).tolist() == [27, 27]
    half = shift_bands(bump, 2, -0.5)
    assert half[0, 24] == half[0, 25] == 0.5 and torch.equal(shift_bands(bump, 2, 0), bump)


def factory(folder, **options):
    tokens = CharTokens(yaml.safe_load(CONFIG.read_text())["token_list"])
    return StateIterFactory([load_states(folder)], tokens, **{"frames": 300, "held": 0.3, "maps": 128, **options})


def test_every_utterance_comes_once_and_held_speakers_only_in_validation(folder):
    stored = load_states(folder)
    held = {item.id for item in stored.utterances if is_held(item.speaker, 0.3)}
    seen = [name for ids, _ in factory(folder, warp=0.2).build_iter(1) for name in ids]
    valid = [name for ids, _ in factory(folder, train=False).build_iter(1) for name in ids]
    assert held and set(valid) == held and sorted(seen + valid) == sorted(item.id for item in stored.utterances)


def test_an_epoch_depends_on_seed_and_number_alone(folder):
    def epoch(number, **options):
        made = list(factory(folder, warp=0.2, shift=1.0, **options).build_iter(number))
        return [ids for ids, _ in made], torch.cat([batch["speech"].flatten() for _, batch in made])

    (ids, first), (again, second), (_, other) = epoch(3), epoch(3), epoch(4)
    assert ids == again and torch.equal(first, second) and len(other) != len(first)
    assert factory(folder).count(3) == len(ids) and factory(folder, batches_per_epoch=1).count(3) == 1
    for _, batch in factory(folder, warp=0.2).build_iter(1):
        lengths = batch["speech_lengths"].tolist()
        assert lengths == sorted(lengths, reverse=True) and batch["speech"].shape[1] == lengths[0]


def test_wrong_options_are_refused(folder):
    with pytest.raises(ConfigError, match="maps do not divide"):
        factory(folder, maps=7)
    with pytest.raises(ConfigError, match="warp must be"):
        factory(folder, warp=0.7)
    with pytest.raises(DatasetError, match="hf_held"):
        factory(folder, held=1.0)


def test_trained_upper_layers_come_back_into_the_recogniser(encoder, folder, tmp_path):
    """ESPnet trains on the states; the joined, shipped encoder says what lower and upper part say one after the other."""
    weights = next((ROOT / "hfprobe/pretrained/encoders/vgg-blstm-baseline").glob("*.pth"))
    options = (
        f"--hf_states {folder} --hf_held 0.3 --max_epoch 2 --ngpu 0 --output_dir {tmp_path / 'upper'} --hf_frames 300"
    )
    options += f" --init_param {weights}:encoder.enc.1:encoder.enc.0 {weights}:ctc:ctc --keep_nbest_models 1"
    try:
        train(["--config", str(CONFIG), *options.split()])
    finally:
        torch.set_flush_denormal(False)  # what training switches on is for its own process
    trained = torch.load(tmp_path / "upper/latest.pth", weights_only=True)
    start = torch.load(weights, weights_only=True)
    moved = (trained["encoder.enc.0.bt0.weight"] - start["encoder.enc.1.bt0.weight"]).abs().max()
    assert 0 < moved < 0.1  # it began with the shipped layers, and learnt
    join("vgg-blstm-baseline", tmp_path / "upper", tmp_path / "joined")
    ship(tmp_path / "joined", tmp_path / "shipped")
    made = AutoSpeechEncoder.from_pretrained(tmp_path / "shipped").eval()
    stack = torch.nn.ModuleList([made.encoder.enc[1]])
    assert stack[0].dropout == 0.0  # ESPnet's own layers drop out in eval() too
    stack.load_state_dict(
        {f"0.{k.removeprefix('encoder.enc.0.')}": v for k, v in trained.items() if k.startswith("encoder.enc.0.")}
    )
    batch = next(iter(SpeechStream("espeak:test", batch_size=1, shuffle=False, limit=1)))
    with torch.no_grad():
        lower = encoder(batch.waveforms, layers=["cnn4"]).hidden_states[0]
        expected, _, _ = stack[0](lower, torch.tensor([lower.shape[1]]))
        states = AutoSpeechEncoder.from_pretrained(tmp_path / "shipped").eval()(
            batch.waveforms, layers=["cnn4", "blstm5"]
        )
    torch.testing.assert_close(states.hidden_states[0], lower)
    torch.testing.assert_close(states.hidden_states[1], expected, rtol=0.02, atol=0.02)  # the shipped ones are float16


def test_layers_of_another_size_are_refused(tmp_path):
    config = yaml.safe_load(CONFIG.read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save({"encoder.enc.0.bt0.weight": torch.zeros(3, 3)}, tmp_path / "latest.pth")
    with pytest.raises(EncoderError, match="do not fit vgg-blstm-baseline"):
        join("vgg-blstm-baseline", tmp_path, tmp_path / "joined")
    with pytest.raises(EncoderError, match="config.yaml is missing"):
        join("vgg-blstm-baseline", tmp_path / "none", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_command_says_what_is_wrong(monkeypatch, tmp_path):
    options = "states --encoder vgg-blstm-baseline --layer cnn9 --corpus espeak:test --limit 1 --output"
    monkeypatch.setattr(sys, "argv", [*options.split(), str(tmp_path)])
    with pytest.raises(SystemExit, match="cnn9.*cnn4"):
        states_module.main()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", [*options.replace("cnn9", "cnn4").split(), str(tmp_path), "--speed", "1.25"])
    states_module.main()
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["origin"] == {"corpus": "espeak:test", "noise": False, "speed": 1.25, "epoch": 0, "bfloat16": False}
    assert (
        np.memmap(tmp_path / "states.f16", dtype=np.float16, mode="r").size == 2560 * index["utterances"][0]["frames"]
    )


@pytest.mark.parametrize("command", ["join", "ship"])
def test_a_damaged_configuration_is_one_line(command, monkeypatch, tmp_path):
    (tmp_path / "latest.pth").write_bytes(b"")
    (tmp_path / "config.yaml").write_text("a: [1")
    lower = ["vgg-blstm-baseline"] if command == "join" else []
    monkeypatch.setattr(sys, "argv", [command, *lower, str(tmp_path), str(tmp_path / "new")])
    with pytest.raises(SystemExit, match=f"hfprobe.asr.{command}: error: .*config.yaml"):
        {"join": join_module, "ship": ship_module}[command].main()
    assert not (tmp_path / "new").exists()
