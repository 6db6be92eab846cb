"""The replicas of one service: they take time to start, and finish their work before they end."""

from dataclasses import dataclass
from typing import Protocol

from loadtest.simulate.clock import Clock


@dataclass(frozen=True, slots=True)
class Start:
    """The phases of a replica's start, in seconds."""

    node: float = 0.0  # until there is a node for it; 0: there always is one
    pull: float = 0.0  # the image
    load: float = 0.0  # the process: imports, model, warm-up
    discovery: float = 0.0  # until callers use it


class Replica:
    """`node_since` is when its node is paid from. `in_flight` and `free_at` belong to its workplace."""

    __slots__ = ("draining", "drains_since", "free_at", "gone", "in_flight", "node_since", "ready")

    def __init__(self, node_since: float) -> None:
        self.node_since = node_since
        self.ready = self.draining = self.gone = False
        self.in_flight = 0
        self.free_at = self.drains_since = 0.0


class Workplace(Protocol):
    """Assigns work to the replicas."""

    def add(self, replica: Replica) -> None:
        """It is ready for work."""

    def drain(self, replica: Replica) -> None:
        """Assign no more work to it, and call the fleet's `left` once it has finished."""

    def kill(self, replica: Replica) -> None:
        """Its grace period is over; its unfinished work is lost."""


class Fleet:
    """Starts with `count` ready replicas. A draining one exists from `linger_seconds` to `grace_seconds`."""

    def __init__(
        self, clock: Clock, start: Start, *, count: int, grace_seconds: float, linger_seconds: float = 0.0
    ) -> None:
        self._clock = clock
        self._start = start
        self._grace_seconds = grace_seconds
        self._linger_seconds = linger_seconds
        self._replicas: list[Replica] = []  # without those that drain, the oldest first
        self._draining: set[Replica] = set()
        self._past_node_seconds = 0.0
        self._workplace: Workplace
        self._initial = count
        self.ready = 0

    def open(self, workplace: Workplace) -> None:
        self._workplace = workplace
        for _ in range(self._initial):
            replica = Replica(0.0)
            replica.ready = True
            self.ready += 1
            self._replicas.append(replica)
            workplace.add(replica)

    @property
    def count(self) -> int:
        """The replicas of the Deployment, ready or not."""
        return len(self._replicas)

    @property
    def draining(self) -> int:
        return len(self._draining)

    @property
    def node_seconds(self) -> float:
        """Node time so far, starting and draining included."""
        now = self._clock.now
        return self._past_node_seconds + sum(
            max(0.0, now - replica.node_since) for replica in (*self._replicas, *self._draining)
        )

    def scale_to(self, count: int) -> None:
        start = self._start
        while len(self._replicas) < count:
            replica = Replica(self._clock.now + start.node)
            self._replicas.append(replica)
            self._clock.after(start.node + start.pull + start.load, self._is_ready, replica)
        if surplus := len(self._replicas) - count:
            # As a ReplicaSet does: those that are not ready first, then the newest.
            doomed = sorted(enumerate(self._replicas), key=lambda one: (one[1].ready, -one[0]))[:surplus]
            chosen = {replica for _, replica in doomed}
            self._replicas = [replica for replica in self._replicas if replica not in chosen]
            for _, replica in doomed:
                self._remove(replica)

    def left(self, replica: Replica) -> None:
        """A draining replica has finished its work."""
        if replica.gone:
            return
        replica.gone = True
        lingers = replica.drains_since + self._linger_seconds - self._clock.now
        if lingers > 0:
            self._clock.after(lingers, self._end, replica)
        else:
            self._end(replica)

    def _is_ready(self, replica: Replica) -> None:
        if not replica.gone:
            replica.ready = True
            self.ready += 1
            self._clock.after(self._start.discovery, self._is_discovered, replica)

    def _is_discovered(self, replica: Replica) -> None:
        if not replica.draining:
            self._workplace.add(replica)

    def _remove(self, replica: Replica) -> None:
        if not replica.ready:
            replica.gone = True
            self._end(replica)
            return
        self.ready -= 1
        self._draining.add(replica)
        replica.draining = True
        replica.drains_since = self._clock.now
        self._workplace.drain(replica)
        if not replica.gone:
            self._clock.after(self._grace_seconds, self._end_grace, replica)

    def _end_grace(self, replica: Replica) -> None:
        if not replica.gone:
            self._workplace.kill(replica)
            self.left(replica)

    def _end(self, replica: Replica) -> None:
        self._draining.discard(replica)
        self._past_node_seconds += max(0.0, self._clock.now - replica.node_since)
