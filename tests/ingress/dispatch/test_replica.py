import pytest

from services.ingress.dispatch.replica import Replica


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_one_that_is_unavailable_is_avoided_for_a_second_however_often_it_was(clock: Clock):
    one = Replica("a:1", clock)
    for _ in range(3):
        one.unavailable()
        clock.now += 0.99
        assert one.is_avoided(clock.now)
        clock.now += 0.02
        assert not one.is_avoided(clock.now)


async def test_one_that_fails_again_is_avoided_for_longer_until_it_succeeds(clock: Clock):
    one = Replica("a:1", clock)
    for seconds in (1, 2, 4, 8, 16, 30, 30):
        one.failed(hung=True)
        clock.now += seconds - 0.01
        assert one.is_avoided(clock.now)
        assert one.is_hung(clock.now)
        clock.now += 0.02
        assert not one.is_avoided(clock.now)
        assert not one.is_hung(clock.now)
    one.succeeded()
    one.failed(hung=False)
    assert not one.is_hung(clock.now)
    clock.now += 1.01
    assert not one.is_avoided(clock.now)


async def test_failures_of_one_moment_count_once(clock: Clock):
    one = Replica("a:1", clock)
    for _ in range(4):
        one.failed(hung=False)
    clock.now += 1.01
    assert not one.is_avoided(clock.now)


async def test_what_it_is_missing_is_forgotten_after_a_while(clock: Clock):
    one = Replica("a:1", clock)
    one.remember_missing("sha256:1")
    assert one.is_missing("sha256:1")
    assert not one.is_missing("sha256:2")
    clock.now += 3
    assert not one.is_missing("sha256:1")
