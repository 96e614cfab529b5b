"""Every recipe is listed, reads its configurations, and answers to its options, without running a stage."""

import json
import os
import re
import subprocess
import sys
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


def plan(folder, *words):
    """Every command that the speechocean762 recipe would run, recorded by stand-ins for python and hfprobe.

    They leave behind what the next stage looks for.
    """
    log = folder / "log.jsonl"
    stub = f"#!{sys.executable}\nimport json, sys\nopen({str(log)!r}, 'a').write(json.dumps(sys.argv) + '\\n')\n"
    own = f"sys.path.insert(0, {str(Path(__file__).parent / 'recipes')!r})\nfrom pretended import pretend\npretend(sys.argv[1:])\n"
    for name, text in (("fakepython", stub + own), ("hfprobe", stub)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": str(folder / "fakepython"),
        "PYTHONPATH": str(ROOT),
    }
    script = ROOT / "recipes" / "speechocean762" / "asr1" / "run.sh"
    done = subprocess.run(
        ["bash", str(script), "--exp", str(folder / "exp"), *words], env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line)[1:] for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The whole recipe, with all its architectures."""
    return plan(tmp_path_factory.mktemp("plan"), "--archs", "blstm vgg_blstm transformer")


def test_upper_layers_go_on_alone(tmp_path):
    from hfprobe.asr.task import StreamASRTask

    words = plan(tmp_path, "--archs", "vgg_blstm", "--upper-epochs", "3 4", "--stop-stage", "5")
    modules = [call[1].removeprefix("hfprobe.asr.") for call in words if call[0] in ("-m", "local/steps.py")]
    train = ["conf/train_upper.yaml", "train"]
    baseline = ["states"] * 3 + train + train  # clean states serve both cycles
    robust = ["states"] * 4 + train + ["states"] * 5 + train  # other noise for the second
    assert modules[modules.index("states") :] == [*baseline, "join", "ship", *robust, "join", "ship", "ship"]
    config = ROOT / "recipes" / "speechocean762" / "asr1" / "conf" / "train_upper.yaml"
    calls = [call for call in words if "--hf_states" in call]
    passes = {"baseline": (range(3), range(3)), "robust": (range(4), range(4, 9))}
    for (kind, cycle), call in zip(((k, c) for k in passes for c in (0, 1)), calls, strict=True):
        args = StreamASRTask.get_parser().parse_args(["--config", str(config), *call[4:]])
        assert args.max_epoch == 3 + cycle and args.scheduler_conf["total_steps"] == 7 * args.max_epoch + 30
        assert [Path(folder).name for folder in args.hf_states] == [f"{kind}.{n}" for n in passes[kind][cycle]]
        assert args.hf_bfloat16 == "auto" and args.seed == 5 + 2 * cycle
        given = [place.split(":") for place in args.init_param]
        parts = [["encoder.enc.1", "encoder.enc.0"], ["ctc", "ctc"]]
        assert [place[1:] for place in given] == ([[]] if cycle else parts)
        source = f"vgg_blstm_{kind}" + ("_states1" if cycle else "")
        assert {Path(place[0]).parent.name for place in given} == {source}
        assert Path(args.output_dir).name == f"vgg_blstm_{kind}_states{cycle + 1}"
    calls = [call for call in words if call[1] == "hfprobe.asr.states"]
    given = [[call[call.index(option) + 1] for call in calls] for option in ("--noise", "--speed", "--epoch")]
    assert given[0] == ["none"] * 3 + ["local"] * 9
    assert given[1] == ["1.0", "0.9", "1.1"] + ["1.0", "0.9", "1.1", "1.0"] + ["1.0", "0.9", "1.1", "1.0", "0.95"]
    assert given[2] == list("012" + "012345678")
    assert [call[2] for call in words if call[1] == "hfprobe.asr.ship"][-1].endswith("vgg_blstm_robust_upper")


def test_upper_layers_can_be_left_as_they_are(tmp_path):
    words = plan(tmp_path, "--archs", "vgg_blstm", "--upper-epochs", "0", "--stop-stage", "5")
    assert not any("hfprobe.asr.states" in call or "hfprobe.asr.join" in call for call in words)


def test_a_language_model_reads_again(tmp_path):
    from hfprobe.asr.train import quiet_nltk

    quiet_nltk()
    from espnet2.tasks.lm import LMTask

    words = plan(tmp_path, "--language-model", "true", "--archs", "blstm", "--stage", "8", "--stop-stage", "8")
    train, ship, rates = words
    config = ROOT / "recipes" / "speechocean762" / "asr1" / "conf"
    options = [str(config / "train_lm.yaml") if word == "conf/train_lm.yaml" else word for word in train[2:]]
    at = options.index("--corpus")
    args = LMTask.get_parser().parse_args(options[:at] + options[at + 2 :])
    recogniser = yaml.safe_load((config / "train_vgg_blstm.yaml").read_text())
    assert args.token_list == recogniser["token_list"] and args.lm == "seq_rnn"
    assert train[:2] == ["-m", "hfprobe.asr.train_lm"] and ship[1] == "hfprobe.asr.ship"
    assert rates[rates.index("--lm") + 1] == ship[3] and rates[0] == "local/error_rates.py"


def test_every_training_of_the_recipe_is_understood_by_espnet(planned):
    from hfprobe.asr.task import StreamASRTask

    parser = StreamASRTask.get_parser()
    config = ROOT / "recipes" / "speechocean762" / "asr1"
    names = []
    for words in planned:
        if words[:2] != ["-m", "hfprobe.asr.train"] or "--hf_states" in words:
            continue
        options = [str(config / word) if word.startswith("conf/") else word for word in words[2:]]
        args = parser.parse_args(options)
        names.append(Path(args.output_dir).name)
        assert len(args.hf_train) == 2 and args.max_epoch >= 4
        shares = [float(corpus.split("@")[1]) for corpus in args.hf_train]
        assert sum(shares) == pytest.approx(1) and all(0 < share < 1 for share in shares)
        assert (args.hf_noise == "local") == ("robust" in args.output_dir)
        for given in args.init_param:
            file = Path(given.split(":")[0])
            assert file.is_file() or file.parent.name in names, given  # shipped, or made by an earlier stage
        assert args.specaug is None and args.hf_speeds == [] and args.hf_history == 0
        if args.scheduler == "onecyclelr":
            assert "warmup_steps" not in args.scheduler_conf
            assert args.scheduler_conf["total_steps"] >= args.max_epoch * args.num_iters_per_epoch
    assert names == [
        "blstm_start1", "vgg_blstm_start1", "vgg_blstm_start2", "transformer_start1",
        "blstm_baseline", "blstm_robust", "vgg_blstm_baseline_cycle1", "vgg_blstm_baseline",
        "vgg_blstm_robust_cycle1", "vgg_blstm_robust", "transformer_baseline", "transformer_robust",
    ]  # fmt: skip


def test_the_copied_layers_are_those_of_the_two_architectures(planned):
    import torch

    from hfprobe.encoders.auto import shipped_folder

    first = next(words for words in planned if "--freeze_param" in words)
    at = first.index("--init_param") + 1
    given = [word.split(":") for word in first[at:] if ":" in word]
    weights = torch.load(next((shipped_folder() / "blstm-baseline").glob("*.pth")), weights_only=True)
    assert {src for _, src, _ in given} == {"ctc"} | {
        f"encoder.enc.0.{p}{n}" for p in ("birnn", "bt") for n in range(1, 5)
    }
    for _, src, dst in given:
        assert any(key.startswith(f"{src}.") for key in weights)
        assert dst == src.replace("enc.0", "enc.1")


def test_every_hfprobe_command_of_the_recipe_parses(planned):
    from hfprobe.cli import build_parser

    commands = [words for words in planned if words[0] in ("train", "evaluate")]
    assert len(commands) == 3 * 3  # three architectures: two banks and one evaluation each
    for words in commands:
        assert build_parser(words[0]).parse_args(words).command == words[0]


def test_error_rates_of_a_shipped_recogniser(tmp_path):
    script = ROOT / "recipes" / "speechocean762" / "asr1" / "local" / "error_rates.py"
    options = ["--dataset", "espeak:test", "--noise", "generated", "--snr", "clean", "--per-speaker", "1"]
    done = subprocess.run(
        [sys.executable, str(script), "blstm-baseline", *options, "--output", str(tmp_path / "rates")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["metric"]: row for row in json.loads((tmp_path / "rates" / "results.json").read_text())["rows"]}
    assert 0 < rows["cer"]["ci_low"] <= rows["cer"]["value"] <= rows["cer"]["ci_high"] and rows["cer"]["n"] == 20
    assert rows["wer"]["value"] > rows["cer"]["value"] and "blstm-baseline" in done.stdout
    assert {path.name for path in (tmp_path / "rates").iterdir()} == {"results.json", "results.csv", "results.md"}
