"""Every recipe is listed, reads its configurations, and answers to its options, without running a stage."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*/*/run.sh"))
NAMES = [path.parent.relative_to(ROOT / "recipes").as_posix() for path in RECIPES]


def run(path, *words):
    return subprocess.run(["bash", str(path), *words], capture_output=True, text=True, timeout=60)


def test_recipes_are_found():
    assert {"mini/probe1", "speechocean762/asr1"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_recipe_is_listed_and_described(name):
    assert name in (ROOT / "recipes" / "README.md").read_text()
    readme = ROOT / "recipes" / name / "README.md"
    assert "Environments" in readme.read_text() and "Results" in readme.read_text()


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_shell_syntax_and_options(path):
    for script in (path, *path.parent.glob("local/*.sh"), *(ROOT / "recipes" / "utils").glob("*.sh")):
        assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert path.stat().st_mode & 0o111, "run.sh must be executable"
    shown = run(path, "--help")
    assert shown.returncode == 0 and "./run.sh" in shown.stdout and "set -e" not in shown.stdout
    for words in (["--bogus", "1"], ["--PATH", "1"], ["--stage"], ["stray"]):
        refused = run(path, *words)
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_stages_are_numbered_and_named(path):
    text = path.read_text()
    stages = re.findall(r'echo "Stage (\d+): (\S[^"]+)"', text)
    assert [int(number) for number, _ in stages] == list(range(1, len(stages) + 1)) and stages
    assert re.search(r"^stop_stage=(\d+)", text, re.M)[1] == str(len(stages))
    done = run(path, "--stage", str(len(stages) + 1), "--stop-stage", "0")
    assert done.returncode == 0 and "Stage" not in done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*/*/conf/*.yaml")), ids=lambda p: p.name)
def test_configurations_load(path):
    values = yaml.safe_load(path.read_text())
    assert isinstance(values, dict) and values


def test_options_of_the_mini_recipe_exist():
    from hfprobe.cli import main

    for command, name in (("train", "probes"), ("evaluate", "evaluate")):
        config = ROOT / "recipes" / "mini" / "probe1" / "conf" / f"{name}.yaml"
        words = ["--encoder", "nobody", "--dataset", "espeak", "--output", "nowhere"]
        assert main([command, "--config", str(config), *words]) == 1  # gets as far as the unknown encoder
