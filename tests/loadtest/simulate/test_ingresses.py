from collections.abc import Callable

import pytest

from loadtest.simulate.central_queue import CentralQueue
from loadtest.simulate.clock import Clock
from loadtest.simulate.fleet import Fleet, Start
from loadtest.simulate.ingresses import Chunk, Ingresses, IngressLimits, Video


class System:
    """Two ingresses whose grace is 30 s, a given number of encoders; a chunk takes 10 s, the rest nothing."""

    def __init__(self, encoders: int = 50, limits: IngressLimits | None = None) -> None:
        self.clock = clock = Clock()
        self.fleet = Fleet(clock, Start(), count=2, grace_seconds=30)
        self.answered: list[tuple[float, Video]] = []
        self.refused: list[Video] = []
        self.ingresses = Ingresses(
            clock,
            self.fleet,
            limits or IngressLimits(),
            download=_always(1.0),
            sample=_always(0.0),
            answer=_always(0.0),
            on_done=lambda video: self.answered.append((clock.now, video)),
            on_refused=self.refused.append,
        )
        several, one = (
            Fleet(clock, Start(), count=encoders, grace_seconds=60),
            Fleet(clock, Start(), count=1, grace_seconds=60),
        )
        self.encoders = CentralQueue[Chunk](
            clock, several, permits=2, work=_always(10.0), on_done=self.ingresses.encoded
        )
        decoders = CentralQueue[Video](clock, one, permits=2, work=_always(0.0), on_done=self.ingresses.decoded)
        self.ingresses.connect(self.encoders, decoders)
        self.fleet.open(self.ingresses)
        several.open(self.encoders)
        one.open(decoders)

    def request(self, *chunks: int) -> None:
        for count in chunks:
            self.ingresses.request(Video(self.clock.now, count))


def _always(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def test_an_admitted_video_without_a_chunk_counts_in_the_gauge_of_the_encoder():
    system = System()
    system.request(1, 1, 1)

    assert (system.ingresses.encoder_queue, system.encoders.queue) == (3, 0)
    system.clock.run(5)
    assert (system.ingresses.encoder_queue, system.encoders.queue) == (3, 3)
    system.clock.run(20)
    assert system.ingresses.encoder_queue == 0


def test_the_gauge_of_the_ingress_counts_waiting_and_running_videos():
    system = System(limits=IngressLimits(max_videos=1, max_waiting=2))

    system.request(*[1] * 9)

    assert system.ingresses.queue == 2 * (1 + 2)
    assert system.ingresses.waiting == 2 * 2
    assert len(system.refused) == 3


def test_a_draining_ingress_reports_no_requests_but_still_its_chunks():
    system = System()
    system.request(1, 1, 1, 1)
    system.clock.run(5)

    system.fleet.scale_to(1)

    assert system.ingresses.queue == 2
    assert system.ingresses.encoder_queue == 4


def test_a_draining_ingress_gets_no_requests_and_ends_when_it_has_finished():
    system = System()
    system.request(1, 1)
    system.clock.run(5)
    system.fleet.scale_to(1)
    system.request(1, 1)

    assert system.ingresses.queue == 1 + 2
    system.clock.run(11.5)
    assert system.fleet.draining == 0
    assert system.fleet.node_seconds == pytest.approx(11 + 11.5)


def test_a_video_that_outlasts_the_grace_period_continues_at_another_ingress():
    system = System()
    # Two chunks ahead of one another at a time, at most six: 12 chunks take 20 s, 60 take 100 s.
    system.request(60, 60)
    system.clock.run(5)
    system.fleet.scale_to(1)

    system.clock.run(300)

    assert system.ingresses.interrupted == 1
    (first, whole), (second, rest) = system.answered
    assert (first, whole.chunks) == (1 + 100, 60)
    # After 35 s it had three rounds of six; it then fetched its video again.
    assert rest.chunks == 60 - 18
    assert second == pytest.approx(35 + 1 + 70)
    assert rest.arrived == 0
    assert (system.ingresses.queue, system.ingresses.encoder_queue, system.encoders.queue) == (0, 0, 0)


def test_without_an_ingress_a_request_is_refused():
    system = System()
    system.fleet.scale_to(0)

    system.request(1)

    assert len(system.refused) == 1
