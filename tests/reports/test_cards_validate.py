"""What the Hub would refuse in a card is found without a network, and a good card passes."""

import pytest

from hfprobe.reports.cards import validate_card

FRONT = {
    "license": "mit",
    "library_name": "hfprobe",
    "tags": "[hfprobe, speech]",
    "language": "en",
    "pipeline_tag": "audio-to-audio",
    "datasets": "[mispeech/speechocean762]",
    "base_model": "user/encoder",
}
INDEX = """
model-index:
- name: probes
  results:
  - task: {type: audio-to-audio}
    dataset: {type: mispeech/speechocean762, name: speechocean762}
    metrics:
    - {type: stoi, value: 0.83}
"""


def card(index=INDEX, body="# Probes\n\nText.\n", **changes):
    front = {**FRONT, **changes}
    lines = "".join(f"{key}: {value}\n" for key, value in front.items() if value is not None)
    return f"---\n{lines}{index.lstrip()}---\n{body}"


def test_a_good_card_has_no_problem():
    assert validate_card(card()) == []
    assert validate_card(card(index="")) == []
    assert validate_card(card(body="# A\n\n```bibtex\n@misc{a, title = {{ASR}}}\n```\n")) == []
    assert validate_card(card().replace("\n", "\r\n")) == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"license": None}, "lack 'license'"),
        ({"library_name": None}, "lack 'library_name'"),
        ({"tags": None}, "lack 'tags'"),
        ({"tags": "speech"}, "list of texts"),
        ({"license": "my-own"}, "'my-own' is not known"),
        ({"license": "other"}, "license_name"),
        ({"license": "other", "license_name": "My Own", "license_link": "https://a.org"}, "license_name"),
        ({"license": "other", "license_name": "own", "license_link": "see below"}, "license_link"),
        ({"language": "English"}, "ISO 639"),
        ({"language": "no"}, "ISO 639"),  # YAML's false
        ({"pipeline_tag": "hearing"}, "audio task"),
        ({"datasets": "[a b]"}, "no id of a dataset"),
        ({"base_model": "../secret"}, "no id of a model"),
        ({"base_model": "a: b"}, "not valid YAML"),
        ({"extra": "[.nan]"}, "extra[0] is nan"),
    ],
)
def test_bad_metadata_are_named(changes, words):
    problems = validate_card(card(**changes))
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize(
    "index, words",
    [
        ("model-index: probes\n", "must be a list"),
        ("model-index: [{name: a}]\n", "name and a list of results"),
        (INDEX.replace("{type: audio-to-audio}", "{}"), "lacks the type of its task"),
        (INDEX.replace(", name: speechocean762", ""), "lacks the name of its dataset"),
        (INDEX.replace("value: 0.83", "value: null"), "without type or value"),
        (INDEX.replace("0.83", ".inf"), "value is inf"),
        (INDEX.replace("metrics:", "numbers:"), "no list of metrics"),
        (INDEX + INDEX.lstrip(), "given twice"),
    ],
)
def test_bad_model_index_is_named(index, words):
    problems = validate_card(card(index=index))
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "empty"),
        ("# Only text\n", "does not begin"),
        ("---\n- a\n---\n# A\n", "keys and values"),
        ("---\n!!python/object/apply:os.getcwd []\n---\n# A\n", "not valid YAML"),
        (card(body="no heading\n"), "no heading"),
        (card(body="# A\n\n{{ license }}\n"), "placeholder '{{ license }}'"),
        (card(extra="'{{ name }}'"), "placeholder '{{ name }}'"),
        (card(body="# A\n\n[More Information Needed]\n"), "placeholder"),
        (card(body="# A\n\nhf_" + "a" * 34), "access token"),
        (card(body="# A\n" + "x" * 1_000_001), "bytes"),
    ],
)
def test_bad_text_is_named(text, words):
    problems = validate_card(text)
    assert any(words in problem for problem in problems), problems
    assert not any("hf_aaa" in problem for problem in problems)  # a token is not printed again


def test_links_must_be_files_beside_the_card(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.flac").write_bytes(b"sound")
    body = "# A\n\n[sound](samples/a.flac) ![p](https://a.org/b.png) [up](#a) `[no](link.md)`\n\n```\n[no](x.md)\n```\n"
    assert validate_card(card(body=body), tmp_path) == []
    bad = '# A\n\n![p](layers.png) [o](../other.md) [abs](/etc/passwd) <audio src="samples/b.flac"></audio>\n'
    problems = validate_card(card(body=bad), tmp_path)
    assert [
        word in problem
        for word, problem in zip(("layers.png", "../other.md", "/etc/passwd", "b.flac"), problems, strict=True)
    ] == [True] * 4
    assert validate_card(card(body=bad)) == []  # without a folder links are not looked at


def test_every_licence_of_the_list_passes():
    from hfprobe.reports.cards.hub_names import LICENSES

    assert len(LICENSES) > 60 and {"apache-2.0", "cc-by-4.0", "other", "unknown"} <= LICENSES
    assert validate_card(card(license="other", license_name="own-1.0", license_link="LICENSE")) == []
