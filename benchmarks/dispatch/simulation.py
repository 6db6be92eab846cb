"""One policy under one load, from the first chunk to the last."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from benchmarks.dispatch import central
from benchmarks.dispatch.encoder import COPY_SECONDS, HOP_SECONDS, SERVICE_SECONDS, SLOTS, Encoder
from benchmarks.dispatch.events import Events
from benchmarks.dispatch.ingress import Ingress
from benchmarks.dispatch.policy import Policy
from benchmarks.dispatch.workload import Chunk, Poisson

# Until the lines have filled, nothing is counted.
WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times in ms: p50, p95, p99 of chunks and of whole videos. Rates are per second, all ingresses together."""

    chunks: tuple[float, float, float]
    videos: tuple[float, float, float]
    throughput: float  # share of what the encoders can do
    refusals: float = 0.0
    offers: float = 0.0
    withdrawn: float = 0.0
    wasted: float = 0.0  # share of all places, held for chunks that went elsewhere
    computed: int = 0
    held: int = 0  # places, headers and calls that somebody still counts in the end


def simulate(
    policy: Policy,
    arrivals: Poisson,
    speeds: Sequence[float],
    seconds: float,
    *,
    max_waiting: float = inf,
    drain_seconds: float = 0.0,
) -> tuple[list[Chunk], Outcome]:
    """Chunks come for `seconds`, and what waits then is given `drain_seconds`.

    `speeds` has one entry per encoder, 1 for the usual speed; `max_waiting` chunks fit into one ingress.
    """
    events = Events()
    encoders = [Encoder(number, events, policy, speed) for number, speed in enumerate(speeds)]
    ingresses = [
        Ingress(events, policy, encoders, max_waiting, arrivals.seed + number) for number in range(arrivals.ingresses)
    ]
    chunks = arrivals.chunks(seconds)
    for chunk in chunks:
        events.at(chunk.arrived, ingresses[chunk.ingress].submit, chunk)
    events.run(seconds + drain_seconds)
    return chunks, Outcome(
        *_times(chunks, seconds),
        throughput=_throughput(chunks, speeds, seconds),
        refusals=sum(encoder.refusals for encoder in encoders) / seconds,
        offers=sum(ingress.offers for ingress in ingresses) / seconds,
        withdrawn=sum(encoder.withdrawn for encoder in encoders) / seconds,
        wasted=sum(encoder.wasted_seconds for encoder in encoders) / (seconds * len(encoders) * SLOTS),
        computed=sum(encoder.computed for encoder in encoders),
        held=sum(encoder.load for encoder in encoders) + sum(ingress.held for ingress in ingresses),
    )


def ideal(arrivals: Poisson, speeds: Sequence[float], seconds: float) -> Outcome:
    """The central queue, with the messages and the copy that even an idle encoder costs."""
    chunks = arrivals.chunks(seconds)
    central.serve(chunks, speeds, SERVICE_SECONDS, before=3 * HOP_SECONDS + COPY_SECONDS, after=HOP_SECONDS)
    return Outcome(*_times(chunks, seconds), throughput=_throughput(chunks, speeds, seconds))


def _throughput(chunks: Sequence[Chunk], speeds: Sequence[float], seconds: float) -> float:
    start = WARM_UP * seconds
    done = sum(chunk.work for chunk in chunks if chunk.done is not None and start <= chunk.done < seconds)
    return done * SERVICE_SECONDS / (sum(speeds) * (seconds - start))


def _times(chunks: Sequence[Chunk], seconds: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    videos: dict[int, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        videos[chunk.video].append(chunk)
    start = WARM_UP * seconds
    finished = [chunk.seconds for chunk in chunks if chunk.done is not None and chunk.arrived >= start]
    completions = [
        max(chunk.done or 0.0 for chunk in video) - video[0].arrived
        for video in videos.values()
        if video[0].arrived >= start and all(chunk.done is not None for chunk in video)
    ]
    return _percentiles(finished), _percentiles(completions)


def _percentiles(seconds: list[float]) -> tuple[float, float, float]:
    if not seconds:
        return (inf, inf, inf)
    p50, p95, p99 = (1000 * np.percentile(seconds, [50, 95, 99])).tolist()
    return p50, p95, p99
