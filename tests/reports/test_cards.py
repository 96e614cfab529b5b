"""Cards hold the numbers of their results and nothing else; text of others stays text; the Hub's client reads them."""

import ast
import re

import pytest
from huggingface_hub import ModelCard

from hfprobe.reports.cards import About, CardFacts, LayerFacts, Sample, render_card, template_text, validate_card
from hfprobe.reports.cards.measured import gather
from hfprobe.reports.cards.metadata import dataset_name
from hfprobe.reports.model import ReportError
from hfprobe.results import ResultRow, Results

LAYERS = ("conv1", "lstm1", "lstm2")
CONFIG = {"dataset": "librispeech:clean/test", "utterances": 80, "test_speakers": 20, "verifier": "ge2e"}


def facts(kind="bank", encoder="vgg", about=None, **changes):
    layers = tuple(LayerFacts(name, 8, 20.0, 1234 if kind == "bank" else None, f"relu({name})") for name in LAYERS)
    settings = {"name": "vgg-probes", "source": "user/probes", "encoder_source": "user/vgg", "parameters": 3702}
    settings |= {"capacity": "highway", "recognises": True, "training": {"steps": 5}, "environment": {"torch": "2.11"}}
    said = about or About(license="mit", language="en", datasets=["user/corpus"], base_model="user/vgg")
    return CardFacts(kind, encoder=encoder, layers=layers, about=said, **{**settings, **changes})


def evaluation(
    encoder="vgg", metrics=("eer", "stoi"), conditions=("clean", "noise@10dB"), layers=LAYERS, shift=0.0, config=None
):
    rows = []
    for c, condition in enumerate(conditions):
        for m, metric in enumerate(metrics):
            for k, layer in enumerate(("input", "ceiling", *layers, "floor")):
                value = 0.101 + 0.1 * k + 0.01 * m + 0.001 * c + shift
                owner = "-" if layer in ("input", "ceiling") else encoder
                rows.append(ResultRow(owner, layer, condition, metric, value, value - 0.05, value + 0.05, 80))
    return Results(rows, {"command": "hfprobe evaluate", "date": "2026-01-02T03:04:05+00:00"}, config or CONFIG)


def tables(text):
    """Every table: header cells, and lines as dictionaries."""
    found, header = [], None
    for line in text.split("---\n", 2)[2].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else None
        if cells is None:
            header = None
        elif header is None:
            header = cells
            found.append((header, []))
        elif not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            found[-1][1].append(dict(zip(header, cells, strict=True)))
    return found


def sound_tables(text):
    return [lines for header, lines in tables(text) if header[0] == "layer" and "STOI" in header]


def test_tables_hold_every_value_with_interval_by_condition():
    results = evaluation()
    clean, noisy = sound_tables(render_card(facts(), [results]))
    for condition, table in (("clean", clean), ("noise@10dB", noisy)):
        assert [line["layer"] for line in table] == [
            "input",
            "ceiling",
            "`conv1`",
            "`lstm1`",
            "`lstm2`",
            "floor (mean mel)",
        ]
        for line in table:
            layer = line["layer"].strip("`").removesuffix(" (mean mel)")
            eer, stoi = (results.select(layer=layer, condition=condition, metric=m).rows[0] for m in ("eer", "stoi"))
            assert line["EER (%)"] == f"{100 * eer.value:.1f} ({100 * eer.ci_low:.1f} to {100 * eer.ci_high:.1f})"
            assert line["STOI"] == f"{stoi.value:.3f} ({stoi.ci_low:.3f} to {stoi.ci_high:.3f})"


def test_only_what_was_measured_is_shown():
    text = render_card(facts(), [evaluation(metrics=("pesq", "stoi"), conditions=("clean",))])
    (table,) = sound_tables(text)
    assert set(table[0]) == {"layer", "STOI", "PESQ"}
    assert "EER (%)" not in text and "WER" not in text and "verifier errs" not in text
    assert "random weights" not in text.lower().replace("with random weights, the floor", "")
    nothing = render_card(facts())
    assert "Nobody gave results" in nothing and "model-index" not in nothing and validate_card(nothing) == []


def test_failures_are_counted_and_never_a_number():
    rows = [
        row
        for row in evaluation(conditions=("clean",))
        if (row.layer, row.metric) not in (("lstm1", "stoi"), ("conv1", "stoi"))
    ]
    rows += [ResultRow("vgg", "lstm1", "clean", "stoi", None, n=0, n_failed=80)]
    rows += [ResultRow("vgg", "conv1", "clean", "stoi", 0.5, 0.4, 0.6, n=78, n_failed=2)]
    text = render_card(facts(), [Results(rows, {}, CONFIG)])
    cells = {line["layer"]: line["STOI"] for line in sound_tables(text)[0]}
    assert cells["`lstm1`"] == "–, n 0, 80 failed" and cells["`conv1`"] == "0.500 (0.400 to 0.600), n 78, 2 failed"
    named = [result.metric_name for result in ModelCard(text).data.eval_results]
    assert "STOI, conv1, clean" in named and "STOI, lstm1, clean" not in named


def test_the_hubs_client_reads_the_numbers_back():
    results = evaluation()
    card = ModelCard(render_card(facts(), [results]))
    assert card.data.license == "mit" and card.data.library_name == "hfprobe" and card.data.base_model == "user/vgg"
    assert card.data.language == ["en"] and card.data.datasets == ["user/corpus"] and "hfprobe" in card.data.tags
    assert card.data.model_name == "vgg-probes"
    back = {(r.metric_type, r.metric_args["layer"], r.metric_args["condition"]): r for r in card.data.eval_results}
    assert len(back) == len(card.data.eval_results) == 2 * 4
    for (metric, layer, condition), result in back.items():
        row = results.select(layer=layer, condition=condition, metric=metric).rows[0]
        assert result.metric_value == pytest.approx(
            100 * row.value if metric == "eer" else row.value, abs=0.0501 if metric == "eer" else 5.1e-4
        )
        assert (result.dataset_type, result.dataset_config, result.dataset_split) == (
            "openslr/librispeech_asr",
            "clean",
            "test",
        )
        assert result.task_type == "audio-to-audio"


def test_random_weights_come_from_a_run_of_their_own():
    twin = evaluation("random:vgg", shift=0.05, config={**CONFIG, "utterances": 24})
    rows = [row for row in twin if not (row.encoder == "-" and row.layer == "input")]
    rows += [ResultRow("random:vgg > vgg", "conv1", "clean", "wer", 0.875, n=24)]
    text = render_card(facts(), [evaluation(), Results(rows, {}, twin.config)])
    assert "### With random weights" in text and "utterances 24 instead of 80" in text
    main, _, random, _ = sound_tables(text)
    value = next(row.value for row in twin if (row.layer, row.condition, row.metric) == ("conv1", "clean", "stoi"))
    assert random[0]["layer"] == "`conv1`" and random[0]["STOI"].startswith(f"{value:.3f} ")
    last = [
        r.value
        for run in (evaluation(), twin)
        for r in run
        if (r.layer, r.condition, r.metric) == ("lstm2", "clean", "stoi")
    ]
    assert f"STOI from `lstm2`: {last[0]:.3f} trained, **{last[1]:.3f}** with random weights." in text
    assert (
        "read by the trained recogniser" in text
        and random[0]["WER (%)"].startswith("87.5")
        and "WER (%)" not in main[0]
    )
    # Input and ceiling of the other run belong to other clips.
    assert main[0]["STOI"].startswith("0.111 ")
    assert all(result.metric_value < 101 for result in ModelCard(text).data.eval_results)


def test_recogniser_card_has_error_rates_of_recordings():
    rates = [
        ResultRow("vgg", "input", condition, metric, value, value - 0.02, value + 0.02, 375)
        for condition, value in (("clean", 0.464), ("noise@0dB", 0.641))
        for metric in ("wer", "cer")
    ]
    run = Results(rates, {"command": "error_rates.py"}, {"dataset": "speechocean762:test"})
    text = render_card(facts("encoder"), [run, evaluation(metrics=("eer", "wer"))])
    (rows,) = [lines for header, lines in tables(text) if header[0] == "condition"]
    assert rows[1] == {"condition": "noise@0dB", "CER (%)": "64.1 (62.1 to 66.1)", "WER (%)": "64.1 (62.1 to 66.1)"}
    found = ModelCard(text).data.eval_results
    assert {(r.metric_type, r.metric_args["condition"]) for r in found} == {
        (m, c) for m in ("wer", "cer") for c in ("clean", "noise@0dB")
    }
    assert {r.task_type for r in found} == {"automatic-speech-recognition"} and found[
        0
    ].dataset_type == "mispeech/speechocean762"
    bank = render_card(facts(), [run, evaluation(metrics=("eer", "wer"))])
    assert "error_rates.py" not in bank and "64.1" not in bank


def test_second_recogniser_and_other_measures_have_their_place():
    extra = [ResultRow("vgg > whisper", layer, "clean", "wer", 0.25, 0.2, 0.3, 80) for layer in LAYERS]
    labels = [
        ResultRow("vgg", layer, "clean", metric, 0.4, 0.3, 0.5, 900)
        for layer in LAYERS
        for metric in ("accuracy", "selectivity")
    ]
    labels += [ResultRow("-", "input", "clean", "accuracy", 0.16, 0.1, 0.2, 900)]
    run = Results(labels, {"command": "hfprobe classify"}, {"target": "phone", "probe": "linear"})
    text = render_card(facts(), [Results([*evaluation(), *extra], {}, CONFIG), run])
    assert sound_tables(text)[0][2]["WER (%), read by whisper"] == "25.0 (20.0 to 30.0)"
    (known,) = [lines for header, lines in tables(text) if "phone accuracy (%)" in header]
    assert known[0] == {"layer": "input", "phone accuracy (%)": "16.0 (10.0 to 20.0)", "phone selectivity (%)": ""}
    assert "### What else was measured" in text and validate_card(text) == []


def test_contradicting_files_are_refused_and_equal_ones_are_one():
    with pytest.raises(ReportError, match="different values for vgg / conv1 / clean / eer"):
        render_card(facts(), [evaluation(), evaluation(shift=0.01)])
    one, two = render_card(facts(), [evaluation()]), render_card(facts(), [evaluation(), evaluation("pure", shift=0.2)])
    assert one == two
    assert len(gather([evaluation(), evaluation()], "vgg").sounds) == len(evaluation())


EVIL = "x|<img src=x onerror=alert(1)>`{{ 7 * 7 }}`[a](javascript:b) *c* \n---\n# Fake: 'y'\u202e"


def test_names_and_transcripts_stay_text():
    results = evaluation(EVIL)
    made = facts(
        encoder=EVIL,
        name=EVIL,
        source=EVIL,
        encoder_source=EVIL,
        training={"steps": EVIL},
        capacity=EVIL,
        environment={"torch": EVIL},
    )
    results = Results(
        results.rows,
        {"command": f"hfprobe evaluate {EVIL}", "date": EVIL},
        {**CONFIG, "dataset": EVIL, "verifier": EVIL},
    )
    sample = Sample(EVIL, "conv1", "samples/00-x/conv1.flac", EVIL, 0.5)
    text = render_card(made, [results], "layers.png", [sample])
    assert validate_card(text) == []
    body = text.split("---\n", 2)[2]
    prose = re.sub(r"^```.*?^```$", "", body, flags=re.DOTALL | re.MULTILINE)
    assert "<img" not in prose and "\u202e" not in prose and "](javascript" not in prose.replace("\\](", "")
    assert re.findall(r"^# .*", body, re.MULTILINE) == [
        line for line in body.splitlines() if line.startswith("# Probes of x")
    ]
    assert len(tables(text)) == 6  # every line as wide as its header
    card = ModelCard(text)
    assert "Fake" in card.data.model_name and "\n" not in card.data.model_name
    code = re.search(r"^```python\n(.*?)^```$", body, re.DOTALL | re.MULTILINE)[1]
    assert [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)].count(EVIL) == 2


def test_yaml_of_odd_names_is_read_back():
    for name in ("no", "1.0", "a: b", "- c", "'quoted", "{x}", "#1", "é"):
        card = ModelCard(render_card(facts(encoder="vgg", name=name), [evaluation()]))
        assert card.data.model_name == name


def test_no_folder_of_a_machine_gets_in():
    run = evaluation(config={**CONFIG, "dataset": "kaldi:/home/me/data"})
    command = {"command": "hfprobe evaluate --dataset kaldi:/home/me/data --noise=/corpora/musan --output ../secret/x"}
    text = render_card(
        facts(training={"dataset": "parquet:/home/me/a/*.parquet"}), [Results(run.rows, command, run.config)]
    )
    assert not {"/home", "/corpora", "secret"} & set(re.findall(r"/home|/corpora|secret", text))
    assert "kaldi:data" in text and "--noise=musan" in text and "parquet:\\*.parquet" in text
    assert ModelCard(text).data.eval_results[0].dataset_type == "kaldi"


@pytest.mark.parametrize(
    "spec, expected",
    [
        ("speechocean762:test", ("mispeech/speechocean762", None, "test")),
        ("librispeech", ("openslr/librispeech_asr", "clean", "test")),
        ("librispeech:other/train.500", ("openslr/librispeech_asr", "other", "train.500")),
        ("user/corpus", ("user/corpus", None, "test")),
        ("espeak:train", ("espeak", None, "train")),
        ("audiofolder:/a/b", ("audiofolder", None, None)),
        ("../x y:z", ("unknown", None, None)),
    ],
)
def test_datasets_by_the_hubs_names(spec, expected):
    found = dataset_name(spec)
    assert (found.type, found.config, found.split) == expected


def test_samples_are_linked():
    samples = [
        Sample("a b.wav", "input", "samples/00-a-b/input.flac", "HELLO", 1.0),
        Sample("a b.wav", "lstm1", "samples/00-a-b/l 1.flac"),
    ]
    text = render_card(facts(), samples=samples)
    (rows,) = [lines for header, lines in tables(text) if "sound" in header]
    assert rows[0] == {
        "layer": "input",
        "sound": "[listen](samples/00-a-b/input.flac)",
        "STOI": "1.000",
        "read as": "HELLO",
    }
    assert rows[1] == {"layer": "`lstm1`", "sound": "[listen](samples/00-a-b/l%201.flac)", "STOI": "–", "read as": "–"}


def test_sections_that_every_card_has():
    headings = ("How to load", "Data", "Training", "Environment", "Limits", "Misuse and privacy", "Licence", "Citation")
    for kind in ("bank", "encoder"):
        text = render_card(facts(kind), [evaluation()])
        assert [h for h in headings if f"\n## {h}\n" not in text] == []
        assert "1911.01102" in text and "@software{hfprobe" in text and validate_card(text) == []
        for anchor in re.findall(r"\]\(#([\w-]+)\)", text):
            assert any(
                re.sub(r"[^\w]+", "-", line.strip("# ").lower()) == anchor
                for line in text.splitlines()
                if line.startswith("## ")
            ), anchor
    assert "not stated" in render_card(facts(about=About()))


def test_a_gap_in_the_template_is_an_error(monkeypatch):
    import jinja2

    from hfprobe.reports.cards import render

    assert "{{ metadata }}" in template_text()
    environment = render._environment()
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ nothing }}").render()


@pytest.mark.parametrize(
    "given, words",
    [
        ({"licence": "mit"}, "no 'licence'; known: summary"),
        ({"data": [1]}, "data of a card must be a list"),
        ({"license": 3}, "must be a text"),
        ([], "keys and values"),
    ],
)
def test_what_a_maker_says_is_checked(given, words):
    with pytest.raises(ReportError, match=words):
        About.of(given)
