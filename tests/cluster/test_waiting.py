import pytest

from tests.cluster.waiting import TimedOut, wait_until


class Clock:
    """Goes on only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_returns_the_state_once_the_condition_holds():
    clock = Clock()

    state = wait_until("ten", lambda: (clock() >= 10, f"at {clock()}"), 60, every=4, clock=clock, sleep=clock.sleep)

    assert state == "at 12.0"


def test_times_out_with_the_last_state():
    clock = Clock()

    with pytest.raises(TimedOut, match=r"^3 encoders: not within 60 s; last seen: 2 of 3 ready$"):
        wait_until("3 encoders", lambda: (False, "2 of 3 ready"), 60, every=7, clock=clock, sleep=clock.sleep)
    assert 60 <= clock() < 67


def test_checks_at_least_once():
    clock = Clock()

    assert wait_until("now", lambda: (True, "so"), 0, clock=clock, sleep=clock.sleep) == "so"
