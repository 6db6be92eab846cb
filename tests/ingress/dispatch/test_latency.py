import pytest

from services.ingress.dispatch.latency import LatencyEstimator
from videoanalysis.latency import LatencyEstimate


def test_while_nothing_is_known_an_attempt_has_the_longest_timeout():
    time = LatencyEstimator(30)
    assert time.attempt_timeout() == time.attempt_timeout(64) == 30
    assert not time.exceeds_deadline(0)


def test_the_timeout_is_twice_the_longest_usual_time():
    time, usual = LatencyEstimator(1000), LatencyEstimate()
    for seconds in (4.0, 6.0, 3.0, 5.0):
        time.observe(seconds)
        usual.observe(seconds)
    assert time.attempt_timeout() == pytest.approx(2 * usual.upper_bound)


def test_twice_the_work_is_given_twice_the_time():
    time = LatencyEstimator(1000)
    time.observe(16.0, units=16)
    assert time.attempt_timeout(32) == 2 * time.attempt_timeout(16)


def test_the_timeout_is_never_so_short_that_a_pause_of_the_machine_looks_like_a_hang():
    time = LatencyEstimator(30)
    for _ in range(20):
        time.observe(0.001)
    assert time.attempt_timeout() == 2


def test_where_attempts_time_out_the_timeout_doubles_up_to_the_longest_until_one_succeeds():
    time = LatencyEstimator(30)
    for _ in range(20):
        time.observe(0.001)
    limits = []
    for _ in range(6):
        time.on_timeout()
        limits.append(time.attempt_timeout())
    assert limits == [4, 8, 16, 30, 30, 30]
    time.observe(0.001)
    assert time.attempt_timeout() == 2


def test_less_time_than_even_the_fastest_took_exceeds_the_deadline():
    time = LatencyEstimator(1000)
    for seconds in (3.0, 2.0, 5.0):
        time.observe(seconds)
    assert not time.exceeds_deadline(2.0)
    assert time.exceeds_deadline(1.9)
    time.observe(2.0)
    assert time.exceeds_deadline(3.9, units=2)


def test_what_exceeds_the_deadline_is_tried_in_the_end():
    time = LatencyEstimator(1000)
    for _ in range(100):
        time.observe(5.0)
    assert sum(time.exceeds_deadline(1.0) for _ in range(1000)) == 32
