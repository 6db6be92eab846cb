"""One line of work in front of replicas that do one piece at a time each: the encoders, the decoders."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from loadtest.rehearse.clock import Clock
from loadtest.rehearse.fleet import Fleet, Replica
from loadtest.rehearse.service_times import Draw

Piece = TypeVar("Piece")


class Station(Generic[Piece]):
    """A replica admits `permits` pieces: while one is worked on, the others are copied in (`upload_seconds`) and wait.

    The line is one for all, and the next piece goes to a replica with as little in flight as any. The real one is kept
    in each ingress, and parks each chunk at two encoders; what that costs is in the comparison with a real run.
    """

    def __init__(
        self,
        clock: Clock,
        fleet: Fleet,
        *,
        permits: int,
        upload_seconds: float,
        work: Draw,
        on_done: Callable[[Piece], None],
    ) -> None:
        self._clock = clock
        self._fleet = fleet
        self._permits = permits
        self._upload_seconds = upload_seconds
        self._work = work
        self._on_done = on_done
        self._line: deque[tuple[float, Piece]] = deque()
        # By how much they have in flight, those that admit another one: any of the first that is not empty will do.
        self._with_room: list[dict[Replica, None]] = [{} for _ in range(permits)]
        self.in_flight = 0
        self.done = 0
        self.waited_seconds = 0.0
        self.worked_seconds = 0.0

    @property
    def queue(self) -> int:
        """The gauge: pieces that wait and pieces in flight."""
        return len(self._line) + self.in_flight

    def submit(self, piece: Piece) -> None:
        for replicas in self._with_room:
            if replicas:
                replica, _ = replicas.popitem()
                self._begin(piece, replica)
                return
        self._line.append((self._clock.now, piece))

    def add(self, replica: Replica) -> None:
        self._with_room[0][replica] = None
        while self._line and replica.in_flight < self._permits:
            del self._with_room[replica.in_flight][replica]
            self._take_next(replica)

    def drain(self, replica: Replica) -> None:
        if replica.in_flight < self._permits:
            self._with_room[replica.in_flight].pop(replica, None)
        if not replica.in_flight:
            self._fleet.left(replica)

    def kill(self, replica: Replica) -> None:
        raise AssertionError("a chunk is done long before the grace is over")

    def _begin(self, piece: Piece, replica: Replica) -> None:
        replica.in_flight += 1
        self.in_flight += 1
        if replica.in_flight < self._permits:
            self._with_room[replica.in_flight][replica] = None
        arrived = self._clock.now + self._upload_seconds
        begins = arrived if arrived > replica.free_at else replica.free_at
        seconds = self._work()
        replica.free_at = begins + seconds
        self.waited_seconds += begins - arrived
        self.worked_seconds += seconds
        self._clock.at(replica.free_at, self._end, (piece, replica))

    def _take_next(self, replica: Replica) -> None:
        since, piece = self._line.popleft()
        self.waited_seconds += self._clock.now - since
        self._begin(piece, replica)

    def _end(self, pair: tuple[Piece, Replica]) -> None:
        piece, replica = pair
        self.in_flight -= 1
        self.done += 1
        if not replica.draining and replica.in_flight < self._permits:
            del self._with_room[replica.in_flight][replica]
        replica.in_flight -= 1
        if replica.draining:
            if not replica.in_flight:
                self._fleet.left(replica)
        elif self._line:
            self._take_next(replica)
        else:
            self._with_room[replica.in_flight][replica] = None
        self._on_done(piece)
