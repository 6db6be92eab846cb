import pytest

from services.ingress.dispatch.replica import Replica


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


FASTEST = 1.0


def experienced(clock: Clock, address: str, usual_seconds: float = FASTEST, others: int = 0) -> Replica:
    one = Replica(address, clock)
    one.done(usual_seconds, 1, others)
    return one


async def test_the_one_with_less_of_our_work_is_free_sooner(clock: Clock):
    idle, busy = Replica("a:1", clock), Replica("b:1", clock)
    busy.begin()
    assert idle.busy_until(FASTEST) < busy.busy_until(FASTEST)


async def test_of_two_with_as_much_the_one_whose_work_began_earlier_is_free_sooner(clock: Clock):
    first, second = experienced(clock, "a:1", 2.0), experienced(clock, "b:1", 2.0)
    first.begin()
    first.admitted(1)
    clock.now += 0.5
    second.begin()
    second.admitted(1)
    assert first.busy_until(2.0)[:2] == (1, 1.5)
    assert second.busy_until(2.0)[:2] == (1, 2.0)


async def test_longer_work_ends_later_in_proportion(clock: Clock):
    one = Replica("a:1", clock)
    one.done(8.0, 16, 0)
    one.begin()
    one.admitted(4)
    assert one.busy_until(0.5)[1] == pytest.approx(2.0)


async def test_of_those_that_do_nothing_for_us_a_slow_one_comes_last(clock: Clock):
    fast, slow = experienced(clock, "a:1", 1.3), experienced(clock, "b:1", 1.5)
    assert fast.busy_until(FASTEST) < slow.busy_until(FASTEST)


async def test_before_a_slow_one_comes_one_that_had_work_of_others(clock: Clock):
    free, shared = experienced(clock, "a:1"), experienced(clock, "b:1", others=2)
    slow = experienced(clock, "c:1", 1.5)
    assert free.busy_until(FASTEST) < shared.busy_until(FASTEST) < slow.busy_until(FASTEST)


async def test_of_those_that_do_nothing_for_us_that_is_first_which_did_something_last(clock: Clock):
    unknown, longer_ago = Replica("a:1", clock), experienced(clock, "b:1")
    clock.now += 0.1
    lately = experienced(clock, "c:1", 1.3)
    assert lately.busy_until(FASTEST) < longer_ago.busy_until(FASTEST) < unknown.busy_until(FASTEST)


async def test_one_that_is_away_is_avoided_for_a_second_however_often_it_was(clock: Clock):
    one = Replica("a:1", clock)
    for _ in range(3):
        one.failed()
        clock.now += 0.99
        assert one.is_avoided()
        clock.now += 0.02
        assert not one.is_avoided()


async def test_one_that_hangs_again_is_avoided_for_longer_until_it_succeeds(clock: Clock):
    one = Replica("a:1", clock)
    for seconds in (1, 2, 4, 8, 16, 30, 30):
        one.hung()
        clock.now += seconds - 0.01
        assert one.is_avoided()
        clock.now += 0.02
        assert not one.is_avoided()
    one.succeeded()
    one.hung()
    clock.now += 1.01
    assert not one.is_avoided()


async def test_what_it_lacks_and_that_it_is_full_is_forgotten_after_a_while(clock: Clock):
    one = Replica("a:1", clock)
    one.remember_lack("sha256:1")
    one.was_full(0.5)
    assert one.lacks("sha256:1")
    assert not one.lacks("sha256:2")
    assert one.is_full()
    clock.now += 3
    assert not one.lacks("sha256:1")
    assert not one.is_full()
