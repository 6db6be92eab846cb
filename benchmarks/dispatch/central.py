"""The ideal: one line for all, and each encoder takes its first chunk the moment it is free, without a message."""

from collections.abc import Iterable, Sequence

from benchmarks.dispatch.workload import Chunk


def serve(
    chunks: Iterable[Chunk], speeds: Sequence[float], service_seconds: float, *, before: float = 0.0, after: float = 0.0
) -> None:
    """Sets when each chunk is done, in order of arrival.

    `speeds` has one entry per encoder, 1 for the usual speed; of several that are idle the fastest takes the chunk.
    `before` and `after` are the seconds of handshake, copy and answer that no placement can save; they pass while the
    encoder works on other chunks.
    """
    encoders = range(len(speeds))
    free_from = [0.0] * len(speeds)
    for chunk in chunks:
        ready = chunk.arrived + before
        idle = [encoder for encoder in encoders if free_from[encoder] <= ready]
        if idle:
            chosen = max(idle, key=lambda encoder: speeds[encoder])
        else:
            chosen = min(encoders, key=lambda encoder: free_from[encoder])
        end = max(free_from[chosen], ready) + chunk.work * service_seconds / speeds[chosen]
        free_from[chosen] = end
        chunk.done = end + after
