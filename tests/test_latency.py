import pytest

from videoanalysis.latency import LatencyEstimate


def test_there_is_no_estimate_before_the_first_sample():
    assert (LatencyEstimate().mean, LatencyEstimate().upper_bound) == (None, None)


def test_the_mean_and_the_deviation_are_those_of_rfc_6298():
    latency = LatencyEstimate()
    mean, deviation = 4.0, 2.0
    latency.observe(4.0)
    for sample in (6.0, 3.0, 5.0):
        deviation = 0.75 * deviation + 0.25 * abs(mean - sample)
        mean = 0.875 * mean + 0.125 * sample
        latency.observe(sample)
    assert latency.mean == pytest.approx(mean)
    assert latency.upper_bound == pytest.approx(mean + 4 * deviation)
