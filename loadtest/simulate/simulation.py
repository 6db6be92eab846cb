"""The autoscalers and the three services on one simulated clock."""

import random
import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from loadtest.simulate.arrivals import Arrival
from loadtest.simulate.autoscaler import Autoscaler
from loadtest.simulate.central_queue import CentralQueue
from loadtest.simulate.clock import Clock
from loadtest.simulate.encoders import Encoders
from loadtest.simulate.fleet import Fleet
from loadtest.simulate.ingresses import Chunk, Ingresses, Video
from loadtest.simulate.outcome import Course, Outcome
from loadtest.simulate.plan import SERVICES, ClosedLoad, Level, OpenLoad, Plan, Service
from loadtest.simulate.station import Station

# A decoder has one core: it admits two calls and serves one.
_DECODER_PERMITS = 2
# The shortest retry delay that the ingress returns with a refusal.
_RETRY_AFTER_SECONDS = 1.0
# After the end of the load the simulation runs on until all requests are answered, but no longer than this.
_FINISH_SECONDS = 3600.0
# Points of each course over time.
_POINTS = 1000


def simulate(plan: Plan) -> Outcome:
    """Videos that arrive within the load's time are counted."""
    return _Simulation(plan).run()


class _Simulation:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._clock = clock = Clock()
        # The load has a random generator of its own, so that all deployments get the same requests.
        rng = random.Random(f"services {plan.seed}")
        draw = partial(plan.times.draw, rng=rng)
        self._fleets = {service: self._fleet(service) for service in SERVICES}
        self._ingresses = Ingresses(
            clock,
            self._fleets["ingress"],
            plan.deployment.ingress_limits,
            download=draw("download_seconds"),
            sample=draw("sample_seconds"),
            answer=draw("answer_seconds"),
            on_done=self._answered,
            on_refused=self._refused,
        )
        encode = draw("encode_seconds")
        self._encoders: Station[Chunk] = Encoders(
            clock,
            self._fleets["encoder"],
            permits=plan.deployment.encoder_permits,
            upload=lambda _: plan.times.upload_seconds,
            work=lambda _chunk, _replica: encode(),
            owner_of=lambda chunk: chunk[0].ingress,
            rng=random.Random(f"places {plan.seed}"),
            on_done=self._ingresses.encoded,
            expected=lambda _: plan.times.encode_seconds,
        )
        # Decoders are seldom the bottleneck, so their placement is not modelled.
        self._decoders: Station[Video] = CentralQueue(
            clock,
            self._fleets["decoder"],
            permits=_DECODER_PERMITS,
            work=draw("decode_seconds"),
            on_done=self._ingresses.decoded,
        )
        self._ingresses.connect(self._encoders, self._decoders)
        self._fleets["ingress"].open(self._ingresses)
        self._fleets["encoder"].open(self._encoders)
        self._fleets["decoder"].open(self._decoders)
        self._gauges: dict[Service, Callable[[], int]] = {
            "ingress": lambda: self._ingresses.queue,
            "encoder": lambda: self._ingresses.encoder_queue,
            "decoder": lambda: self._decoders.queue,
        }
        self._in_flight = 0
        self._callers = self._level_callers = 0
        self._mix_chance = random.Random(f"mix {plan.seed}")
        # Times of each answered video in seconds, in the order of the answers.
        self._arrivals, self._admissions, self._answers = array("d"), array("d"), array("d")
        self._refusals = array("d")
        self._points: list[list[float]] = []

    def run(self) -> Outcome:
        started = time.process_time()
        clock, load = self._clock, self._plan.load
        clock.every(load.seconds / _POINTS, self._record_point)
        self._start_autoscalers()
        self._start_load()
        clock.run(load.seconds)
        node_seconds = {service: fleet.node_seconds for service, fleet in self._fleets.items()}
        worked_seconds = self._encoders.worked_seconds
        while self._in_flight and clock.now < load.seconds + _FINISH_SECONDS:
            clock.run(clock.now + 1.0)
        table = np.array([point for point in self._points if point[0] <= load.seconds])
        return Outcome(
            seconds=load.seconds,
            times=table[:, 0],
            courses={
                service: Course(*table[:, 1 + 4 * place : 5 + 4 * place].T) for place, service in enumerate(SERVICES)
            },
            arrivals=np.array(self._arrivals),
            admissions=np.array(self._admissions),
            answers=np.array(self._answers),
            refusals=np.array(self._refusals),
            unanswered=self._in_flight,
            interrupted=self._ingresses.interrupted,
            chunks=self._encoders.done,
            encode_wait_seconds=self._encoders.waited_seconds / max(1, self._encoders.done),
            node_seconds=node_seconds,
            worked_seconds=worked_seconds,
            events=clock.events,
            cpu_seconds=time.process_time() - started,
        )

    def _fleet(self, service: Service) -> Fleet:
        deployed = self._plan.deployment.services[service]
        return Fleet(
            self._clock,
            self._plan.starts[service],
            count=deployed.initial,
            linger_seconds=deployed.linger_seconds,
            grace_seconds=deployed.grace_seconds,
        )

    def _start_autoscalers(self) -> None:
        # Each controller starts its interval at a random time.
        rng = random.Random(f"rounds {self._plan.seed}")
        for service in SERVICES:
            rule = self._plan.deployment.services[service].autoscaling
            if rule is None:
                continue
            autoscaler = Autoscaler(rule)
            for decide, seconds in (
                (autoscaler.poll, rule.polling_seconds),
                (autoscaler.sync, self._plan.sync_seconds),
            ):
                self._clock.every(seconds, partial(self._scale, service, decide), first=rng.random() * seconds)

    def _scale(self, service: Service, decide: Callable[[float, float | None, int], int]) -> None:
        fleet = self._fleets[service]
        fleet.scale_to(decide(self._clock.now, self._gauges[service](), fleet.count))

    def _start_load(self) -> None:
        match self._plan.load:
            case OpenLoad(arrive=arrive):
                self._schedule(arrive())
            case ClosedLoad(levels=levels, seconds=seconds):
                for level in (*levels, Level(seconds, 0)):
                    self._clock.at(level.begins, self._begin_level, level)

    def _schedule(self, arrivals: Iterator[Arrival]) -> None:
        """Schedule the next arrival only: those of a day would fill the memory."""
        arrival = next(arrivals, None)
        if arrival is not None and arrival[0] <= self._plan.load.seconds:
            self._clock.at(arrival[0], self._arrive, (arrival[1], arrivals))

    def _arrive(self, arrival: tuple[int, Iterator[Arrival]]) -> None:
        chunks, arrivals = arrival
        self._request(chunks)
        self._schedule(arrivals)

    def _begin_level(self, level: Level) -> None:
        self._level_callers = level.callers
        while self._callers < self._level_callers:
            self._callers += 1
            self._next_request()

    def _next_request(self, _: object = None) -> None:
        """A caller's next request, unless the level has fewer callers."""
        assert isinstance(self._plan.load, ClosedLoad)
        if self._callers > self._level_callers:
            self._callers -= 1
        else:
            self._request(self._plan.load.mix.draw(self._mix_chance))

    def _request(self, chunks: int) -> None:
        self._in_flight += 1
        self._ingresses.request(Video(self._clock.now, chunks))

    def _answered(self, video: Video) -> None:
        self._in_flight -= 1
        self._arrivals.append(video.arrived)
        self._admissions.append(video.admitted)
        self._answers.append(self._clock.now)
        if self._callers:
            self._next_request()

    def _refused(self, video: Video) -> None:
        self._in_flight -= 1
        self._refusals.append(video.arrived)
        if self._callers:
            self._clock.after(_RETRY_AFTER_SECONDS, self._next_request)

    def _record_point(self) -> None:
        point = [self._clock.now]
        for service in SERVICES:
            fleet = self._fleets[service]
            point += [fleet.count, fleet.ready, fleet.draining, self._gauges[service]()]
        self._points.append(point)
