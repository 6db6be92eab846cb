"""The placement that ingress and encoder use, and its alternatives, under one simulated load."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from benchmarks.dispatch.workload import Chunk, Poisson
from loadtest.simulate.clock import Clock
from loadtest.simulate.encoders import Encoders
from loadtest.simulate.fleet import Fleet, Replica, Start

PERMITS = 2
HOP_SECONDS, UPLOAD_SECONDS, SERVICE_SECONDS = 0.0005, 0.006, 0.0226
# Until the queues have filled, nothing is counted.
WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times in ms: p50, p95, p99 of chunks and of whole videos."""

    chunks: tuple[float, float, float]
    videos: tuple[float, float, float]
    offers: float = 0.0  # a chunk
    cancelled: float = 0.0  # a second
    wasted: float = 0.0  # share of all permits, held for chunks that went elsewhere


class System:
    """Encoders of the given speeds, without autoscaling; `done` is called with each chunk."""

    def __init__(self, speeds: Sequence[float], seed: int, done: Callable[[Chunk], None]) -> None:
        self.clock = Clock()
        replicas = {Replica(0.0): speed for speed in speeds}
        self.encoders = Encoders[Chunk](
            self.clock,
            Fleet(self.clock, Start(), count=0, grace_seconds=0),
            permits=PERMITS,
            upload=lambda chunk: UPLOAD_SECONDS * chunk.bulk,
            work=lambda chunk, replica: SERVICE_SECONDS * chunk.work / replicas[replica],
            owner_of=lambda chunk: chunk.ingress,
            rng=random.Random(seed),
            on_done=done,
            expected=lambda replica: SERVICE_SECONDS / replicas[replica],
            hop_seconds=HOP_SECONDS,
        )
        for replica in replicas:
            self.encoders.add(replica)


def simulate(arrivals: Poisson, speeds: Sequence[float], seconds: float) -> tuple[list[Chunk], Outcome]:
    """Chunks arrive for `seconds`, and all are done."""

    def done(chunk: Chunk) -> None:
        chunk.done = system.clock.now

    system = System(speeds, arrivals.seed, done)
    chunks = arrivals.chunks(seconds)
    for chunk in chunks:
        system.clock.at(chunk.arrived, system.encoders.submit, chunk)
    system.clock.run(inf)
    return chunks, Outcome(
        *_times(chunks, seconds),
        offers=system.encoders.offers / len(chunks),
        cancelled=system.encoders.cancelled / seconds,
        wasted=system.encoders.wasted_seconds / (seconds * len(speeds) * PERMITS),
    )


def alternative(serve: Callable[..., None], arrivals: Poisson, speeds: Sequence[float], seconds: float) -> Outcome:
    """One of `alternatives`, with the messages and the upload that even an idle encoder costs."""
    chunks = arrivals.chunks(seconds)
    serve(chunks, speeds, SERVICE_SECONDS, before=3 * HOP_SECONDS + UPLOAD_SECONDS, after=HOP_SECONDS)
    return Outcome(*_times(chunks, seconds))


def saturate(outstanding: Sequence[int], speeds: Sequence[float], seconds: float) -> list[list[tuple[float, float]]]:
    """Of each ingress, which has so many chunks outstanding at any time: when each was submitted and done."""
    times: list[list[tuple[float, float]]] = [[] for _ in outstanding]

    def done(chunk: Chunk) -> None:
        times[chunk.ingress].append((chunk.arrived, system.clock.now))
        system.encoders.submit(Chunk(video=0, ingress=chunk.ingress, arrived=system.clock.now, work=1.0))

    system = System(speeds, 1, done)
    for ingress, count in enumerate(outstanding):
        for _ in range(count):
            system.encoders.submit(Chunk(video=0, ingress=ingress, arrived=0.0, work=1.0))
    system.clock.run(seconds)
    return times


def _times(chunks: Sequence[Chunk], seconds: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    videos: dict[int, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        videos[chunk.video].append(chunk)
    start = WARM_UP * seconds
    finished = [chunk.seconds for chunk in chunks if chunk.arrived >= start]
    completions = [
        max(chunk.arrived + chunk.seconds for chunk in video) - video[0].arrived
        for video in videos.values()
        if video[0].arrived >= start
    ]
    return _percentiles(finished), _percentiles(completions)


def _percentiles(seconds: list[float]) -> tuple[float, float, float]:
    p50, p95, p99 = (1000 * np.percentile(seconds, [50, 95, 99])).tolist()
    return p50, p95, p99
