"""Files and modules that the documentation names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# A path below one of these directories, in backquotes.
_PATH = re.compile(
    r"`((?:services|videoanalysis|loadtest|benchmarks|tests|helm|protos|textbanks|images|docs)/[^\s`<>…*]*)`"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_a_page_exist(page):
    for path in _PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


def test_the_architecture_names_the_files_of_every_stage():
    named = _PATH.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert len(named) > 15
