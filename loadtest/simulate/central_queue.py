"""A central queue, from which every replica takes its next work: the ideal of a placement with full information."""

from collections import deque
from collections.abc import Callable

from loadtest.simulate.clock import Clock
from loadtest.simulate.fleet import Fleet, Replica
from loadtest.simulate.service_times import Draw
from loadtest.simulate.station import Piece, Station


class CentralQueue(Station[Piece]):
    """A replica admits `permits` pieces and works on one at a time; the next goes to one with as few as any."""

    def __init__(
        self, clock: Clock, fleet: Fleet, *, permits: int, work: Draw, on_done: Callable[[Piece], None]
    ) -> None:
        super().__init__()
        self._clock = clock
        self._fleet = fleet
        self._permits = permits
        self._work = work
        self._on_done = on_done
        self._queue: deque[tuple[float, Piece]] = deque()
        # By how much they have in flight, those that admit another one: any of the first that is not empty will do.
        self._with_room: list[dict[Replica, None]] = [{} for _ in range(permits)]

    def submit(self, piece: Piece) -> None:
        for replicas in self._with_room:
            if replicas:
                replica, _ = replicas.popitem()
                self._begin(piece, replica)
                self._note_room(replica)
                return
        self.waiting += 1
        self._queue.append((self._clock.now, piece))

    def add(self, replica: Replica) -> None:
        while self._queue and replica.in_flight < self._permits:
            self._take_next(replica)
        self._note_room(replica)

    def drain(self, replica: Replica) -> None:
        for replicas in self._with_room:
            replicas.pop(replica, None)
        if not replica.in_flight:
            self._fleet.left(replica)

    def _begin(self, piece: Piece, replica: Replica) -> None:
        replica.in_flight += 1
        self.in_flight += 1
        now = self._clock.now
        begins = max(now, replica.free_at)
        seconds = self._work()
        replica.free_at = begins + seconds
        self.waited_seconds += begins - now
        self.worked_seconds += seconds
        self._clock.at(replica.free_at, self._end, (piece, replica))

    def _end(self, pair: tuple[Piece, Replica]) -> None:
        piece, replica = pair
        replica.in_flight -= 1
        self.in_flight -= 1
        self.done += 1
        if replica.draining:
            if not replica.in_flight:
                self._fleet.left(replica)
        elif self._queue:
            self._take_next(replica)
        else:
            if replica.in_flight + 1 < self._permits:
                del self._with_room[replica.in_flight + 1][replica]
            self._note_room(replica)
        self._on_done(piece)

    def _take_next(self, replica: Replica) -> None:
        since, piece = self._queue.popleft()
        self.waiting -= 1
        self.waited_seconds += self._clock.now - since
        self._begin(piece, replica)

    def _note_room(self, replica: Replica) -> None:
        if replica.in_flight < self._permits:
            self._with_room[replica.in_flight][replica] = None
