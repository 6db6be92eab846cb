import pytest

from videoanalysis.latency import LatencyEstimate


def test_nothing_is_usual_while_nothing_was_seen():
    assert (LatencyEstimate().mean, LatencyEstimate().most) == (None, None)


def test_the_mean_and_the_deviation_are_those_of_rfc_6298():
    usual = LatencyEstimate()
    mean, deviation = 4.0, 2.0
    usual.observe(4.0)
    for seen in (6.0, 3.0, 5.0):
        deviation = 0.75 * deviation + 0.25 * abs(mean - seen)
        mean = 0.875 * mean + 0.125 * seen
        usual.observe(seen)
    assert usual.mean == pytest.approx(mean)
    assert usual.most == pytest.approx(mean + 4 * deviation)
