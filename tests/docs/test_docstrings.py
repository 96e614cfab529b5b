"""Docstrings: everywhere; with arguments, results and errors where users look; with examples where they look first."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import hfprobe

ROOT = Path(hfprobe.__file__).resolve().parent
# Packages whose names are the public interface: those that they export, with the methods of exported classes.
PACKAGES = (
    "hfprobe", "hfprobe.audio", "hfprobe.metrics", "hfprobe.similarity", "hfprobe.manifold", "hfprobe.encoders",
    "hfprobe.data", "hfprobe.probes", "hfprobe.speakers", "hfprobe.testing", "hfprobe.reports",
)  # fmt: skip
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):$", re.M)


def exported():
    """``(name, object)`` of everything in the ``__all__`` of the packages, once."""
    seen = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                seen.setdefault(id(thing), (f"{package}.{name}", thing))
    return sorted(seen.values(), key=lambda item: item[0])


def with_methods():
    """`exported` functions, and the public methods that exported classes define themselves in hfprobe."""
    for name, thing in exported():
        if inspect.isfunction(thing):
            yield name, thing
            continue
        for key, member in vars(thing).items():
            function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            if inspect.isfunction(function) and not key.startswith("_"):
                yield f"{name}.{key}", function


FUNCTIONS = list(with_methods())
EXPORTED = exported()


def section(text: str, wanted: str) -> str | None:
    """The body of a section of a docstring, or None."""
    parts = SECTION.split(inspect.cleandoc(text))
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if title == wanted:
            return body
    return None


def documented(body: str) -> list[str]:
    """Names at the margin of an ``Args`` section."""
    lines = [line for line in body.splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    found = [
        re.match(r"\s*\**(\w+)(?: \([^)]*\))?:", line) for line in lines if len(line) - len(line.lstrip()) == margin
    ]
    return [match[1] for match in found if match]


def parameters(function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def public_nodes(tree, prefix=""):
    """Public functions, classes and methods of a module."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if any(
                getattr(mark, "id", getattr(mark, "attr", "")) in ("overload", "setter") for mark in node.decorator_list
            ):
                continue
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public_nodes(node, f"{prefix}{node.name}.")


def test_everything_public_has_a_docstring():
    missing, count = [], 0
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name, node in public_nodes(tree):
            count += 1
            if not ast.get_docstring(node):
                missing.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
        if tree.body and not ast.get_docstring(tree):
            missing.append(f"{path.relative_to(ROOT)}: the module")
    assert count > 1000 and missing == []


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_arguments_and_results_are_documented(name, function):
    text = function.__doc__ or ""
    names = parameters(function)
    body = section(text, "Args")
    if names:
        assert body is not None, f"{name} has no Args section: {', '.join(names)}"
        assert documented(body) == names, "Args and signature differ, or their order does"
    returns = inspect.signature(function).return_annotation
    if names and returns not in (None, "None", inspect.Signature.empty, "NoReturn"):
        assert section(text, "Returns") is not None or section(text, "Yields") is not None, f"{name} has no Returns"


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_errors_that_are_raised_are_documented(name, function):
    """Only those that the function raises itself: what it calls says what that raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    } - {"AttributeError", "NotImplementedError"}
    said = section(function.__doc__ or "", "Raises") or ""
    assert {error for error in raised if error not in said} == set()


FIRST = [(name, thing) for name, thing in EXPORTED if inspect.isfunction(thing)]


@pytest.mark.parametrize(("name", "function"), FIRST, ids=[name for name, _ in FIRST])
def test_functions_at_the_top_of_a_package_have_an_example(name, function):
    """That the examples run is pytest's own doctest collection; here, that they are there."""
    body = section(function.__doc__ or "", "Example")
    assert body is not None and ">>>" in body, f"{name} has no example that runs as a doctest"


def test_the_check_finds_what_is_wrong():
    assert documented("    one: Text.\n        two: not a name, it is deeper.\n    **three: More.\n") == [
        "one",
        "three",
    ]
    assert section("Words.\n\nArgs:\n    a: B.\n\nReturns:\n    C.\n", "Args").strip() == "a: B."
    assert section("Words.", "Args") is None
    assert len(FUNCTIONS) > 100 and len(FIRST) > 50
