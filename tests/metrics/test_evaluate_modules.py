"""The modules for `evaluate`: loaded offline from their folders, equal to hfprobe's measures, and cards that are true."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from hfprobe import evaluate_modules
from hfprobe.errors import ConfigError
from hfprobe.evaluate_modules import NAMES, path
from hfprobe.metrics import bootstrap_eer, bootstrap_mean, bootstrap_min_dcf, eer, estoi, her, min_dcf, pesq, stoi

SECTIONS = (
    "Metric description", "Range and direction", "How to use", "Inputs", "Output values", "Examples", "Perfect",
    "Partial", "Bad", "Limitations and bias", "Citation", "Further references",
)  # fmt: skip


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """`evaluate.load` with a cache of its own."""
    import evaluate
    from evaluate import config

    cache = tmp_path_factory.mktemp("hf")
    patch = pytest.MonkeyPatch()
    patch.setattr(config, "HF_METRICS_CACHE", str(cache / "metrics"))
    patch.setattr(config, "HF_MODULES_CACHE", str(cache / "modules"))
    patch.syspath_prepend(str(cache / "modules"))
    loaded, original = {}, evaluate.load

    def of(name):
        if name not in loaded:
            loaded[name] = original(path(name), keep_in_memory=True)
        return loaded[name]

    yield of
    patch.undo()


def test_every_folder_is_whole():
    root = Path(evaluate_modules.__file__).parent
    assert {folder.name for folder in root.iterdir() if folder.is_dir() and folder.name != "__pycache__"} == set(NAMES)
    for name in NAMES:
        there = {file.name for file in Path(path(name)).iterdir()} - {"__pycache__"}
        assert there == {f"{name}.py", "README.md", "app.py", "requirements.txt"}
    with pytest.raises(ConfigError, match="min_dcf"):
        path("mos")


@pytest.mark.parametrize("name", NAMES)
def test_cards_have_all_sections_and_front_matter(name):
    text = Path(path(name), "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["sdk"] == "gradio" and front["app_file"] == "app.py" and {"evaluate", "metric"} <= set(front["tags"])
    assert len(front["description"]) > 40 and front["title"]
    places = [body.find(section) for section in SECTIONS]
    assert min(places) > 0 and places == sorted(places), dict(zip(SECTIONS, places, strict=True))
    source = Path(path(name), f"{name}.py").read_text(encoding="utf-8")
    citation = re.search(r'_CITATION = """\n(.*?)"""', source, re.S)[1].strip()
    assert citation in body and citation.startswith("@")


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_on_the_card_come_out_again(name, load):
    import evaluate

    text = Path(path(name), "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 4
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, name, None, 0)
    patch = pytest.MonkeyPatch()
    patch.setattr(evaluate, "load", lambda folder: load(Path(folder).name))
    try:
        outcome = doctest.DocTestRunner(verbose=False).run(examples)
    finally:
        patch.undo()
    assert outcome.failed == 0 and outcome.attempted > 8


@pytest.mark.parametrize("name", NAMES)
def test_info(name, load):
    info = load(name).info
    assert load(name).name == name and info.citation and info.license and info.reference_urls
    assert "Args:" in info.inputs_description and "Examples:" in info.inputs_description


def _trials(seed=0):
    generator = np.random.default_rng(seed)
    speakers = np.repeat(list("abcdefgh"), 4)
    left, right = np.triu_indices(len(speakers), k=1)
    labels = (speakers[left] == speakers[right]).astype(int)
    return generator.normal(0, 1, len(left)) + 1.5 * labels, labels, speakers[left], speakers[right]


def test_verification_is_hfprobes(load):
    scores, labels, left, right = _trials()
    sides = {"left_speakers": left, "right_speakers": right}
    result = load("eer").compute(predictions=scores, references=labels, **sides)
    assert (result["eer"], result["ci_low"], result["ci_high"]) == tuple(bootstrap_eer(scores, labels, left, right))
    assert result["n"] == len(scores)
    other = load("eer").compute(predictions=scores, references=labels, convention="speechbrain")
    assert other["eer"] == eer(scores, labels, "speechbrain") and other["ci_low"] is None
    result = load("eer").compute(predictions=scores, references=labels, convention="speechbrain", **sides)
    expected = bootstrap_eer(scores, labels, left, right, convention="speechbrain")
    assert (result["eer"], result["ci_low"], result["ci_high"]) == tuple(expected)
    result = load("min_dcf").compute(predictions=scores, references=labels, p_target=0.1, **sides)
    expected = bootstrap_min_dcf(scores, labels, left, right, p_target=0.1)
    assert (result["min_dcf"], result["ci_low"], result["ci_high"]) == tuple(expected)
    assert load("min_dcf").compute(predictions=scores, references=labels)["min_dcf"] == min_dcf(scores, labels)


def test_batches_add_up(load):
    scores, labels, *_ = _trials(1)
    module = load("eer")
    module.add_batch(predictions=scores[:100], references=labels[:100])
    module.add_batch(predictions=scores[100:], references=labels[100:])
    assert module.compute()["eer"] == eer(scores, labels)


def test_clips_are_hfprobes(load):
    time = np.arange(24000) / 16000
    clean = [(np.sin(2 * np.pi * f * time) * np.sin(20 * time)).astype(np.float32) for f in (300, 500, 700)]
    generator = np.random.default_rng(0)
    noisy = [(c + 0.1 * generator.standard_normal(len(c))).astype(np.float32) for c in clean]
    for name, measure in (("stoi", stoi), ("estoi", estoi), ("pesq", pesq)):
        result = load(name).compute(predictions=[*noisy, 0 * clean[0]], references=[*clean, clean[0]], n_jobs=1)
        values = [measure(c, n) for c, n in zip(clean, noisy, strict=True)]
        assert result[name] == pytest.approx(np.mean(values), abs=1e-9)
        assert (result["ci_low"], result["ci_high"]) == pytest.approx(tuple(bootstrap_mean(values))[1:])
        assert (result["n"], result["n_failed"], result["failures"]) == (3, 1, {"silent": 1})
    narrow = load("pesq").compute(predictions=noisy[:1], references=clean[:1], sampling_rate=8000)["pesq"]
    assert narrow == pytest.approx(pesq(clean[0], noisy[0], 8000, "nb"))
    wide = load("pesq").compute(predictions=noisy[:1], references=clean[:1], mode="nb")["pesq"]
    assert wide == pytest.approx(pesq(clean[0], noisy[0], 16000, "nb"))
    with pytest.raises(ValueError, match="16000 Hz with wb or nb"):
        load("pesq").compute(predictions=noisy[:1], references=clean[:1], sampling_rate=44100)
    none = load("stoi").compute(predictions=[0 * clean[0]], references=[clean[0]])
    assert none["stoi"] is None and none["n"] == 0 and none["n_failed"] == 1


def test_answers_are_hfprobes(load):
    answers, key = [0, 1, -1, 1, 0], [0, 0, 1, 1, 1]
    result = load("her").compute(predictions=answers, references=key)
    expected = her([0, 1, None, 1, 0], key)
    assert (result["her"], result["ci_low"], result["ci_high"], result["n"], result["n_failed"]) == tuple(expected)


def test_loads_offline_in_an_empty_cache(tmp_path):
    """In a process of its own that cannot open a connection."""
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network here')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import evaluate\nfrom hfprobe.evaluate_modules import path\n"
        "print(evaluate.load(path('eer')).compute(predictions=[0.9, 0.8, 0.3, 0.1], references=[1, 0, 1, 0])['eer'])\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    environment = {k: v for k, v in environment.items() if not k.endswith("_OFFLINE") and not k.endswith("_CACHE")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300, cwd=tmp_path
    )
    assert done.stdout.split() == ["0.5"], done.stderr
