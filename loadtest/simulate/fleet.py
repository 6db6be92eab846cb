"""The replicas of one service: they take time to come, and finish what they have before they go."""

from dataclasses import dataclass
from typing import Protocol

from loadtest.simulate.clock import Clock


@dataclass(frozen=True, slots=True)
class Start:
    """What a new replica waits for until it is used, in seconds."""

    node: float = 0.0  # until there is a machine; 0: there always is one
    pull: float = 0.0  # the image, onto a machine that has not had it yet
    load: float = 0.0  # the process: imports, model, warm-up
    discovery: float = 0.0  # until callers know that it is ready
    keep_node: float = 0.0  # so long a machine that is not used stays, with its image, for the next replica


class Node:
    """A machine for one replica, paid for while it is there."""

    __slots__ = ("idle_since", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.idle_since: float | None = None


class Replica:
    """`in_flight`, `free_at` and `called` belong to whoever works with it."""

    __slots__ = ("called", "draining", "drains_since", "free_at", "gone", "in_flight", "node", "ready")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.ready = self.draining = self.gone = self.called = False
        self.in_flight = 0
        self.free_at = self.drains_since = 0.0


class Workplace(Protocol):
    """Where replicas work."""

    def add(self, replica: Replica) -> None:
        """It is ready: give it work."""

    def drain(self, replica: Replica) -> None:
        """Give it nothing more, and tell the fleet (`left`) as soon as it has finished."""

    def kill(self, replica: Replica) -> None:
        """Its grace is over: what it has not finished is lost to it."""


class Fleet:
    """Begins with `count` replicas that are ready. A draining one stays from `linger_seconds` to `grace_seconds`."""

    def __init__(
        self, clock: Clock, start: Start, *, count: int, grace_seconds: float, linger_seconds: float = 0.0
    ) -> None:
        self._clock = clock
        self._start = start
        self._grace_seconds = grace_seconds
        self._linger_seconds = linger_seconds
        self._replicas: list[Replica] = []  # without those that drain, the oldest first
        self._idle_nodes: list[Node] = []
        self._nodes: set[Node] = set()
        self._past_node_seconds = 0.0
        self._workplace: Workplace
        self._initial = count
        self.ready = 0
        self.draining = 0

    def open(self, workplace: Workplace) -> None:
        self._workplace = workplace
        for _ in range(self._initial):
            replica = Replica(self._new_node(0.0))
            self._replicas.append(replica)
            self._is_ready(replica)

    @property
    def count(self) -> int:
        """As the Deployment says: those that are asked for, ready or not."""
        return len(self._replicas)

    @property
    def node_seconds(self) -> float:
        """Machine time so far, with what is spent on starting, draining and idle machines."""
        now = self._clock.now
        return self._past_node_seconds + sum(max(0.0, now - node.since) for node in self._nodes)

    def scale_to(self, count: int) -> None:
        while len(self._replicas) < count:
            self._add()
        if surplus := len(self._replicas) - count:
            # As a ReplicaSet chooses: those that are not ready first, then the newest.
            doomed = sorted(enumerate(self._replicas), key=lambda one: (one[1].ready, -one[0]))[:surplus]
            chosen = {replica for _, replica in doomed}
            self._replicas = [replica for replica in self._replicas if replica not in chosen]
            for _, replica in doomed:
                self._remove(replica)

    def left(self, replica: Replica) -> None:
        """A draining replica has finished."""
        if replica.gone:
            return
        replica.gone = True
        lingers = replica.drains_since + self._linger_seconds - self._clock.now
        if lingers > 0:
            self._clock.after(lingers, self._leave, replica)
        else:
            self._leave(replica)

    def _leave(self, replica: Replica) -> None:
        self.draining -= 1
        self._release(replica.node)

    def _add(self) -> None:
        start = self._start
        if self._idle_nodes:
            node, until_node = self._idle_nodes.pop(), 0.0
            node.idle_since = None
        else:
            node, until_node = self._new_node(self._clock.now + start.node), start.node + start.pull
        replica = Replica(node)
        self._replicas.append(replica)
        self._clock.after(until_node + start.load, self._is_ready, replica)

    def _is_ready(self, replica: Replica) -> None:
        if replica.gone:
            return
        replica.ready = True
        self.ready += 1
        if self._clock.now == 0.0:
            self._workplace.add(replica)
        else:
            self._clock.after(self._start.discovery, self._is_known, replica)

    def _is_known(self, replica: Replica) -> None:
        if not replica.draining:
            self._workplace.add(replica)

    def _remove(self, replica: Replica) -> None:
        if not replica.ready:
            replica.gone = True
            self._release(replica.node)
            return
        self.ready -= 1
        self.draining += 1
        replica.draining = True
        replica.drains_since = self._clock.now
        self._workplace.drain(replica)
        if not replica.gone:
            self._clock.after(self._grace_seconds, self._end_grace, replica)

    def _end_grace(self, replica: Replica) -> None:
        if not replica.gone:
            self._workplace.kill(replica)
            self.left(replica)

    def _new_node(self, since: float) -> Node:
        node = Node(since)
        self._nodes.add(node)
        return node

    def _release(self, node: Node) -> None:
        node.idle_since = self._clock.now
        self._idle_nodes.append(node)
        self._clock.after(self._start.keep_node, self._give_back, node)

    def _give_back(self, node: Node) -> None:
        # Unless it was taken again meanwhile.
        if node.idle_since is not None and self._clock.now >= node.idle_since + self._start.keep_node:
            self._idle_nodes.remove(node)
            self._nodes.remove(node)
            self._past_node_seconds += max(0.0, self._clock.now - node.since)
