"""How ingresses place chunks at encoders: each by what it knows itself, and the first one with room gets the chunk."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from loadtest.simulate.fleet import Replica
from loadtest.simulate.station import Piece, Station

# As services/ingress/dispatch/replicas.py has them: a piece waits at a few, and then at one more at a time up to so
# many, each after a share of what the work usually takes and no less than 2 ms.
OFFERS, _MOST_OFFERS = 3, 16
_GAP, _LEAST_GAP_SECONDS = 1 / 32, 0.002
# As services/encoder/admission.py has them: after so long an encoder sends away what waits for it, and it is offered
# elsewhere; and with so many waiting it gives all its permits.
_PARK_SECONDS = 1.0
_CROWD = 4
# Where a piece waits that waits no more.
_TAKEN: list[Replica] = []


class _Offer:
    """A piece that waits at a few replicas at once."""

    __slots__ = ("at", "gap", "owner", "piece", "since")

    def __init__(self, piece: object, owner: object, since: float) -> None:
        self.piece: Any = piece
        self.owner = owner
        self.since = since
        self.gap = 0.0
        self.at: list[Replica] = []


class Offers(Station[Piece]):
    """Each owner of pieces knows how many of its own are at each replica, and where it was alone when one was done.

    It asks the replica with fewest, the one where it was last found alone or a random one; if that has no room, two
    more, and then one after another of those that have none of its own. The first with room gets the piece. A replica
    at work gives a further permit only when it is time to upload the next piece, or when many wait. Left out is the
    bound on how many an ingress has on offer at a time, which is seldom reached.
    """

    def __init__(
        self, *arguments: Any, owner_of: Callable[[Piece], object], chance: random.Random, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._owner_of = owner_of
        self._random = chance.random
        self._ready: list[Replica] = []
        self._parked: dict[Replica, deque[_Offer]] = {}
        self._own: dict[object, dict[Replica, int]] = {}
        # Where each owner was alone when something of its own was done, the latest at the end.
        self._alone: dict[object, dict[Replica, None]] = {}
        # All that wait, the first that came first, and some that do not wait any more.
        self._waiting: deque[_Offer] = deque()

    def submit(self, piece: Piece) -> None:
        owner = self._owner_of(piece)
        own = self._own.get(owner)
        if own is None:
            own = self._own[owner] = {}
            self._alone[owner] = {}
        if self._ready:
            replica = self._least(owner, [])
            if self._has_room(replica):
                own[replica] = own.get(replica, 0) + 1
                self._begin(piece, replica)
                return
        self._offer(_Offer(piece, owner, self._clock.now))

    def add(self, replica: Replica) -> None:
        self._ready.append(replica)
        self._parked[replica] = deque()
        self._fill(replica)

    def _forget(self, replica: Replica) -> None:
        if replica not in self._parked:  # nobody knew of it yet
            return
        self._ready.remove(replica)
        for alone in self._alone.values():
            alone.pop(replica, None)
        for offer in self._parked.pop(replica):
            offer.at.remove(replica)
            own = self._own[offer.owner]
            _subtract(own, replica)
            if not offer.at:
                self._place(offer)

    def _ended(self, piece: Piece, replica: Replica) -> None:
        owner = self._owner_of(piece)
        _subtract(self._own[owner], replica)
        if replica.draining:
            return
        alone = self._alone[owner]
        alone.pop(replica, None)
        if not replica.in_flight and not self._parked[replica]:
            alone[replica] = None
        self._fill(replica)

    def _least(self, owner: object, besides: list[Replica]) -> Replica:
        """Of which the owner has fewest; among equals where it was last alone, and else a random one."""
        replica = self._unused(owner, besides)
        if replica is None:
            own = self._own[owner]
            replica = min(
                (replica for replica in self._ready if replica not in besides),
                key=lambda replica: own.get(replica, 0) + self._random(),
            )
        return replica

    def _unused(self, owner: object, besides: list[Replica]) -> Replica | None:
        """One that has nothing of the owner, if there is one."""
        own, replicas = self._own[owner], self._ready
        for replica in reversed(self._alone[owner]):
            if replica not in own and replica not in besides:
                return replica
        count = len(replicas)
        if 2 * (len(own) + len(besides)) <= count:
            while True:
                replica = replicas[int(self._random() * count)]
                if replica not in own and replica not in besides:
                    return replica
        unused = [replica for replica in replicas if replica not in own and replica not in besides]
        return unused[int(self._random() * len(unused))] if unused else None

    def _offer(self, offer: _Offer) -> None:
        self.waiting += 1
        self._waiting.append(offer)
        usual = self.worked_seconds / (self.done + self.in_flight) if self.worked_seconds else 0.0
        offer.gap = max(_LEAST_GAP_SECONDS, _GAP * usual)
        self._place(offer)
        if offer.at is not _TAKEN:
            self._clock.after(offer.gap, self._offer_more, offer)

    def _offer_more(self, offer: _Offer) -> None:
        """Where the owner has nothing: it may be idle."""
        if offer.at is _TAKEN or len(offer.at) >= _MOST_OFFERS:
            return
        replica = self._unused(offer.owner, offer.at) if len(offer.at) >= OFFERS else None
        if replica is None:
            offer.gap *= 2
        elif self._offer_at(offer, replica):
            return
        self._clock.after(offer.gap, self._offer_more, offer)

    def _place(self, offer: _Offer) -> None:
        """At as many as it is offered to; with none ready it waits for the first that comes."""
        while len(offer.at) < min(OFFERS, len(self._ready)):
            if self._offer_at(offer, self._least(offer.owner, offer.at)):
                return

    def _offer_at(self, offer: _Offer, replica: Replica) -> bool:
        """Whether some replica has taken it now."""
        own = self._own[offer.owner]
        own[replica] = own.get(replica, 0) + 1
        offer.at.append(replica)
        if self._has_room(replica):
            self._take(offer, replica)
            return True
        self._parked[replica].append(offer)
        if self._has_room(replica):  # with one more it is crowded
            self._fill(replica)
        else:
            self._call(replica, replica.free_at - self._upload_seconds)
        return offer.at is _TAKEN

    def _take(self, offer: _Offer, replica: Replica) -> None:
        own = self._own[offer.owner]
        if replica not in offer.at:
            own[replica] = own.get(replica, 0) + 1
        for other in offer.at:
            if other is not replica:
                _subtract(own, other)
                self._parked[other].remove(offer)
        offer.at = _TAKEN
        self.waiting -= 1
        self.waited_seconds += self._clock.now - offer.since
        self._begin(offer.piece, replica)

    def _fill(self, replica: Replica) -> None:
        """What waits for this one, and then what was sent away elsewhere or has not been offered to anybody."""
        parked = self._parked[replica]
        while parked and self._has_room(replica):
            self._take(parked.popleft(), replica)
        waiting = self._waiting
        while waiting and self._has_room(replica):
            offer = waiting[0]
            if offer.at is _TAKEN:
                waiting.popleft()
            elif not offer.at or self._clock.now >= offer.since + _PARK_SECONDS:
                waiting.popleft()
                if replica in offer.at:
                    parked.remove(offer)
                self._take(offer, replica)
            else:
                break
        if self._has_room(replica):
            if waiting:
                self._call(replica, waiting[0].since + _PARK_SECONDS)
        elif parked:
            self._call(replica, replica.free_at - self._upload_seconds)

    def _has_room(self, replica: Replica) -> bool:
        if replica.in_flight == 0:
            return True
        if replica.in_flight >= self._permits:
            return False
        return self._clock.now >= replica.free_at - self._upload_seconds or len(self._parked[replica]) >= _CROWD

    def _call(self, replica: Replica, at: float) -> None:
        """Have it look for work then."""
        if replica.in_flight < self._permits and not replica.called:
            replica.called = True
            self._clock.at(at, self._called, replica)

    def _called(self, replica: Replica) -> None:
        replica.called = False
        if not replica.draining:
            self._fill(replica)


def _subtract(own: dict[Replica, int], replica: Replica) -> None:
    if own[replica] == 1:
        del own[replica]
    else:
        own[replica] -= 1
