"""Settings, tables, results, alignments."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import made_up
import yaml
from kinds import Kind

from hfprobe.analysis.score_speakers import speakers_of
from hfprobe.asr.manifest import Split, Utterance, load_split, write_split
from hfprobe.asr.tokens import read_config, read_token_list
from hfprobe.cli import build_parser
from hfprobe.cli.card_facts import read_about
from hfprobe.cli.config_file import expand
from hfprobe.data.alignments import load_alignments
from hfprobe.errors import ConfigError
from hfprobe.plain import read_text
from hfprobe.probes.training_log import add_line, cut_log
from hfprobe.reports.cards.files import load_results
from hfprobe.reports.cards.validate import validate_card
from hfprobe.reports.kept import read_sounds
from hfprobe.reports.runs import load_runs
from hfprobe.results import Results

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0.1
            xmax = 0.9
            text = "the"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.5
        intervals: size = 2
        intervals [1]:
            xmin = 0.1
            xmax = 0.4
            text = "DH"
        intervals [2]:
            xmin = 0.4
            xmax = 0.9
            text = "AH0"
"""
CARD = """---
license: mit
library_name: hfprobe
pipeline_tag: automatic-speech-recognition
language: [en]
tags: [hfprobe, audio]
datasets: [a/b]
model-index:
  - name: x
    results:
      - task: {type: audio-to-audio}
        dataset: {type: a/b, name: b}
        metrics: [{type: stoi, value: 0.5}]
---
# Probes

See [the figure](figure.png).
"""


def text(name: str, content: str):
    """A maker of one text file."""

    def make(folder: Path) -> Path:
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return make


def results(folder: Path) -> Path:
    Results(made_up.rows(), {"command": "hfprobe evaluate"}, {"seed": 0}).to_json(folder / "results.json")
    return folder / "results.json"


def differences(folder: Path) -> Path:
    results(folder)
    line = {"encoder": "a", "layer": "cnn1", "other_encoder": "a", "other_layer": "cnn2", "condition": "clean", "n": 3}
    line |= {"metric": "eer", "difference": 0.1, "ci_low": 0.0, "ci_high": 0.2, "p_value": 0.5, "n_dropped": 0}
    (folder / "differences.json").write_text(json.dumps({"differences": [line]}))
    return folder / "differences.json"


def kept(folder: Path) -> Path:
    made_up.keep_views([made_up.view(seconds=0.3, layers=("cnn1",))], folder)
    return next(folder.rglob("index.json"))


def read_kept(path: Path):
    """As a page does: sounds and pictures too."""
    for view in read_sounds(path.parents[1]):
        for condition in view.conditions:
            for _, _, clip in condition.clips():
                assert clip.waveform.ndim == 1 and clip.mel.ndim == 2
    load_runs([path.parents[1]])


def split(folder: Path) -> Path:
    heard = [Utterance("u1", 16000, "ann", "HELLO THERE"), Utterance("u2", 8000, "", "YES")]
    return write_split(Split("dev", "espeak:test", heard), folder)


def log(folder: Path) -> Path:
    for step in (1, 2, 3):
        add_line(folder, step=step, seconds=0.5, loss={"cnn1": 1.0})
    return folder / "train_log.jsonl"


def read_options(path: Path):
    """``--config``; argparse ends the program with status 2 and one line."""
    words = ["evaluate", "--config", str(path), "--output", "x"]
    said: list[str] = []

    class Heard:
        write, flush = said.append, lambda *_: None

    before, sys.stderr = sys.stderr, Heard()
    try:
        build_parser("evaluate").parse_args(expand(lambda: build_parser("evaluate"), words, "evaluate"))
    except SystemExit as error:
        assert error.code == 2 and "".join(said).count("\n") == 1, said
        raise ConfigError("".join(said).strip()) from error
    finally:
        sys.stderr = before


def read_card(path: Path):
    """Nothing is raised for a bad card: there is a list of problems."""
    given = read_text(path, "a card")
    assert all(isinstance(problem, str) and len(problem) < 3000 for problem in validate_card(given, path.parent))


def expected(path: Path):
    """Reads of the alignment of the one utterance."""
    return load_alignments(path.parent).align_utterances(["u1"])


OPTIONS = {"encoder": ["blstm-robust"], "dataset": "espeak:test", "snr": ["clean", 10.0], "seed": 3, "wer": True}
TRAINING = {"encoder": "rnn", "encoder_conf": {"num_layers": 2}, "token_type": "char", "batch_bins": 1000000}
ABOUT = {"summary": "Probes", "license": "mit", "base_model": "a/b"}
KINDS = [
    Kind("results", ("results.py",), "json", results, Results.from_json),
    Kind("results of a run", ("reports/runs.py",), "json", results, lambda path: load_runs([path.parent])),
    Kind("results for a card", ("reports/cards/files.py",), "json", results, lambda path: load_results([path.parent])),
    Kind("differences", ("reports/runs.py",), "json", differences, lambda path: load_runs([path.parent])),
    Kind("kept sounds", ("reports/kept_sounds.py",), "json", kept, read_kept, ("sounds/", "victim"), slow=True),
    Kind("options", ("cli/config_file.py",), "yaml", text("c.yaml", yaml.safe_dump(OPTIONS)), read_options, ("hfprobe evaluate: error",)),
    Kind("training settings", ("asr/tokens.py",), "yaml", text("t.yaml", yaml.safe_dump(TRAINING)), read_config),
    Kind("about", ("cli/card_facts.py",), "yaml", text("a.yaml", yaml.safe_dump(ABOUT)), lambda p: read_about(str(p)),
         ("about", "About")),
    Kind("card", ("reports/cards/validate.py",), "lines", text("README.md", CARD), read_card),
    Kind("token list", ("asr/tokens.py",), "lines", text("tokens.txt", "<blank>\n<unk>\nA\n"), read_token_list),
    Kind("split", ("asr/manifest.py",), "lines", split, load_split),
    Kind("training log", ("probes/training_log.py",), "lines", log, lambda path: cut_log(path.parent, 2)),
    Kind("utt2spk", ("analysis/score_speakers.py",), "lines", text("utt2spk", "u1 ann\nu2 bob\n"),
         lambda path: speakers_of(["u1", "u2"], utt2spk=path)),
    Kind("TextGrid", ("data/alignments.py",), "lines", text("u1.TextGrid", TEXTGRID), expected),
    Kind("CTM", ("data/alignments.py",), "lines", text("words.ctm", "u1 1 0.1 0.8 the\nu1 1 0.9 0.2 cat 0.9\n"), expected),
]  # fmt: skip
