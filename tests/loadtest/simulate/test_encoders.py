import random
from collections.abc import Callable

import pytest

from loadtest.simulate.clock import Clock
from loadtest.simulate.encoders import Encoders
from loadtest.simulate.fleet import Fleet, Start
from tests.loadtest.simulate.queueing import crommelin, measure


class System:
    def __init__(
        self,
        count: int,
        *,
        permits: int = 2,
        owner_of: Callable[[int], object] = lambda _: "only",
        load: float = 0.0,
        upload: float = 0.0,
    ) -> None:
        self.clock = Clock()
        self.done: list[tuple[float, int]] = []
        self.fleet = Fleet(self.clock, Start(load=load), count=count, grace_seconds=60)
        self.station = Encoders[int](
            self.clock,
            self.fleet,
            permits=permits,
            upload=lambda _: upload,
            work=lambda _piece, _replica: 1.0,
            on_done=lambda piece: self.done.append((self.clock.now, piece)),
            owner_of=owner_of,
            rng=random.Random(1),
            expected=lambda _: 1.0,
        )
        self.fleet.open(self.station)

    def submit(self, pieces: int) -> None:
        for piece in range(pieces):
            self.station.submit(piece)

    def finished_at(self) -> list[float]:
        return [at for at, _ in self.done]


def test_one_ingress_with_as_many_encoders_as_offers_has_one_queue():
    encoders = System(3, permits=1)

    run = measure(encoders.clock, encoders.station, 3 * 0.8)

    assert run.wait == pytest.approx(crommelin(3, run.offered), rel=0.05)


def test_ingresses_that_know_nothing_of_each_other_wait_about_as_in_one_queue_and_far_less_than_in_many():
    encoders = System(10, permits=1, owner_of=lambda piece: piece % 20)

    run = measure(encoders.clock, encoders.station, 10 * 0.85, pieces=10_000)

    assert 0.9 * crommelin(10, run.offered) < run.wait < 0.25 * crommelin(1, run.offered / 10)


def test_the_second_permit_is_given_when_it_is_time_to_upload():
    encoders = System(1, upload=0.25)

    encoders.submit(30)
    # Uploads vary not at all, so in the end the lead is their time.
    encoders.clock.run(20.25 + 0.7)
    assert encoders.station.in_flight == 1
    encoders.clock.run(20.25 + 0.8)
    assert encoders.station.in_flight == 2
    encoders.clock.run(40)

    assert encoders.finished_at() == [1.25 + number for number in range(30)]


def test_nothing_is_put_behind_another_while_one_is_idle():
    # Each has an owner of its own, who knows of no other.
    encoders = System(3, owner_of=lambda piece: piece)
    for piece in range(3):
        encoders.clock.at(piece * 0.1, encoders.station.submit, piece)

    encoders.clock.run(10)

    # A second offer follows the first after 2 ms.
    assert encoders.finished_at() == pytest.approx([1.0, 1.1, 1.2], abs=0.005)


def test_the_one_encoder_that_is_idle_is_found_though_its_user_knows_of_none():
    encoders = System(16, permits=1, owner_of=lambda piece: piece < 15)
    encoders.submit(16)

    encoders.clock.run(10)

    # It is offered within 13 intervals, a 32nd of the service time each.
    assert max(encoders.finished_at()) <= 1 + 13 / 32


def test_an_owner_keeps_to_where_it_was_alone():
    encoders = System(64, permits=1, owner_of=lambda piece: piece % 2)
    encoders.submit(60)
    encoders.clock.run(10)

    for piece in range(60):
        encoders.station.submit(piece)

    # If replicas were chosen at random, 14 would wait behind another on average.
    assert encoders.station.waiting <= 3


def test_an_owner_spreads_its_own_over_encoders_before_it_doubles_up():
    encoders = System(4)

    encoders.submit(6)
    encoders.clock.run(10)

    assert encoders.finished_at() == [1.0] * 4 + [2.0] * 2


def test_what_waits_with_none_ready_goes_to_the_first_that_is():
    encoders = System(0, load=20)
    encoders.submit(3)
    encoders.clock.run(5)
    assert encoders.station.queue == 3

    encoders.fleet.scale_to(1)
    encoders.clock.run(100)

    assert encoders.finished_at() == [26.0, 27.0, 28.0]


def test_an_encoder_that_comes_helps_with_what_has_waited_elsewhere_for_a_second():
    encoders = System(1, load=2.5)
    encoders.fleet.scale_to(2)
    encoders.submit(8)

    encoders.clock.run(100)

    # One at 1, 2, 3 s; from 2.5 s on there are two.
    assert len(encoders.done) == 8
    assert max(encoders.finished_at()) == 5.5
    assert encoders.station.queue == 0


def test_what_waits_at_an_encoder_that_goes_is_done_elsewhere():
    encoders = System(2)
    encoders.submit(10)
    encoders.fleet.scale_to(1)

    encoders.clock.run(100)

    assert sorted(piece for _, piece in encoders.done) == list(range(10))
    # One was in flight there and is finished.
    assert max(encoders.finished_at()) == 9.0
    assert encoders.fleet.draining == 0


def test_all_that_is_submitted_is_done_once_whatever_comes_and_goes():
    encoders = System(3, owner_of=lambda piece: piece % 5, load=3)
    rng = random.Random(4)
    for piece in range(2000):
        encoders.clock.at(rng.uniform(0, 400), encoders.station.submit, piece)
    for at in range(10, 400, 10):
        encoders.clock.at(at, encoders.fleet.scale_to, rng.randint(0, 12))
    encoders.clock.at(401, encoders.fleet.scale_to, 5)

    encoders.clock.run(2000)

    assert sorted(piece for _, piece in encoders.done) == list(range(2000))
    assert (encoders.station.waiting, encoders.station.in_flight, encoders.fleet.draining) == (0, 0, 0)
