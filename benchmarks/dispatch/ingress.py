"""An ingress as a policy wants it: chunks in line, a few of them on offer."""

import random
from collections import deque
from collections.abc import Sequence
from functools import partial
from math import inf

from benchmarks.dispatch.encoder import COPY, HOP, Encoder, Offer
from benchmarks.dispatch.events import Events
from benchmarks.dispatch.policy import Policy
from benchmarks.dispatch.workload import Chunk

_EASE_SECONDS = 0.1
# What an encoder reported is worth nothing after so long.
_REPORT_SECONDS = 0.05


class _Search:
    """Rounds through the encoders for one chunk."""

    __slots__ = ("chunk", "open", "over", "pause", "refusals", "tried")

    def __init__(self, chunk: Chunk, pause: float) -> None:
        self.chunk = chunk
        self.pause = pause
        self.open: list[Offer] = []
        self.over = False
        self.tried: set[Encoder] = set()
        self.refusals = 0


class Ingress:
    def __init__(
        self, events: Events, policy: Policy, encoders: Sequence[Encoder], max_waiting: float, seed: int
    ) -> None:
        self.offers = 0
        self._events = events
        self._policy = policy
        self._encoders = encoders
        self._max_waiting = max_waiting
        self._random = random.Random(seed)
        self._line: deque[Chunk] = deque()
        self._searches: dict[Chunk, _Search] = {}
        self._window = policy.first_window
        self._eased_at = -inf
        self._own = dict.fromkeys(encoders, 0)
        self._reported: dict[Encoder, tuple[float, int]] = {}
        self._full_until = dict.fromkeys(encoders, -inf)
        self._turn = self._random.randrange(len(encoders))

    def submit(self, chunk: Chunk) -> None:
        if len(self._line) + len(self._searches) >= self._max_waiting:
            chunk.refused = True
            return
        self._line.append(chunk)
        self._pump()

    def admitted(self, offer: Offer, load: int) -> None:
        self._hear(offer.encoder, load)
        search = self._searches.get(offer.chunk)
        if search is None or search.over or offer not in search.open:
            return
        search.open.remove(offer)
        self._end(search)
        if self._policy.window == "adaptive":
            self._window = min(self._window + 1 / self._window, max(self._policy.first_window, len(self._encoders)))
        self._events.after(offer.chunk.bulk * COPY + HOP, offer.encoder.uploaded, offer)
        self._pump()

    def refused(self, offer: Offer, load: int) -> None:
        self._hear(offer.encoder, load)
        self._own[offer.encoder] -= 1
        self._full_until[offer.encoder] = self._events.now + self._policy.retry_after
        if self._policy.window == "adaptive" and self._events.now >= self._eased_at + _EASE_SECONDS:
            self._window, self._eased_at = max(1.0, self._window / 2), self._events.now
        search = self._searches.get(offer.chunk)
        if search is None or search.over or offer not in search.open:
            return
        search.open.remove(offer)
        search.refusals += 1
        self._ask(search)

    def finished(self, offer: Offer, load: int) -> None:
        offer.chunk.done = self._events.now
        self._own[offer.encoder] -= 1
        self._hear(offer.encoder, load)
        if self._policy.steal and load < self._policy.slots:
            for search in self._searches.values():
                if all(other.encoder is not offer.encoder for other in search.open):
                    self._offer(search, offer.encoder)
                    break

    def _pump(self) -> None:
        while self._line and len(self._searches) < self._most_on_offer():
            chunk = self._line.popleft()
            search = self._searches[chunk] = _Search(chunk, self._policy.first_pause)
            self._ask(search)

    def _most_on_offer(self) -> float:
        policy = self._policy
        if policy.window == "adaptive":
            return max(1, min(int(self._window), len(self._encoders)))
        if policy.window == inf and policy.window_per_encoder:
            return max(1.0, round(policy.window_per_encoder * len(self._encoders)))
        return policy.window + policy.window_per_encoder * len(self._encoders)

    def _ask(self, search: _Search) -> None:
        while not search.over and len(search.open) < self._policy.copies:
            encoder = self._pick(search) if search.refusals < self._policy.max_refusals else None
            if encoder is None:
                break
            search.tried.add(encoder)
            self._offer(search, encoder)
            if self._policy.second_after and len(search.open) < self._policy.copies:
                self._events.after(self._policy.second_after, self._ask, search)
                return
        if not search.open and not search.over:
            self._rest(search)

    def _rest(self, search: _Search) -> None:
        full = min(self._full_until.values()) - self._events.now
        pause = max(search.pause, min(full, self._policy.retry_after)) * self._random.uniform(0.5, 1.5)
        search.pause = min(2 * search.pause, self._policy.longest_pause)
        self._events.after(pause, self._begin_round, search)

    def _begin_round(self, search: _Search) -> None:
        search.tried.clear()
        search.refusals = 0
        self._ask(search)

    def _offer(self, search: _Search, encoder: Encoder) -> None:
        offer = Offer(search.chunk, self, encoder)
        search.open.append(offer)
        self._own[encoder] += 1
        self.offers += 1
        self._events.after(HOP, encoder.offered, offer)

    def _end(self, search: _Search) -> None:
        search.over = True
        del self._searches[search.chunk]
        for offer in search.open:
            self._own[offer.encoder] -= 1
            self._events.after(HOP, offer.encoder.withdraw, offer)
        search.open.clear()

    def _pick(self, search: _Search) -> Encoder | None:
        untried = [encoder for encoder in self._encoders if encoder not in search.tried]
        if not untried:
            return None
        if self._policy.choose == "in turn":
            self._turn += 1
            return min(untried, key=lambda one: (one.number - self._turn) % len(self._encoders))
        self._random.shuffle(untried)
        now = self._events.now
        match self._policy.choose:
            case "random":
                return min(untried, key=lambda one: self._full_until[one] > now)
            case "fewest own":
                return min(untried, key=lambda one: (self._full_until[one] > now, self._own[one]))
            case "two by report":
                untried = untried[:2]
        return min(untried, key=partial(self._believed_load, now))

    def _believed_load(self, now: float, encoder: Encoder) -> tuple[bool, float, int]:
        at, load = self._reported.get(encoder, (-inf, 0))
        return self._full_until[encoder] > now, load if now - at < _REPORT_SECONDS else 0, self._own[encoder]

    def _hear(self, encoder: Encoder, load: int) -> None:
        self._reported[encoder] = (self._events.now, load)
