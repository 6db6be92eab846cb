"""Replicas that do one piece of work at a time each, and admit a few."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from loadtest.simulate.clock import Clock
from loadtest.simulate.fleet import Fleet, Replica
from loadtest.simulate.service_times import Draw

Piece = TypeVar("Piece")


class Station(ABC, Generic[Piece]):
    """A replica admits `permits` pieces: while one is worked on, the others are copied in (`upload_seconds`) and wait.

    Where the pieces wait for a permit, and which replica gets which, is for subclasses to say.
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
        self.waiting = 0  # for a permit
        self.in_flight = 0
        self.done = 0
        self.waited_seconds = 0.0  # for a permit and then for its turn, of all pieces
        self.worked_seconds = 0.0

    @property
    def queue(self) -> int:
        """The gauge: pieces that wait and pieces in flight."""
        return self.waiting + self.in_flight

    @abstractmethod
    def submit(self, piece: Piece) -> None: ...

    @abstractmethod
    def add(self, replica: Replica) -> None: ...

    @abstractmethod
    def _forget(self, replica: Replica) -> None:
        """Give it nothing more."""

    @abstractmethod
    def _ended(self, piece: Piece, replica: Replica) -> None:
        """`piece` is done, and the replica has a permit more."""

    def drain(self, replica: Replica) -> None:
        self._forget(replica)
        if not replica.in_flight:
            self._fleet.left(replica)

    def kill(self, replica: Replica) -> None:
        raise AssertionError("what is in flight is done long before the grace is over")

    def _begin(self, piece: Piece, replica: Replica) -> None:
        replica.in_flight += 1
        self.in_flight += 1
        arrived = self._clock.now + self._upload_seconds
        begins = arrived if arrived > replica.free_at else replica.free_at
        seconds = self._work()
        replica.free_at = begins + seconds
        self.waited_seconds += begins - arrived
        self.worked_seconds += seconds
        self._clock.at(replica.free_at, self._end, (piece, replica))

    def _end(self, pair: tuple[Piece, Replica]) -> None:
        piece, replica = pair
        replica.in_flight -= 1
        self.in_flight -= 1
        self.done += 1
        self._ended(piece, replica)
        if replica.draining and not replica.in_flight:
            self._fleet.left(replica)
        self._on_done(piece)
