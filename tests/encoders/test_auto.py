"""Names, folders and Hub ids; the shipped encoders, where there are any."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from espnet_stock import pad, peak_error, speechlike

from hfprobe.encoders import AutoSpeechEncoder, auto
from hfprobe.errors import EncoderError, HubError
from hfprobe.hub.download import Snapshot


@pytest.fixture
def shelf(experiment, tmp_path_factory, monkeypatch):
    """A package folder with one shipped encoder, ``tiny``."""
    root = tmp_path_factory.mktemp("encoders")
    shutil.copytree(experiment.folder, root / "tiny")
    (root / "notes").mkdir()
    monkeypatch.setattr(auto, "shipped_folder", lambda: root)
    return root


def test_shipped_names(shelf):
    assert AutoSpeechEncoder.shipped() == ("tiny",)
    encoder = AutoSpeechEncoder.from_pretrained("tiny")
    assert encoder.name == "tiny"
    assert AutoSpeechEncoder.from_pretrained(shelf / "tiny").fingerprint == encoder.fingerprint
    assert AutoSpeechEncoder.from_pretrained("tiny", random_init=True, seed=3).name == "tiny-random3"


def test_nothing_shipped(monkeypatch, tmp_path):
    monkeypatch.setattr(auto, "shipped_folder", lambda: tmp_path / "nowhere")
    assert AutoSpeechEncoder.shipped() == ()


def test_unknown_names_list_what_is_accepted(shelf, tmp_path):
    with pytest.raises(EncoderError, match=r"'big' is neither .* \(tiny\).*config.yaml.*Hub id user/name") as caught:
        AutoSpeechEncoder.from_pretrained("big")
    assert "\n" not in str(caught.value)
    with pytest.raises(EncoderError, match="folder of no known kind"):
        AutoSpeechEncoder.from_pretrained(tmp_path / "..")
    with pytest.raises(EncoderError, match="neither a shipped encoder nor an existing folder"):
        AutoSpeechEncoder.from_pretrained("/no/such/folder")
    with pytest.raises(EncoderError, match="no instances"):
        AutoSpeechEncoder()


def test_hub_repositories_are_fetched_by_pattern(shelf, monkeypatch):
    asked = {}

    def fetch(repo_id, revision, allow, ignore, **options):
        asked.update(repo_id=repo_id, revision=revision, allow=allow)
        return Snapshot(shelf / "tiny", "1" * 40)

    monkeypatch.setattr(auto, "fetch", fetch)
    encoder = AutoSpeechEncoder.from_pretrained("someone/model", revision="v1")
    assert encoder.name == "someone/model"
    assert asked["repo_id"] == "someone/model" and asked["revision"] == "v1"
    assert sorted(asked["allow"]) == ["*.json", "*.model", "*.pth", "*.safetensors", "*.txt", "*.yaml"]


@pytest.mark.parametrize(
    ("files", "extra"),
    [
        (["hyperparams.yaml", "config.json"], ["*.ckpt"]),
        (["config.json"], ["pytorch_model*.bin"]),
        (["config.json", "model.safetensors"], None),
        (["config.yaml", "valid.pth"], None),
    ],
)
def test_families_fetch_what_they_need_and_never_code(tmp_path, monkeypatch, files, extra):
    asked = []

    def fetch(repo_id, revision, allow, ignore, **options):
        asked.append((revision, [*allow], ignore))
        return Snapshot(tmp_path, "1" * 40)

    for name in files:
        (tmp_path / name).write_text('{"model_type": "wav2vec2"}')
    monkeypatch.setattr(auto, "fetch", fetch)
    with pytest.raises(EncoderError):  # nothing to load in such a folder
        AutoSpeechEncoder.from_pretrained("someone/model")
    assert len(asked) == 1 + (extra is not None)
    assert [revision for revision, _, _ in asked] == [None, "1" * 40][: len(asked)]  # all of one commit
    assert asked[-1][1] == [*auto._HUB_FILES, *(extra or [])]
    assert not any("py" in pattern.split(".")[-1] for _, allow, _ in asked for pattern in allow)
    assert "*.fp32-*.safetensors" in asked[0][2]


def test_a_packed_archive_is_of_espnet(tmp_path):
    (tmp_path / "model.zip").write_bytes(b"no archive")
    with pytest.raises(EncoderError, match="model.zip"):
        AutoSpeechEncoder.from_pretrained(tmp_path / "model.zip")


def test_the_first_family_that_matches_loads_it(tmp_path):
    (tmp_path / "config.json").write_text('{"speechbrain_interface": "EncoderASR"}')
    (tmp_path / "hyperparams.yaml").write_text("a: 1")
    with pytest.raises(EncoderError, match="trust_remote_code=True"):
        AutoSpeechEncoder.from_pretrained(tmp_path)


def test_messages_name_every_family_and_unknown_options_are_refused(shelf):
    with pytest.raises(
        EncoderError, match=r"ESPnet .*zip; a SpeechBrain .*hyperparams.yaml.*; a Hugging Face .*config.json"
    ):
        AutoSpeechEncoder.from_pretrained("nobody")
    with pytest.raises(EncoderError, match="unknown option wieghts for an ESPnet encoder: choose from weights"):
        AutoSpeechEncoder.from_pretrained("tiny", wieghts="x.pth")


def test_no_network_is_one_line(shelf, monkeypatch):
    def fetch(*arguments, **options):
        raise HubError("cannot connect")

    monkeypatch.setattr(auto, "fetch", fetch)
    with pytest.raises(
        EncoderError, match="'someone/model' is no folder here, and could not be fetched from the Hub: cannot connect"
    ):
        AutoSpeechEncoder.from_pretrained("someone/model")


def test_other_families_can_join(shelf, tmp_path, monkeypatch):
    seen = {}

    def load(path, **options):
        seen.update(options, path=path)
        return "loaded"

    (tmp_path / "toy").mkdir()
    family = auto.Family(lambda path: path.name == "toy", load, "a toy")
    monkeypatch.setitem(auto.FAMILIES, "toy", family)
    assert AutoSpeechEncoder.from_pretrained(tmp_path / "toy", seed=2, extra=1) == "loaded"
    assert seen["seed"] == 2 and seen["extra"] == 1 and seen["path"] == tmp_path / "toy"


def test_the_package_is_light():
    code = (
        "import sys, hfprobe.encoders; "
        "print([m for m in ('espnet2', 'espnet', 'datasets', 'matplotlib', 'accelerate') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]" and result.stderr == ""


@torch.no_grad()
@pytest.mark.parametrize("name", AutoSpeechEncoder.shipped())
def test_shipped_encoders_keep_the_contract(name):
    encoder = AutoSpeechEncoder.from_pretrained(name)
    expected = [f"blstm{i}" for i in range(1, 6)]
    if name.startswith("vgg"):
        expected = [f"cnn{i}" for i in range(1, 5)] + expected
    assert [spec.name for spec in encoder.layers] == expected
    waveforms = speechlike(9000, 800, 16000)
    output = encoder(*pad(waveforms))
    for row, waveform in enumerate(waveforms):
        alone = encoder(waveform[None])
        for layer, spec in enumerate(encoder.layers):
            valid = int(output.hidden_lengths[layer][row])
            error = peak_error(output.hidden_states[layer][row, :valid], alone.hidden_states[layer][0])
            assert error < 1e-5, (spec, row)
    assert all(isinstance(text, str) for text in encoder.transcribe(*pad(waveforms)))
