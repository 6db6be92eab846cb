import pytest

from services.ingress.dispatch.latency import LatencyEstimator
from videoanalysis.latency import LatencyEstimate


def test_while_nothing_is_known_an_attempt_has_all_the_time_there_is():
    time = LatencyEstimator(30)
    assert time.limit() == time.limit(64) == 30
    assert not time.is_hopeless(0)


def test_the_limit_is_twice_what_it_hardly_ever_takes():
    time, usual = LatencyEstimator(1000), LatencyEstimate()
    for seconds in (4.0, 6.0, 3.0, 5.0):
        time.observe(seconds)
        usual.observe(seconds)
    assert time.limit() == pytest.approx(2 * usual.upper_bound)


def test_twice_the_work_is_given_twice_the_time():
    time = LatencyEstimator(1000)
    time.observe(16.0, units=16)
    assert time.limit(32) == 2 * time.limit(16)


def test_the_limit_is_never_so_short_that_a_pause_of_the_machine_looks_like_a_hang():
    time = LatencyEstimator(30)
    for _ in range(20):
        time.observe(0.001)
    assert time.limit() == 2


def test_where_attempts_run_out_of_time_the_limit_doubles_up_to_the_longest_until_one_succeeds():
    time = LatencyEstimator(30)
    for _ in range(20):
        time.observe(0.001)
    limits = []
    for _ in range(6):
        time.ran_out()
        limits.append(time.limit())
    assert limits == [4, 8, 16, 30, 30, 30]
    time.observe(0.001)
    assert time.limit() == 2


def test_less_time_than_even_the_fastest_took_is_hopeless():
    time = LatencyEstimator(1000)
    for seconds in (3.0, 2.0, 5.0):
        time.observe(seconds)
    assert not time.is_hopeless(2.0)
    assert time.is_hopeless(1.9)
    time.observe(2.0)
    assert time.is_hopeless(3.9, units=2)


def test_what_is_thought_hopeless_is_tried_in_the_end():
    time = LatencyEstimator(1000)
    for _ in range(100):
        time.observe(5.0)
    assert sum(time.is_hopeless(1.0) for _ in range(1000)) == 32
