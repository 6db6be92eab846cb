"""The central queue compared with closed forms of queueing theory."""

import random

import pytest

from loadtest.simulate.central_queue import CentralQueue
from loadtest.simulate.clock import Clock
from loadtest.simulate.fleet import Fleet, Start
from loadtest.simulate.service_times import ServiceTimes
from tests.loadtest.simulate.queueing import ClosedForm, Measured, crommelin, erlang_c, measure


def measured(servers: int, load: float, *, variation: float = 0.0, permits: int = 1) -> Measured:
    clock = Clock()
    fleet = Fleet(clock, Start(), count=servers, grace_seconds=60)
    work = ServiceTimes(encode_seconds=1, variation=variation).draw("encode_seconds", random.Random(1))
    line = CentralQueue[int](clock, fleet, permits=permits, work=work, on_done=lambda _: None)
    fleet.open(line)
    return measure(clock, line, servers * load)


def test_the_closed_forms_agree_with_what_is_known_of_one_server():
    for load in (0.3, 0.5, 0.8):
        assert crommelin(1, load) == pytest.approx(load / (2 * (1 - load)), rel=1e-3)
        assert erlang_c(1, load) == pytest.approx(load / (1 - load))


# From run to run the waits stray by 2 to 4 % where services are equal, and by twice that where they are exponential.
@pytest.mark.parametrize(
    ("form", "variation", "servers", "load", "within"),
    [
        (crommelin, 0.0, 1, 0.7, 0.05),
        (crommelin, 0.0, 4, 0.8, 0.05),
        (crommelin, 0.0, 10, 0.85, 0.05),
        (erlang_c, 1.0, 1, 0.7, 0.1),
        (erlang_c, 1.0, 4, 0.8, 0.1),
        (erlang_c, 1.0, 10, 0.85, 0.1),
    ],
)
def test_waits_agree_with_the_closed_form(form: ClosedForm, variation: float, servers: int, load: float, within: float):
    run = measured(servers, load, variation=variation)

    assert run.wait == pytest.approx(form(servers, run.offered), rel=within)


def test_one_server_with_two_permits_is_still_one_server():
    run = measured(1, 0.7, permits=2)

    assert run.wait == pytest.approx(crommelin(1, run.offered), rel=0.05)


def test_a_second_permit_binds_early_and_costs_a_little():
    run = measured(4, 0.8, permits=2)

    assert crommelin(4, run.offered) < run.wait < 2 * crommelin(4, run.offered)


def finished_at(pieces: int, *, servers: int, permits: int) -> list[float]:
    clock = Clock()
    fleet = Fleet(clock, Start(), count=servers, grace_seconds=60)
    done: list[float] = []
    queue = CentralQueue[int](clock, fleet, permits=permits, work=lambda: 1.0, on_done=lambda _: done.append(clock.now))
    fleet.open(queue)
    for piece in range(pieces):
        queue.submit(piece)
    clock.run(100)
    return done


def test_an_idle_replica_is_taken_before_one_that_has_room():
    assert finished_at(4, servers=4, permits=2) == [1.0] * 4
    assert finished_at(6, servers=4, permits=2) == [1.0] * 4 + [2.0] * 2
