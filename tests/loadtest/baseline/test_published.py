import pytest

from loadtest.baseline.published import CHUNK_MS, PUBLISHED, efficiency


def test_the_published_table_adds_up_to_what_was_claimed_of_it():
    assert sum(row.kept for row in PUBLISHED) == 25_509
    assert PUBLISHED[-1].rate / PUBLISHED[0].rate == pytest.approx(28.5, abs=0.1)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: str(row.concurrency))
def test_each_row_agrees_with_itself(row):
    assert row.rate / row.concurrency == pytest.approx(row.rate_per_concurrency, abs=0.006)
    # Little's law: callers = rate x latency.
    assert row.rate * row.mean_ms / 1000 == pytest.approx(row.concurrency, rel=0.02)
    assert row.p50_ms <= row.p95_ms <= row.p99_ms


def test_efficiency_is_one_when_requests_take_nothing_but_the_encoder():
    assert efficiency(rate=10, concurrency=7, service_seconds=CHUNK_MS / 1000) == pytest.approx(1.0)
