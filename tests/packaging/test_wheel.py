"""What pip installs: the files of wheel and sdist, and the wheel at work away from the source tree."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("build", reason="the archives are made by `python -m build`; install the extra 'test'")
pytest.importorskip("wheel", reason="setuptools needs wheel to make wheels; install the extra 'test'")

NEVER = (".flac", ".wav", ".mp3", ".ogg", ".parquet", ".ckpt", ".pkl", ".npz", ".pyc", ".log", ".ipynb", ".zip", ".h5")
DECOYS = (
    "exp/run/weights.pth",
    "recipes/mini/probe1/exp/bank/model.safetensors",
    "data/voice.flac",
    "hfprobe/notes.parquet",
    "hfprobe/pretrained.zip",
    "demo/index.html",
)
SMOKE = """
import torch
import hfprobe
from hfprobe.cli import main

assert main(["--help"]) == 0 and main(["encoders", "blstm-robust"]) == 0
encoder = hfprobe.AutoSpeechEncoder.from_pretrained("blstm-robust")
waveform = torch.sin(torch.arange(8000) * 0.05) * 0.1
sounds = hfprobe.ProbeBank.from_pretrained("blstm-robust").reconstruct(encoder, waveform, layers=["blstm1"])
assert sounds["blstm1"].shape == (8000,), sounds["blstm1"].shape
print("from", hfprobe.__file__)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of what is to be packed, with files beside it that must stay out."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "hfprobe", folder / "hfprobe", ignore=shutil.ignore_patterns("__pycache__"))
    for name in DECOYS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"must not be packed")
    return folder


def build(tree: Path, kind: str) -> Path:
    """Make one archive with what is installed here: no network, no environment of its own."""
    words = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(tree / "made"), str(tree)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (made,) = (tree / "made").glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tree) -> Path:
    return build(tree, "wheel")


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def shipped(*patterns: str) -> set[str]:
    """Files of the package in the source tree, as the wheel names them."""
    return {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(f"hfprobe/{pattern}")}


def test_wheel_holds_all_modules_and_what_they_read(names):
    modules = shipped("**/*.py")
    assert len(modules) > 200 and modules <= names
    read = shipped("pretrained/**/*.*", "reports/templates/*", "evaluate_modules/*/README.md", "py.typed")
    assert any(name.endswith("valid.loss.best.pth") for name in read) and "hfprobe/py.typed" in read
    assert read <= names, sorted(read - names)[:5]


def test_wheel_holds_nothing_else(names):
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"hfprobe"}
    assert [name for name in names if name.endswith(NEVER)] == []
    assert not names & set(DECOYS)


def test_wheel_says_its_version_and_command(wheel, names):
    import hfprobe

    assert wheel.name == f"hfprobe-{hfprobe.__version__}-py3-none-any.whl"
    (entry,) = (name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        assert "hfprobe = hfprobe.cli:main" in archive.read(entry).decode()
    assert wheel.stat().st_size < 60e6, "encoders and banks may take 30 MB each"


def test_sdist_holds_the_package_and_no_data(tree):
    with tarfile.open(build(tree, "sdist")) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "LICENSE", "hfprobe/__init__.py", "hfprobe/py.typed"} <= packed
    assert shipped("**/*.py", "pretrained/**/*.*") <= packed
    assert [name for name in packed if name.endswith(NEVER)] == [] and not packed & set(DECOYS)
    assert {name.split("/")[0] for name in packed} <= {
        "hfprobe", "hfprobe.egg-info", "pyproject.toml", "README.md", "LICENSE", "PKG-INFO", "setup.cfg",
    }  # fmt: skip


def test_unpacked_wheel_works_away_from_the_tree(wheel, tmp_path):
    """Cheap stand-in for an installation: the wheel's files before everything else, other packages from here."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HFPROBE_DATA": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SMOKE],
        capture_output=True,
        text=True,
        cwd=tmp_path / "work",
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"from {tmp_path / 'site' / 'hfprobe' / '__init__.py'}"


@pytest.mark.skipif(os.environ.get("HFPROBE_SLOW") != "1", reason="installs all dependencies; HFPROBE_SLOW=1 runs it")
def test_wheel_installs_into_a_clean_environment(wheel, tmp_path):
    import venv

    venv.create(tmp_path / "clean", with_pip=True)
    python = str(tmp_path / "clean" / "bin" / "python")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"HFPROBE_DATA": "", "HF_HUB_OFFLINE": "1"}
    for words in (
        [python, "-m", "pip", "install", "--quiet", str(wheel)],
        [python, "-m", "pip", "check"],
        [str(tmp_path / "clean" / "bin" / "hfprobe"), "--help"],
        [python, "-c", SMOKE],
    ):
        done = subprocess.run(
            words, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=3600, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{words}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    assert "site-packages" in done.stdout.splitlines()[-1]
