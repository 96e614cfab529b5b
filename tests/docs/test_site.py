"""The site builds without warnings and fetches nothing; its pages hold what is generated for them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("mkdocs", reason="builds the pages; install the extra 'docs'")
pytest.importorskip("material", reason="builds the pages; install the extra 'docs'")
pytest.importorskip("mkdocstrings", reason="builds the pages; install the extra 'docs'")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # A proxy that nobody listens on: whatever would be fetched fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "docs" / "mkdocs.yml"), "-d", str(folder)],
        capture_output=True, text=True, timeout=600, env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]
    return folder


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    loads = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^"'> ]+""")
    foreign = {found for page in pages for found in loads.findall(page.read_text(encoding="utf-8"))}
    # The address of the site's own pages is no load; there is none, as no site_url is set.
    assert foreign == set()
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", style.read_text(encoding="utf-8")), style


def test_command_line_is_complete(site):
    from hfprobe.cli import COMMANDS, build_parser

    page = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"hfprobe {command}" in page
        (commands,) = (
            a for a in build_parser(command)._actions if hasattr(a, "choices") and isinstance(a.choices, dict)
        )
        for action in commands.choices[command]._actions:
            if action.option_strings and action.help != "==SUPPRESS==" and action.dest != "help":
                assert action.option_strings[0] in page, f"{command} {action.option_strings[0]}"


def test_api_pages_show_what_packages_export(site):
    import importlib

    for package in ("audio", "metrics", "similarity", "manifold", "encoders", "data", "probes", "testing"):
        page = (site / "reference" / "api" / f"{package}.html").read_text(encoding="utf-8")
        for name in importlib.import_module(f"hfprobe.{package}").__all__:
            if name.isupper():  # constants are not documented on the pages
                continue
            full = f"hfprobe.{package}.{name}"
            places = {full, f"{full}.{name}"}  # a function of its module's name is shown under the module
            assert any(f'id="{place}"' in page for place in places), f"{full} is not on its page"


def test_measures_in_the_table_exist():
    import importlib

    text = (ROOT / "docs" / "pages" / "reference" / "measures.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ") and "`hfprobe" in line]
    count = 0
    for cell in rows:
        module = None
        for name in re.findall(r"`([\w.]+)`", cell):
            if name.startswith("hfprobe."):
                module, _, name = name.rpartition(".")
            assert module is not None and hasattr(importlib.import_module(module), name), f"{module}.{name}"
            count += 1
    assert count > 30
