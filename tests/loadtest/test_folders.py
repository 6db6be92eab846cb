"""Imports between the folders of loadtest run one way."""

import ast
from pathlib import Path

import pytest

import loadtest

ROOT = Path(loadtest.__file__).parent
ORDER = ["cli", "simulate", "report", "baseline", "sweep", "target", "errors"]


def imported(path: Path) -> set[str]:
    """The folders of loadtest that a file imports."""
    modules = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {module.split(".")[1] for module in modules if module.startswith("loadtest.")}


def test_every_folder_has_its_place():
    assert {path.parent.name for path in ROOT.glob("*/*.py")} == set(ORDER[:-1])


@pytest.mark.parametrize("place", range(len(ORDER) - 1), ids=lambda place: ORDER[place])
def test_a_folder_imports_only_those_after_it(place):
    for path in sorted((ROOT / ORDER[place]).glob("*.py")):
        assert imported(path) <= set(ORDER[place:]), path.name


@pytest.mark.parametrize("folder", ORDER[:-1])
def test_a_folder_states_what_comes_in_and_what_goes_out(folder):
    docstring = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())) or ""
    assert "come" in docstring
    assert "out" in docstring
