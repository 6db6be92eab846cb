"""An encoder as its callers see it: two places, a short line of headers, one computation at a time."""

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from benchmarks.dispatch.events import Events
from benchmarks.dispatch.policy import Policy
from benchmarks.dispatch.workload import Chunk

if TYPE_CHECKING:
    from benchmarks.dispatch.ingress import Ingress

HOP, COPY, SERVICE = 0.0005, 0.006, 0.0226


class Offer:
    """One chunk at one encoder: parked there, admitted, or withdrawn."""

    __slots__ = ("admitted_at", "chunk", "encoder", "ingress", "state")

    def __init__(self, chunk: Chunk, ingress: "Ingress", encoder: "Encoder") -> None:
        self.chunk = chunk
        self.ingress = ingress
        self.encoder = encoder
        self.state = "sent"
        self.admitted_at = 0.0


class Encoder:
    """Everything that reaches it has travelled already; its answers take a hop."""

    def __init__(self, number: int, events: Events, policy: Policy, speed: float = 1.0) -> None:
        self.number = number
        self.computed = 0
        self.refusals = 0
        self.withdrawn = 0
        self.wasted_seconds = 0.0  # a place held for a chunk that went elsewhere
        self.busy_seconds = 0.0
        self._events = events
        self._policy = policy
        self._service = SERVICE / speed
        self._free = policy.slots
        self._parked: list[Offer] | deque[Offer] = deque()
        self._uploaded: deque[Offer] = deque()
        self._computes = False
        self._expected_end = 0.0
        self._grant_due = False
        self._upload: float | None = None
        self._upload_deviation = 0.0

    @property
    def load(self) -> int:
        return len(self._parked) + self._policy.slots - self._free

    def offered(self, offer: Offer) -> None:
        if offer.state == "withdrawn":
            return
        if self._may_admit() and not self._parked:
            self._admit(offer)
        elif len(self._parked) >= self._policy.max_parked:
            self._refuse(offer)
        else:
            offer.state = "parked"
            self._parked.append(offer)
            self._events.after(self._policy.park_seconds, self._expire, offer)
            self._grant()

    def withdraw(self, offer: Offer) -> None:
        self.withdrawn += 1
        if offer.state == "parked":
            self._parked.remove(offer)
        elif offer.state == "admitted":
            self.wasted_seconds += self._events.now - offer.admitted_at
            self._leave()
        offer.state = "withdrawn"

    def uploaded(self, offer: Offer) -> None:
        self._uploaded.append(offer)
        self._observe(self._events.now - offer.admitted_at)
        self._compute()

    def _observe(self, seconds: float) -> None:
        """As RFC 6298 estimates round trips."""
        if self._upload is None:
            self._upload, self._upload_deviation = seconds, seconds / 2
        else:
            self._upload_deviation += (abs(seconds - self._upload) - self._upload_deviation) / 4
            self._upload += (seconds - self._upload) / 8

    def _lead(self) -> float:
        if len(self._parked) >= self._policy.prompt_from:
            return inf
        if self._policy.lead != "learnt":
            return self._policy.lead
        return inf if self._upload is None else self._upload + self._policy.deviations * self._upload_deviation

    def _compute(self) -> None:
        if self._computes or not self._uploaded:
            return
        offer = self._uploaded.popleft()
        self._computes = True
        self._expected_end = self._events.now + self._service
        seconds = self._service * offer.chunk.work
        self.busy_seconds += seconds
        self._events.after(seconds, self._done, offer)
        self._grant()

    def _done(self, offer: Offer) -> None:
        self._computes = False
        self.computed += 1
        self._leave()
        self._events.after(HOP, offer.ingress.finished, offer, self.load)
        self._compute()

    def _leave(self) -> None:
        self._free += 1
        self._grant()

    def _grant(self) -> None:
        while self._parked and self._may_admit():
            self._admit(self._next())

    def _next(self) -> Offer:
        if self._policy.order == "arrival":
            assert isinstance(self._parked, deque)
            return self._parked.popleft()
        oldest = min(self._parked, key=lambda offer: offer.chunk.arrived)
        self._parked.remove(oldest)
        return oldest

    def _may_admit(self) -> bool:
        if not self._free:
            return False
        lead = self._lead()
        if self._free == self._policy.slots or lead == inf:
            return True
        if not self._computes:
            return False
        early = self._expected_end - lead - self._events.now
        if early <= 1e-9:
            return True
        if not self._grant_due:
            self._grant_due = True
            self._events.after(early, self._grant_now)
        return False

    def _grant_now(self) -> None:
        self._grant_due = False
        self._grant()

    def _admit(self, offer: Offer) -> None:
        self._free -= 1
        offer.state = "admitted"
        offer.admitted_at = self._events.now
        self._events.after(HOP, offer.ingress.admitted, offer, self.load)

    def _expire(self, offer: Offer) -> None:
        if offer.state == "parked":
            self._parked.remove(offer)
            self._refuse(offer)

    def _refuse(self, offer: Offer) -> None:
        self.refusals += 1
        offer.state = "refused"
        self._events.after(HOP, offer.ingress.refused, offer, self.load)
