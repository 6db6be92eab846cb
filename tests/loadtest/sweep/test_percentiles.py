import numpy as np
import pytest

from loadtest.sweep.percentiles import decoded, encoded, histogram, statistics


def test_percentiles_are_those_of_the_sorted_latencies_to_three_digits():
    latencies = np.random.default_rng(1).lognormal(6.5, 0.8, 5000)
    found = statistics(histogram(latencies), ("p50", "p95", "p99.9"))
    for name in ("p50", "p95", "p99.9"):
        share = float(name[1:]) / 100
        assert (latencies <= found[name] * 1.001).mean() >= share - 1e-9
        assert (latencies < found[name] * 0.999).mean() <= share
    assert found["mean"] == pytest.approx(latencies.mean(), rel=1e-3)
    assert found["max"] == pytest.approx(latencies.max(), rel=1e-3)
    assert found["min"] == pytest.approx(latencies.min(), rel=1e-3)


def test_an_empty_histogram_has_no_statistics():
    assert statistics(histogram([])) == {}


def test_a_histogram_is_decoded_as_encoded():
    counted = histogram([1, 20, 300.5, 40_000])
    again = decoded(encoded(counted))
    assert statistics(again) == statistics(counted)


def test_a_latency_over_a_day_counts_as_a_day():
    assert statistics(histogram([1e12]))["max"] == pytest.approx(24 * 3600 * 1000, rel=1e-3)
