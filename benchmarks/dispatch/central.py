"""The ideal: one line for all, and each encoder takes its first chunk the moment it is free, without a message."""

import heapq
from collections.abc import Iterable, Sequence

from benchmarks.dispatch.workload import Chunk


def serve(
    chunks: Iterable[Chunk], speeds: Sequence[float], service_seconds: float, *, before: float = 0.0, after: float = 0.0
) -> None:
    """Sets when each chunk is done, in order of arrival.

    `speeds` has one entry per encoder, 1 for the usual speed. `before` and `after` are the seconds of handshake, copy
    and answer that no placement can save; they pass while the encoder works on other chunks.
    """
    idle_from = [(0.0, -speed, number) for number, speed in enumerate(speeds)]
    heapq.heapify(idle_from)
    for chunk in chunks:
        ready = chunk.arrived + before
        # Of those that are idle by then the fastest, otherwise the first to be so.
        idle = [entry for entry in idle_from if entry[0] <= ready] if idle_from[0][0] <= ready else idle_from[:1]
        chosen = min(idle, key=lambda entry: entry[1:])
        at, slowness, number = chosen
        end = max(at, ready) + chunk.work * service_seconds / -slowness
        idle_from.remove(chosen)
        idle_from.append((end, slowness, number))
        heapq.heapify(idle_from)
        chunk.done = end + after
