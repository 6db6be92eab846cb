import re
from html.parser import HTMLParser

import pytest

from loadtest.baseline import comparison
from loadtest.errors import InvalidRun
from loadtest.report import charts
from loadtest.report import page as report
from loadtest.sweep.levels import Level
from loadtest.sweep.run import Run
from tests.loadtest.runs import written

LEVELS = [Level("closed", 2), Level("closed", 4), Level("open", 10)]


class Page(HTMLParser):
    """Its words, what it would load, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return written(tmp_path_factory.mktemp("run"), LEVELS, failures=3)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Run:
    return written(tmp_path_factory.mktemp("earlier"), LEVELS[:2], slower=2)


@pytest.fixture(scope="module")
def page(run, earlier, tmp_path_factory) -> Page:
    out = tmp_path_factory.mktemp("report")
    page = Page(report.write(run, earlier, out).read_text())
    assert {path.stem for path in out.glob("*.png")} == set(charts.ALL)
    return page


def test_the_page_is_well_formed_and_loads_nothing(page):
    assert page.open == []
    assert len(page.loads) == len(charts.ALL)
    assert all(source.startswith("data:image/png;base64,") for source in page.loads)


def test_every_table_of_the_baseline_is_there(page):
    for heading in ("success", "P50", "P95", "P99", "best throughput", "best P95", "encode queue", "status", "reason"):
        assert heading in page.text
    # Two answers in a hundred were refused, of the whole level.
    assert "98.52%" in page.text
    assert "RESOURCE_EXHAUSTED OVERLOADED 3" in page.text


def test_the_figures_are_compared_with_the_published_ones(page, run):
    # 25,509 requests in all; the row for two callers.
    assert "baseline 152 (303) 837 838 843 844 2.37 1.19 83.0% 1.20 0" in page.text
    ours, baseline = comparison.lines(run)[:2]
    assert ours.cells[:3] == ["2", "this run", "180 (203)"]
    assert (ours.is_ours, baseline.is_ours) == (True, False)
    assert len(ours.cells) == len(baseline.cells) == len(comparison.COLUMNS)
    # Ten a second, an encoder's tenth of a second, two callers: half of the ideal.
    assert float(ours.cells[9].rstrip("%")) == pytest.approx(50, abs=4)


def test_levels_of_both_runs_are_compared(page):
    compared = page.text.partition("Compared with the earlier run")[2].partition("Throughput")[0]
    assert "2 at a time" in compared
    assert "4 at a time" in compared
    assert "10 a second" not in compared
    assert "-50.0%" in compared


def test_markup_in_names_is_escaped(page):
    assert "<script>alert(1)</script>" in page.text


def test_an_incomplete_run_is_marked(tmp_path):
    run = written(tmp_path, LEVELS[:1], ending="interrupted")
    assert "The run is incomplete: interrupted" in Page(report.render(run, None, {})).text


def test_a_run_is_read_as_written(run):
    again = Run.read(run.directory)
    assert again.levels == run.levels
    assert len(again.requests) == len(run.requests)
    assert again.summary["objectives"] == run.summary["objectives"]
    assert [(one["objective"], one["is_met"]) for one in again.summary["objectives"]][:3] == [
        ("p95=300ms", True),
        ("p42=1s", True),
        ("errors=0", False),
    ]


def test_a_directory_that_holds_no_run_is_named(tmp_path):
    with pytest.raises(InvalidRun, match=re.escape(str(tmp_path))):
        Run.read(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InvalidRun, match="not the summary of a sweep"):
        Run.read(tmp_path)
