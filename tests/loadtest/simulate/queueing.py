"""Closed forms of queueing theory, and a stream of arrivals to compare with them."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.simulate.clock import Clock
from loadtest.simulate.station import Station

PIECES = 60_000


@dataclass(frozen=True, slots=True)
class Measured:
    """`wait` is the mean in units of the mean service time, `offered` how many servers would be just busy.

    Both are those of the generated sample, which deviates from the requested rates: a closed form is evaluated for the
    same sample.
    """

    wait: float
    offered: float


def measure(clock: Clock, station: Station[int], rate: float, seed: int = 2, pieces: int = PIECES) -> Measured:
    """Poisson arrivals at `rate` a second."""
    rng = random.Random(seed)
    latest = 0.0

    def arrive(number: int) -> None:
        nonlocal latest
        latest = clock.now
        station.submit(number)
        if number < pieces:
            clock.after(rng.expovariate(rate), arrive, number + 1)

    arrive(1)
    clock.run(math.inf)
    assert station.done == pieces
    service = station.worked_seconds / pieces
    return Measured(station.waited_seconds / pieces / service, pieces / latest * service)


def crommelin(servers: int, offered: float) -> float:
    """Mean wait of M/D/c in units of the service time (Crommelin 1932)."""
    return sum(
        _poisson_at_least(i * servers, i * offered)
        - _poisson_at_least(i * servers + 1, i * offered) * servers / offered
        for i in range(1, int(200 / offered) + 1)  # beyond, the terms are nothing
    )


def erlang_c(servers: int, offered: float) -> float:
    """Mean wait of M/M/c in units of the service time."""
    load = offered / servers
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
