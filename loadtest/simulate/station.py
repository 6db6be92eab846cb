"""The base of every simulated service: work waits for a replica, is processed, and is done."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from loadtest.simulate.fleet import Replica

Piece = TypeVar("Piece")


class Station(ABC, Generic[Piece]):
    """Counts the pieces of work; subclasses assign them to replicas."""

    def __init__(self) -> None:
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
    def drain(self, replica: Replica) -> None: ...

    def kill(self, replica: Replica) -> None:
        raise AssertionError("what is in flight is done long before the grace period ends")
