"""Every recipe has the same parts, and they fit: files that it names, stages, options of its settings, what it was run on."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hfprobe.asr.tokens import read_config
from hfprobe.cli import build_parser
from hfprobe.cli.config_file import expand

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
APART = ("utils", "cluster")  # shared shell functions; job scripts
FOLDERS = sorted(path for path in RECIPES.glob("*/*") if path.is_dir() and path.parent.name not in APART)
NAMES = [path.relative_to(RECIPES).as_posix() for path in FOLDERS]
every_recipe = pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)


def script(folder: Path) -> str:
    """``run.sh`` with its continued lines joined."""
    return (folder / "run.sh").read_text().replace("\\\n", " ")


def test_all_recipes_are_here():
    assert {"mini/probe1", "TEMPLATE/probe1", "librispeech/asr1", "speechocean762/asr1"} <= set(NAMES)


@every_recipe
def test_parts(folder):
    text = script(folder)
    assert re.search(r"^stage=1$", text, re.M) and re.search(r"^stop_stage=\d+$", text, re.M)
    assert ". ../../utils/parse_options.sh" in text  # --stage, --stop-stage and all others
    assert list((folder / "conf").iterdir())
    scripts = sorted((folder / "local").iterdir()) if (folder / "local").is_dir() else []
    own = [file.name for file in scripts if file.suffix in (".py", ".sh")]
    everything = (
        text
        + (folder / "README.md").read_text()
        + "".join(file.read_text() for file in scripts if file.suffix in (".py", ".sh"))
    )
    unused = [name for name in own if name not in everything and f"import {name[:-3]}" not in everything]
    assert not unused, f"local/ holds what nothing runs: {unused}"


@every_recipe
def test_files_that_a_recipe_names_are_there(folder):
    plain = set(re.findall(r"(?<![\w$}/.])((?:\.\./\w+/)?(?:conf|local)/[\w./-]+\.(?:yaml|sh|py))", script(folder)))
    missing = [name for name in plain if not (folder / name).is_file()]
    assert not missing, missing
    # conf/size_$size.sh and the like: at least one file fits.
    for pattern in re.findall(r"(?<![\w/.])((?:conf|local)/[\w./$}{-]*\$[\w./$}{-]*\.(?:yaml|sh))", script(folder)):
        glob = re.sub(r"\$\{?\w+\}?", "*", pattern)
        assert list(folder.glob(glob)), pattern


@every_recipe
def test_every_stage_between_the_first_and_the_last(folder):
    text = script(folder)
    last = int(re.search(r"^stop_stage=(\d+)$", text, re.M)[1])
    blocks = re.findall(r"\$\{?stage\}? -le (\d+) \] && \[ \$\{?stop_stage\}? -ge (\d+) \]", text)
    numbers = [int(number) for number, _ in blocks]
    assert numbers == sorted(numbers) and all(one == other for one, other in blocks)
    assert sorted(set(numbers)) == list(range(1, last + 1))  # a stage may have several blocks


@every_recipe
def test_readme(folder):
    text = (folder / "README.md").read_text()
    name = folder.relative_to(RECIPES).as_posix()
    assert name in text.splitlines()[0]
    block = re.search(r"^#+ Environments\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    assert block, "no Environments block"
    facts = block[1].lower()
    if "None are recorded yet" not in text:
        assert re.search(r"\d{4}-\d{2}-\d{2}", facts) and "torch" in facts and "python" in facts
        assert re.search(r"\bcores?\b|\bgpus?\b", facts), "it does not say on what machine"
    assert "versions" in facts or "torch" in facts
    assert name in (RECIPES / "README.md").read_text(), f"recipes/README.md does not list {name}"
    last = int(re.search(r"^stop_stage=(\d+)$", script(folder), re.M)[1])
    told = {int(number) for number in re.findall(r"^\|\s*(\d+)\s*\|", text, re.M)}
    assert set(range(1, last + 1)) <= told, f"the README's table lacks stages: {set(range(1, last + 1)) - told}"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*/conf/*")), ids=lambda p: "/".join(p.parts[-4:]))
def test_settings_load(path):
    if path.suffix == ".sh":
        done = subprocess.run(["bash", "-euc", f". '{path}'"], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stdout, done.stderr
        return
    values = yaml.safe_load(path.read_text())
    assert isinstance(values, dict) and values
    if "lm" in values:  # a language model; tests/test_recipes.py has ESPnet read it
        assert values["lm"] == "seq_rnn" and f"--config conf/{path.name}" in script(path.parents[1])
        return
    if path.name.startswith("train_"):
        assert read_config(path)["encoder"]
        return
    text = script(path.parents[1])
    # `$python -m hfprobe train ...`, or a variable that stands for the first words.
    commands = set(re.findall(rf"(?:hfprobe|\$\w+)\"? (\w+)[^\n;|]*?--config \S*{re.escape(path.name)}", text))
    used = {command for command in commands if command in ("train", "evaluate", "similarity", "classify", "untangle")}
    assert used, f"no command of run.sh reads {path.name}"
    for command in used:
        # The parser refuses keys and values that the command does not know.
        words = [command, "--config", str(path), "--encoder", "e", "--dataset", "d", "--output", "o"]
        words += {"classify": ["--target", "phone"], "untangle": ["--by", "word"], "evaluate": ["--probes", "b"]}.get(
            command, []
        )
        full = expand(lambda command=command: build_parser(command), words, command)
        parsed = vars(build_parser(command).parse_args(full))
        for key in values:
            assert key.replace("-", "_") in parsed
