"""``hfprobe card`` as typed: a card whose code runs, samples that are there, one-line errors with nothing written."""

import re
from pathlib import Path

import pytest
import soundfile
import yaml
from huggingface_hub import ModelCard

from hfprobe.cli import main
from hfprobe.reports.cards import validate_card
from hfprobe.results import ResultRow, Results


@pytest.fixture
def measured(world, tmp_path):
    """Results of the tiny recogniser, and of another."""
    layers = list(yaml.safe_load(Path(world.bank, "bank.json").read_text())["layers"])
    rows = [
        ResultRow(name, layer, "clean", metric, 0.25, 0.2, 0.3, 12)
        for name in ("enc", "elsewhere") for layer in layers for metric in ("eer", "stoi")
    ]  # fmt: skip
    Results(rows, {"command": "hfprobe evaluate"}, {"dataset": "espeak:test"}).to_json(
        tmp_path / "run" / "results.json"
    )
    (tmp_path / "run" / "differences.json").write_text('{"differences": []}', encoding="utf-8")
    return str(tmp_path / "run")


def code_of(card):
    (code,) = re.findall(r"^```python\n(.*?)^```$", card.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return code


def test_card_of_a_bank(world, measured, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    command = [
        "card",
        world.bank,
        "--encoder",
        world.encoder,
        "--results",
        measured,
        "--license",
        "cc-by-4.0",
        "--output",
        str(folder),
    ]
    assert main([*command, "--samples", world.wav, "--max-seconds", "0.5", "--iterations", "2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "only if the speaker agreed" in printed[0] and str(folder / "README.md") in printed[-1]
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert validate_card(text, folder) == [] and (folder / "layers.png").read_bytes()[:4] == b"\x89PNG"
    card = ModelCard(text)
    assert card.data.license == "cc-by-4.0" and card.data.model_name == "bank" and len(card.data.eval_results) >= 4
    layers = [result.metric_args["layer"] for result in card.data.eval_results if result.metric_type == "stoi"]
    sounds = sorted(folder.glob("samples/00-a/*.flac"))
    assert [sound.stem for sound in sounds] == sorted([*layers, "input", "ceiling"])
    assert all(soundfile.info(sound).frames == 8000 and f"(samples/00-a/{sound.name})" in text for sound in sounds)
    assert (
        "| `dataset` | espeak:train |" in text and "| `hidden_dim` | 8 |" in text
    )  # of the bank, and of the run's settings
    assert world.bank not in text and str(tmp_path) not in text
    # The card's code runs where bank, encoder and recording lie.
    monkeypatch.chdir(Path(world.bank).parent)
    scope = {}
    exec(
        compile(
            code_of(folder / "README.md")
            .replace('"my.wav"', repr(world.wav))
            .replace('f"{layer}.flac"', f'f"{tmp_path}/{{layer}}.flac"'),
            "card",
            "exec",
        ),
        scope,
    )
    assert sorted(path.stem for path in tmp_path.glob("*.flac")) == sorted(layers)


def test_card_of_an_encoder_and_what_its_maker_says(world, measured, tmp_path, monkeypatch, capsys):
    about = {"summary": "A *toy*.", "license": "mit", "language": ["en"], "data": ["Nothing."], "tags": ["toy"]}
    (tmp_path / "about.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    card = tmp_path / "enc.md"
    command = [
        "card",
        world.encoder,
        "--about",
        str(tmp_path / "about.yaml"),
        "--base-model",
        "user/base",
        "--output",
        str(card),
    ]
    assert main([*command, "--results", measured]) == 0
    data = ModelCard(card.read_text(encoding="utf-8")).data
    assert (data.license, data.base_model, data.language) == ("mit", "user/base", ["en"]) and "toy" in data.tags
    assert data.pipeline_tag == "automatic-speech-recognition" and (tmp_path / "enc-layers.png").is_file()
    text = card.read_text(encoding="utf-8")
    assert "A *toy*." in text and "- Nothing." in text and "(enc-layers.png)" in text
    monkeypatch.chdir(Path(world.encoder).parent)
    capsys.readouterr()
    exec(compile(code_of(card).replace('"my.wav"', repr(world.wav)), "card", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_card_for_a_repository_loads_from_it(world, tmp_path):
    card = tmp_path / "card.md"
    command = [
        "card",
        world.bank,
        "--repo-id",
        "user/probes",
        "--encoder",
        world.encoder,
        "--no-picture",
        "--output",
        str(card),
    ]
    assert main(command) == 0
    code = code_of(card)
    assert (
        'ProbeBank.from_pretrained("user/probes")\n' in code and 'AutoSpeechEncoder.from_pretrained("enc")  #' in code
    )
    assert ModelCard(card.read_text(encoding="utf-8")).data.license == "unknown" and "not stated" in card.read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    "case, words",
    [
        ("license", "'own' is not known"),
        ("other", "license_name"),
        ("missing results", "does not exist"),
        ("foreign results", "hold nothing of encoder 'enc' but of pure"),
        ("folder without results", "no result file"),
        ("about", "no 'licence'"),
        ("about is no YAML", "cannot be read"),
        ("samples", "give --probes BANK"),
        ("bad sample", "does not exist"),
        ("nothing", "--shipped"),
        ("shipped", "takes no BANK_OR_ENCODER"),
        ("other encoder", "other"),
        ("no such bank", "neither a shipped encoder"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(world, tmp_path, capsys, case, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("licence: mit\n", encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("a: [", encoding="utf-8")
    Results([ResultRow("pure", "l", "clean", "eer", 0.5, n=2)]).to_json(tmp_path / "pure.json")
    bank, out = [world.bank], tmp_path / "new" / "README.md"
    given = {
        "license": [*bank, "--license", "own"],
        "other": [*bank, "--license", "other"],
        "missing results": [*bank, "--results", str(tmp_path / "no.json")],
        "foreign results": [*bank, "--results", str(tmp_path / "pure.json")],
        "folder without results": [*bank, "--results", str(tmp_path / "empty")],
        "about": [*bank, "--about", str(tmp_path / "bad.yaml")],
        "about is no YAML": [*bank, "--about", str(tmp_path / "broken.yaml")],
        "samples": [world.encoder, "--samples", world.wav],
        "bad sample": [*bank, "--encoder", world.encoder, "--samples", str(tmp_path / "no.wav")],
        "nothing": [],
        "shipped": [*bank, "--shipped"],
        "other encoder": [*bank, "--encoder", world.other],
        "no such bank": ["nosuch"],
    }[case]
    before = sorted(tmp_path.rglob("*"))
    assert main(["card", *given, "--output", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("hfprobe: error: ") and error.count("\n") == 1 and words in error
    assert sorted(tmp_path.rglob("*")) == before


def test_all_shipped_cards_by_one_command(tmp_path, capsys, monkeypatch):
    from hfprobe.cli import card

    monkeypatch.setattr(card, "shipped_cards", lambda: [("encoder", "blstm-robust"), ("bank", "blstm-robust")])
    results = Path(__file__).resolve().parents[2] / "recipes" / "speechocean762" / "asr1" / "results"
    assert main(["card", "--shipped", "--results", str(results), "--output", str(tmp_path), "--no-picture"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"2 cards and their template are in {tmp_path}"
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["banks/blstm-robust/README.md", "encoders/blstm-robust/README.md", "template.md.j2"]
