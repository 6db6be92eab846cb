"""Encoders that several ingresses share, on simulated time.

Placement, the order of parked headers and the time of the next admission are the services' own code; only calls,
uploads and computations are simulated. Messages take `hop_seconds`.
"""

import random
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Any, Generic

from loadtest.simulate.clock import Action, Clock
from loadtest.simulate.fleet import Fleet, Replica
from loadtest.simulate.station import Piece, Station
from services.encoder.parking import ParkedHeaders
from services.encoder.upload_lead import UploadLead
from services.ingress.dispatch.placement import (
    OfferSchedule,
    ReplicaState,
    choose,
    fastest_unit,
    max_chunks_on_offer,
)

# Defaults of the encoder's settings.
_MAX_PARKED, _MAX_PARKED_PER_INGRESS = 256, 16


class _Phase(Enum):
    SENT = auto()
    PARKED = auto()
    ADMITTED = auto()
    OVER = auto()


class _State(ReplicaState):
    def __init__(self, replica: Replica) -> None:
        super().__init__()
        self.replica = replica


class _Ingress(Generic[Piece]):
    """The state of one ingress: its queue, its view of each replica, and the chunks that it offers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.states: dict[Replica, _State] = {}
        self.queue: deque[_Search[Piece]] = deque()
        self.on_offer: dict[_Search[Piece], None] = {}
        self.service_seconds = 0.0
        self.fastest = 0.0


class _Search(Generic[Piece]):
    """A chunk that looks for an encoder."""

    __slots__ = ("admitted", "ingress", "offers", "piece", "schedule", "since", "tried")

    def __init__(self, piece: Piece, ingress: _Ingress[Piece], since: float) -> None:
        self.piece = piece
        self.ingress = ingress
        self.since = since
        self.admitted = False
        self.schedule = OfferSchedule(ingress.service_seconds)
        self.offers: list[_Offer[Piece]] = []
        self.tried: set[Replica] = set()


class _Offer(Generic[Piece]):
    """A chunk at one encoder."""

    __slots__ = ("admitted_at", "phase", "replica", "search", "uploaded_at")

    def __init__(self, search: _Search[Piece], replica: Replica) -> None:
        self.search = search
        self.replica = replica
        self.phase = _Phase.SENT
        self.admitted_at = 0.0
        self.uploaded_at: float | None = None


class _Encoder(Generic[Piece]):
    def __init__(self, permits: int) -> None:
        self.free = permits
        self.parked: ParkedHeaders[_Offer[Piece]] = ParkedHeaders(_MAX_PARKED, _MAX_PARKED_PER_INGRESS)
        self.lead = UploadLead()
        self.holders: list[_Offer[Piece]] = []
        self.uploaded: deque[_Offer[Piece]] = deque()
        self.is_computing = False
        self.timer_at: float | None = None


class Encoders(Station[Piece]):
    """`work` and `upload` are the seconds of a piece, `expected` those of the warm-up; `owner_of` names the ingress."""

    def __init__(
        self,
        clock: Clock,
        fleet: Fleet,
        *,
        permits: int,
        upload: Callable[[Piece], float],
        work: Callable[[Piece, Replica], float],
        owner_of: Callable[[Piece], Hashable],
        rng: random.Random,
        on_done: Callable[[Piece], None],
        expected: Callable[[Replica], float] = lambda _: 0.0,
        hop_seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._fleet = fleet
        self._permits = permits
        self._upload = upload
        self._work = work
        self._owner_of = owner_of
        self._random_number = rng.random
        self._on_done = on_done
        self._expected = expected
        self._hop_seconds = hop_seconds
        self._encoders: dict[Replica, _Encoder[Piece]] = {}  # those that take new work
        self._draining: dict[Replica, _Encoder[Piece]] = {}
        self._ingresses: dict[Hashable, _Ingress[Piece]] = {}
        self.offers = 0
        self.cancelled = 0
        self.wasted_seconds = 0.0  # of permits held for chunks that went elsewhere

    def submit(self, piece: Piece) -> None:
        owner = self._owner_of(piece)
        ingress = self._ingresses.get(owner)
        if ingress is None:
            ingress = self._ingresses[owner] = _Ingress(str(len(self._ingresses)))
            ingress.states = {replica: _State(replica) for replica in self._encoders}
        self.waiting += 1
        ingress.queue.append(_Search(piece, ingress, self._clock.now))
        self._offer_queued(ingress)

    def add(self, replica: Replica) -> None:
        encoder = self._encoders[replica] = _Encoder(self._permits)
        encoder.lead.expect(self._expected(replica), 1)
        for ingress in self._ingresses.values():
            ingress.states[replica] = _State(replica)
            for search in list(ingress.on_offer):
                search.schedule.replica_added(len(search.offers))
                self._offer(search)
            self._offer_queued(ingress)

    def drain(self, replica: Replica) -> None:
        encoder = self._encoders.pop(replica, None)
        if encoder is None:  # no ingress has discovered it yet
            self._fleet.left(replica)
            return
        self._draining[replica] = encoder
        parked = [encoder.parked.pop() for _ in range(len(encoder.parked))]
        self._leave_if_done(replica)
        for ingress in self._ingresses.values():
            del ingress.states[replica]
        for offer in parked:
            offer.phase = _Phase.OVER
            offer.search.offers.remove(offer)
            self._offer(offer.search)

    def _send(self, action: Action, argument: Any) -> None:
        if self._hop_seconds:
            self._clock.after(self._hop_seconds, action, argument)
        else:
            action(argument)

    # At the ingress

    def _offer_queued(self, ingress: _Ingress[Piece]) -> None:
        while ingress.queue and len(ingress.on_offer) < max_chunks_on_offer(len(self._encoders)):
            search = ingress.queue.popleft()
            ingress.on_offer[search] = None
            search.schedule = OfferSchedule(ingress.service_seconds)
            self._offer(search)
            self._wait(search)

    def _offer(self, search: _Search[Piece]) -> None:
        """Until as many offers are open as the schedule wants."""
        states = search.ingress.states
        while not search.admitted and len(search.offers) < search.schedule.wanted:
            state = choose(
                (state for state in states.values() if state.replica not in search.tried),
                self._clock.now,
                fastest=search.ingress.fastest,
                open_offers=len(search.offers),
                random_number=self._random_number,
            )
            if state is None:
                search.schedule.none_chosen()
                return
            search.tried.add(state.replica)
            state.in_flight += 1
            offer = _Offer(search, state.replica)
            search.offers.append(offer)
            self.offers += 1
            self._send(self._arrive, offer)

    def _wait(self, search: _Search[Piece]) -> None:
        if not search.admitted:
            self._clock.after(search.schedule.delay, self._waited, search)

    def _waited(self, search: _Search[Piece]) -> None:
        if search.admitted:
            return
        if not search.offers:  # another round, as after a backoff
            search.tried.clear()
        search.schedule.waited(len(search.offers))
        self._offer(search)
        self._wait(search)

    def _admitted(self, offer: _Offer[Piece]) -> None:
        search, ingress = offer.search, offer.search.ingress
        if search.admitted:  # elsewhere; the cancellation is under way
            return
        search.admitted = True
        del ingress.on_offer[search]
        self.waiting -= 1
        self.in_flight += 1
        if (state := ingress.states.get(offer.replica)) is not None:
            state.admitted(self._clock.now, 1)
        for other in search.offers:
            if other is not offer:
                self._end_attempt(other)
                self.cancelled += 1
                self._send(self._cancel, other)
        self._clock.after(self._upload(search.piece) + self._hop_seconds, self._receive, offer)
        self._offer_queued(ingress)

    def _finish(self, result: tuple[_Offer[Piece], float, int]) -> None:
        offer, seconds, other_chunks = result
        search, ingress = offer.search, offer.search.ingress
        self._end_attempt(offer)
        if (state := ingress.states.get(offer.replica)) is not None:
            state.done(self._clock.now, seconds, 1, other_chunks)
            ingress.fastest = fastest_unit(ingress.states.values())
        took = self._clock.now - offer.admitted_at
        ingress.service_seconds += (took - ingress.service_seconds) / (8 if ingress.service_seconds else 1)
        self._on_done(search.piece)

    def _end_attempt(self, offer: _Offer[Piece]) -> None:
        if (state := offer.search.ingress.states.get(offer.replica)) is not None:
            state.in_flight -= 1

    # At the encoder

    def _arrive(self, offer: _Offer[Piece]) -> None:
        encoder = self._encoders.get(offer.replica)
        if encoder is None:
            offer.phase = _Phase.OVER
            if offer in offer.search.offers:
                offer.search.offers.remove(offer)
            return
        offer.phase = _Phase.PARKED
        search = offer.search
        encoder.parked.add(search.ingress.name, search.since, offer)
        self._hand_out(offer.replica)

    def _hand_out(self, replica: Replica) -> None:
        """As services.encoder.admission does."""
        encoder = self._encoders.get(replica)
        while encoder is not None and encoder.free and len(encoder.parked):
            if encoder.holders:
                due = min(encoder.lead.next_at(one.admitted_at, one.uploaded_at, 1) for one in encoder.holders)
                if due > self._clock.now:
                    if encoder.timer_at is None or due < encoder.timer_at:
                        encoder.timer_at = due
                        self._clock.at(due, self._on_timer, replica)
                    return
            offer = encoder.parked.pop()
            offer.phase = _Phase.ADMITTED
            offer.admitted_at = self._clock.now
            encoder.free -= 1
            encoder.holders.append(offer)
            self._send(self._admitted, offer)

    def _on_timer(self, replica: Replica) -> None:
        if (encoder := self._encoders.get(replica)) is not None:
            encoder.timer_at = None
            self._hand_out(replica)

    def _cancel(self, offer: _Offer[Piece]) -> None:
        encoder = self._encoder(offer.replica)
        if offer.phase is _Phase.PARKED:
            encoder.parked.discard(offer.search.ingress.name, offer)
        elif offer.phase is _Phase.ADMITTED:
            self.wasted_seconds += self._clock.now - offer.admitted_at
            self._free(encoder, offer)
        offer.phase = _Phase.OVER

    def _receive(self, offer: _Offer[Piece]) -> None:
        encoder = self._encoder(offer.replica)
        offer.uploaded_at = self._clock.now
        encoder.lead.uploaded(offer.uploaded_at - offer.admitted_at, 1)
        encoder.uploaded.append(offer)
        self._compute(encoder)
        self._hand_out(offer.replica)

    def _compute(self, encoder: _Encoder[Piece]) -> None:
        if encoder.is_computing or not encoder.uploaded:
            return
        offer = encoder.uploaded.popleft()
        encoder.is_computing = True
        search = offer.search
        seconds = self._work(search.piece, offer.replica)
        self.waited_seconds += self._clock.now - search.since - self._upload(search.piece)
        self._clock.after(seconds, self._computed, (offer, seconds))

    def _computed(self, done: tuple[_Offer[Piece], float]) -> None:
        offer, seconds = done
        encoder = self._encoder(offer.replica)
        encoder.is_computing = False
        encoder.lead.computed(seconds, 1, self._clock.now)
        self.worked_seconds += seconds
        self.in_flight -= 1
        self.done += 1
        other_chunks = len(encoder.holders) - 1 + len(encoder.parked)
        self._compute(encoder)
        self._free(encoder, offer)
        self._send(self._finish, (offer, seconds, other_chunks))

    def _free(self, encoder: _Encoder[Piece], offer: _Offer[Piece]) -> None:
        encoder.free += 1
        encoder.holders.remove(offer)
        self._hand_out(offer.replica)
        self._leave_if_done(offer.replica)

    def _encoder(self, replica: Replica) -> _Encoder[Piece]:
        return self._encoders.get(replica) or self._draining[replica]

    def _leave_if_done(self, replica: Replica) -> None:
        encoder = self._draining.get(replica)
        if encoder is not None and not encoder.holders:
            self._fleet.left(replica)
