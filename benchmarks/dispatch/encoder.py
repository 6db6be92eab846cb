"""An encoder as its callers see it: two places, a line of headers, one computation at a time."""

from collections import deque
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

from benchmarks.dispatch.events import Events
from benchmarks.dispatch.policy import Policy
from benchmarks.dispatch.workload import Chunk

if TYPE_CHECKING:
    from benchmarks.dispatch.ingress import Ingress

SLOTS = 2
HOP_SECONDS, COPY_SECONDS, SERVICE_SECONDS = 0.0005, 0.006, 0.0226

_DEVIATIONS = 4
_ROUNDING = 1e-9


class State(Enum):
    SENT = auto()
    PARKED = auto()
    ADMITTED = auto()
    OVER = auto()  # withdrawn or refused


class Offer:
    """One chunk at one encoder."""

    __slots__ = ("admitted_at", "chunk", "compute_seconds", "encoder", "ingress", "state")

    def __init__(self, chunk: Chunk, ingress: "Ingress", encoder: "Encoder") -> None:
        self.chunk = chunk
        self.ingress = ingress
        self.encoder = encoder
        self.state = State.SENT
        self.admitted_at = 0.0
        self.compute_seconds = 0.0


class Estimate:
    """Mean and deviation, as RFC 6298 estimates round trips."""

    def __init__(self) -> None:
        self.mean: float | None = None
        self.deviation = 0.0

    def observe(self, value: float) -> None:
        if self.mean is None:
            self.mean, self.deviation = value, value / 2
        else:
            self.deviation += (abs(value - self.mean) - self.deviation) / 4
            self.mean += (value - self.mean) / 8


class Encoder:
    """What reaches it has travelled already; its answers take a hop."""

    def __init__(self, number: int, events: Events, policy: Policy, speed: float = 1.0) -> None:
        self.number = number
        self.computed = 0
        self.refusals = 0
        self.withdrawn = 0
        self.wasted_seconds = 0.0  # places held for chunks that went elsewhere
        self._events = events
        self._policy = policy
        self._service_seconds = SERVICE_SECONDS / speed
        self._free = SLOTS
        self._parked: deque[Offer] = deque()
        self._uploaded: deque[Offer] = deque()
        self._computing_since: float | None = None
        self._upload, self._service = Estimate(), Estimate()
        self._is_later_due = False

    @property
    def load(self) -> int:
        return len(self._parked) + SLOTS - self._free

    def offered(self, offer: Offer) -> None:
        if self._parked or not self._may_admit():
            if len(self._parked) >= self._policy.max_parked:
                self._refuse(offer)
                return
            offer.state = State.PARKED
            self._parked.append(offer)
            if self._policy.park_seconds < inf:
                self._events.after(self._policy.park_seconds, self._expire, offer)
            self._give_places()
        else:
            self._admit(offer)

    def withdraw(self, offer: Offer) -> None:
        self.withdrawn += 1
        if offer.state is State.PARKED:
            self._parked.remove(offer)
        elif offer.state is State.ADMITTED:
            self.wasted_seconds += self._events.now - offer.admitted_at
            self._leave()
        offer.state = State.OVER

    def uploaded(self, offer: Offer) -> None:
        self._upload.observe(self._events.now - offer.admitted_at)
        self._uploaded.append(offer)
        self._compute()

    def _compute(self) -> None:
        if self._computing_since is not None or not self._uploaded:
            return
        offer = self._uploaded.popleft()
        self._computing_since = self._events.now
        offer.compute_seconds = self._service_seconds * offer.chunk.work
        self._events.after(offer.compute_seconds, self._computed, offer)
        self._give_places()

    def _computed(self, offer: Offer) -> None:
        self._computing_since = None
        self._service.observe(offer.compute_seconds)
        self.computed += 1
        self._leave()
        self._events.after(HOP_SECONDS, offer.ingress.finished, offer, self.load)
        self._compute()

    def _leave(self) -> None:
        self._free += 1
        self._give_places()

    def _give_places(self) -> None:
        while self._parked and self._may_admit():
            self._admit(self._parked.popleft())

    def _may_admit(self) -> bool:
        """An idle encoder takes a chunk at once, a busy one when it will soon need it: another may be idle sooner."""
        if not self._free:
            return False
        lead = self._lead()
        if self._free == SLOTS or lead == inf or len(self._parked) >= self._policy.prompt_from:
            return True
        if self._computing_since is None or self._service.mean is None:
            return False
        early = self._computing_since + self._service.mean - lead - self._events.now
        if early > _ROUNDING and not self._is_later_due:
            self._is_later_due = True
            self._events.after(early, self._later)
        return early <= _ROUNDING

    def _later(self) -> None:
        self._is_later_due = False
        self._give_places()

    def _lead(self) -> float:
        if self._policy.lead is not None:
            return self._policy.lead
        if self._upload.mean is None:
            return inf
        return self._upload.mean + _DEVIATIONS * self._upload.deviation

    def _admit(self, offer: Offer) -> None:
        self._free -= 1
        offer.state = State.ADMITTED
        offer.admitted_at = self._events.now
        self._events.after(HOP_SECONDS, offer.ingress.admitted, offer, self.load)

    def _expire(self, offer: Offer) -> None:
        if offer.state is State.PARKED:
            self._parked.remove(offer)
            self._refuse(offer)

    def _refuse(self, offer: Offer) -> None:
        self.refusals += 1
        offer.state = State.OVER
        self._events.after(HOP_SECONDS, offer.ingress.refused, offer, self.load)
