"""Packed ESPnet models: what `espnet2.bin.pack` writes loads; what points outside is refused."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from espnet2.main_funcs.pack_funcs import pack
from espnet_attention_stock import build_attention
from espnet_stock import build_stock, speechlike

from hfprobe.encoders.espnet.archive import is_safe_member
from hfprobe.encoders.espnet.loading import load_espnet
from hfprobe.errors import EncoderError

WEIGHTS = "exp/asr_train/valid.acc.ave_10best.pth"
CONFIG = "exp/asr_train/config.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A training folder as ESPnet leaves it, with the model below exp/asr_train."""
    root = tmp_path_factory.mktemp("egs")
    (root / "exp" / "asr_train").mkdir(parents=True)
    build_attention(root / "exp" / "asr_train", "branchformer-concat", steps=1)
    return root


@pytest.fixture
def packed(folder, tmp_path, monkeypatch) -> Path:
    """The same model, packed by ESPnet itself."""
    monkeypatch.chdir(folder)
    archive = tmp_path / "asr_model.zip"
    pack({"asr_model_file": WEIGHTS}, {"asr_train_config": CONFIG}, archive)
    monkeypatch.chdir(tmp_path)
    return archive


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made while a test runs."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def rewrite(archive: Path, change) -> None:
    """Write an archive anew with its members changed; ``change`` gets and returns a list of (name, content)."""
    with zipfile.ZipFile(archive) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in change(members):
            new.writestr(name, content)


def edit_meta(archive: Path, **changes) -> None:
    def change(members):
        return [
            (name, yaml.safe_dump({**yaml.safe_load(content), **changes}) if name == "meta.yaml" else content)
            for name, content in members
        ]

    rewrite(archive, change)


@torch.no_grad()
def test_a_packed_model_is_the_folder_s(folder, packed, scratch):
    plain = load_espnet(folder / "exp" / "asr_train")
    encoder = load_espnet(packed)
    assert encoder.name == "asr_model"
    assert encoder.fingerprint == plain.fingerprint and encoder.layers == plain.layers
    waveform = speechlike(8000)[0][None]
    assert torch.equal(encoder(waveform).logits, plain(waveform).logits)
    assert list(scratch.iterdir()) == []


def test_an_unpacked_snapshot_gives_the_same(folder, packed, tmp_path):
    snapshot = tmp_path / "snapshot"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(snapshot)
    plain = load_espnet(folder / "exp" / "asr_train")
    assert load_espnet(snapshot).fingerprint == plain.fingerprint
    # As the Hub's cache keeps them: links to files elsewhere.
    blob = tmp_path / "blob"
    (snapshot / WEIGHTS).rename(blob)
    (snapshot / WEIGHTS).symlink_to(blob)
    assert load_espnet(snapshot).fingerprint == plain.fingerprint
    # The weight file may be named, and that of a speech-to-text model has another key.
    meta = {"files": {"s2t_model_file": WEIGHTS}, "yaml_files": {"s2t_train_config": CONFIG}}
    (snapshot / "meta.yaml").write_text(yaml.safe_dump(meta))
    assert load_espnet(snapshot, weights=Path(WEIGHTS).name).fingerprint == plain.fingerprint


def test_random_weights_from_an_archive(packed):
    first, again = (load_espnet(packed, random_init=True, seed=4) for _ in range(2))
    assert first.fingerprint == again.fingerprint != load_espnet(packed).fingerprint
    assert first.name == "asr_model-random4"


def test_recurrent_models_may_be_packed_too(tmp_path, monkeypatch):
    (tmp_path / "exp").mkdir()
    stock = build_stock(tmp_path / "exp", "vgg-plain")
    monkeypatch.chdir(tmp_path)
    pack({"asr_model_file": "exp/valid.loss.best.pth"}, {"asr_train_config": "exp/config.yaml"}, "rnn.zip")
    assert load_espnet("rnn.zip").fingerprint == load_espnet(stock.folder).fingerprint


@pytest.mark.parametrize(
    "name",
    ["../evil.pth", "exp/../../evil.yaml", "/tmp/evil.pth", "C:/evil.pth", "exp\\..\\..\\evil.pth", "C:evil.pth"],
)
def test_a_member_that_points_outside_is_refused(packed, scratch, name, tmp_path):
    rewrite(packed, lambda members: [*members, (name, b"evil")])
    before = {path for path in tmp_path.rglob("*") if path != packed}
    with pytest.raises(
        EncoderError, match="expected only plain members in .*asr_model.zip, got a name that points outside"
    ) as caught:
        load_espnet(packed)
    assert "\n" not in str(caught.value)
    assert {path for path in tmp_path.rglob("*") if path != packed} == before
    assert not Path("/tmp/evil.pth").exists()


def test_a_link_is_refused(packed):
    info = zipfile.ZipInfo("exp/link.yaml")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(EncoderError, match="got a link: 'exp/link.yaml'"):
        load_espnet(packed)


@pytest.mark.parametrize("path", ["../../secret.pth", "/etc/passwd", 7])
def test_meta_may_not_point_outside(packed, tmp_path, path):
    edit_meta(packed, files={"asr_model_file": path})
    with pytest.raises(EncoderError, match="expected paths inside .*asr_model.zip in meta.yaml"):
        load_espnet(packed)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "snapshot")
    with pytest.raises(EncoderError, match="expected paths inside .*snapshot in meta.yaml"):
        load_espnet(tmp_path / "snapshot")


def test_other_members_are_not_written(packed, monkeypatch):
    rewrite(packed, lambda members: [*members, ("exp/run.sh", b"rm -rf /"), ("exp/images/loss.png", b"x")])
    seen = []
    monkeypatch.setattr(Path, "open", _spy(Path.open, seen))
    load_espnet(packed)
    written = {path.name for path, mode in seen if "w" in mode}
    assert written == {"meta.yaml", "config.yaml", "valid.acc.ave_10best.pth"}


def _spy(original, seen):
    def spy(self, mode="r", *args, **kwargs):
        seen.append((self, mode))
        return original(self, mode, *args, **kwargs)

    return spy


def test_the_same_name_twice_is_refused(packed):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("meta.yaml", "files: {}")
    with pytest.raises(EncoderError, match="got 'meta.yaml' twice"):
        load_espnet(packed)


@pytest.mark.parametrize("kind", ["garbage", "empty", "cut", "flipped", "no meta", "no weights", "list"])
def test_damaged_archives_say_so(packed, kind, scratch):
    content = packed.read_bytes()
    if kind == "garbage":
        packed.write_bytes(b"not a zip")
    elif kind == "empty":
        packed.write_bytes(b"")
    elif kind == "cut":
        packed.write_bytes(content[: len(content) // 2])
    elif kind == "flipped":
        middle = len(content) // 2
        packed.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif kind == "no meta":
        rewrite(packed, lambda members: [item for item in members if item[0] != "meta.yaml"])
    elif kind == "no weights":
        rewrite(packed, lambda members: [item for item in members if item[0] != WEIGHTS])
    else:
        edit_meta(packed, files=["a.pth"])
    with pytest.raises(EncoderError, match="asr_model.zip") as caught:
        load_espnet(packed)
    assert "\n" not in str(caught.value) and str(scratch) not in str(caught.value)
    assert list(scratch.iterdir()) == []


def test_missing_weights_are_named_and_the_folder_is_removed(packed, scratch):
    def change(members):
        result = []
        for name, content in members:
            if name == WEIGHTS:
                state = torch.load(io.BytesIO(content), weights_only=True)
                del state["encoder.after_norm.bias"]
                with tempfile.TemporaryFile() as file:
                    torch.save(state, file)
                    file.seek(0)
                    content = file.read()
            result.append((name, content))
        return result

    rewrite(packed, change)
    with pytest.raises(EncoderError, match="asr_model.zip/exp.*1 missing: encoder.after_norm.bias"):
        load_espnet(packed)
    assert list(scratch.iterdir()) == []


def test_safe_names():
    assert is_safe_member("exp/asr train/1epoch.pth") and is_safe_member("a..b/c.yaml")
    assert not any(is_safe_member(name) for name in ("", "..", "a/..", "/a", "a\\b", "a\nb", "d:/x"))


class Hostile:
    """A pickle that writes a file when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_file_that_a_frontend_names_is_read_as_tensors_only(tmp_path, monkeypatch):
    from espnet2.asr.frontend import espnet_ssl

    from hfprobe.encoders.espnet import loading

    marker, weights = tmp_path / "ran", tmp_path / "upstream.pth"
    torch.save({"x": Hostile(marker)}, weights)

    def build_model_from_file(config, path, device):
        return torch.load(path, weights_only=False), None  # as ESPnet does

    monkeypatch.setattr(espnet_ssl.SSLTask, "build_model_from_file", staticmethod(build_model_from_file))
    experiment = SimpleNamespace(folder=tmp_path)
    with pytest.raises(EncoderError, match="frontend_conf .* does not fit ESPnetSSLFrontend"):
        loading._frontend("espnet_ssl", {"frontend_conf": {"path_or_url": "upstream.pth"}}, experiment)
    assert not marker.exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    torch.load(weights, weights_only=False)  # the file does what it is meant to
    assert marker.exists()
