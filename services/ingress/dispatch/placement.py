"""Placement policy: which replica a chunk is offered to next, and when. Pure: clock and random numbers are arguments.

Ingresses exchange no messages about their load. A chunk is offered to one replica, then to a few, then to one more at a
time among those without work of this ingress; the first replica that admits the chunk gets it. Simulated at 90 % load
with 20 ingresses and 10 encoders, the p95 is 1.1 times that of a central queue.
"""

import random
from collections.abc import Callable, Iterable
from typing import TypeVar

from videoanalysis.latency import LatencyEstimate

# A chunk waits at so many replicas; with one of ten at half speed and one offer the p95 is three times as high.
OFFERS = 3
# Beyond these it is offered one by one to replicas without work of this ingress, which may be idle.
MAX_OFFERS = 16
# The first replica often admits at once; each further offer would keep a permit free for the same chunk meanwhile.
FIRST_DELAY_SECONDS = 0.002
# An offer costs the same for long work as for short, so the later ones are this share of the service time apart.
_INTERVAL_SHARE = 1 / 32
_MAX_INTERVAL_SECONDS = 1.0
# So many refusals show that the service is full; more offers would only add to its load.
MAX_REFUSALS = 4
# A replica that takes so many times as long as the fastest is slow.
_SLOW = 1.4


def max_chunks_on_offer(replicas: int) -> int:
    """Chunks of one ingress on offer at a time; the others stay in its own queue, which is fair by caller.

    With many replicas more are needed: each chunk looks for an idle one for a few milliseconds.
    """
    return max(4, replicas // 4)


class ReplicaState:
    """One caller's view of one replica, from its own calls. Times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self.in_flight = 0  # offers included
        self._unit_time = LatencyEstimate()
        self._admitted_at = 0.0
        self._admitted_units = 0.0
        self._done_at = 0.0
        self._has_other_work = False
        self._full_until = 0.0

    def admitted(self, now: float, units: float) -> None:
        """The replica admitted work of this caller."""
        self._admitted_at, self._admitted_units = now, units

    def done(self, now: float, seconds: float, units: float, other_chunks: int) -> None:
        """The replica finished work of this caller in `seconds`, without the wait, and has `other_chunks` more."""
        self._unit_time.observe(seconds / units)
        self._done_at = now
        self._has_other_work = other_chunks > 0

    def refused(self, now: float, retry_after_seconds: float) -> None:
        self._full_until = now + retry_after_seconds

    @property
    def unit_seconds(self) -> float | None:
        """The mean time for a unit of work, None while nothing is known."""
        return self._unit_time.mean

    def is_full(self, now: float) -> bool:
        """Whether it refused work and its retry delay has not passed."""
        return self._full_until > now

    def is_avoided(self, now: float) -> bool:
        """Whether it failed recently; a subclass that records failures overrides this."""
        return False

    def rank(self, now: float, fastest: float) -> tuple[float, ...]:
        """Smaller for a replica that is likely to be free sooner; `fastest` is the smallest time for a unit of work.

        Among replicas without work of this caller, slow ones come last, and before them those that had other work at
        the caller's last call. Among the rest, the one that finished its work most recently comes first. So each
        ingress soon uses the same few encoders.
        """
        unit = self._unit_time.mean
        if unit is None:
            return self.in_flight, 0.0, False, False, 0.0
        ends_in = max(0.0, self._admitted_at + self._admitted_units * unit - now) if self.in_flight else 0.0
        return self.in_flight, ends_in, unit > _SLOW * fastest, self._has_other_work, -self._done_at


R = TypeVar("R", bound=ReplicaState)


def choose(
    untried: Iterable[R],
    now: float,
    *,
    fastest: float,
    open_offers: int = 0,
    refusals: int = 0,
    random_number: Callable[[], float] = random.random,
) -> R | None:
    """The replica to offer a chunk to next, of those not tried yet; None if there should be no further offer now.

    While other replicas hold an offer, an avoided replica gets none: if it admitted the chunk and then hung, the chunk
    would be delayed. Equal replicas are chosen at random, since other ingresses rank them alike.
    """
    if refusals >= MAX_REFUSALS or open_offers >= MAX_OFFERS:
        return None
    only_without_work, only_reliable = open_offers >= OFFERS, bool(open_offers or refusals)
    best: R | None = None
    best_rank: tuple[object, ...] = ()
    for one in untried:
        if only_without_work and (one.in_flight or one.is_full(now)):
            continue
        avoided = one.is_avoided(now)
        if only_reliable and avoided:
            continue
        rank = (avoided, one.is_full(now), one.rank(now, fastest), random_number())
        if best is None or rank < best_rank:
            best, best_rank = one, rank
    return best


def fastest_unit(replicas: Iterable[ReplicaState]) -> float:
    """The smallest time for a unit of work, 0 while nothing is known."""
    return min((one.unit_seconds for one in replicas if one.unit_seconds), default=0.0)


class OfferSchedule:
    """How many offers of one chunk should be open: one, after a moment three, then one more at each interval."""

    def __init__(self, service_seconds: float) -> None:
        self.wanted = 1
        self.delay = FIRST_DELAY_SECONDS  # until `waited` is due
        self._first_interval = max(FIRST_DELAY_SECONDS, _INTERVAL_SHARE * service_seconds)
        self._interval = self._first_interval

    def none_chosen(self) -> None:
        """No replica was left to choose; the more often that happens, the less likely it changes soon."""
        self._interval = min(2 * self._interval, _MAX_INTERVAL_SECONDS)

    def waited(self, open_offers: int) -> None:
        """`delay` has passed and none of the open offers was admitted."""
        self.wanted, self.delay = max(OFFERS, open_offers + 1), self._interval

    def refused(self, open_offers: int) -> None:
        """An offer was refused; `open_offers` still includes it, so that another replaces it."""
        self.wanted, self.delay = max(OFFERS, open_offers), self._interval

    def replica_added(self, open_offers: int) -> None:
        """A new replica is offered the chunk at once, without waiting for the interval."""
        self._interval = self._first_interval
        self.wanted, self.delay = open_offers + 1, self._interval
