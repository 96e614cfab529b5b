"""What may import what: heavy packages stay where they belong, and packages import only from below."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hfprobe

ROOT = Path(hfprobe.__file__).resolve().parent
MODULES = sorted(ROOT.rglob("*.py"))
ORDER = (
    "errors", "files", "interrupts", "memory", "plain", "network", "hub", "audio", "metrics", "evaluate_modules", "similarity", "manifold", "results", "encoders", "testing", "speakers", "vocoders", "data", "probes", "asr", "analysis", "listening", "reports", "bench", "cli",
)  # fmt: skip
HOMES = {
    "espnet": ("encoders/espnet/", "asr/"),
    "espnet2": ("encoders/espnet/", "asr/"),
    "datasets": ("data/", "evaluate_modules/"),
    "accelerate": ("probes/",),
    "matplotlib": ("reports/",),
    "jinja2": ("reports/",),
}


def imported(path):
    """Dotted names of all that a module imports, inside functions too, with line numbers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "hfprobe":
                yield from ((f"hfprobe.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


def test_heavy_packages_are_imported_only_in_their_homes():
    strays, seen = [], set()
    for path in MODULES:
        relative = path.relative_to(ROOT).as_posix()
        for name, line in imported(path):
            top = name.split(".")[0]
            seen.add(top)
            if top in HOMES and not relative.startswith(HOMES[top]):
                strays.append(f"{relative}:{line} imports {name}")
    assert strays == []
    assert set(HOMES) - {"espnet", "accelerate"} <= seen  # the walk does see imports


def test_packages_import_only_from_below():
    wrong = []
    for path in MODULES:
        relative = path.relative_to(ROOT)
        package = relative.parts[0].removesuffix(".py")
        if package not in ORDER:  # __init__, __main__ and progress stand outside the order
            assert package in ("__init__", "__main__", "progress"), f"{package} has no place in the order"
            continue
        for name, line in imported(path):
            parts = name.split(".")
            if parts[0] == "hfprobe" and len(parts) > 1 and parts[1] in ORDER:
                if ORDER.index(parts[1]) > ORDER.index(package):
                    wrong.append(f"{relative}:{line} imports {name}")
    assert wrong == []


def loaded_by(statement):
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_hfprobe_is_light():
    loaded = loaded_by("import hfprobe, hfprobe.cli")
    assert "hfprobe" in loaded
    assert loaded & {"espnet2", "espnet", "datasets", "matplotlib", "transformers", "accelerate", "torch"} == set()


def test_public_names_are_fetched_on_first_use():
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.probes import HighwayProbe, HighwayProbeConfig, ProbeBank

    assert hfprobe.AutoSpeechEncoder is AutoSpeechEncoder and hfprobe.HighwayProbe is HighwayProbe
    assert hfprobe.HighwayProbeConfig is HighwayProbeConfig and hfprobe.ProbeBank is ProbeBank
    assert set(hfprobe.__all__) <= set(dir(hfprobe))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        hfprobe.Nothing  # noqa: B018


def test_version_is_a_literal():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    values = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "__version__"]
    assert len(values) == 1 and ast.literal_eval(values[0]) == hfprobe.__version__


def test_help_does_not_load_heavy_packages():
    loaded = loaded_by("from hfprobe.cli import main\nassert main(['--help']) == 0")
    assert loaded & {"espnet2", "espnet", "datasets", "matplotlib", "transformers", "accelerate", "torch"} == set()
