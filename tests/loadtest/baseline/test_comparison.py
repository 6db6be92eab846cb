import pytest

from loadtest.baseline import comparison
from loadtest.sweep.levels import Level
from tests.loadtest.runs import written


def test_a_level_is_followed_by_the_published_row_of_its_concurrency(tmp_path):
    lines = comparison.lines(written(tmp_path, [Level("closed", 2), Level("closed", 3), Level("open", 10)]))
    assert [line.cells[:2] for line in lines] == [["2", "this run"], ["", "baseline"], ["3", "this run"]]
    assert {len(line.cells) for line in lines} == {len(comparison.COLUMNS)}


def test_the_share_of_the_ideal_rate_is_computed_alike_for_both(tmp_path):
    ours, baseline = comparison.lines(written(tmp_path, [Level("closed", 2)]))
    # 10 a second of 2 callers whose chunk takes 0.1 s, and 2.37 a second of 2 callers whose chunk takes 0.7 s.
    assert float(ours.cells[9].rstrip("%")) == pytest.approx(50, abs=4)
    assert baseline.cells[9] == "83.0%"
