import pytest

from loadtest.baseline.published import ROWS


def test_the_published_table_adds_up_to_its_published_totals():
    assert sum(row.kept for row in ROWS) == 25_509
    assert ROWS[-1].rate / ROWS[0].rate == pytest.approx(28.5, abs=0.1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.concurrency))
def test_each_row_is_consistent(row):
    # Little's law: callers = rate x latency.
    assert row.rate * row.mean_ms / 1000 == pytest.approx(row.concurrency, rel=0.02)
    assert row.p50_ms <= row.p95_ms <= row.p99_ms
