"""An ingress as a policy wants it: chunks in line, a few of them on offer."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from benchmarks.dispatch.encoder import COPY_SECONDS, HOP_SECONDS, SERVICE_SECONDS, Encoder, Offer
from benchmarks.dispatch.events import Events
from benchmarks.dispatch.policy import Choice, Policy
from benchmarks.dispatch.workload import Chunk

_FIRST_WINDOW, _EASE_SECONDS = 4.0, 0.1
# What an encoder reported is worth nothing after so long.
_REPORT_SECONDS = 0.05
_SLOW = 1.4


class _Search:
    """Rounds through the encoders for one chunk."""

    __slots__ = ("chunk", "gap", "is_over", "offers", "pause", "refusals", "round", "tried")

    def __init__(self, chunk: Chunk, pause: float) -> None:
        self.chunk = chunk
        self.pause = pause
        self.gap = 0.0
        self.round = 0
        self.offers: list[Offer] = []
        self.tried: set[Encoder] = set()
        self.refusals = 0
        self.is_over = False


class _Known:
    """What an ingress knows of one encoder, from its own calls."""

    __slots__ = ("admitted_at", "done_at", "full_until", "others", "own", "reported", "reported_at", "usual_seconds")

    def __init__(self) -> None:
        self.own = 0
        self.admitted_at = -inf
        self.done_at = -inf
        self.others = 0
        self.full_until = -inf
        self.usual_seconds = 0.0
        self.reported = 0
        self.reported_at = -inf


class Ingress:
    """What reaches it has travelled already. It takes up at most `max_waiting` chunks at a time."""

    def __init__(
        self, events: Events, policy: Policy, encoders: Sequence[Encoder], max_waiting: float, seed: int
    ) -> None:
        self.offers = 0
        self._events = events
        self._policy = policy
        self._known = {encoder: _Known() for encoder in encoders}
        self._max_waiting = max_waiting
        self._random = random.Random(seed)
        self._line: deque[Chunk] = deque()
        self._searches: dict[Chunk, _Search] = {}
        self._window = _FIRST_WINDOW if policy.window is None else policy.window
        self._eased_at = -inf
        self._fastest_seconds = inf
        self._turn = self._random.randrange(len(encoders))

    @property
    def held(self) -> int:
        """Chunks that are not placed yet, and calls under way."""
        return len(self._line) + len(self._searches) + sum(known.own for known in self._known.values())

    def submit(self, chunk: Chunk) -> None:
        if len(self._line) + len(self._searches) >= self._max_waiting:
            chunk.refused = True
            return
        self._line.append(chunk)
        self._offer_next()

    def admitted(self, offer: Offer, load: int) -> None:
        self._hear(offer.encoder, load)
        search = self._searches.get(offer.chunk)
        if search is None or offer not in search.offers:
            return
        self._known[offer.encoder].admitted_at = self._events.now
        search.offers.remove(offer)
        self._end(search)
        if self._policy.window is None:
            self._window = min(self._window + 1 / self._window, max(_FIRST_WINDOW, len(self._known)))
        self._events.after(COPY_SECONDS * offer.chunk.bulk + HOP_SECONDS, offer.encoder.uploaded, offer)
        self._offer_next()

    def refused(self, offer: Offer, load: int) -> None:
        self._hear(offer.encoder, load)
        now, known = self._events.now, self._known[offer.encoder]
        known.full_until = now + self._policy.retry_after
        if self._policy.window is None and now >= self._eased_at + _EASE_SECONDS:
            self._window, self._eased_at = max(1.0, self._window / 2), now
        search = self._searches.get(offer.chunk)
        if search is not None and offer in search.offers:
            known.own -= 1
            search.offers.remove(offer)
            search.refusals += 1
            self._ask(search, self._policy.offers)

    def finished(self, offer: Offer, load: int) -> None:
        self._hear(offer.encoder, load)
        known = self._known[offer.encoder]
        known.own -= 1
        known.usual_seconds += (offer.compute_seconds - known.usual_seconds) / (4 if known.usual_seconds else 1)
        self._fastest_seconds = min(one.usual_seconds for one in self._known.values() if one.usual_seconds)
        known.done_at, known.others = self._events.now, load
        offer.chunk.done = self._events.now

    def _offer_next(self) -> None:
        while self._line and len(self._searches) + 1 <= self._window:
            chunk = self._line.popleft()
            search = self._searches[chunk] = _Search(chunk, self._policy.first_pause)
            self._begin_round(search)

    def _ask(self, search: _Search, wanted: int) -> None:
        """As long as fewer than `wanted` offers wait."""
        while len(search.offers) < wanted:
            encoder = self._pick(search) if search.refusals < self._policy.max_refusals else None
            if encoder is None:
                break
            search.tried.add(encoder)
            self._offer(search, encoder)
        if not search.offers:
            self._rest(search)

    def _ask_more(self, search: _Search, in_round: int) -> None:
        if search.is_over or search.round != in_round:
            return
        asked = len(search.offers)
        if asked < self._policy.most_offers:
            self._ask(search, max(self._policy.offers, asked + 1))
        if search.round == in_round:
            if len(search.offers) == asked:
                search.gap *= 2
            self._events.after(search.gap, self._ask_more, search, in_round)

    def _rest(self, search: _Search) -> None:
        full = min(known.full_until for known in self._known.values()) - self._events.now
        search.round += 1
        pause = max(search.pause, full) * self._random.uniform(0.5, 1.5)
        search.pause = min(2 * search.pause, self._policy.longest_pause)
        self._events.after(pause, self._begin_round, search)

    def _begin_round(self, search: _Search) -> None:
        search.tried.clear()
        search.refusals = 0
        search.gap = max(self._policy.apart, self._policy.gap * SERVICE_SECONDS)
        self._ask(search, 1 if self._policy.apart else self._policy.offers)
        if self._policy.apart and search.offers:
            self._events.after(self._policy.apart, self._ask_more, search, search.round)

    def _offer(self, search: _Search, encoder: Encoder) -> None:
        offer = Offer(search.chunk, self, encoder)
        search.offers.append(offer)
        self._known[encoder].own += 1
        self.offers += 1
        self._events.after(HOP_SECONDS, encoder.offered, offer)

    def _end(self, search: _Search) -> None:
        search.is_over = True
        del self._searches[search.chunk]
        for offer in search.offers:
            self._known[offer.encoder].own -= 1
            self._events.after(HOP_SECONDS, offer.encoder.withdraw, offer)
        search.offers.clear()

    def _pick(self, search: _Search) -> Encoder | None:
        untried = [encoder for encoder in self._known if encoder not in search.tried]
        if len(search.offers) >= self._policy.offers:
            now = self._events.now
            untried = [one for one in untried if not self._known[one].own and self._known[one].full_until <= now]
        self._random.shuffle(untried)
        self._turn += 1
        order: dict[Choice, Callable[[Encoder], Any]] = {
            Choice.RANDOM: lambda _: 0,
            Choice.IN_TURN: lambda one: (one.number - self._turn) % len(self._known),
            Choice.FEWEST_OWN: lambda one: self._known[one].own,
            Choice.REPORTED: self._reported,
            Choice.SOONEST: self._soonest,
            Choice.LATEST: self._latest,
        }
        key, now = order[self._policy.choice], self._events.now
        return min(untried, key=lambda one: (self._known[one].full_until > now, key(one)), default=None)

    def _reported(self, encoder: Encoder) -> tuple[int, int]:
        known = self._known[encoder]
        return known.reported if self._events.now < known.reported_at + _REPORT_SECONDS else 0, known.own

    def _soonest(self, encoder: Encoder) -> tuple[int, float, float]:
        known = self._known[encoder]
        remaining = max(0.0, known.admitted_at + known.usual_seconds - self._events.now) if known.own else 0.0
        by_speed = self._random.expovariate(1 / known.usual_seconds) if known.usual_seconds else 0.0
        return known.own, remaining, by_speed

    def _latest(self, encoder: Encoder) -> tuple[int, float, bool, bool, float]:
        known = self._known[encoder]
        is_slow = known.usual_seconds > _SLOW * self._fastest_seconds
        return *self._soonest(encoder)[:2], is_slow, known.others > 0, -known.done_at

    def _hear(self, encoder: Encoder, load: int) -> None:
        self._known[encoder].reported, self._known[encoder].reported_at = load, self._events.now
