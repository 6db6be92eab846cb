"""Every package says what it is in the docstring of its `__init__.py`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(
    path
    for directory in ("benchmarks", "docs", "loadtest", "services", "videoanalysis")
    for path in (ROOT / directory).rglob("__init__.py")
)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.parent.relative_to(ROOT).as_posix())
def test_a_package_has_a_docstring(package):
    docstring = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))
