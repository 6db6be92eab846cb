"""One line for all, as if every caller knew all there is to know."""

from collections import deque
from typing import Any

from loadtest.simulate.fleet import Replica
from loadtest.simulate.station import Piece, Station


class OneLine(Station[Piece]):
    """The next piece goes to a replica with as little in flight as any."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._line: deque[tuple[float, Piece]] = deque()
        # By how much they have in flight, those that admit another one: any of the first that is not empty will do.
        self._with_room: list[dict[Replica, None]] = [{} for _ in range(self._permits)]

    def submit(self, piece: Piece) -> None:
        for replicas in self._with_room:
            if replicas:
                replica, _ = replicas.popitem()
                self._begin(piece, replica)
                self._note_room(replica)
                return
        self.waiting += 1
        self._line.append((self._clock.now, piece))

    def add(self, replica: Replica) -> None:
        while self._line and replica.in_flight < self._permits:
            self._take_next(replica)
        self._note_room(replica)

    def _forget(self, replica: Replica) -> None:
        for replicas in self._with_room:
            replicas.pop(replica, None)

    def _ended(self, piece: Piece, replica: Replica) -> None:
        if replica.draining:
            return
        if self._line:
            self._take_next(replica)
            return
        if replica.in_flight + 1 < self._permits:
            del self._with_room[replica.in_flight + 1][replica]
        self._note_room(replica)

    def _take_next(self, replica: Replica) -> None:
        since, piece = self._line.popleft()
        self.waiting -= 1
        self.waited_seconds += self._clock.now - since
        self._begin(piece, replica)

    def _note_room(self, replica: Replica) -> None:
        if replica.in_flight < self._permits:
            self._with_room[replica.in_flight][replica] = None
