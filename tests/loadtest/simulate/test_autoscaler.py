"""Compared with a real KEDA 2.20.2 and the HPA of Kubernetes 1.35, timed on a cluster.

A change takes as long as is left of the interval that it waits for. Each case is therefore played at every phase of
both intervals: the measured time must lie within the possible ones, and their bounds must be those of the intervals.
"""

from collections.abc import Callable, Iterable
from itertools import product

import pytest

from loadtest.simulate.autoscaler import Autoscaler, Autoscaling
from videoanalysis.scaling.arithmetic import Fallback, Policy, Rules

AT_ONCE = Rules(0, (Policy("Percent", 900, 15),))
# The polling interval and the sync period of both clusters.
SLOW, FAST = (5.0, 15.0), (2.0, 5.0)
PHASES = [step / 20 for step in range(20)]


def rule(polling: float, minimum: int, **more: object) -> Autoscaling:
    return Autoscaling(minimum, 10, 2, polling_seconds=polling, scale_up=AT_ONCE, scale_down=AT_ONCE, **more)  # type: ignore[arg-type]


def course(
    rule: Autoscaling,
    reading: Callable[[float], float | None],
    *,
    until: float,
    start: int,
    first_poll: float = 0.0,
    first_sync: float = 0.0,
    sync_seconds: float = 15.0,
) -> list[tuple[float, int]]:
    """The times in seconds at which the replica count changes, with the new count."""
    autoscaler = Autoscaler(rule)
    count, changes = start, [(0.0, start)]
    rounds = [(at, autoscaler.poll) for at in ticks(first_poll, rule.polling_seconds, until)]
    rounds += [(at, autoscaler.sync) for at in ticks(first_sync, sync_seconds, until)]
    for now, decide in sorted(rounds, key=lambda tick: tick[0]):
        replicas = decide(now, reading(now), count)
        if replicas != count:
            count = replicas
            changes.append((now, count))
    return changes


def ticks(first: float, every: float, until: float) -> list[float]:
    return [first + number * every for number in range(int((until - first) / every) + 1)]


def delays(
    rule: Autoscaling, rounds: tuple[float, float], start: int, wanted: int, reading: Callable[[float], float | None]
) -> Iterable[float]:
    """Seconds from t = 100, where the reading changes, until `wanted` replicas are requested, at every phase."""
    polling, sync = rounds
    for poll_phase, sync_phase in product(PHASES, PHASES):
        changes = course(
            rule,
            reading,
            until=200,
            start=start,
            first_poll=poll_phase * polling,
            first_sync=sync_phase * sync,
            sync_seconds=sync,
        )
        yield next(at for at, count in changes if count == wanted and at >= 100) - 100


def step(before: float, after: float | None) -> Callable[[float], float | None]:
    return lambda now: before if now < 100 else after


@pytest.mark.parametrize(
    ("rounds", "start", "wanted", "before", "after", "timed", "at_most"),
    [
        (SLOW, 0, 1, 0, 1, (0.4, 3.1), 5),
        (FAST, 0, 1, 0, 1, (0.1, 1.7), 2),
        (SLOW, 1, 8, 2, 16, (6, 13), 15),
        (FAST, 1, 8, 2, 16, (0.1, 2.9), 5),
        (SLOW, 8, 3, 16, 6, (5, 12), 15),
        (FAST, 8, 3, 16, 6, (1.8, 3.8), 5),
        # From zero to many is a poll, and then a sync.
        (SLOW, 0, 8, 0, 16, (5, 14), 20),
        (FAST, 0, 8, 0, 16, (4.8, 5.1), 7),
    ],
)
def test_steps_take_as_long_as_on_a_cluster(
    rounds: tuple[float, float],
    start: int,
    wanted: int,
    before: float,
    after: float,
    timed: tuple[float, float],
    at_most: float,
):
    possible = list(delays(rule(rounds[0], min(start, 1)), rounds, start, wanted, step(before, after)))

    assert min(possible) <= timed[0]
    assert timed[1] <= max(possible) <= at_most
    assert max(possible) > 0.85 * at_most


@pytest.mark.parametrize(("rounds", "timed"), [(SLOW, (7, 9.5)), (FAST, (8, 10))])
def test_going_to_zero_takes_the_cooldown_from_the_last_poll_that_saw_activity(
    rounds: tuple[float, float], timed: tuple[float, float]
):
    cooling = rule(rounds[0], 0, cooldown_seconds=10)

    possible = list(delays(cooling, rounds, 3, 0, step(6, 0)))

    assert min(possible) <= timed[0]
    # The phases are a twentieth of a round apart.
    assert timed[1] <= max(possible) + rounds[0] / 20
    # As much as one polling interval early, seen from the drop.
    assert 10 - rounds[0] <= min(possible)
    assert max(possible) <= 10


def test_a_broken_source_falls_back_within_the_measured_time():
    broken = rule(3, 1, fallback=Fallback(2, 5))

    possible = list(delays(broken, (3, 5), 2, 5, step(4, None)))

    assert min(possible) <= 7 <= max(possible)


def test_a_broken_source_scales_from_zero_within_the_measured_time():
    broken = rule(3, 0, fallback=Fallback(2, 5), cooldown_seconds=10)

    assert min(delays(broken, (3, 5), 0, 1, step(0, None))) <= 8.8 <= max(delays(broken, (3, 5), 0, 1, step(0, None)))
    assert all(seconds < 20 for seconds in delays(broken, (3, 5), 0, 5, step(0, None)))


def test_a_broken_source_without_a_fallback_changes_nothing():
    assert course(rule(2, 1), step(6, None), until=200, start=3) == [(0, 3)]


def test_a_count_is_a_function_of_time_and_readings():
    wave = lambda now: 10 + 8 * (int(now) // 60 % 2)  # noqa: E731

    assert course(rule(5, 1), wave, until=600, start=1) == course(rule(5, 1), wave, until=600, start=1)
