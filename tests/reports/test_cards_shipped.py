"""The cards in ``model_cards/``: as the template and the results give them, with the results' numbers, and code that runs."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from huggingface_hub import ModelCard

from hfprobe.cli.card import SHIPPED_FOLDERS, load_facts, shipped_cards
from hfprobe.reports.cards import load_results, render_card, template_text, validate_card

ROOT = Path(__file__).resolve().parents[2]
CARDS, RESULTS = ROOT / "model_cards", ROOT / "recipes" / "speechocean762" / "asr1" / "results"
AGAIN = "run: hfprobe card --shipped --results recipes/speechocean762/asr1/results --output model_cards"
SHIPPED = shipped_cards()


def card_of(kind, name):
    return CARDS / SHIPPED_FOLDERS[kind] / name / "README.md"


@cache
def results():
    return load_results([RESULTS])


@pytest.mark.parametrize("kind, name", SHIPPED)
def test_card_is_what_template_and_results_give(kind, name):
    path = card_of(kind, name)
    text = path.read_text(encoding="utf-8")
    made = render_card(load_facts(name, kind)[0], results(), "layers.png")
    assert made == text, AGAIN
    assert validate_card(text, path.parent) == []


def test_all_that_ships_has_a_card_and_nothing_else_has():
    there = {path.relative_to(CARDS).as_posix() for path in CARDS.rglob("README.md")} - {"README.md"}
    assert there == {card_of(kind, name).relative_to(CARDS).as_posix() for kind, name in SHIPPED}
    assert len(SHIPPED) >= 8
    assert (CARDS / "template.md.j2").read_text(encoding="utf-8") == template_text(), AGAIN
    listed = (CARDS / "README.md").read_text(encoding="utf-8")
    assert all(f"({SHIPPED_FOLDERS[kind]}/{name}/README.md)" in listed for kind, name in SHIPPED)
    assert AGAIN.removeprefix("run: ") in listed


COLUMNS = {"EER (%)": ("eer", 100, 1), "STOI": ("stoi", 1, 3), "ESTOI": ("estoi", 1, 3), "PESQ": ("pesq", 1, 2),
           "WER (%)": ("wer", 100, 1), "CER (%)": ("cer", 100, 1)}  # fmt: skip
METRICS = {metric for metric, _, _ in COLUMNS.values()}


def rows_of(name, file):
    """Rows of an encoder in the files of this name, read without hfprobe, by place; input and ceiling belong to all."""
    for path in sorted(RESULTS.glob(f"*/{file}")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if any(row["encoder"] == name for row in rows):
            kept = [row for row in rows if row["encoder"] in (name, "-") and row["metric"] in METRICS]
            return {(row["layer"], row["condition"], row["metric"]): row for row in kept}
    return {}


def shown(text, rows):
    """Places whose value, as the file has it, stands in the first table of its condition; any other value fails."""
    seen = set()
    for condition in {condition for _, condition, _ in rows}:
        head = "**Clean speech**" if condition == "clean" else f"({condition})</summary>"
        table = text.split(head, 1)[1].split("Each value is from")[0].strip()
        header, _, *lines = (
            [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:1] == "|"
        )
        for line in lines:
            for label, cell in list(zip(header, line, strict=True))[1:]:
                metric, scale, digits = COLUMNS[label]
                place = (line[0].split(" ")[0], condition, metric)
                row = rows[place]
                low, value, high = (
                    "–" if row[key] is None else f"{scale * row[key]:.{digits}f}"
                    for key in ("ci_low", "value", "ci_high")
                )
                expected = value if low in ("–", value) and high == low else f"{value} ({low} to {high})"
                # Counts follow where they are not those of the column.
                counts = f", n {row['n']:,}, {row['n_failed']} failed"
                assert cell in (expected, expected + counts), place
                seen.add(place)
    return seen


@pytest.mark.parametrize("kind, name", SHIPPED)
def test_every_number_of_the_results_file_is_in_the_card(kind, name):
    text, rows = card_of(kind, name).read_text(encoding="utf-8"), rows_of(name, "evaluation.json")
    assert shown(text, rows) == set(rows) and len(rows) > 100
    twin = rows_of(f"random:{name}", "random.json") or rows_of(f"random:{name}", "evaluation.json")
    assert bool(twin) == ("### With random weights" in text)
    if twin:
        of_layers = {place for place in twin if place[0] not in ("input", "ceiling", "floor")}
        assert shown(text.split("### With random weights")[1], twin) == of_layers and len(of_layers) > 50


@pytest.mark.parametrize("kind, name", SHIPPED)
def test_the_hub_reads_each_card(kind, name):
    data = ModelCard(card_of(kind, name).read_text(encoding="utf-8")).data
    assert data.license == "other" and data.license_name and data.license_link.startswith("https://")
    assert data.library_name == "hfprobe" and data.model_name == name and "hfprobe" in data.tags
    clean = {r.metric_name: r.metric_value for r in data.eval_results}
    rates = json.loads((RESULTS / "error_rates.json").read_text(encoding="utf-8"))["rows"]
    if kind == "encoder":
        for row in (row for row in rates if row["encoder"] == name):
            assert clean[f"{row['metric'].upper()} (%), {row['condition']}"] == round(100 * row["value"], 1)
    else:
        assert {"STOI, blstm5, clean", "EER (%), blstm5, clean", "STOI, ceiling, clean"} <= set(clean)


def test_cards_are_the_same_on_any_machine():
    for path in CARDS.rglob("*.md"):
        assert not re.search(r"(?<![\w.)])/(home|root|work|tmp|usr|Users)/", path.read_text(encoding="utf-8")), path


def test_what_is_said_of_what_ships_names_only_what_ships():
    content = yaml.safe_load((ROOT / "hfprobe" / "pretrained" / "about.yaml").read_text(encoding="utf-8"))
    assert {(kind, name) for kind in ("encoder", "bank") for name in content[f"{kind}s"]} == set(SHIPPED)


@pytest.mark.parametrize("kind, name", SHIPPED)
def test_code_of_the_card_runs(kind, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    time = np.arange(8000) / 16000
    soundfile.write("my.wav", 0.3 * np.sin(2 * np.pi * 300 * time) * np.sin(2 * np.pi * 3 * time), 16000)
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", card_of(kind, name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    scope = {}
    exec(compile(code, "card", "exec"), scope)  # noqa: S102  our own card
    layers = [layer.name for layer in scope["encoder"].layers]
    if kind == "bank":
        assert sorted(path.stem for path in tmp_path.glob("*.flac")) == sorted(layers)
        assert all(soundfile.info(path).frames == 8000 for path in tmp_path.glob("*.flac"))
    else:
        printed = capsys.readouterr().out.splitlines()
        assert [line.split(" ")[0] for line in printed[: len(layers)]] == layers and len(printed) == len(layers) + 1
