"""Every kind of file that hfprobe reads, spoiled: a correct read or a clear error, nothing else."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import attacks
import mutations
import pytest
import yaml
from guarded import outcome
from hypothesis import given, settings
from kinds import all_kinds
from mutations import FUZZ

import hfprobe

ROOT = Path(hfprobe.__file__).resolve().parent
KINDS = {kind.name: kind for kind in all_kinds()}


class Victim:
    """A valid file in a folder of its own, which can be spoiled and made whole again."""

    def __init__(self, kind, folder: Path):
        self.kind, self.canary, self.folder = kind, folder / "code-ran", folder / "victim"
        self.folder.mkdir()
        self.path = kind.make(self.folder)
        self.valid = self.path.read_bytes()
        self.kept = folder / "kept"
        shutil.copytree(self.folder, self.kept, symlinks=True)

    def restore(self) -> None:
        """As it was; all of the folder where more than the one file may have changed."""
        if self.kind.after is not None or not self.folder.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self.kept, self.folder, symlinks=True)
            return
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(self.valid)

    def outcome(self, secrets: tuple[str, ...] = ()) -> str:
        if self.kind.after is not None:
            self.kind.after(self.path)
        names = (self.path.name, self.path.parent.name, self.folder.name, *self.kind.named)
        try:
            return outcome(lambda: self.kind.read(self.path), names, self.canary, secrets)
        finally:
            self.restore()

    def spoiled(self, data: bytes) -> str:
        self.path.write_bytes(data)
        return self.outcome()


@pytest.fixture(scope="module")
def victims(tmp_path_factory):
    made: dict[str, Victim] = {}

    def get(name: str) -> Victim:
        if name not in made:
            made[name] = Victim(KINDS[name], tmp_path_factory.mktemp("fuzz"))
        return made[name]

    return get


def examples(kind):
    """Fewer where a read takes long."""
    return settings(FUZZ, max_examples=max(5, FUZZ.max_examples // (2 if kind.slow else 1)))


@pytest.mark.parametrize("name", KINDS)
def test_a_valid_file_is_read(victims, name):
    assert victims(name).outcome() == "read"


@pytest.mark.parametrize("name", KINDS)
def test_spoiled_bytes(victims, name):
    victim = victims(name)

    @examples(victim.kind)
    @given(data=mutations.spoiled_bytes(victim.valid))
    def check(data):
        victim.spoiled(data)

    check()


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.form != "binary"])
def test_spoiled_content(victims, name):
    victim, form = victims(name), KINDS[name].form
    if form == "lines":
        strategy = mutations.spoiled_lines(victim.valid)
    else:
        load, dump = (json.loads, mutations.as_json) if form == "json" else (yaml.safe_load, mutations.as_yaml)
        strategy = mutations.trees(load(victim.valid)).map(dump)

    @settings(examples(victim.kind), max_examples=2 * examples(victim.kind).max_examples)
    @given(data=strategy)
    def check(data):
        victim.spoiled(data)

    check()


@pytest.mark.parametrize("name", KINDS)
def test_planted_content(victims, name):
    victim, wrong = victims(name), []
    for title, content in attacks.contents(victim.canary).items():
        try:
            victim.spoiled(content)
        except AssertionError as error:
            wrong.append(f"{title}: {str(error)[:400]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_file(victims, name):
    victim, wrong = victims(name), []
    for title, put in attacks.PLACES.items():
        victim.path.unlink()
        put(victim.path)
        try:
            victim.outcome()
        except (AssertionError, BaseException) as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong.append(f"{title}: {type(error).__name__} {str(error)[:400]}")
    assert not wrong, "\n".join(wrong)


# Modules that open files nobody else wrote, or hand on what others have read.
NOT_OF_OTHERS = {
    "analysis/pieces.py": "a damaged piece is measured again: tests/faults/test_killed.py",
    "asr/join.py": "two trainings of one's own, by the readers tried here",
    "asr/ship.py": "a training of one's own, by the readers tried here",
    "analysis/score.py": "only sounds that load_audio has read",
    "cli/classify.py": "a table just written",
    "cli/evaluate.py": "a table just written",
    "cli/invariance.py": "a table just written",
    "cli/push.py": "a card, by read_text",
    "cli/similarity.py": "a table just written",
    "cli/untangle.py": "a table just written",
    "data/hub_noise.py": "an index of one's own in the cache; a damaged one is made again",
    "encoders/speechbrain.py": "code that has to be trusted explicitly: tests/encoders/test_speechbrain.py",
    "files.py": "a lock; tests/faults",
    "hub/pickled.py": "a reader itself, tried by those who use it",
    "hub/upload.py": "a card that was checked",
    "plain.py": "a reader itself, tried by those who use it",
    "probes/bank_push.py": "a card, by read_text",
    "probes/modeling.py": "config.json of a bank",
    "probes/strict_probe.py": "config.json of a bank",
    "reports/cards/render.py": "a template of the package",
    "reports/listening_page.py": "a template of the package",
    "reports/page.py": "a template of the package",
    "reports/paper_section.py": "pictures just drawn",
    "reports/room.py": "kept sounds that read_sounds has checked",
}
OPENS = re.compile(
    r"\b(?:read_(?:text|json|yaml|bytes|pickled)|safe_open|load_file|json\.loads?|yaml\.(?:safe_)?load|torch\.load|"
    r"SoundFile|(?:sf|soundfile)\.info|memmap|Image\.open|h5py\.File|load_hyperpyyaml)\("
)


def test_whoever_reads_a_file_is_here():
    """A new reader gets a kind of file, or a reason why not."""
    tried = {module for kind in KINDS.values() for module in kind.readers}
    assert not [module for module in [*tried, *NOT_OF_OTHERS] if not (ROOT / module).is_file()]
    missing = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        opens = any(OPENS.search(line) and ">>>" not in line for line in path.read_text().splitlines())
        if opens and name not in tried and name not in NOT_OF_OTHERS and not name.startswith("bench/"):
            missing.append(name)
    assert not missing, f"files are read in {missing}: add them to a module kinds_*.py"


def test_nothing_but_tensors_is_unpickled():
    """One place calls PyTorch's loader, and one YAML's; nobody calls `pickle`."""
    allowed = {"hub/pickled.py", "plain.py"}
    calls = re.compile(
        r"\b(?:torch\.load|pickle\.loads?|Unpickler|np\.load|joblib\.load|yaml\.(?:unsafe_|full_)?load)\("
    )
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if calls.search(path.read_text())}
    assert found == allowed, found
