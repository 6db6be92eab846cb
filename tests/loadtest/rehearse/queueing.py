"""Closed forms of queueing theory, and a stream of arrivals to hold beside them."""

import math
import random
from collections.abc import Callable

from loadtest.rehearse.clock import Clock
from loadtest.rehearse.station import Station

# Of so many the mean wait strays by a few per cent at the loads that are tested, and by more at higher ones.
PIECES = 60_000


def mean_wait(clock: Clock, station: Station[int], rate: float, seed: int = 1) -> float:
    """Of Poisson arrivals, in seconds."""
    chance = random.Random(seed)

    def arrive(number: int) -> None:
        station.submit(number)
        if number < PIECES:
            clock.after(chance.expovariate(rate), arrive, number + 1)

    arrive(1)
    clock.run(math.inf)
    assert station.done == PIECES
    return station.waited_seconds / station.done


def crommelin(servers: int, load: float) -> float:
    """Mean wait of M/D/c in units of the service time (Crommelin 1932)."""
    offered = servers * load
    return sum(
        _poisson_at_least(i * servers, i * offered) - _poisson_at_least(i * servers + 1, i * offered) / load
        for i in range(1, int(200 / offered) + 1)  # beyond, the terms are nothing
    )


def erlang_c(servers: int, load: float) -> float:
    """Mean wait of M/M/c in units of the service time."""
    offered = servers * load
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - load * (1 - blocked)) / (servers * (1 - load))


def _poisson_at_least(count: int, mean: float) -> float:
    term, below = math.exp(-mean), 0.0
    for number in range(count):
        below += term
        term *= mean / (number + 1)
    return max(0.0, 1 - below)


ClosedForm = Callable[[int, float], float]
