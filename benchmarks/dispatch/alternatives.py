"""What placement is compared with: an ideal that none can beat, and what load balancers do.

Each sets when chunks are done, in their order of arrival. `speeds` has one entry per encoder, 1 for the usual speed.
`before` and `after` are the seconds of handshake, upload and answer, which pass while an encoder works on other chunks.
"""

import random
from collections.abc import Callable, Iterable, Sequence

from benchmarks.dispatch.workload import Chunk


def central_queue(
    chunks: Iterable[Chunk], speeds: Sequence[float], service_seconds: float, *, before: float = 0.0, after: float = 0.0
) -> None:
    """One queue for all: each encoder takes its next chunk the moment it is free, of idle ones the fastest."""
    free_from = [0.0] * len(speeds)
    for chunk in chunks:
        ready = chunk.arrived + before
        chosen = min(range(len(speeds)), key=lambda one: (max(ready, free_from[one]), -speeds[one]))
        _serve(chunk, chosen, ready, free_from, speeds, service_seconds, after)


def random_encoder(
    chunks: Iterable[Chunk], speeds: Sequence[float], service_seconds: float, *, before: float = 0.0, after: float = 0.0
) -> None:
    """Each chunk waits at an encoder chosen at random."""
    rng = random.Random(1)
    _assign(chunks, speeds, service_seconds, before, after, lambda _ingress, _now: rng.randrange(len(speeds)))


def least_outstanding(
    chunks: Iterable[Chunk], speeds: Sequence[float], service_seconds: float, *, before: float = 0.0, after: float = 0.0
) -> None:
    """Each chunk waits at the encoder at which its ingress has fewest, a random one of equals."""
    rng = random.Random(1)
    outstanding: dict[int, list[list[float]]] = {}

    def choose(ingress: int, now: float) -> int:
        ends = outstanding.setdefault(ingress, [[] for _ in speeds])
        ends[:] = [[end for end in of_one if end > now] for of_one in ends]
        return min(range(len(speeds)), key=lambda one: (len(ends[one]), rng.random()))

    def assigned(chunk: Chunk, encoder: int) -> None:
        assert chunk.done is not None
        outstanding[chunk.ingress][encoder].append(chunk.done)

    _assign(chunks, speeds, service_seconds, before, after, choose, assigned)


def _assign(
    chunks: Iterable[Chunk],
    speeds: Sequence[float],
    service_seconds: float,
    before: float,
    after: float,
    choose: Callable[[int, float], int],
    assigned: Callable[[Chunk, int], None] = lambda _chunk, _encoder: None,
) -> None:
    free_from = [0.0] * len(speeds)
    for chunk in chunks:
        chosen = choose(chunk.ingress, chunk.arrived)
        _serve(chunk, chosen, chunk.arrived + before, free_from, speeds, service_seconds, after)
        assigned(chunk, chosen)


def _serve(
    chunk: Chunk,
    encoder: int,
    ready: float,
    free_from: list[float],
    speeds: Sequence[float],
    service_seconds: float,
    after: float,
) -> None:
    free_from[encoder] = max(free_from[encoder], ready) + chunk.work * service_seconds / speeds[encoder]
    chunk.done = free_from[encoder] + after
